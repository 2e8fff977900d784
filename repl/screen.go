package repl

import (
	"strings"

	"golang.org/x/term"

	"gokd/commands/report"
)

// screen describes the terminal that answers go to; nil where they go to none.
func (p Program) screen() *report.Screen {
	f, ok := p.Stdout.(interface{ Fd() uintptr })
	if !ok || !isTerminal(p.Stdout) {
		return nil
	}
	return &report.Screen{
		Columns: func() int {
			n, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 0
			}
			return n
		},
		Blocks: p.Getenv("TERM") != "dumb" && showsUnicode(p.Getenv),
	}
}

// showsUnicode reports whether the locale's characters are those of Unicode: the
// first variable that is set decides (POSIX, Environment Variables). Without any,
// as on Windows, they are taken to be.
func showsUnicode(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := getenv(name); v != "" {
			v = strings.ToUpper(strings.ReplaceAll(v, "-", ""))
			return strings.Contains(v, "UTF8")
		}
	}
	return true
}
