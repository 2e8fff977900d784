package pool

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool/heaptest"
)

// sessionPools makes two sessions at the same addresses, with other blocks each.
func sessionPools(b *heaptest.Builder) [2]*heaptest.SessionPool {
	var list [2]*heaptest.SessionPool
	for i := range list {
		s := b.Session(uint32(2 - i)) // the later number first
		for n := range 30 + 10*i {
			if !b.SegmentHeaps() {
				k := s.Alloc(heaptest.Ask{Tag: fmt.Sprintf("Ses%d", s.ID), Bytes: uint64(n) * 16})
				if n%5 == 0 {
					b.Free(k)
				}
			}
		}
		s.Alloc(heaptest.Ask{Tag: "SBig", Bytes: 0x3000})
		list[i] = s
	}
	return list
}

func TestSessions(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		made := sessionPools(b)
		second := b.M.Process(900, 4, "winlogon.exe")
		p := openBuilt(t, b)
		// A second process of session 1 shows the same tables.
		of, _ := b.M.Field("_EPROCESS", "Session")
		dtb, _ := b.M.Field("_EPROCESS", "Pcb", "DirectoryTableBase")
		for _, off := range []uint32{of, dtb} {
			v, err := p.k.Space.Uint64(made[1].Processes[0] + mem.VA(off))
			if err != nil {
				t.Fatal(err)
			}
			b.M.Put64(second+mem.VA(off), v)
		}
		got, err := p.Sessions(t.Context())
		if err != nil || len(got) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		for i, s := range got {
			m := made[1-i]
			want := SessionInfo{ID: m.ID, At: m.At, Processes: m.Processes, PoolStart: 0xfffff900c0000000, PoolLast: 0xfffff900ffffffff}
			if i == 0 {
				want.Processes = append(slices.Clone(want.Processes), second)
			}
			s.Space = nil
			if d := gocmp.Diff(want, s); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		}
	})
}

// TestSessions_pool walks all sessions' pool and that of one.
func TestSessions_pool(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		made := sessionPools(b)
		b.Alloc(heaptest.Ask{Pool: heaptest.Paged, Tag: "Ses1", Bytes: 40}) // of no session
		p := openBuilt(t, b)
		want := func(id uint32) (list []string) {
			for _, k := range b.Blocks() {
				if k.Pool == heaptest.Session && (id == 0 || k.Within == id) {
					list = append(list, fmt.Sprintf("%x %x %s %d", uint64(k.Header), k.Size, k.Tag, k.State))
				}
			}
			slices.Sort(list)
			return list
		}
		walk := func(q Query) (list []string) {
			blocks, errs, _ := found(t, p, q)
			for _, k := range blocks {
				list = append(list, fmt.Sprintf("%x %x %s %d", uint64(k.Header), k.Size, k.Tag, k.State))
				if k.Kind != Session {
					t.Errorf("%+v", k)
				}
			}
			if len(errs) > 0 {
				t.Error(errs)
			}
			slices.Sort(list)
			return list
		}
		for _, s := range made {
			if d := gocmp.Diff(want(s.ID), walk(Query{Kind: Session, Session: &s.ID})); d != "" {
				t.Errorf("session %d (-want +got):\n%s", s.ID, d)
			}
		}
		if d := gocmp.Diff(want(0), walk(Query{Kind: Session})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		other := uint32(7)
		var missing *MissingError
		if _, err := p.Find(t.Context(), Query{Kind: Session, Session: &other}); !errors.As(err, &missing) {
			t.Errorf("session 7: %v", err)
		}
	})
}

