package show

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
)

// Question marks in a thread's block are explained below it, by reason.
func TestThread_missing(t *testing.T) {
	t.Parallel()
	r := &Thread{Missing: report.Missing{
		"kernel_time_ms": "no tick", "user_time_ms": "no tick", "wait_ticks": "no tick",
		"irps": "page not in dump", "frames": "its line stands above",
	}}
	var b bytes.Buffer
	p := report.NewPrinter(&b, report.Era19041, false)
	r.writeMissing(p, "    ")
	want := "    (unknown: kernel time, user time, wait ticks: no tick)\n    (unknown: irps: page not in dump)\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	b.Reset()
	p.KDOnly = true
	if r.writeMissing(p, ""); b.Len() != 0 {
		t.Errorf("kd would not print %q", b.String())
	}
}
