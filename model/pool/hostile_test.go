package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"os"
	"strings"
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// fakeMemory is physical memory made of whole pages.
type fakeMemory map[mem.PA]*[pageSize]byte

func (m fakeMemory) ReadPhysical(p []byte, at mem.PA) (int, error) {
	page := m[at&^(pageSize-1)]
	if page == nil {
		return 0, &mem.Fault{Kind: mem.NotCaptured, PA: at}
	}
	n := copy(p, page[at%pageSize:])
	if n < len(p) {
		m, err := m.ReadPhysical(p[n:], at+mem.PA(n))
		return n + m, err
	}
	return n, nil
}

func (m fakeMemory) Runs() iter.Seq[mem.Run] {
	return func(yield func(mem.Run) bool) {
		for at := range m {
			if !yield(mem.Run{Base: at, Size: pageSize}) {
				return
			}
		}
	}
}

// guardedMemory hands out slices and fails under guard, as a file that shrinks
// does.
type guardedMemory struct{ fakeMemory }

func (m guardedMemory) SlicePhysical(at mem.PA, n int) ([]byte, bool) {
	page := m.fakeMemory[at]
	if page == nil || n != pageSize {
		return nil, false
	}
	return page[:], true
}

var errShrank = errors.New("the file shrank")

func (m guardedMemory) Guard(f func() error) error {
	if err := f(); err != nil {
		return err
	}
	return errShrank
}

func entry(table *[pageSize]byte, i int, to mem.PA) {
	binary.LittleEndian.PutUint64(table[8*i:], uint64(to)|0x63)
}

const (
	fakeRoot  mem.PA = 0x1000
	fakeStart mem.VA = 0xffff900000000000
	fakeSlot         = 0x120
)

// fakeTables maps one page of blocks 512 times by each of so many page tables,
// from fakeStart on.
func fakeTables(tables int) fakeMemory { return sparseTables(tables, 1) }

// sparseTables maps the page of blocks at every so many-th place, and at the
// others one that is not there, which takes less time to find out.
func sparseTables(tables, every int) fakeMemory {
	m := fakeMemory{fakeRoot: new([pageSize]byte), 0x2000: new([pageSize]byte), 0x5000: goodPage()}
	entry(m[fakeRoot], fakeSlot, 0x2000)
	next := mem.PA(0x100000)
	for i := range tables {
		if i%512 == 0 {
			m[next] = new([pageSize]byte)
			entry(m[0x2000], i/512, next)
			next += pageSize
		}
		directory := next - pageSize*mem.PA(1+i%512)
		m[next] = new([pageSize]byte)
		entry(m[directory], i%512, next)
		for j := range 512 {
			to := mem.PA(0x5000)
			if j%every != 0 {
				to = 0x6000
			}
			entry(m[next], j, to)
		}
		next += pageSize
	}
	return m
}

func fakePool(phys mem.Physical) *Pool {
	k := &model.Kernel{Space: mem.NewX64(phys, fakeRoot), Modules: &model.Modules{}}
	p := &Pool{k: k, layout: layout{pagePool: true}, big: &bigTable{}, ranges: map[Kind][]Range{}}
	p.ranges[Nonpaged] = []Range{{Start: fakeStart, Last: fakeStart + slotBytes - 1, space: k.Space}}
	return p
}

func TestBlocks_stopsEarly(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(256)) // 2^17 pages
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range w.Blocks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 100 {
			break
		}
	}
	if s := w.Summary(); s.PagesScanned > 4*windowPages {
		t.Errorf("the walk went on: %+v", s)
	}
}

