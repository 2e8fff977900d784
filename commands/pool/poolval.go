package pool

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

var poolval = &cmd.Command{
	Name: "!poolval", Aliases: []string{"!kdexts.poolval", "!kdext*.poolval"}, Group: cmd.GroupPool,
	Summary: "check the headers of a page of pool",
	Args: []cmd.Arg{
		{Name: "Address", Kind: cmd.KindAddr, Doc: "an address in the pool"},
		{Name: "DisplayLevel", Kind: cmd.KindFlags, Optional: true, Doc: "0 the verdict, 1 and the list of headers, 2 and each header's values, 3 and each header's fields"},
	},
	Needs: cmd.NeedKernel,
	Help: `Checks every header of the page that holds an address, or of the subsegment of a
segment heap, and says whether they agree: sizes with the sizes that neighbours
name, the chain with the page's end, free blocks with the free lists, chunk headers
with the heap's key, slots with the bitmap. What is wrong is told one by one, with
the bytes that stand there, whether one bit would make it right, and which block's
owner may have written over it.

A header that was overwritten by a well-formed one passes. Where the dump has no
free lists (or they are broken elsewhere) blocks can't be held against them.`,
	Example: "!poolval fffffa8000d6d010\n!poolval fffffa8000d6d010 3",
	SeeAlso: []string{"!pool", "!poolfind"},
	Run:     runPoolval,
}

func runPoolval(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at, level := in.Addr("Address"), in.Uint("DisplayLevel", 0)
	if level > 3 {
		return cmd.Misuse(fmt.Errorf("level %#x: want 0, 1, 2 or 3", level))
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	l, err := locate(ctx, s, st, at)
	if e := ctx.Err(); e != nil {
		return e
	}
	if e := out.Emit(newPage(&l)); e != nil {
		return e
	}
	var broken *pool.PageError
	switch {
	case errors.Is(err, pool.ErrNotWalked):
		return err
	case err != nil && !errors.As(err, &broken):
		var fault *mem.Fault
		a := &around{s: s, st: st, out: out, at: at, loc: l}
		return a.notPool(ctx, err, errors.As(err, &fault))
	case l.Page == nil && l.Heap == nil:
		return out.Emit(report.Notef("%s lies in a large allocation, from %s on, which has no headers to check.", at, l.Block.Body))
	}
	v := &check{st: st, out: out, loc: &l, level: level}
	return v.run(ctx)
}

// check is one run of !poolval.
type check struct {
	st    *state
	out   report.Sink
	loc   *pool.Location
	level uint64
}

// verdict is the record of a page or subsegment that was checked.
type verdict struct {
	What    string      `json:"what"` // page, VS subsegment, LFH subsegment
	Address report.Addr `json:"address"`
	Valid   bool        `json:"valid"`
	Blocks  int         `json:"blocks"`
	Damaged int         `json:"damaged"` // places that make no sense

	damage []pool.Damage
}

// Type names the record.
func (*verdict) Type() string { return "pool_check" }

// WriteText writes the verdict. No transcript at hand shows the layout: it
// follows what people have posted of the command.
func (v *verdict) WriteText(p *report.Printer) {
	name := "Pool page"
	if v.What != "page" {
		name = v.What
	}
	p.Printf("\nValidating Pool headers for %s: %s\n\n", map[bool]string{true: "pool page", false: v.What}[v.What == "page"], v.Address)
	if v.Valid {
		p.Printf("%s [ %s ] is VALID.\n", name, v.Address)
		return
	}
	p.Printf("%s [ %s ] is __inVALID.\n\nAnalyzing linked list...\n", name, v.Address)
	bits := 0
	for _, d := range v.damage {
		if d.OneBit {
			bits++
		}
		p.Printf("[ %s --> %s (size = %#x bytes)]: Corrupt region\n", d.At, d.At+mem.VA(d.Size), d.Size)
	}
	p.Printf("\nScanning for single bit errors...\n\n")
	if bits == 0 {
		p.Printf("None found\n")
		return
	}
	for _, d := range v.damage {
		if d.OneBit {
			p.Printf("%s: single bit error\n", d.At)
		}
	}
}

func (v *check) run(ctx context.Context) error {
	l := v.loc
	r := &verdict{What: "page", Valid: len(l.Damage) == 0, Blocks: len(l.Blocks), Damaged: len(l.Damage), damage: l.Damage}
	if l.Heap != nil {
		r.What, r.Address = l.Heap.Area.Kind.String(), report.Addr(l.Heap.Area.At)
	} else {
		r.Address = report.Addr(l.Page.At)
	}
	if err := v.out.Emit(r); err != nil {
		return err
	}
	for _, d := range l.Damage {
		if err := v.out.Emit(newDamage(v.st, d)); err != nil {
			return err
		}
	}
	if v.level == 0 {
		return nil
	}
	if err := v.out.Emit(report.Text("\nLinked header list:\n")); err != nil {
		return err
	}
	for i := range l.Blocks {
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := v.out.Emit(&link{blockRecord: newBlock(v.st.pool, l.Blocks[i], false), level: v.level, space: l.Space()}); err != nil {
			return err
		}
	}
	return nil
}

// link is a block as !poolval lists it.
type link struct {
	*blockRecord
	level uint64
	space *mem.Space
}

// WriteText writes the place of a header and of the next; from level 2 on its
// values, at level 3 its fields as dt shows them.
func (r *link) WriteText(p *report.Printer) {
	b := r.block
	size := max(b.Size, b.Room)
	p.Printf("[ %s --> %s (size = %#x bytes)]\n", b.Header, b.Header+mem.VA(size), size)
	if r.level >= 2 {
		report.Text(" " + headerRow(b, " ")).WriteText(p)
	}
	if r.level < 3 {
		return
	}
	var raw [pool.HeaderSize]byte
	if n, err := r.space.ReadVirtual(raw[:], b.Header); n < len(raw) {
		p.Own("  its header can't be read: %v\n", err)
		return
	}
	p.Printf("   +0x000 PreviousSize     : %#x\n", raw[0])
	p.Printf("   +0x000 PoolIndex        : %#x\n", raw[1])
	p.Printf("   +0x000 BlockSize        : %#x\n", raw[2])
	p.Printf("   +0x000 PoolType         : %#x\n", raw[3])
	p.Printf("   +0x004 PoolTag          : %#x\n", uint32(raw[4])|uint32(raw[5])<<8|uint32(raw[6])<<16|uint32(raw[7])<<24)
	billed := uint64(0)
	for i := 15; i >= 8; i-- {
		billed = billed<<8 | uint64(raw[i])
	}
	p.Printf("   +0x008 ProcessBilled    : %#x\n", billed)
}
