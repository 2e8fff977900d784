package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/thread"
	"gokd/model/unwind"
)

// area is a piece of the address space with one use.
type area struct {
	start, last uint64 // its first and last byte
	usage       string
	module      *model.Module
	thread      mem.VA // whose stack
	detail      string // "processor 2"
	from        string // how it was found, where it is inferred; empty where the target says it
	vaType      bool   // the memory manager's type of a whole piece
}

func (a area) size() uint64 { return a.last - a.start + 1 }

// atlas is what is known of the use of an address space.
type atlas struct {
	areas []area
	gaps  []string // what could not be found out, and why
}

type atlasKey struct{}

// kept ties an atlas to the target and tables it was made for.
type kept struct {
	kernel *model.Kernel
	space  *mem.Space
	atlas  *atlas
}

// atlasOf gives the regions of the session's target, which are found once.
func atlasOf(ctx context.Context, s *cmd.Session) (*atlas, error) {
	box, err := cmd.Cached(s, atlasKey{}, func() (*kept, error) { return &kept{}, nil })
	if err != nil {
		return nil, err
	}
	if box.atlas == nil || box.kernel != s.Kernel || box.space != s.Space() {
		a := &atlas{}
		if err := a.survey(ctx, s); err != nil {
			return nil, err
		}
		*box = kept{s.Kernel, s.Space(), a}
	}
	return box.atlas, nil
}

// survey asks each source of knowledge. Only an interruption is an error; what
// could not be found out stands in gaps.
func (a *atlas) survey(ctx context.Context, s *cmd.Session) error {
	k := s.Kernel
	a.add(area{start: uint64(model.SharedUserData), last: uint64(model.SharedUserData) + mem.PageSize - 1, usage: "Shared user data"})
	if size, ok := k.Debug.Field(model.DebugSize); ok && size < mem.PageSize {
		a.add(area{start: uint64(k.Debug.At), last: uint64(k.Debug.At) + size - 1, usage: "Debugger data block"})
	}
	a.processors(k)
	for _, m := range k.Modules.All {
		if m.Size > 0 && m.Size < 1<<32 {
			a.add(area{start: uint64(m.Base), last: uint64(m.Base) + m.Size - 1, usage: "Module", module: m})
		}
	}
	a.pfnDatabase(k)
	if m := selfMapOf(s, s.Space()); m.known && s.Space().Paged() {
		a.add(area{start: m.start, last: m.start + selfMapSize - 1, usage: "Page tables", from: m.from})
	}
	if err := a.stacks(ctx, k); err != nil {
		return err
	}
	if err := a.pools(ctx, k); err != nil {
		return err
	}
	a.assigned(k)
	a.types(k)
	a.windows7(k)
	slices.SortStableFunc(a.areas, func(x, y area) int {
		switch {
		case x.start < y.start:
			return -1
		case x.start > y.start:
			return 1
		}
		return 0
	})
	return nil
}

// add keeps an area that makes sense.
func (a *atlas) add(x area) {
	if x.last >= x.start && x.start != 0 {
		a.areas = append(a.areas, x)
	}
}

func (a *atlas) gap(format string, args ...any) {
	a.gaps = append(a.gaps, fmt.Sprintf(format, args...))
}

// processors adds each processor's control region, which holds its block.
func (a *atlas) processors(k *model.Kernel) {
	off, size := uint64(0), uint64(0)
	if k.Types != nil {
		if t, err := k.Types.Type("_KPCR"); err == nil {
			size = uint64(t.Size)
		}
		if o, err := model.OffsetOf(k.Types, "_KPCR", "Prcb"); err == nil {
			off = uint64(o)
		}
	}
	if size == 0 {
		if v, ok := k.Debug.Field(model.DebugSizePrcb); ok {
			size = v
		}
	}
	for _, p := range k.Processors {
		if p.PRCB == 0 || size == 0 {
			continue
		}
		start := uint64(p.PRCB) - off
		a.add(area{start: start, last: start + size - 1, usage: "Processor control region", detail: fmt.Sprintf("processor %d", p.Number)})
	}
	if k.Types == nil || k.Degraded {
		return
	}
	for _, st := range unwind.ProcessorStacks(k) {
		a.add(area{start: uint64(st.Limit), last: uint64(st.Base) - 1, usage: "Processor stack", detail: fmt.Sprintf("%s stack of processor %d", st.Kind, st.Processor)})
	}
}