func TestBlocks_interrupted(t *testing.T) {
	t.Parallel()
	p := fakePool(fakeTables(256))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := p.Find(ctx, Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	var last error
	n := 0
	for _, err := range w.Blocks(ctx) {
		if n++; n == 5 {
			cancel()
		}
		last = err
	}
	s := w.Summary()
	if !errors.Is(last, context.Canceled) || !s.Interrupted || s.Reached <= fakeStart {
		t.Errorf("%d blocks, last error %v, summary %+v", n, last, s)
	}
}

func TestBlocks_fault(t *testing.T) {
	t.Parallel()
	m := fakeTables(1)
	p := fakePool(guardedMemory{m})
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	blocks, errs := 0, 0
	for _, err := range w.Blocks(t.Context()) {
		switch {
		case errors.Is(err, errShrank):
			errs++
		case err != nil:
			t.Fatal(err)
		default:
			blocks++
		}
	}
	if s := w.Summary(); blocks != 0 || errs == 0 || s.PagesMissing != 512 || s.Blocks != 0 {
		t.Errorf("%d blocks, %d errors, summary %+v", blocks, errs, s)
	}
}

// TestScan_shrunkFile cuts a mapped dump while it is open.
func TestScan_shrunkFile(t *testing.T) {
	t.Parallel()
	file := shared.Dump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz"))
	d, err := dumpfmt.OpenFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	k := modeltest.Load(t, d)
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	w, err := p.Find(t.Context(), Query{Kind: Nonpaged})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Tables(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<16); err != nil {
		t.Fatal(err)
	}
	blocks, failed := 0, 0
	for _, err := range w.Small(t.Context(), w.Ranges()[0]) {
		if err != nil {
			failed++
			continue
		}
		blocks++
	}
	if s := w.Summary(); blocks != 0 || failed == 0 && s.Skipped() == 0 {
		t.Errorf("%d blocks, %d errors, summary %+v", blocks, failed, s)
	}
}

// holes is virtual memory of which some pages are missing.
type holes struct {
	data    []byte
	missing map[mem.VA]bool
}

func (h holes) ReadVirtual(p []byte, at mem.VA) (int, error) {
	for n := range p {
		va := at + mem.VA(n)
		if h.missing[va.Page()] || uint64(va-fakeStart) >= uint64(len(h.data)) {
			return n, &mem.Fault{Kind: mem.NotCaptured, VA: va}
		}
		p[n] = h.data[va-fakeStart]
	}
	return len(p), nil
}

func TestReadTable_holes(t *testing.T) {
	t.Parallel()
	const stride, count = 0x28, 1024 // 10 pages
	h := holes{make([]byte, stride*count), map[mem.VA]bool{fakeStart + 0x2000: true, fakeStart + 0x5000: true, fakeStart + 0x6000: true}}
	for i := range count {
		binary.LittleEndian.PutUint32(h.data[i*stride:], uint32(i))
	}
	touches := func(i int) bool {
		first, last := (fakeStart + mem.VA(i*stride)).Page(), (fakeStart + mem.VA(i*stride+stride-1)).Page()
		return h.missing[first] || h.missing[last]
	}
	seen := map[int]bool{}
	part, err := readTable(t.Context(), mem.NewFlat(h), "table", fakeStart, count, stride, func(e []byte) {
		seen[int(binary.LittleEndian.Uint32(e))] = true
	})
	if err != nil || part == nil {
		t.Fatal(part, err)
	}
	lost := uint64(0)
	for i := range count {
		if touches(i) {
			lost++
		}
		if seen[i] == touches(i) {
			t.Errorf("entry %d: seen %v, touches a hole %v", i, seen[i], touches(i))
		}
	}
	if part.Entries != lost || !strings.Contains(part.Error(), "cannot be read") || !errors.Is(part, mem.ErrNotCaptured) {
		t.Errorf("%d lost: %v", lost, part)
	}
	if part, err := readTable(t.Context(), mem.NewFlat(h), "table", ^mem.VA(0)-100, 1000, stride, func([]byte) {}); err != nil || part.Entries != 1000 {
		t.Errorf("a table that wraps: %v, %v", part, err)
	}
	if part, err := readTable(t.Context(), mem.NewFlat(h), "table", 0x1000, 1<<20, stride, func([]byte) {}); err != nil || part.Entries != 1<<20 {
		t.Errorf("a table that is not there: %v, %v", part, err)
	}
}

func TestBigBlock(t *testing.T) {
	t.Parallel()
	l := layout{
		bigSize: 0x20, bigVA: field{0, 8, 0, 0}, bigKey: field{8, 4, 0, 0}, bigType: field{12, 4, 8, 12},
		bigSpan: field{16, 8, 0, 0}, bigBilled: field{24, 8, 0, 0},
	}
	for _, c := range []struct {
		name     string
		va, size uint64
		typ      uint32
		want     slotState
		kind     Kind
	}{
		{"nonpaged", 0xffff900000001000, 0x2001, 0x200, slotUsed, Nonpaged},
		{"paged", 0xffff900000001000, 0x2001, 1, slotUsed, Paged},
		{"session", 0xffff900000001000, 0x2001, 0x21, slotUsed, Session},
		{"free", 0xffff900000001001, 0x2001, 1, slotFree, 0},
		{"never used", 1, 0, 0, slotFree, 0},
		{"empty", 0, 0, 0, slotFree, 0},
		{"unaligned", 0xffff900000001010, 0x2001, 1, slotOdd, 0},
		{"user address", 0x10000, 0x1000, 1, slotOdd, 0},
		{"endless", 0xffff900000001000, 1 << 63, 1, slotOdd, 0},
		{"wraps", 0xfffffffffffff000, 0x2000, 1, slotOdd, 0},
		{"no bytes", 0xffff900000001000, 0, 1, slotOdd, 0},
	} {
		var e [0x20]byte
		binary.LittleEndian.PutUint64(e[0:], c.va)
		copy(e[8:], "Lea\xeb")
		binary.LittleEndian.PutUint32(e[12:], c.typ<<8|0x55|0xabc<<20)
		binary.LittleEndian.PutUint64(e[16:], c.size)
		b, got := l.bigBlock(e[:])
		if got != c.want || b.Kind != c.kind || got == slotUsed && (b.Tag != tagOf("Leak") || !b.Protected || b.Size != c.size || !b.Large) {
			t.Errorf("%s: %v %+v, want %v", c.name, got, b, c.want)
		}
	}
}

// TestPoolFlags tells pools by the flags of Windows 11 24H2, and by types where
// an entry holds one all the same.
func TestPoolFlags(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flags, want uint16 }{
		{0x40, typeNX}, {0x80, 0}, {0x100, typePaged}, {0x101, typePaged}, {0x104, typePaged | typeSession},
		{0x63, typeNX}, {1, 1}, {0x200, 0x200}, {0x21, 0x21}, {0, 0},
	} {
		if got := (&layout{bigFlags: true}).poolType(c.flags); got != c.want {
			t.Errorf("flags %#x are type %#x, want %#x", c.flags, got, c.want)
		}
		if got := (&layout{}).poolType(c.flags); got != c.flags {
			t.Errorf("type %#x becomes %#x", c.flags, got)
		}
	}
}

