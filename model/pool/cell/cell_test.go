package cell

import (
	"testing"

	"gokd/model/mem"
)

func TestCell(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		at   mem.VA
		room uint64
		s    State
		word uint64
	}{
		{0xffff800000000000, Unit, Allocated, 0x6b61654c_03_05_02_07},
		{0xfffffffffffffff0, MaxRoom, Cached, ^uint64(0)},
		{0xffffba0c2a402040, 0x120, Free, 0},
	} {
		c := New(want.at, want.room, want.s, want.word)
		if c.Header() != want.at || c.Room() != want.room || c.State() != want.s || c.Word != want.word {
			t.Errorf("%#x: header %s, room %#x, state %d, word %#x", uint64(want.at), c.Header(), c.Room(), c.State(), c.Word)
		}
	}
	c := New(0xffff800000000000, Unit, Allocated, 0xeb61654c_03_05_02_07)
	if c.Previous() != 0x70 || c.PoolIndex() != 2 || c.Size() != 0x50 || c.PoolType() != 3 || c.Tag() != 0xeb61654c {
		t.Errorf("word is read as %#x %d %#x %d %#x", c.Previous(), c.PoolIndex(), c.Size(), c.PoolType(), c.Tag())
	}
}
