package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// endless is memory whose every big-page entry is in use, as page tables that
// map a few pages over and over can make it.
type endless struct{ stride uint64 }

const endlessAt = mem.VA(0xfffffa8100000000)

func (m endless) ReadVirtual(p []byte, at mem.VA) (int, error) {
	entry := make([]byte, m.stride)
	binary.LittleEndian.PutUint64(entry, 0xfffffa8000002000)
	copy(entry[8:], "Leak")
	binary.LittleEndian.PutUint64(entry[16:], 0x1000)
	for i := range p {
		p[i] = entry[(uint64(at-endlessAt)+uint64(i))%m.stride]
	}
	return len(p), nil
}

func TestReadBigTable_limit(t *testing.T) {
	t.Parallel()
	const more = 1000
	k := &model.Kernel{Types: types.Embedded(7601)[0], Modules: &model.Modules{}}
	l, err := newLayout(k)
	if err != nil {
		t.Fatal(err)
	}
	p := &Pool{k: k, layout: l}
	got, err := p.readBigTable(context.Background(), mem.NewFlat(endless{l.bigSize}), endlessAt, maxKept+more)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.blocks) != maxKept || cap(got.blocks) != maxKept {
		t.Errorf("%d blocks kept in room for %d", len(got.blocks), cap(got.blocks))
	}
	if got.partial == nil || got.partial.Entries != more || !errors.Is(got.partial, ErrLimit) {
		t.Errorf("what is left out is not told: %v", got.partial)
	}
}
