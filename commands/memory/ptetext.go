package memory

import (
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model/mem"
)

// entry is one entry of a page table.
type entry struct {
	Level    string       `json:"level"`
	Address  *report.Addr `json:"address"`  // in virtual memory; null where the self-map is not known
	Physical *report.Addr `json:"physical"` // null where no table was reached
	Value    *report.Addr `json:"value"`
	State    string       `json:"state"` // valid, large page, transition, prototype, mapped file, page file, demand zero, freed, zero, not reached
	PFN      *report.Addr `json:"pfn"`   // of valid entries and of pages in transition
	Flags    string       `json:"flags"` // of valid entries, kd's letters

	lines []string // what kd says of an entry that is not valid
}

// pteRecord is the record "pte".
type pteRecord struct {
	VA         report.Addr    `json:"va"`
	State      string         `json:"state"`
	PhysicalAt *report.Addr   `json:"physical"` // of the byte; null where there is no page
	PageSize   uint64         `json:"page_size"`
	InDump     bool           `json:"in_dump"`
	Levels     []entry        `json:"levels"`
	Missing    report.Missing `json:"missing,omitempty"`

	literal  bool
	lostPage uint64 // number of the page that holds the entry which can't be read
}

// Type names the record.
func (*pteRecord) Type() string { return "pte" }

// Bits of entries that kd's letters and words stand for: the hardware's (Intel
// SDM volume 3, 4.5) and those of the public _MMPTE_* types.
const (
	pteValid   = 1 << 0
	pteWrite   = 1 << 1
	pteUser    = 1 << 2
	pteThrough = 1 << 3
	pteNoCache = 1 << 4
	pteUsed    = 1 << 5
	pteDirty   = 1 << 6
	pteLarge   = 1 << 7
	pteGlobal  = 1 << 8
	pteCopy    = 1 << 9
	pteProto   = 1 << 10
	pteTrans   = 1 << 11
	pteNoRun   = 1 << 63
	pteFrame   = 0x000ffffffffff000

	// Entries of mapped files from Windows 11 22H2 on (MemProcFS, mm_win.c).
	pteFileMask = 0xffff80000000040f
	pteFile     = 0xffff800000000000
)

// letters spells the flags of a valid entry, in the documented order.
func letters(e uint64) string {
	b := []byte("-----------")
	for i, l := range [...]struct {
		bit     uint64
		set, no byte
	}{
		{pteCopy, 'C', '-'}, {pteGlobal, 'G', '-'}, {pteLarge, 'L', '-'}, {pteDirty, 'D', '-'}, {pteUsed, 'A', '-'},
		{pteNoCache, 'N', '-'}, {pteThrough, 'T', '-'}, {pteUser, 'U', 'K'}, {pteWrite, 'W', 'R'},
		{pteNoRun, '-', 'E'}, {pteValid, 'V', '-'},
	} {
		b[i] = l.no
		if e&l.bit != 0 {
			b[i] = l.set
		}
	}
	return string(b)
}

// decode says what an entry means.
func (t *tables) decode(e *entry, level mem.Level) {
	v := uint64(*e.Value)
	frame := func(v uint64) {
		pfn := report.Addr(v & pteFrame >> 12)
		e.PFN = &pfn
	}
	switch {
	case v&pteValid != 0:
		e.State, e.Flags = "valid", letters(v)
		if v&pteLarge != 0 && (level == mem.LevelPDE || level == mem.LevelPPE) {
			e.State = "large page"
			// Bit 12 of a large page is no part of the address (the PAT bit).
			v &^= 1<<(12+9*(uint(level)-1)) - 1
		}
		frame(v)
	case v == 0:
		e.State = "zero"
	case v&pteFileMask == pteFile:
		e.State = "mapped file"
	case v&(pteProto|pteTrans) == pteTrans:
		e.State = "transition"
		frame(t.space.Unswizzle(v))
		e.lines = []string{fmt.Sprintf("Transition: %x", uint64(*e.PFN)), protection(v)}
	case v&pteProto != 0:
		e.State = "prototype"
		proto := uint64(int64(v) >> 16)
		e.lines = []string{fmt.Sprintf("Proto: %016X", proto)}
		if proto>>32 == 0xffffffff { // the process's address descriptors decide
			e.lines = []string{"Proto: VAD", protection(v)}
		}
	case v>>5&31 == 0:
		e.State, e.lines = "freed", []string{"Page has been freed"}
	default:
		t.software(e, v)
	}
}

// software tells a page that was never touched from one in a page file.
func (t *tables) software(e *entry, v uint64) {
	number, offset := t.space.PageFile(v)
	if number == 0 && offset == 0 {
		e.State, e.lines = "demand zero", []string{"DemandZero", protection(v)}
		return
	}
	e.State = "page file"
	e.lines = []string{fmt.Sprintf("PageFile: %2x", number), fmt.Sprintf("Offset: %x", offset), protection(v)}
}

// protections are the names of the low three bits of the protection field
// (bits 5-9); bits 8 and 10 (hex) add no cache and guard.
var protections = [8]string{"None", "Readonly", "Execute", "ExecuteRead", "ReadWrite", "WriteCopy", "ReadWriteExecute", "WriteCopyExecute"}

