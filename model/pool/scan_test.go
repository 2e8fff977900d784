package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"gokd/model/mem"
)

func TestScan_endlessTables(t *testing.T) {
	t.Parallel()
	p := fakePool(sparseTables(4096, 32)) // 2^21 pages, all the same
	var pages atomic.Int64
	sum, err := p.Scan(t.Context(), Query{Kind: Nonpaged, Workers: 2}, func(_ int, page []Block) error {
		pages.Add(1)
		return nil
	})
	if tried := sum.PagesScanned + sum.PagesMissing; !errors.Is(err, ErrLimit) || tried < 1<<20 || tried > 3<<19 {
		t.Errorf("%d pages, %v; summary %+v", tried, err, sum)
	}
	if n := uint64(pages.Load()); sum.PagesScanned != n || n < 1<<15 {
		t.Errorf("%d pages counted, the visitor saw %d", sum.PagesScanned, n)
	}
}

// heldTable is memory where the read of one page waits.
type heldTable struct {
	fakeMemory
	at    mem.PA
	until <-chan struct{}
}

func (m heldTable) ReadPhysical(p []byte, at mem.PA) (int, error) {
	if at&^(pageSize-1) == m.at {
		<-m.until
	}
	return m.fakeMemory.ReadPhysical(p, at)
}

// TestScan_endsEarly reaches the limit while a window is at work: what the
// visitor has seen of it counts, and its failure is told.
func TestScan_endsEarly(t *testing.T) {
	t.Parallel()
	const every = 32
	m := sparseTables(4096, every)
	limit := 1<<20 + 64*len(m)
	windows := limit / windowPages
	begun := make(chan struct{})
	held := windows * windowPages / 512 // the table behind the last window
	p := fakePool(heldTable{m, 0x100000 + pageSize*mem.PA(held+held/512+1), begun})
	failed := errors.New("the last window fails")
	var pages atomic.Int64
	sum, err := p.Scan(t.Context(), Query{Kind: Nonpaged, Workers: 1}, func(int, []Block) error {
		if pages.Add(1) == int64((windows-1)*windowPages/every)+1 {
			close(begun)
			return failed
		}
		return nil
	})
	if n := uint64(pages.Load()); sum.PagesScanned != n || !errors.Is(err, failed) {
		t.Errorf("%d pages counted, the visitor saw %d; %v, want %v", sum.PagesScanned, n, err, failed)
	}
}

func TestScan_stops(t *testing.T) {
	t.Parallel()
	stop := errors.New("enough")
	p := fakePool(fakeTables(512)) // 2^18 pages
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var pages atomic.Int64
	for _, c := range []struct {
		name string
		do   func() error
		want error
	}{
		{"error of the visitor", func() error { return stop }, stop},
		{"cancelled", func() error { cancel(); return nil }, context.Canceled},
	} {
		pages.Store(0)
		_, err := p.Scan(ctx, Query{Kind: Nonpaged, Workers: 2}, func(int, []Block) error {
			if pages.Add(1) > 10000 {
				return c.do()
			}
			return nil
		})
		if !errors.Is(err, c.want) || pages.Load() > 40000 {
			t.Errorf("%s: %d pages, %v", c.name, pages.Load(), err)
		}
	}
}

func TestScan_panicReachesCaller(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(2))
	defer func() {
		if r := recover(); r != "a bug" {
			t.Errorf("recovered %v", r)
		}
	}()
	_, err := p.Scan(t.Context(), Query{Kind: Nonpaged}, func(int, []Block) error { panic("a bug") })
	t.Errorf("came back with %v", err)
}
