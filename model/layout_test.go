package model

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"gokd/model/mem"
	"gokd/model/types"
)

// debugDataOf fills a debugger data block as a kernel of a layout would.
func debugDataOf(t *testing.T, l *types.Layout) *DebugData {
	t.Helper()
	raw := make([]byte, 0x380)
	for _, c := range debugOffsets {
		var v uint32
		if c.path == nil {
			typ, err := l.Type(c.typ)
			if err != nil {
				t.Fatal(err)
			}
			v = typ.Size
		} else {
			var err error
			if v, err = OffsetOf(l, c.typ, c.path...); err != nil {
				t.Fatal(err)
			}
		}
		if c.field.Size == 2 {
			binary.LittleEndian.PutUint16(raw[c.field.Off:], uint16(v))
		} else {
			binary.LittleEndian.PutUint32(raw[c.field.Off:], v)
		}
	}
	return &DebugData{raw: raw}
}

// nothing is memory that holds no byte, so that only the block can prove.
type nothing struct{}

func (nothing) ReadVirtual(_ []byte, at mem.VA) (int, error) {
	return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
}

func TestProve_everyPairOfFamilies(t *testing.T) {
	t.Parallel()
	layouts := types.Layouts()
	if len(layouts) < 9 {
		t.Fatalf("%d embedded layouts, want one for each of the nine families", len(layouts))
	}
	for _, truth := range layouts {
		k := &Kernel{Space: mem.NewFlat(nothing{}), Debug: debugDataOf(t, truth), Modules: &Modules{}}
		for _, trial := range layouts {
			n, err := k.prove(context.Background(), trial)
			if trial.Family() == truth.Family() {
				if err != nil || n < minChecks {
					t.Errorf("%s against itself: %d checks, %v", truth.Family(), n, err)
				}
				continue
			}
			if !errors.Is(err, ErrWrongLayout) {
				t.Errorf("kernel of %s, layout of %s: %d checks, error %v; want it refused", truth.Family(), trial.Family(), n, err)
			}
		}
	}
}

func TestProve_withoutEvidence(t *testing.T) {
	t.Parallel()
	k := &Kernel{Space: mem.NewFlat(nothing{}), Modules: &Modules{}, Build: 19041}
	k.loadLayouts(context.Background())
	if k.Types != nil {
		t.Errorf("a layout was taken without any evidence: %v", k.Types.Origin())
	}
	if len(k.Warnings) == 0 {
		t.Error("no warning says why there is no layout")
	}
}