func TestJoinSpans(t *testing.T) {
	t.Parallel()
	block := func(at mem.VA, size uint64) Block { return Block{Body: at, Size: size} }
	got := joinSpans([]Block{
		block(0x1000, 1), block(0x2000, 0x1001), block(0x3000, 0x8000), block(0x5000, 0x1000), block(0x20000, 0x1000),
		block(^mem.VA(0xfff), 0x3000),
	})
	want := []span{{0x1000, 0xb000}, {0x20000, 0x21000}, {^mem.VA(0xfff), ^mem.VA(0)}}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%d: %#v, want %#v", i, got[i], want[i])
		}
	}
}

func TestOpen_needsLayouts(t *testing.T) {
	t.Parallel()
	_, err := Open(&model.Kernel{Build: 99999})
	if !errors.Is(err, model.ErrNoLayout) {
		t.Errorf("%v", err)
	}
	for _, e := range []error{&MissingError{"x", io.EOF}, &PartError{"x", 1, 2, io.EOF}} {
		if !errors.Is(e, io.EOF) || e.Error() == "" {
			t.Errorf("%v", e)
		}
	}
}

// patched is memory with some bytes changed; it hands out no slices.
type patched struct {
	mem.Physical
	bytes map[mem.PA]byte
}

func (m patched) ReadPhysical(p []byte, at mem.PA) (int, error) {
	n, err := m.Physical.ReadPhysical(p, at)
	for pa, c := range m.bytes {
		if pa >= at && uint64(pa-at) < uint64(n) {
			p[pa-at] = c
		}
	}
	return n, err
}

// TestBlocks_cached puts two blocks on a processor's lookaside list.
func TestBlocks_cached(t *testing.T) {
	t.Parallel()
	d, err := dumpfmt.OpenFile(shared.Dump(t, shared.Path(t, "dumps/x64/win7.kernel.dmp.xz")))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	m := patched{d.Physical, map[mem.PA]byte{}}
	d.Physical = m
	k := modeltest.Load(t, d)
	poke := func(at mem.VA, v uint64) {
		tr, err := k.Space.Translate(at)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 {
			m.bytes[tr.PA+mem.PA(i)] = byte(v >> (8 * i))
		}
	}
	p, err := Open(k)
	if err != nil {
		t.Fatal(err)
	}
	var victims []Block
	for b, err := range Blocks(t.Context(), k, Nonpaged, pattern(t, "Even")) {
		if err == nil && b.State == Allocated && len(victims) < 2 {
			victims = append(victims, b)
		}
	}
	head := k.Object("_KPRCB", k.Processors[1].PRCB).Field("PPNPagedLookasideList").Index(5).Field("ListHead")
	if err := head.Err(); err != nil {
		t.Fatal(err)
	}
	poke(head.Addr(), 0x12340002) // depth 2
	poke(head.Addr()+8, uint64(victims[0].Body)|1)
	poke(victims[0].Body, uint64(victims[1].Body))
	poke(victims[1].Body, uint64(victims[0].Body)) // a loop: the depth ends it
	var got []mem.VA
	for b, err := range Blocks(t.Context(), k, Nonpaged, Pattern{}) {
		if err != nil {
			t.Fatal(err)
		}
		if b.State == Cached {
			got = append(got, b.Header)
		}
	}
	if len(got) != 2 || got[0] != victims[0].Header || got[1] != victims[1].Header {
		t.Errorf("cached %v, want those of %+v", got, victims)
	}
	if b, err := p.BlockAt(t.Context(), victims[1].Body); err != nil || b.State != Cached {
		t.Errorf("%+v, %v", b, err)
	}
}
