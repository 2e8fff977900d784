package pool_test

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestCorruptions breaks one thing at a time, on every family: nothing panics,
// every byte stays accounted for, nothing is found that was not there, and what
// is wrong is told with its place.
func TestCorruptions(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		for _, c := range heaptest.Corruptions {
			b := heaptest.New(t, l)
			if !c.For(b) {
				continue
			}
			t.Run(l.Family()+"/"+c.Name, func(t *testing.T) {
				t.Parallel()
				b.Fill(42, 200)
				k := b.Open()
				sign := c.Apply(b)
				p, err := pool.Open(k)
				if err != nil {
					t.Fatal(err)
				}
				told := everything(t, p)
				checkReach(t, p, b, sign.Lost)
				if !sign.Silent && !names(told, sign) {
					t.Errorf("nobody says that %s at %#x; told are:\n%s", sign.Why, uint64(sign.At), strings.Join(told[:min(len(told), 12)], "\n"))
				}
			})
		}
	}
}

// checkReach compares what is found outside the harm's reach with the truth: used
// or free, for damaged lists tell no more of what they keep.
func checkReach(t *testing.T, p *pool.Pool, b *heaptest.Builder, lost heaptest.Reach) {
	t.Helper()
	type fact struct {
		room uint64
		tag  string
		free bool
	}
	want := map[mem.VA]fact{}
	for _, k := range b.Blocks() {
		switch free := k.State == heaptest.Free; {
		case k.Large() || lost.Holds(k.Header, k.Heap):
		case free:
			want[k.Header] = fact{k.Room, "", true}
		default:
			want[k.Header] = fact{k.Room, k.Tag, false}
		}
	}
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged} {
		w, err := p.Find(t.Context(), pool.Query{Kind: kind})
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		for _, r := range w.Ranges() {
			for x, err := range w.Small(t.Context(), r) {
				if err != nil || lost.Holds(x.Header, x.Heap) {
					continue
				}
				got := fact{max(x.Room, x.Size), x.Tag.String(), x.State == pool.Free}
				if got.free {
					got.tag = ""
				}
				if truth, ok := want[x.Header]; got != truth && (ok || !lost.More) {
					t.Errorf("%#x: %+v, want %+v", uint64(x.Header), got, truth)
				}
				delete(want, x.Header)
			}
		}
	}
	n := 0
	for at, f := range want {
		if n++; n < 5 {
			t.Errorf("%#x: not found: %+v", uint64(at), f)
		}
	}
	if n > 0 {
		t.Errorf("%d blocks that the harm does not reach were not found", n)
	}
}

// everything asks all that the package can be asked without an address, and gives
// the errors.
func everything(t testing.TB, p *pool.Pool) (told []string) {
	t.Helper()
	note := func(err error) {
		if err != nil {
			told = append(told, err.Error())
		}
	}
	for _, kind := range []pool.Kind{pool.Nonpaged, pool.Paged, pool.Session, pool.Special} {
		w, err := p.Find(t.Context(), pool.Query{Kind: kind, Workers: 2})
		if note(err); err != nil {
			continue
		}
		last := map[mem.VA]bool{}
		for b, err := range w.Blocks(t.Context()) {
			note(err)
			if err != nil || b.Large || kind == pool.Session { // sessions share addresses
				continue
			}
			if last[b.Header] {
				t.Errorf("%s: the block at %#x twice", kind, uint64(b.Header))
			}
			last[b.Header] = true
		}
		note(w.Summary().Why)
		if c := w.Summary().Coverage; c.Sum() != c.Walked {
			t.Errorf("%s: coverage %+v: %d of %d bytes", kind, c, c.Sum(), c.Walked)
		}
		x, err := p.Index(t.Context(), kind, nil)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if note(err); err == nil && uint64(x.Len()) != w.Summary().Blocks {
			t.Errorf("%s: %d blocks in the index, %d by the walk", kind, x.Len(), w.Summary().Blocks)
		}
	}
	for _, err := range p.Usages(t.Context()) {
		note(err)
	}
	for _, err := range p.Descriptors(t.Context()) {
		note(err)
	}
	_, err := p.FreeLists(t.Context())
	note(err)
	return told
}

var address = regexp.MustCompile("0x[0-9a-f]{16}")

// names reports whether one of the errors names an address of the damage, or of
// the page that it lies in.
func names(told []string, s heaptest.Sign) bool {
	for _, text := range told {
		if s.Says != "" && strings.Contains(text, s.Says) {
			return true
		}
		for _, a := range address.FindAllString(text, -1) {
			v, err := strconv.ParseUint(a, 0, 64)
			if err == nil && mem.VA(v) >= s.At.Page() && mem.VA(v) <= s.Last|0xfff {
				return true
			}
		}
	}
	return false
}
