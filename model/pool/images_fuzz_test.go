package pool

import (
	"context"
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// FuzzSearchTag searches an image made of any bytes: every place is found once,
// and what is said of it agrees with the bytes.
func FuzzSearchTag(f *testing.F) {
	f.Add([]byte("\x41\xb8Leak\xe8\x00\x00\x00\x00"), "Leak")
	f.Add([]byte("\xc7\x44\x24\x28Leak\xc3 LeakLeak xLeak"), "Leak")
	f.Add([]byte("aaaaaaaa\xe1\x61\x61\x61\xe1"), "aaaa")
	f.Add([]byte("\x48\xff\x25\x00\x00\x00\x00\xba\x00\x00\x00\x80\xff\x15"), "\x00\x00\x00\x00")
	m := modeltest.New(f, types.Layouts()[0])
	const size = 0x2000
	m.Module("fuzz.sys", driverAt, size)
	for at := driverAt; at < driverAt+size; at += mem.PageSize {
		m.Put(at, 0)
	}
	k := m.Open()
	f.Fuzz(func(t *testing.T, image []byte, text string) {
		if len(text) < 4 {
			return
		}
		tag, _ := TagOf(uint32(text[0]) | uint32(text[1])<<8 | uint32(text[2])<<16 | uint32(text[3])<<24)
		var all [size]byte
		copy(all[:], image)
		m.Put(driverAt, all[:]...)
		want := 0
		for i := range size - 3 {
			if Tag(all[i:i+4]) == tag || Tag(all[i:i+4]) == (Tag{tag[0], tag[1], tag[2], tag[3] | 0x80}) {
				want++
			}
		}
		s, err := SearchTag(context.Background(), k, tag)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, u := range s.Users {
			got += u.Places
			for _, p := range u.Best {
				at := p.At - driverAt
				if b := all[at : at+4]; b[0] != tag[0] || b[3]&0x7f != tag[3] || p.Protected != (b[3]&0x80 != 0) {
					t.Fatalf("%+v stands on % x", p, b)
				}
				if p.Kind >= AsOperand && (p.Inst >= p.At || p.At-p.Inst > 11) {
					t.Fatalf("%+v: an instruction of that length", p)
				}
			}
		}
		if got != want {
			t.Fatalf("%d places of %q, want %d", got, tag[:], want)
		}
	})
}
