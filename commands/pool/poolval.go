package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/pool/heap"
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
	Example: "!poolval fffffa800cc28f70\n!poolval fffffa800cc28f70 2",
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
	case l.Page == nil && l.Heap == nil && l.Block.Place != pool.InSpecial:
		return out.Emit(report.Notef("%s lies in a large allocation, from %s on, which has no headers to check.", at, l.Block.Body))
	}
	v := &check{st: st, out: out, loc: &l, level: level}
	return v.run(ctx)
}

// maxPlaces bounds the places that are told one by one: with a wrong key every
// slot is one.
const maxPlaces = 64

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
	Damaged int         `json:"damaged"`       // places that make no sense
	Missing uint64      `json:"missing_bytes"` // that were not checked: what tells of them is not in the dump

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
	for i, d := range v.damage {
		if d.OneBit {
			bits++
		}
		if i >= maxPlaces {
			continue
		}
		// Where only a value is wrong the region is its header.
		size := max(d.Size, pool.HeaderSize)
		p.Printf("[ %s --> %s (size = %#x bytes)]: Corrupt region\n", d.At, d.At+mem.VA(size), size)
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
		r.What, r.Address, r.Missing = l.Heap.Area.Kind.String(), report.Addr(l.Heap.Area.At), l.Heap.Missing
	} else {
		r.Address = report.Addr(l.At.Page())
	}
	if err := v.out.Emit(r); err != nil {
		return err
	}
	for i, d := range l.Damage {
		if i == maxPlaces {
			if err := v.out.Emit(report.Notef("... and %s more.", many(uint64(len(l.Damage)-i), "place"))); err != nil {
				return err
			}
			break
		}
		if err := v.out.Emit(newDamage(v.st, d)); err != nil {
			return err
		}
	}
	if r.Missing > 0 {
		if err := v.out.Emit(report.Notef("Not in this dump: what tells of %#x bytes of the subsegment; they are not checked.", r.Missing)); err != nil {
			return err
		}
	}
	if v.level == 0 || l.Page == nil && l.Heap == nil {
		return nil // a page of special pool has one header, which the verdict is about
	}
	if err := v.out.Emit(report.Text("\nLinked header list:\n")); err != nil {
		return err
	}
	for i, b := range l.Blocks {
		if i%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := v.out.Emit(newLink(ctx, v, b)); err != nil {
			return err
		}
	}
	return nil
}

// link is a block as !poolval lists it.
type link struct {
	*blockRecord
	level uint64
	raw   []byte          // its header; none where it has none or it can't be read
	chunk *heap.ChunkInfo // of a block of a heap, at level 3
	err   error
}

func newLink(ctx context.Context, v *check, b pool.Block) *link {
	r := &link{blockRecord: newBlock(v.st.pool, b, false), level: v.level}
	if v.level < 3 {
		return r
	}
	if h := v.loc.Heap; h != nil {
		if info, err := h.Of(ctx, b); err == nil {
			r.chunk = &info
		}
		if b.State == pool.Free {
			return r // what lies there is the heap's
		}
	}
	r.raw, r.err = v.loc.Space().Bytes(b.Header, pool.HeaderSize)
	return r
}

// WriteText writes the place of a header and of the next; from level 2 on its
// values, at level 3 its fields as dt shows them.
func (r *link) WriteText(p *report.Printer) {
	b := r.block
	start := rowStart(b)
	size := max(b.Size, b.Room) + uint64(b.Header) - start
	p.Printf("[ %s --> %s (size = %#x bytes)]\n", mem.VA(start), mem.VA(start+size), size)
	if r.level >= 2 {
		report.Text(" " + headerRow(b, " ")).WriteText(p)
	}
	if r.level < 3 {
		return
	}
	switch c := r.chunk; {
	case c == nil:
	case c.Slots > 0:
		p.Printf("   Slot %d of %d, bits in the bitmap: %d\n", c.Slot, c.Slots, c.Bits)
	default:
		p.Printf("   _HEAP_VS_CHUNK_HEADER at %s, decoded\n", c.At)
		p.Printf("   +0x000 MemoryCost       : %#x\n", c.Cost)
		p.Printf("   +0x002 UnsafeSize       : %#x\n", c.Size/pool.HeaderSize)
		p.Printf("   +0x004 UnsafePrevSize   : %#x\n", c.Prev/pool.HeaderSize)
		p.Printf("   +0x006 Allocated        : %d\n", map[bool]int{true: 0, false: 1}[b.State == pool.Free])
		p.Printf("   +0x008 EncodedSegmentPageOffset : %#x\n", c.PageOffset)
	}
	r.header(p)
}

// header writes the fields of a _POOL_HEADER.
func (r *link) header(p *report.Printer) {
	if r.err != nil {
		p.Own("  its header can't be read: %v\n", r.err)
	}
	if len(r.raw) < pool.HeaderSize {
		return
	}
	le := binary.LittleEndian
	p.Printf("   _POOL_HEADER at %s\n", r.block.Header)
	p.Printf("   +0x000 PreviousSize     : %#x\n", r.raw[0])
	p.Printf("   +0x001 PoolIndex        : %#x\n", r.raw[1])
	p.Printf("   +0x002 BlockSize        : %#x\n", r.raw[2])
	p.Printf("   +0x003 PoolType         : %#x\n", r.raw[3])
	p.Printf("   +0x004 PoolTag          : %#x\n", le.Uint32(r.raw[4:]))
	p.Printf("   +0x008 ProcessBilled    : %#x\n", le.Uint64(r.raw[8:]))
}
