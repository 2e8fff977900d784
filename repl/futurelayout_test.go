package repl_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gokd/model/types"
)

// futureTypes are the structures of a build that does not exist: those of an
// embedded family, each with its members in another order, padding between
// them, and more room at its end.
type futureTypes struct {
	*types.Layout
	build uint32
	rng   *rand.Rand
	made  map[*types.Type]*types.Type
	grown map[*types.Type]bool // made ones that have another size
	fixed map[*types.Type]bool // embedded ones that stay as they are
}

func newFuture(t testing.TB, family string, build uint32, seed uint64) *futureTypes {
	t.Helper()
	for _, l := range types.Layouts() {
		if l.Family() != family {
			continue
		}
		f := &futureTypes{
			Layout: l, build: build, rng: rand.New(rand.NewPCG(seed, 7)),
			made: map[*types.Type]*types.Type{}, grown: map[*types.Type]bool{}, fixed: map[*types.Type]bool{},
		}
		for _, name := range l.TypeNames() {
			if typ, err := l.Type(name); err == nil && (frozen(name) || f.twoViews(name)) {
				f.freeze(typ)
			}
		}
		for _, name := range l.TypeNames() { // in one order: the numbers follow it
			if _, err := f.Type(name); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	t.Fatalf("no embedded layout %s", family)
	return nil
}

// Type implements types.Store.
func (f *futureTypes) Type(name string) (*types.Type, error) {
	t, err := f.Layout.Type(name)
	if err != nil {
		return nil, err
	}
	return f.of(t), nil
}

// Origin implements types.Store.
func (f *futureTypes) Origin() types.Origin {
	return types.Origin{Build: f.build, Match: types.MatchSynthetic, Source: "a build to come"}
}

// of gives the future form of a type.
func (f *futureTypes) of(t *types.Type) *types.Type {
	if t == nil {
		return nil
	}
	if known := f.made[t]; known != nil {
		return known
	}
	n := *t
	f.made[t] = &n
	switch t.Kind {
	case types.KindArray:
		n.Elem = f.of(t.Elem)
		n.Size = n.Elem.Size * t.Count
	case types.KindPointer:
		n.Elem = f.of(t.Elem)
	case types.KindStruct:
		f.reorder(&n, t)
	case types.KindUnion:
		n.Fields = slices.Clone(t.Fields)
		for i := range n.Fields {
			n.Fields[i].Type = f.of(n.Fields[i].Type)
			n.Size = max(n.Size, n.Fields[i].Offset+n.Fields[i].Type.Size)
		}
	}
	f.grown[&n] = n.Size != t.Size || t.Kind == types.KindStruct && !f.fixed[t]
	return &n
}

// frozen reports whether a structure cannot change: the processor lays it out, or
// documented interfaces, user mode and dump files do.
func frozen(name string) bool {
	for _, prefix := range []string{
		"_LIST_ENTRY", "_SINGLE_LIST_ENTRY", "_SLIST_", "_UNICODE_STRING", "_STRING", "_LARGE_INTEGER", "_ULARGE_INTEGER",
		"_CONTEXT", "_M128A", "_XSAVE", "_EX_FAST_REF", "_POOL_HEADER", "_MMPTE", "_DISPATCHER_HEADER", "_KUSER_SHARED_DATA",
		"_KSYSTEM_TIME", "_KSWITCH_FRAME", "_KTRAP_FRAME", "_KEXCEPTION_FRAME", "_MACHINE_FRAME", "_KTSS64", "_KGDTENTRY64",
		"_KIDTENTRY64", "_DBGKD_", "_EXCEPTION_RECORD", "_PHYSICAL_MEMORY_", "_NT_TIB", "_TEB", "_PEB", "_RTL_", "_GUID",
		"_KSPECIAL_REGISTERS", "_UNLOADED_DRIVER", "_KERNEL_STACK", "_KSTACK_", "_KEXCEPTION", "_CLIENT_ID",
	} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// freeze keeps a type as it is, and with it all that it holds by value.
func (f *futureTypes) freeze(t *types.Type) {
	if f.fixed[t] {
		return
	}
	f.fixed[t] = true
	if t.Kind == types.KindArray {
		f.freeze(t.Elem)
	}
	for _, m := range t.Fields {
		f.freeze(m.Type)
	}
}

// twoViews reports whether a structure is one of two views of the same memory,
// whose members must stay above each other: resources, in builds that have fast
// ones too.
func (f *futureTypes) twoViews(name string) bool {
	_, err := f.Layout.Type("_FAST_ERESOURCE_INTERNAL")
	return err == nil && (name == "_ERESOURCE" || strings.HasPrefix(name, "_FAST_ERESOURCE"))
}

// cluster is members that overlap, such as those of an unnamed union.
type cluster struct {
	fields     []types.Field
	start, end uint32
	align      uint32
}

// reorder gives a structure its future form.
func (f *futureTypes) reorder(t, original *types.Type) {
	fields := slices.Clone(t.Fields)
	for i := range fields {
		fields[i].Type = f.of(fields[i].Type)
		// Windows 11 24H2 has flags in place of the type.
		if f.Family() == "22000" && t.Name == "_POOL_TRACKER_BIG_PAGES" && fields[i].Name == "PoolType" {
			fields[i].Name = "PoolFlags"
		}
	}
	t.Fields = fields
	if f.fixed[original] || len(fields) == 0 {
		return
	}
	var groups []cluster
	for i, o := range original.Fields {
		end := o.Offset + max(o.Type.Size, 1)
		if n := len(groups); n > 0 && o.Offset < groups[n-1].end && !f.split(groups[n-1], fields[i]) {
			groups[n-1].fields = append(groups[n-1].fields, fields[i])
			groups[n-1].end = max(groups[n-1].end, end)
			continue
		}
		groups = append(groups, cluster{fields: []types.Field{fields[i]}, start: o.Offset, end: end, align: alignOf(o.Offset)})
	}
	f.place(t, groups)
}

// place puts the groups into another order, with padding. Objects are found by
// the address of their first member, and bodies follow their headers: those
// stay where they are.
func (f *futureTypes) place(t *types.Type, groups []cluster) {
	first, last := 0, len(groups)
	if pinned(groups[0].fields[0].Name) {
		first = 1
	}
	if groups[last-1].fields[0].Name == "Body" {
		last--
	}
	f.rng.Shuffle(last-first, func(i, j int) { groups[first+i], groups[first+j] = groups[first+j], groups[first+i] })
	t.Fields = nil
	var at uint32
	for i, g := range groups {
		if i >= max(first, 1) && g.fields[0].Name != "Body" {
			at += 8 * f.rng.Uint32N(3)
		}
		at = (at + g.align - 1) &^ (g.align - 1)
		size := g.end - g.start
		for _, m := range g.fields {
			off := m.Offset - g.start
			size = max(size, off+m.Type.Size)
			m.Offset = at + off
			t.Fields = append(t.Fields, m)
		}
		at += size
	}
	slices.SortStableFunc(t.Fields, func(a, b types.Field) int { return int(a.Offset) - int(b.Offset) })
	t.Size = (at + 8*f.rng.Uint32N(4) + 15) &^ 15
}

// split reports whether a member that lay over others needs a place of its own:
// where one of them has grown, what lay in its padding would be overwritten.
func (f *futureTypes) split(g cluster, m types.Field) bool {
	grown := f.grown[m.Type] || m.Type.Kind == types.KindArray && f.grown[m.Type.Elem]
	for _, other := range g.fields {
		grown = grown || f.grown[other.Type] || other.Type.Kind == types.KindArray && f.grown[other.Type.Elem]
	}
	return grown
}

func pinned(name string) bool { return name == "Header" || name == "Tcb" || name == "Pcb" }

// alignOf gives the alignment that an offset shows, 16 at most.
func alignOf(off uint32) uint32 {
	for _, a := range []uint32{16, 8} {
		if off%a == 0 {
			return a
		}
	}
	return 8
}
