package pool

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/pool"
)

// write makes a file in a folder and gives its name.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestPooltags_found reads the files that are there without being asked for, the
// first of them before the others, and keeps what was read over a reload.
func TestPooltags_found(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := write(t, dir, "first.txt", "Leak - a.sys - from the first\n")
	second := write(t, dir, "second.txt", "\xff\xfeL\x00e\x00a\x00k\x00 \x00-\x00 \x00b\x00 \x00-\x00 \x00c\x00\n\x00Z\x00z\x00*\x00 \x00-\x00 \x00d\x00")
	bad := write(t, dir, "bad.txt", "no tags\n")
	s, out := session(t, nil, report.Era19041)
	s.TagFiles = []string{first, bad, second}
	run := func(line string) string {
		t.Helper()
		out.Reset()
		_ = s.Execute(context.Background(), line)
		return strings.ReplaceAll(out.String(), dir+string(filepath.Separator), "DIR/")
	}
	want := "Descriptions of tags, what is asked first first:\n" +
		"     1 tags,   0 patterns  DIR/first.txt\n" +
		"     1 tags,   1 patterns  DIR/second.txt (UTF-16LE)\n" +
		"   438 tags,  84 patterns  gokd's own table\n" +
		"Not read: DIR/bad.txt: tag file: no line has the form \"tag - binary - description\".\n"
	if diff := gocmp.Diff(want, run(".pooltags")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	third := write(t, dir, "my tags.txt", "Proc - x - y\nbroken\nToLong - x - y\nProc - z - again\n"+strings.Repeat("bad\n", 6))
	want = "     2 tags,   0 patterns  DIR/my tags.txt (1 lines name a tag again, 8 lines can't be read)\n" +
		"  line 2: not of the form \"tag - binary - description\": broken\n" +
		"  line 3: the tag is longer than four characters: ToLong - x - y\n" +
		"  line 5: not of the form \"tag - binary - description\": bad\n" +
		"  line 6: not of the form \"tag - binary - description\": bad\n" +
		"  line 7: not of the form \"tag - binary - description\": bad\n" +
		"  and 3 lines more\n"
	if diff := gocmp.Diff(want, run(`.pooltags "`+third+`"`)); diff != "" {
		t.Errorf("a file (-want +got):\n%s", diff)
	}
	st, err := settings(s)
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{"Leak": "from the first", "Proc": "y", "ZzQQ": "d"} {
		if d, _ := st.tags.Find(pool.Tag([]byte(tag))); d.Text != want {
			t.Errorf("%s: %q, want %q", tag, d.Text, want)
		}
	}
	if got := run(".pooltags -clear"); got != "Descriptions of tags, what is asked first first:\n   438 tags,  84 patterns  gokd's own table\n" {
		t.Errorf("cleared:\n%s", got)
	}
	if d, _ := st.tags.Find(pool.Tag([]byte("Leak"))); d.Binary != "myfault.sys" {
		t.Errorf("after the files are forgotten: %+v", d)
	}
	for line, want := range map[string]string{
		".pooltags " + dir:              ".pooltags: " + dir + ": not a file\n",
		".pooltags -clear " + first:     ".pooltags: -clear takes no file\nusage: .pooltags [-clear] [file]\n",
		".pooltags \"" + bad + "\"":     ".pooltags: DIR/bad.txt: tag file: no line has the form \"tag - binary - description\"\n",
		".pooltags " + first + " other": ".pooltags: unexpected argument \"other\"\nusage: .pooltags [-clear] [file]\n",
	} {
		if diff := gocmp.Diff(want, run(line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
}
