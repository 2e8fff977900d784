package heaptest

import (
	"gokd/model/mem"
	"gokd/model/modeltest"
)

// SessionPool is the pool of one session: memory that only the processes of the
// session map, at addresses that every session uses.
type SessionPool struct {
	ID        uint32
	At        mem.VA // its _MM_SESSION_SPACE
	Processes []mem.VA
	Heap      *Heap // of segment heaps

	b     *Builder
	space *modeltest.Machine
	area  *area
	page  *PageOf
	table mem.VA // of tags
}

// Where the parts of session space lie.
const (
	sessionSpace  mem.VA = 0xfffff90000000000
	sessionTags   mem.VA = sessionSpace + 0x100000
	sessionBig    mem.VA = sessionSpace + 0x200000
	sessionMore   mem.VA = sessionSpace + 0x300000 // more tags
	sessionLength        = 0x3fffffff              // of its pool
	sessionRows          = 33
	sessionSlots         = 256
)

// Session starts the pool of a session with one process: pages as those of other
// pools up to 17763, later a heap of its own.
func (b *Builder) Session(id uint32) *SessionPool {
	b.t.Helper()
	p := b.M.Process(400+uint64(id)*100, 4, "csrss.exe")
	s := &SessionPool{ID: id, At: sessionSpace + 0x10000, Processes: []mem.VA{p}, b: b}
	s.space = b.M.Private(sessionSpace, sessionSpace+unit512-1, p)
	s.area = &area{first: sessionAt, last: sessionAt + sessionLength, next: sessionAt + 0x10000}
	const typ = "_MM_SESSION_SPACE"
	size := b.size(typ)
	s.space.Put(s.At, make([]byte, size)...)
	s.space.Set(s.At, uint64(id), typ, "SessionId")
	s.space.Set(s.At, uint64(s.area.first), typ, "PagedPoolStart")
	s.space.Set(s.At, uint64(s.area.last), typ, "PagedPoolEnd")
	b.M.Set(p, uint64(s.At), "_EPROCESS", "Session")
	// From 14393 on the structure itself has place for the table of tags.
	if b.SegmentHeaps() {
		s.startHeap()
	}
	s.table = sessionTags
	if off, f, ok := b.maybe(typ, "PoolTags"); ok && f > 8 {
		s.table = s.At + mem.VA(off)
	} else if ok {
		s.space.Set(s.At, uint64(s.table), typ, "PoolTags")
	}
	b.sess = append(b.sess, s)
	return s
}

// startHeap makes the session's heap, which _EX_HEAP_SESSION_STATE names: behind
// the manager's state and a handle of two words (the type tables of public symbol
// files; the embedded layouts lack it).
func (s *SessionPool) startHeap() {
	const state = sessionSpace + 0x400000
	b := s.b
	manager := b.size("_RTLP_HP_HEAP_MANAGER")
	s.space.Put(state, make([]byte, manager+0x20)...)
	keys := b.get64(b.state())
	s.space.Put64(state, keys)
	meta := &area{first: sessionSpace + 0x500000, next: sessionSpace + 0x500000}
	s.Heap = b.newHeap(Session, 0, s.space, s.area, meta)
	s.Heap.session = s
	s.space.Put64(state+mem.VA(manager)+0x10, uint64(s.Heap.At))
	s.space.Set(s.At, uint64(state), "_MM_SESSION_SPACE", "HeapState")
}

// maybe finds a field that not every family has, and its bytes.
func (b *Builder) maybe(typ, name string) (off, size uint64, ok bool) {
	if !b.M.Has(typ, name) {
		return 0, 0, false
	}
	o, f := b.M.Field(typ, name)
	n := uint64(f.Type.Size)
	if n <= 1 {
		n = max(n, uint64(f.Type.Count))
	}
	return uint64(o), n, true
}

// Page starts a new page of the session's pool.
func (s *SessionPool) Page() *PageOf {
	if s.b.SegmentHeaps() {
		s.b.t.Fatal("heaptest: session pool of segment heaps is not known")
	}
	if s.page != nil {
		s.page.Close()
	}
	s.page = &PageOf{b: s.b, pool: Session, session: s, m: s.space, At: s.area.take(mem.PageSize, mem.PageSize)}
	s.space.Put(s.page.At, make([]byte, mem.PageSize)...)
	return s.page
}

// Alloc allocates a block.
func (s *SessionPool) Alloc(a Ask) *Block {
	s.b.t.Helper()
	a.Pool = Session
	switch {
	case s.Heap != nil && a.Bytes > largestSmall:
		return s.Heap.big(a)
	case s.Heap != nil:
		return s.Heap.alloc(a)
	case a.Bytes > largestSmall:
		size := pagesOf(a.Bytes)
		at := s.area.take(size, mem.PageSize)
		for p := at; p < at+mem.VA(size); p += mem.PageSize {
			s.space.Put(p, 0x20)
		}
		return s.b.add(&Block{Ask: a, Header: at, Body: at, Size: a.Bytes, Room: size, Place: InTable, Within: s.ID, home: s})
	}
	if s.page == nil || s.page.Left() < sizeOf(a.Bytes)+64 {
		s.Page()
	}
	return s.page.Alloc(a)
}

func (s *SessionPool) free(k *Block) {
	for p := k.Header; p < k.Header+mem.VA(k.Room); p += mem.PageSize {
		s.space.Unmap(p)
	}
}

// Totals gives what the session's trackers hold.
func (s *SessionPool) Totals() map[string]Total {
	return totals(s.b.blocks, func(k *Block) bool { return k.Pool == Session && k.Within == s.ID })
}

// Put writes bytes as the session's processes see them.
func (s *SessionPool) Put(at mem.VA, data ...byte) { s.space.Put(at, data...) }

// closeSessions writes the tables of every session: half of its tags lie in the
// expansion, as if the first table were full.
func (b *Builder) closeSessions() {
	const typ = "_MM_SESSION_SPACE"
	stride := b.size("_POOL_TRACKER_TABLE")
	for _, s := range b.sess {
		for _, table := range []mem.VA{s.table, sessionMore} {
			s.space.Put(table, make([]byte, sessionRows*stride)...)
		}
		i := 0
		all := s.Totals()
		for _, tag := range sortedTags(all) {
			table := s.table
			if i++; i%2 == 0 {
				table = sessionMore
			}
			b.tracker(s.space, table, sessionRows, tag, all[tag])
		}
		s.space.Set(s.At, uint64(sessionMore), typ, "PoolTrackTableExpansion")
		s.space.Set(s.At, sessionRows, typ, "PoolTrackTableExpansionSize")
		var list []*Block
		for _, k := range b.blocks {
			if k.Large() && k.Pool == Session && k.Within == s.ID {
				list = append(list, k)
			}
		}
		b.bigTable(s.space, sessionBig, sessionSlots, list)
		s.space.Set(s.At, uint64(sessionBig), typ, "PoolTrackBigPages")
		s.space.Set(s.At, sessionSlots, typ, "PoolTrackBigPagesSize")
		if b.build < 22000 {
			b.M.SetGlobal("ExpSessionPoolTrackTable", uint64(s.table))
		}
		b.M.SetGlobal("ExpSessionPoolTrackTableSize", sessionRows)
	}
}