// TestSessions_trackers adds up the tags of each session.
func TestSessions_trackers(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, 1<<31, func(t *testing.T, b *heaptest.Builder) {
		made := sessionPools(b)
		p := openBuilt(t, b)
		for _, s := range made {
			sum, err := p.SessionTrackers(t.Context(), &s.ID)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]int64{}
			for _, u := range sum.Rows {
				got[u.Tag.String()] = u.Paged.Bytes + u.Nonpaged.Bytes
			}
			if len(got) != len(s.Totals()) || len(got) == 0 {
				t.Errorf("%v, want %+v", got, s.Totals())
			}
		}
		var all []string
		for u, err := range p.SessionUsages(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			all = append(all, u.Tag.String())
		}
		want := []string{"SBig", "Ses1", "Ses2"}
		if b.SegmentHeaps() {
			want = want[:1]
		}
		if d := gocmp.Diff(want, all); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

// TestSessions_cached gives two sessions a list of their own at one address.
func TestSessions_cached(t *testing.T) {
	t.Parallel()
	forFamilies(t, 0, lastPagePool, func(t *testing.T, b *heaptest.Builder) {
		first, second := b.Session(1), b.Session(2)
		var gone []mem.VA
		for i := range 12 {
			a := first.Alloc(heaptest.Ask{Tag: "Ses1", Bytes: 40})
			second.Alloc(heaptest.Ask{Tag: "Ses2", Bytes: 40})
			if i%4 == 1 {
				gone = append(gone, a.Body)
			}
		}
		p := openBuilt(t, b)
		to := inSession{t, b.M, first}
		off, _ := b.M.Field("_MM_SESSION_SPACE", "PagedPool")
		initDescriptor(b.M, to, first.At+mem.VA(off), 0x21, 0)
		setPending(b.M, to, first.At+mem.VA(off), gone[1:]...)
		if b.M.Has("_MM_SESSION_SPACE", "Lookaside") {
			look, _ := b.M.Field("_MM_SESSION_SPACE", "Lookaside")
			to.Put64(first.At+mem.VA(look)+0x80, 1)
			to.Put64(first.At+mem.VA(look)+0x88, uint64(gone[0])|1)
		}
		for _, s := range []*heaptest.SessionPool{first, second} {
			want := gone
			if s == second {
				want = nil
			}
			if got := cachedBodies(t, p, Query{Kind: Session, Session: &s.ID}); !slices.Equal(got, want) {
				t.Errorf("session %d: cached %x, want %x", s.ID, got, want)
			}
		}
		n := 0
		for d, err := range p.Descriptors(t.Context()) {
			if err == nil && d.Kind == Session && d.Session == 1 && d.PendingListed == 2 {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d descriptors of session 1", n)
		}
	})
}

// inSession writes as a session's processes see memory.
type inSession struct {
	t *testing.T
	m *modeltest.Machine
	s *heaptest.SessionPool
}

func (s inSession) Put64(at mem.VA, v uint64) {
	var b [8]byte
	for i := range b {
		b[i] = byte(v >> (8 * i))
	}
	s.s.Put(at, b[:]...)
}

func (s inSession) Set(at mem.VA, v uint64, typ string, path ...string) {
	off, f := s.m.Field(typ, path...)
	var b []byte
	for i := range f.Type.Size {
		b = append(b, byte(v>>(8*i)))
	}
	s.s.Put(at+mem.VA(off), b...)
}

// TestSessions_nonpaged finds a session's large nonpaged allocation in the
// machine's table.
func TestSessions_nonpaged(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "17763"))
	b.Session(1)
	b.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "SNpg", Bytes: 0x2000})
	p := openBuilt(t, b)
	table, err := p.k.GlobalPointer("PoolBigPageTable")
	if err != nil {
		t.Fatal(err)
	}
	for i := range mem.VA(4096) {
		at := table + i*mem.VA(p.layout.bigSize)
		if v, err := p.k.Space.Uint64(at); err == nil && v&freeSlot == 0 && v != 0 {
			b.M.Set(at, typeSession, "_POOL_TRACKER_BIG_PAGES", "PoolType")
		}
	}
	blocks, errs, _ := found(t, p, Query{Kind: Session})
	if len(blocks) != 1 || len(errs) > 0 || blocks[0].Tag.String() != "SNpg" {
		t.Errorf("%+v, %v", blocks, errs)
	}
}

// TestSessions_notInDump reads a dump without session memory, and one that
// leaves it out by its type.
func TestSessions_notInDump(t *testing.T) {
	t.Parallel()
	for typ, want := range map[uint32]string{
		6: "the memory of sessions is not in this dump: session data is not present in mini and kernel-only dumps",
		1: "the memory of sessions is not in this dump: none of the machine's sessions is in it",
	} {
		b := heaptest.New(t, family(t, "19041"))
		process := b.M.Process(500, 4, "csrss.exe")
		b.M.Set(process, 0xfffff90000010000, "_EPROCESS", "Session")
		p := openBuilt(t, b)
		p.k.Source.Crash.DumpType = typ
		_, err := p.Sessions(t.Context())
		var missing *MissingError
		if !errors.As(err, &missing) || err.Error() != want || errors.Is(err, ErrSessionData) != (typ == 6) {
			t.Errorf("type %d: %v", typ, err)
		}
	}
}

// TestSessions_hostile names a session structure of its own in each of very many
// processes, and some in user space.
func TestSessions_hostile(t *testing.T) {
	t.Parallel()
	b := heaptest.New(t, family(t, "7601-late"))
	structures := b.M.Variable(8 * 2 * maxSessions)
	for i := range 2 * maxSessions {
		process := b.M.Process(uint64(1000+4*i), 4, "many.exe")
		at := structures + mem.VA(8*i)
		off, _ := b.M.Field("_MM_SESSION_SPACE", "SessionId")
		b.M.Put(at+mem.VA(off), byte(i), byte(i>>8), 0, 0)
		if i%16 == 0 {
			at = 0x10000
		}
		b.M.Set(process, uint64(at), "_EPROCESS", "Session")
	}
	p := openBuilt(t, b)
	got, err := p.Sessions(t.Context())
	if len(got) != maxSessions || !errors.Is(err, ErrLimit) {
		t.Errorf("%d sessions, %v", len(got), err)
	}
}

// TestSessions_finder holds the account of a million sessions to its bounds.
func TestSessions_finder(t *testing.T) {
	t.Parallel()
	flat := sparseMemory{}
	k := &model.Kernel{Space: mem.NewFlat(flat), Types: family(t, "9600"), Modules: &model.Modules{}}
	f := &sessionFinder{p: &Pool{k: k}, known: map[sessionKey]int{}}
	for i := range 1_000_000 {
		f.process(k.Object("_EPROCESS", 0xffff800000000000+mem.VA(i)*0x1000))
	}
	if len(f.list) != maxSessions || len(f.known) > 2*maxSessions || !f.full {
		t.Errorf("%d sessions, %d known, full %v", len(f.list), len(f.known), f.full)
	}
}

// sparseMemory holds its own addresses: every structure leads to another.
type sparseMemory struct{}

func (sparseMemory) ReadVirtual(b []byte, at mem.VA) (int, error) {
	for i := range b {
		b[i] = byte(uint64(at+mem.VA(i)) &^ 7 >> (8 * (uint64(at+mem.VA(i)) % 8)))
	}
	return len(b), nil
}
