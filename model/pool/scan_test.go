package pool

import (
	"context"
	"errors"
	"testing"
)

// walkAll walks a pool and counts what is handed out.
func walkAll(ctx context.Context, t *testing.T, p *Pool, q Query) (sum Summary, blocks int, errs []error) {
	t.Helper()
	w, err := p.Find(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range w.Blocks(ctx) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		blocks++
	}
	return w.Summary(), blocks, errs
}

func TestSmall_endlessTables(t *testing.T) {
	t.Parallel()
	p := fakePool(sparseTables(4096, 32)) // 2^21 pages, all the same
	sum, blocks, errs := walkAll(t.Context(), t, p, Query{Kind: Nonpaged, Workers: 2})
	if tried := sum.PagesScanned + sum.PagesMissing; len(errs) != 1 || !errors.Is(errs[0], ErrLimit) || tried < 1<<20 || tried > 3<<19 {
		t.Errorf("%d pages, %v; summary %+v", tried, errs, sum)
	}
	if blocks < 1<<15 || p.Kept(Nonpaged) != nil {
		t.Errorf("%d blocks, index %v", blocks, p.Kept(Nonpaged))
	}
	if x, err := p.Index(t.Context(), Nonpaged, nil); !errors.Is(err, ErrLimit) {
		t.Errorf("index %v, %v", x, err)
	}
}

func TestWorker_panicReachesCaller(t *testing.T) {
	t.Parallel()
	m := fakeTables(2)
	p := fakePool(m)
	p.k.Space.Physical().(fakeMemory)[0x5000] = nil
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	s := p.newScanner(t.Context(), w.q, w.ranges[0])
	s.guard = func(func() error) error { panic("a bug") }
	s.drain = func(*window) bool { return true }
	defer func() {
		if r := recover(); r != "a bug" {
			t.Errorf("recovered %v", r)
		}
	}()
	err = s.pages(w.ranges[0], nil)
	t.Errorf("came back with %v", err)
}
