package repl_test

import (
	"strings"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
)

// TestTriage_says holds the real triage dump against what it must say, with the
// kernel's symbol table and without: the same facts, and of what it lacks that it
// is not in the dump, never that the machine had none.
func TestTriage_says(t *testing.T) {
	t.Parallel()
	dump := shared.Path(t, "dumps/real/triage_x64.dmp")
	for _, symbols := range []string{"", shared.Path(t, "isf/windows")} {
		for _, c := range []struct {
			command   string
			says, not string
			code      int
		}{
			{"vertarget", "\nEdition build lab: 19041.1.amd64fre.vb_release.191206-1406\n", "", 0},
			{".bugcheck", "Bugcheck code 1000007E\nArguments ffffffff`c0000005 fffff804`8b58334c ffff8504`29891ee8 ffff8504`29891720\n", "", 0},
			{"!locks", "the list of resources is not in this dump: ", "0 shown", 1},
			{"!poolused", "the pool tracker table is not in this dump", "", 1},
			{"!poolfind Leak", "the table of large allocations is not in this dump", "", 1},
			{"!thread", "(unknown: kernel time, user time, wait ticks: the length of a clock tick is not in the dump)\n", "", 0},
			{"!process 0 0", "4 of these 5 processes could be read only in part (????).\n", "", 0},
			{"!process 0 0 smss.exe", "The image names of 4 processes could not be read.\n", "No process", 0},
			{"~3;!thread", "the current thread of processor 3, ffff9b00024cb440, is not in this dump\n", "TYPE mismatch", 1},
			{"!thread -t ffff", "no thread with the id ffff was found, but not all could be read: ", "", 1},
			{"!process", "        THREAD ffffc08bde9e1640  Cid 0004.0108", "No active threads", 0},
			{"!process", "4 threads of this process could not be read, the first: _ETHREAD.Tcb.Header.Type: 0xffffc08bdce7f400: page not in dump.\n", "is not a thread object", 0},
		} {
			r := run(t, "", "-q", "-y", symbols, "-c", c.command+";q", dump)
			if r.Code != c.code || !strings.Contains(r.Out, c.says) || c.not != "" && strings.Contains(r.Out, c.not) {
				t.Errorf("%s with -y %q: exit code %d, want %d and %q without %q, got:\n%s%s",
					c.command, symbols, r.Code, c.code, c.says, c.not, r.Out, r.Err)
			}
		}
	}
}