// maxStacks limits the stacks that are kept: many more than a machine has threads.
const maxStacks = 1 << 17

// stacks adds the kernel stacks of all threads.
func (a *atlas) stacks(ctx context.Context, k *model.Kernel) error {
	if k.Types == nil || k.Degraded {
		a.gap("kernel stacks: %s", k.NeedsSymbols())
		return nil
	}
	n := 0
	var broken error
	for at, err := range thread.Addresses(ctx, k) {
		if err != nil {
			broken = cmp.Or(broken, err)
			continue
		}
		segs, _ := unwind.Segments(k, at) // a thread without a stack has none
		for _, g := range segs {
			if n++; n > maxStacks {
				a.gap("kernel stacks: more than %d", maxStacks)
				return ctx.Err()
			}
			x := area{start: uint64(g.Limit), last: uint64(g.Base) - 1, usage: "Kernel stack", thread: at}
			if g.Inferred {
				x.from = "pages around a saved stack pointer"
			}
			a.add(x)
		}
	}
	if broken != nil {
		a.gap("the stacks of some threads: %v", broken)
	}
	return ctx.Err()
}

// pfnDatabase adds the array that describes every physical page.
func (a *atlas) pfnDatabase(k *model.Kernel) {
	start, err := k.GlobalPointer("MmPfnDatabase")
	if err != nil || k.Source.Physical == nil || k.Types == nil {
		return
	}
	t, err := k.Types.Type("_MMPFN")
	if err != nil {
		return
	}
	pages := uint64(0)
	for r := range k.Source.Physical.Runs() {
		pages = max(pages, (uint64(r.Base)+r.Size)/mem.PageSize)
	}
	if size := pages * uint64(t.Size); size > 0 && size < selfMapSize {
		a.add(area{start: uint64(start), last: uint64(start) + size - 1, usage: "PFN database", from: "the highest page in the dump"})
	}
}

// pools adds the ranges of the pools.
func (a *atlas) pools(ctx context.Context, k *model.Kernel) error {
	p, err := pool.Open(k)
	if err != nil {
		a.gap("pools: %v", err)
		return nil
	}
	for _, of := range []struct {
		kind  pool.Kind
		usage string
	}{{pool.Nonpaged, "Nonpaged pool"}, {pool.Paged, "Paged pool"}, {pool.Session, "Session pool"}} {
		list, err := p.Ranges(ctx, of.kind)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if !k.Triage() { // said once: a triage dump has no tables at all
				a.gap("%s: %v", strings.ToLower(of.usage), err)
			}
			continue
		}
		for _, r := range list {
			x := area{start: uint64(r.Start), last: uint64(r.Last), usage: of.usage}
			if r.Inferred {
				x.from = r.From
			}
			if of.kind == pool.Session {
				x.detail = fmt.Sprintf("session %d", r.Session)
			}
			a.add(x)
		}
	}
	return nil
}

// assigned adds the regions that the memory manager gave out at the start: from
// 14393 on _MI_VISIBLE_STATE.SystemVaRegions has one of each member of
// _MI_ASSIGNED_REGION_TYPES (public type tables).
func (a *atlas) assigned(k *model.Kernel) {
	state, enum, ok := visibleState(k, "_MI_ASSIGNED_REGION_TYPES", "SystemVaRegions")
	if !ok {
		return
	}
	for name, i := range enum {
		usage := strings.TrimPrefix(name, "AssignedRegion")
		if usage == "Maximum" || i < 0 || i > 63 {
			continue
		}
		r := state.Field("SystemVaRegions").Index(uint32(i))
		start, err1 := r.Field("BaseAddress").Pointer()
		size, err2 := r.Field("NumberOfBytes").Uint()
		if err1 == nil && err2 == nil && size > 0 && start>>47 == 0x1ffff {
			a.add(area{start: uint64(start), last: uint64(start) + size - 1, usage: usage})
		}
	}
}