func protection(v uint64) string {
	p := v >> 5 & 31
	name := protections[p&7]
	switch {
	case p == 0x18:
		name = "No Access"
	case p&0x18 == 0x18:
		name += " WriteCombine"
	case p&0x10 != 0:
		name += " Guard"
	case p&8 != 0:
		name += " NoCache"
	}
	return fmt.Sprintf("Protect: %x - %s", p, name)
}

// pteColumn is the distance between the columns of two levels.
const pteColumn = 27

// WriteText writes the entries as kd does, root first, side by side.
func (r *pteRecord) WriteText(p *report.Printer) {
	if r.literal {
		r.writeLiteral(p)
		return
	}
	p.Printf("%43sVA %s\n", "", r.VA)
	if len(r.Levels) == 0 {
		p.Own("%s is no address of this processor: bits 47 to 63 differ.\n", r.VA)
		return
	}
	var at []string
	for _, e := range r.Levels {
		text := "????????????????"
		if e.Address != nil {
			text = fmt.Sprintf("%016X", uint64(*e.Address))
		}
		at = append(at, e.Level+" at "+text)
	}
	p.Printf("%s\n", strings.Join(at, "    "))
	if r.State == "table not in dump" {
		r.writeLost(p)
		return
	}
	r.writeEntries(p)
	r.writeOwn(p)
}

// writeEntries writes the lines of contents and of what they mean.
func (r *pteRecord) writeEntries(p *report.Printer) {
	var contains, means, lines []string
	column := 0
	for i, e := range r.Levels {
		if e.Value == nil {
			break
		}
		contains = append(contains, fmt.Sprintf("contains %016X", uint64(*e.Value)))
		if e.State == "valid" || e.State == "large page" {
			means = append(means, fmt.Sprintf("pfn %-9x %s", uint64(*e.PFN), e.Flags))
		}
		if e.State == "large page" {
			// The levels below have no entries of their own.
			for range len(r.Levels) - 1 - i {
				contains = append(contains, fmt.Sprintf("contains %016X", 0))
				means = append(means, fmt.Sprintf("LARGE PAGE pfn %-12x", uint64(*r.PhysicalAt)/mem.PageSize))
			}
			break
		}
		if e.State != "valid" {
			lines, column = e.lines, i*pteColumn
			if i == 1 { // kd repeats the content of a PPE
				means = append(means, contains[i])
			}
			if i >= 2 {
				means = append(means, "not valid")
			}
			break
		}
	}
	p.Printf("%s\n", strings.Join(contains, "  "))
	if len(means) > 0 {
		p.Printf("%s\n", strings.Join(means, "  "))
	}
	if n := len(contains); n < 3 && r.Levels[n-1].State != "valid" {
		p.Printf("not valid\n")
		column = 0
	}
	for _, l := range lines {
		p.Printf("%*s %s\n", column, "", l)
	}
}

// writeLost writes kd's lines about an entry that is not in the dump, and what
// was read on the way on a line of our own.
func (r *pteRecord) writeLost(p *report.Printer) {
	lost := r.Levels[r.missingLevel()]
	p.Printf("Page %x not present in the dump file. Type \".hh dbgerr004\" for details\n", r.lostPage)
	name := lost.Level
	if name == "PPE" {
		name = "PXE" // kd's word for both upper levels
	}
	at := "????????????????"
	if lost.Address != nil {
		at = fmt.Sprintf("%016X", uint64(*lost.Address))
	}
	p.Printf("Unable to get %s %s\n", name, at)
	for _, e := range r.Levels[:r.missingLevel()] {
		p.Own("%s contains %016X: %s.\n", e.Level, uint64(*e.Value), e.State)
	}
}

// writeOwn says on a line of our own where the byte is.
func (r *pteRecord) writeOwn(p *report.Printer) {
	switch {
	case r.PhysicalAt == nil && r.State == "demand zero":
		p.Own("Never touched: it reads as zeros.\n")
	case r.PhysicalAt == nil && r.State == "mapped file":
		p.Own("In a mapped file, not in memory.\n")
	case r.PhysicalAt == nil:
	case !r.InDump:
		p.Own("%s is at physical address %x, in a page of %d KB that is not in the dump.\n", r.VA, uint64(*r.PhysicalAt), r.PageSize>>10)
	default:
		p.Own("%s is at physical address %x, in a page of %d KB.\n", r.VA, uint64(*r.PhysicalAt), r.PageSize>>10)
	}
}

// writeLiteral writes one entry alone.
func (r *pteRecord) writeLiteral(p *report.Printer) {
	e := r.Levels[0]
	p.Printf("PTE at %016X\ncontains %016X\n", uint64(*e.Address), uint64(*e.Value))
	if e.State == "valid" {
		p.Printf("pfn %-9x %s\n", uint64(*e.PFN), e.Flags)
		return
	}
	p.Printf("not valid\n")
	for _, l := range e.lines {
		p.Printf(" %s\n", l)
	}
}
