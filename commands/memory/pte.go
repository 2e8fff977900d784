package memory

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

var pteCommand = &cmd.Command{
	Name: "!pte", Aliases: []string{"!kdexts.pte"}, Group: cmd.GroupMemory,
	Summary: "show how the page tables map an address",
	Args:    restArg("Address [1|End]", "what to look up, or a page-table entry's address; 1: take it as an entry's as it stands; End: show each page up to it", false),
	Needs:   cmd.NeedTarget,
	Help: `Shows the entry of each level that maps an address, root first: where it stands in
virtual memory, what it contains, and the page it leads to. Letters stand for bits:
C copy on write, G global, L large page, D dirty, A accessed, N not cached, T written
through, U user or K kernel, W writable or R read only, E executable, V valid.

An entry that is not valid says where the page is: in transition (still in memory),
in a page file, behind a prototype entry that processes share, or nowhere yet (demand
zero). The addresses of entries follow from the entry of the top table that maps the
table itself; since Windows 10 1607 it is another one at each start. The tables are
those of the session's scope, .process /p changes it. No symbols are needed.`,
	Example: "!pte nt\n!pte fffff78000000000",
	SeeAlso: []string{"!vtop", "!ptov", "!address", "!db"},
	Run:     runPte,
}

// maxPteRange limits how many pages START END shows.
const maxPteRange = 1 << 16

// errNoTables says why a dump without page tables can't answer.
var errNoTables = errors.New("this dump holds no page tables: it holds some blocks of virtual memory only")

// tablesOf gives the scope's page tables, if the dump has some that can be read.
func tablesOf(s *cmd.Session) (*mem.Space, error) {
	switch space := s.Space(); {
	case s.Kernel.Source.Machine == model.MachineARM64:
		return nil, errors.New("the page tables of ARM64 machines are not read")
	case !space.Paged():
		return nil, errNoTables
	default:
		return space, nil
	}
}

func runPte(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	list, err := numbers(ctx, s.Eval, in.Raw, 2)
	if err != nil {
		return err
	}
	space, err := tablesOf(s)
	if err != nil {
		return fmt.Errorf("!pte: %w", err)
	}
	t := &tables{space: space, base: selfMapOf(s, space)}
	at := list[0]
	switch {
	case len(list) == 2 && list[1] > at:
		return t.pages(ctx, at, list[1], out)
	case len(list) == 2:
		return t.literal(at, out)
	case t.base.known && at-t.base.start < selfMapSize:
		at = t.base.mapped(at)
	}
	return t.show(at, out)
}

// selfMapSize is what one entry of the top table maps, in bytes.
const selfMapSize = 1 << 39

// selfMap is where page tables appear as memory.
type selfMap struct {
	start uint64
	known bool
	from  string // how it was found, where that is not the table itself
}

// fixedSelfMap is the entry that Windows used before 1607 (14393), so that the
// tables began at fffff68000000000 (Windows Internals, 6th edition, chapter 10).
const (
	fixedSelfMap   = 0x1ed
	firstRandomMap = 14393
)

func selfMapOf(s *cmd.Session, space *mem.Space) selfMap {
	if i, ok := space.SelfMap(); ok {
		return selfMap{start: 0xffff<<48 | uint64(i)<<39, known: true}
	}
	k := s.Kernel
	if v, ok := k.Debug.Field(model.DebugPteBase); ok && v%selfMapSize == 0 {
		return selfMap{start: v, known: true, from: "the debugger data block"}
	}
	if v, err := k.GlobalPointer("MmPteBase"); err == nil && uint64(v)%selfMapSize == 0 {
		return selfMap{start: uint64(v), known: true, from: "nt!MmPteBase"}
	}
	if k.Build != 0 && k.Build < firstRandomMap {
		return selfMap{start: 0xffff<<48 | fixedSelfMap<<39, known: true, from: "the fixed address of builds before 14393"}
	}
	return selfMap{}
}

// mapped gives the address that an entry maps, from the entry's.
func (m selfMap) mapped(entry uint64) uint64 {
	return uint64(int64((entry-m.start)>>3<<12<<16) >> 16)
}

