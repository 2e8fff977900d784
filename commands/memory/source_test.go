package memory

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/commands/show"
)

// TestRow_source: with .lines on the source stands behind the symbol, as in
// public sessions.
func TestRow_source(t *testing.T) {
	t.Parallel()
	b := binary.LittleEndian.AppendUint64(nil, 0xfffff8046f42e550)
	have := []bool{true, true, true, true, true, true, true, true}
	name := "echo!EchoEvtDeviceAdd+0x66"
	for _, test := range []struct {
		name   string
		source *show.Source
		want   string
	}{
		{"known", &show.Source{File: `c:\echo\driver.c`, Line: 138},
			"fffff804`789a2030  fffff804`6f42e550 echo!EchoEvtDeviceAdd+0x66 [c:\\echo\\driver.c @ 138]\n"},
		{"unknown", nil, "fffff804`789a2030  fffff804`6f42e550 echo!EchoEvtDeviceAdd+0x66\n"},
	} {
		x := newRow(source{}, formatNamed("dps"), 0xfffff804789a2030, b, have, 1)
		x.Symbols, x.Sources = []*string{&name}, []*show.Source{test.source}
		var out bytes.Buffer
		x.WriteText(report.NewPrinter(&out, report.Era19041, false))
		if d := cmp.Diff(test.want, out.String()); d != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, d)
		}
	}
}