// visibleState finds _MI_VISIBLE_STATE if it has a member, and an enumeration
// that numbers it.
func visibleState(k *model.Kernel, enum, member string) (model.Object, map[string]int64, bool) {
	at, err := k.GlobalPointer("MiVisibleState")
	if err != nil || at == 0 || k.Types == nil || k.Degraded {
		return model.Object{}, nil, false
	}
	t, err := k.Types.Type(enum)
	state := k.Object("_MI_VISIBLE_STATE", at)
	if err != nil || !state.Has(member) {
		return model.Object{}, nil, false
	}
	return state, t.Consts, true
}

// types adds what each 512 GB of the system's half are for: from 17763 on
// _MI_VISIBLE_STATE.SystemVaType has a byte for each, a member of
// _MI_SYSTEM_VA_TYPE. Neighbours of one type are joined.
func (a *atlas) types(k *model.Kernel) {
	state, enum, ok := visibleState(k, "_MI_SYSTEM_VA_TYPE", "SystemVaType")
	if !ok {
		return
	}
	names := map[byte]string{}
	for _, name := range slices.Sorted(maps.Keys(enum)) {
		if v := enum[name]; v >= 0 && v < 256 && name != "MiVaMaximumType" {
			names[byte(v)] = strings.TrimPrefix(name, "MiVa")
		}
	}
	b, err := state.Field("SystemVaType").Bytes(256)
	if err != nil {
		a.gap("types of system addresses: %v", err)
		return
	}
	for i := 0; i < len(b); {
		j := i
		for j < len(b) && b[j] == b[i] {
			j++
		}
		if name := names[b[i]]; name != "" && name != "Unused" {
			start := 0xffff<<48 | uint64(256+i)<<39
			a.add(area{start: start, last: start + uint64(j-i)<<39 - 1, usage: name, vaType: true})
		}
		i = j
	}
}

// windows7 adds the parts of the fixed map of x64 Windows up to 7 (Windows
// Internals, 6th edition, chapter 10). What tells those builds is where their
// page tables are and that nothing like _MI_VISIBLE_STATE exists.
func (a *atlas) windows7(k *model.Kernel) {
	if k.Build == 0 || k.Build > 7602 || k.Source.Machine != model.MachineX64 || !k.Space.Paged() {
		return
	}
	const from = "the fixed address map of Windows 7"
	for _, r := range []area{
		{start: 0xfffff70000000000, last: 0xfffff77fffffffff, usage: "Hyperspace"},
		{start: 0xfffff78000001000, last: 0xfffff7ffffffffff, usage: "System cache working set"},
		{start: 0xfffff80000000000, last: 0xfffff87fffffffff, usage: "Loader mappings"},
		{start: 0xfffff88000000000, last: 0xfffff89fffffffff, usage: "System PTEs"},
		{start: 0xfffff90000000000, last: 0xfffff97fffffffff, usage: "Session space"},
		{start: 0xfffff98000000000, last: 0xfffffa7fffffffff, usage: "Dynamic system space"},
		{start: 0xffffffffffc00000, last: 0xffffffffffffffff, usage: "HAL"},
	} {
		r.from = from
		a.add(r)
	}
}

// errNotMapped says that nothing is known of an address.
var errNotMapped = errors.New("no region of the kernel that is known holds it")

// find gives the smallest area that holds an address, and the memory manager's
// type of the piece around it.
func (a *atlas) find(at uint64) (found area, vaType string, err error) {
	err = errNotMapped
	for _, x := range a.areas {
		if at < x.start || at > x.last {
			continue
		}
		if x.vaType {
			vaType = x.usage
		}
		if err != nil || x.size()-1 < found.size()-1 {
			found, err = x, nil
		}
	}
	return found, vaType, err
}