// entry gives the address of the entry of a level that maps an address: the
// entry of a level is mapped by that of the level above.
func (m selfMap) entry(va uint64, level mem.Level) uint64 {
	for ; level > mem.LevelNone; level-- {
		va = m.start + va<<16>>28<<3
	}
	return va
}

// tables shows entries of one set of page tables.
type tables struct {
	space *mem.Space
	base  selfMap
}

// pages shows each page of a range.
func (t *tables) pages(ctx context.Context, from, to uint64, out report.Sink) error {
	if (to-from)/mem.PageSize >= maxPteRange {
		return wrong("%#x pages: at most %#x are shown at once", (to-from)/mem.PageSize+1, maxPteRange)
	}
	for at := from; ; at += mem.PageSize {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if at > from {
			if err := out.Emit(report.Text("\n")); err != nil {
				return err
			}
		}
		if err := t.show(at, out); err != nil {
			return err
		}
		if to-at < mem.PageSize {
			return nil
		}
	}
}

// literal shows the entry at an address as it stands.
func (t *tables) literal(at uint64, out report.Sink) error {
	v, err := t.space.Uint64(mem.VA(at))
	if err != nil {
		return fmt.Errorf("!pte: the entry at %#x: %w", at, err)
	}
	a, value := report.Addr(at), report.Addr(v)
	e := entry{Level: "PTE", Address: &a, Value: &value}
	t.decode(&e, mem.LevelPTE)
	return out.Emit(&pteRecord{Levels: []entry{e}, literal: true})
}

// show shows how an address is mapped.
func (t *tables) show(va uint64, out report.Sink) error {
	r := t.record(va)
	if err := out.Emit(r); err != nil {
		return err
	}
	if t.base.from != "" {
		return out.Emit(report.Notef("The addresses of the entries follow from %s.", t.base.from))
	}
	return nil
}

// record reads the entries of all levels.
func (t *tables) record(va uint64) *pteRecord {
	r := &pteRecord{VA: report.Addr(va)}
	if !mem.Canonical(mem.VA(va)) {
		r.State = "not canonical"
		return r
	}
	tr, err := t.space.TranslateSteps(mem.VA(va))
	for level := mem.LevelPXE; level >= mem.LevelPTE; level-- {
		e := entry{Level: level.String(), State: "not reached"}
		if t.base.known {
			a := report.Addr(t.base.entry(va, level))
			e.Address = &a
		}
		if i := int(mem.LevelPXE - level); i < len(tr.Steps) {
			p, v := report.Addr(tr.Steps[i].At), report.Addr(tr.Steps[i].Value)
			e.Physical, e.Value = &p, &v
			t.decode(&e, level)
		}
		r.Levels = append(r.Levels, e)
	}
	r.finish(t, va, tr, err)
	return r
}

// finish adds what the entries come to.
func (r *pteRecord) finish(t *tables, va uint64, tr mem.Translation, err error) {
	last := max(0, min(len(tr.Steps), len(r.Levels))-1)
	var f *mem.Fault
	switch {
	case errors.As(err, &f) && f.Kind == mem.NotCaptured && f.Level != mem.LevelNone && r.missingLevel() == int(mem.LevelPXE-f.Level):
		r.State = "table not in dump"
		r.lostPage = uint64(f.PA) / mem.PageSize
		r.Missing.Set("physical", err)
	case err != nil:
		r.State = r.Levels[last].State
		r.Missing.Set("physical", err)
	case tr.Zero:
		r.State = r.Levels[last].State
	default:
		p := report.Addr(tr.PA)
		r.State, r.PhysicalAt, r.PageSize = r.Levels[last].State, &p, tr.PageSize
		var one [1]byte
		_, gone := t.space.Physical().ReadPhysical(one[:], tr.PA)
		r.InDump = gone == nil
	}
}

// missingLevel gives the first level whose entry was not read; their number
// where all were.
func (r *pteRecord) missingLevel() int {
	for i, e := range r.Levels {
		if e.Value == nil {
			return i
		}
	}
	return len(r.Levels)
}
