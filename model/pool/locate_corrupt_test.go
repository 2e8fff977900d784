package pool_test

import (
	"errors"
	"fmt"
	"testing"

	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// pointed reports whether damage, or an error, names a place in a sign's range.
func pointed(l pool.Location, err error, s heaptest.Sign) bool {
	for _, d := range l.Damage {
		if d.At >= s.At && d.At <= s.Last || d.At <= s.At && uint64(s.At-d.At) < d.Size {
			return true
		}
	}
	return err != nil && !errors.Is(err, pool.ErrNotPool)
}

// TestLocate_corruptions asks for the place of everything that can be broken.
// What walks of blocks need not notice, a look at the place mostly does.
func TestLocate_corruptions(t *testing.T) {
	t.Parallel()
	unseen := map[string]bool{ // elsewhere: tables, counters, other heaps
		"large allocation of 2^40 bytes": true, "table of 2^40 large allocations": true, "table of 2^40 tags": true,
		"bitmap says free": true, "range inside another": true, "one heap twice": true, "large tree loop": true,
		"large allocation of 2^40 pages": true, "number of pools": true, "unit shift": true, "heap signature": true,
		"segment list loop": true, "segment list outside": true, "segment of another heap": true, "range past the segment": true,
		"heaps lead into each other": true, "range of no units": true,
	}
	for _, build := range []uint32{7601, 17763, 19041, 22000} {
		for _, c := range heaptest.Corruptions {
			b := heaptest.New(t, types.Embedded(build)[0])
			if !c.For(b) {
				continue
			}
			t.Run(fmt.Sprintf("%d %s", build, c.Name), func(t *testing.T) {
				t.Parallel()
				b.Fill(1, 400)
				k := b.Open()
				sign := c.Apply(b)
				p, err := pool.Open(k)
				if err != nil {
					t.Fatal(err)
				}
				l, err := p.Locate(t.Context(), sign.At)
				if !unseen[c.Name] && !pointed(l, err, sign) {
					t.Errorf("%s at %#x to %#x: not told: found %v, damage %v, %v", sign.Why, uint64(sign.At), uint64(sign.Last), l.Found, l.Damage, err)
				}
			})
		}
	}
}
