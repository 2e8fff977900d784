package pool

import (
	"context"
	"fmt"

	"gokd/model/mem"
)

// locateSpecial looks the address up in special pool, each page of which must
// prove itself. done: it lies in it, or only special pool could hold it.
func (p *Pool) locateSpecial(ctx context.Context, l *Location) (done bool, err error) {
	list, err := p.Ranges(ctx, Special)
	if err != nil {
		return false, ctx.Err()
	}
	for _, r := range list {
		if l.At < r.Start || l.At > r.Last {
			continue
		}
		space := r.space
		if space == nil {
			space = p.k.Space
		}
		var page [pageSize]byte
		if _, err := space.ReadVirtual(page[:], l.At.Page()); err != nil {
			return !r.Inferred, fmt.Errorf("page of special pool at %#x: %w", uint64(l.At.Page()), err)
		}
		b, damage, ok := specialPage(&page, l.At.Page())
		if !ok {
			return !r.Inferred, fmt.Errorf("%#x: %w: its page is none of special pool", uint64(l.At), ErrNotPool)
		}
		l.space, l.Kind, l.Known = space, Special, true
		l.Found, l.Block, l.Blocks = true, b, []Block{b}
		l.Part = b.specialPart(l.At)
		if damage != nil {
			l.Damage = append(l.Damage, specialDamage(damage, &l.Blocks[0], &page))
		}
		return true, nil
	}
	return false, nil
}

// specialPart tells which part of an allocation of special pool holds an
// address: its header can lie far from its body, filler is between.
func (b Block) specialPart(at mem.VA) Part {
	switch {
	case at >= b.Header && at < b.Header+HeaderSize:
		return PartHeader
	case at >= b.Body && at < b.Body+mem.VA(b.Size):
		return PartBody
	}
	return PartSlack
}

// specialDamage tells of filler that was written over.
func specialDamage(e *SpecialError, b *Block, page *[pageSize]byte) Damage {
	d := Damage{What: "filler of special pool", At: e.At, Resume: e.At}
	off := uint64(e.At - e.Page)
	d.Bytes = append(d.Bytes, page[off:min(off+HeaderSize, pageSize)]...)
	side := "behind its end"
	if e.At < e.Body {
		side = "before its start"
	}
	d.Why = fmt.Sprintf("the byte is %#x, not %#x, and %d bytes in all are not the filler", e.Got, e.Want, e.Bad)
	d.Culprit, d.Suspect = b, "its owner wrote "+side
	return d
}
