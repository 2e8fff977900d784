package pool

import (
	"cmp"
	"context"
	"fmt"
	"math/bits"
	"slices"

	"gokd/model/mem"
)

// Damage is one place where headers make no sense, and who may have done it.
type Damage struct {
	What    string // the structure: "_POOL_HEADER"
	At      mem.VA
	Why     string
	Bytes   []byte // the structure as it stands
	Resume  mem.VA // where headers make sense again; 0 where nowhere in the page
	Size    uint64 // bytes from At that can't be told apart
	OneBit  bool   // the value differs from the right one by one bit
	Culprit *Block // the block before it, whose owner may have written past its end
	Suspect string // why it is suspected; without Culprit what speaks against an overrun
}

// Error says what is wrong and where.
func (d Damage) Error() string { return fmt.Sprintf("%s at %#x: %s", d.What, uint64(d.At), d.Why) }

// diagnose looks into a gap of a page: which of the two headers there is wrong,
// where headers make sense again, and who may have overwritten it.
func (p *Pool) diagnose(ctx context.Context, l *Location, raw *[pageSize]byte, g gap) Damage {
	page := l.Page
	d := Damage{What: "_POOL_HEADER", At: page.At + mem.VA(g.at), Size: g.next - g.at}
	d.Bytes = append(d.Bytes, raw[g.at:g.at+HeaderSize]...)
	if g.next < pageSize {
		d.Resume = page.At + mem.VA(g.next)
	}
	var before *Block
	want := uint64(0)
	if g.before > 0 {
		before = &page.Blocks[g.before-1]
		want = before.Size
	} else if b, ok := p.blockBelow(ctx, l, page.At); ok && page.First == page.At {
		before = &b
	}
	if g.length > 0 {
		d.wrongSize(raw, before, g)
		return d
	}
	h := headerAt(raw, g.at)
	d.judge(raw, g, h, want)
	d.blame(before, plausibleTag(raw[g.at+4:g.at+8]) && (h.typ == 0 || parity(h.typ, page.Kind)), h.previous == want)
	return d
}

// judge says which value is wrong.
func (d *Damage) judge(raw *[pageSize]byte, g gap, h header, want uint64) {
	wrong := func(is, should uint64) { d.OneBit = bits.OnesCount64(is/HeaderSize^should/HeaderSize) == 1 }
	switch {
	case g.why == breachPrevious && g.next == g.at:
		d.Why = fmt.Sprintf("PreviousSize is %#x, the block before it has %#x bytes; its other fields fit", h.previous, want)
		wrong(h.previous, want)
		return
	case g.why == breachPrevious && want == 0:
		d.Why = fmt.Sprintf("PreviousSize is %#x, the first header of a page has 0", h.previous)
	case g.why == breachPrevious:
		d.Why = fmt.Sprintf("PreviousSize is %#x, the block before it has %#x bytes", h.previous, want)
	case g.why == breachZero:
		d.Why = "BlockSize is zero"
	default:
		d.Why = fmt.Sprintf("BlockSize %#x runs past the end of the page", h.size)
	}
	if g.next >= pageSize {
		return
	}
	if back := headerAt(raw, g.next).previous; back == g.next-g.at && h.size != back {
		d.Why += fmt.Sprintf("; the header at %#x says that it has %#x bytes", uint64(d.Resume), back)
		if h.previous == want {
			wrong(h.size, back)
		}
	}
}

// wrongSize tells of a header whose BlockSize leads to no header, while one
// further on leads back to it.
func (d *Damage) wrongSize(raw *[pageSize]byte, b *Block, g gap) {
	off := uint64(b.Header) % pageSize
	d.At, d.Size = b.Header, 0
	d.Bytes = append(d.Bytes[:0], raw[off:off+HeaderSize]...)
	d.Why = fmt.Sprintf("BlockSize is %#x, the header at %#x says that it has %#x bytes", b.Size, uint64(d.Resume), g.length)
	d.OneBit = bits.OnesCount64(b.Size/HeaderSize^g.length/HeaderSize) == 1
	if !d.OneBit {
		d.Suspect = whole
	}
}

// whole is what speaks against an overrun: it goes upwards from the block before
// and would have met the header's first byte, PreviousSize.
const whole = "PreviousSize, PoolType and tag beside it are whole: an overrun of the block before it would have met them first"

// blame names the block whose owner may have written over the header. likely:
// tag and type are those of a header; joined: its PreviousSize, which is its
// first byte and the first that an overrun meets, is right.
func (d *Damage) blame(before *Block, likely, joined bool) {
	switch {
	case d.OneBit:
		return
	case likely && joined:
		d.Suspect = whole
		return
	case before == nil:
		return
	}
	d.Culprit = before
	switch {
	case before.State == Free:
		d.Suspect = "it is free: who had it last may still write to it, or past its end"
	case !likely:
		d.Suspect = "its owner seems to have written past its end: what lies behind it is no header"
	default:
		d.Suspect = "its owner may have written past its end"
	}
}

// resync looks for the offset from which headers make sense again behind a
// break; the page's size where there is none. A chain that goes on from the
// broken header itself tells that only its PreviousSize is wrong. A header that
// leads back to the one before the break tells that that one's BlockSize is; one
// that leads back to the broken header is the next best witness; else the first
// chain of plausible headers counts that reaches the page's end.
func (page *Page) resync(raw *[pageSize]byte, g *gap) {
	if g.next = g.at; g.why == breachPrevious && sound(raw, g.at, page.Kind, true) {
		return
	}
	if g.before > 0 {
		b := &page.Blocks[g.before-1]
		from := uint64(b.Header - page.At)
		for off := from + HeaderSize; off < pageSize; off += HeaderSize {
			if headerAt(raw, off).previous == off-from && off-from != b.Size && sound(raw, off, page.Kind, false) {
				g.next, g.length, b.Room = off, off-from, off-from
				return
			}
		}
	}
	for g.next = g.at + HeaderSize; g.next < pageSize; g.next += HeaderSize {
		back := headerAt(raw, g.next).previous
		if back != 0 && back <= g.next && sound(raw, g.next, page.Kind, g.next-back != g.at) {
			return
		}
	}
}

// sound reports whether headers that look like headers follow each other from an
// offset on: to the page's end, or at least one that the next agrees with.
func sound(raw *[pageSize]byte, off uint64, kind Kind, toEnd bool) bool {
	n, good := 0, true
	_, why := links(raw, off, true, func(o uint64, h header) {
		ok := plausibleTag(raw[o+4:o+8]) && (h.typ == 0 || parity(h.typ, kind))
		if good = good && ok; good {
			n++
		}
	})
	if toEnd {
		return why == breachNone && good && n > 0
	}
	return n > 0 && (n >= 2 || good && why != breachPrevious)
}

// sortDamage puts damage in order of address.
func sortDamage(list []Damage) {
	slices.SortStableFunc(list, func(a, b Damage) int { return cmp.Compare(a.At, b.At) })
}
