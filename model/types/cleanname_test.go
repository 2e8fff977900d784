package types

import (
	"strings"
	"testing"
)

func TestCleanName(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"ntkrnlmp.pdb":                      "ntkrnlmp.pdb",
		`d:\obj\amd64\srv2.pdb`:             "srv2.pdb",
		"/usr/x/My Driver (1).pdb":          "My Driver (1).pdb",
		`..\..\ntfs.sys`:                    "ntfs.sys", // only the last part is ever used
		"a" + strings.Repeat("b", 127):      "a" + strings.Repeat("b", 127),
		"console.pdb":                       "console.pdb",
		`\SystemRoot\system32\ntoskrnl.exe`: "ntoskrnl.exe",
	}
	for name, want := range good {
		if got, err := CleanName(name); got != want || err != nil {
			t.Errorf("CleanName(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	bad := []string{
		"", ".", "..", "/", `a\`, "a/..", ".hidden", "-rf", " a", "a ", "a.", "a\x00.pdb", "a\n.pdb", "a\x7f", "ä.pdb", "a:b", "a*b",
		"a?b", "a|b", "a;b", `a"b`, "a<b", "a%b", "a^b", "a'b", "a`b", "a" + strings.Repeat("b", 128),
		"CON", "con.pdb", "nul.json", "COM1.sys", "lpt9", "aux .x",
	}
	for _, name := range bad {
		if got, err := CleanName(name); err == nil {
			t.Errorf("CleanName(%q) = %q, want an error", name, got)
		}
	}
}
