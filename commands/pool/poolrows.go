package pool

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// pageLine is the first line of !pool and !poolval.
type pageLine struct {
	Page    report.Addr  `json:"address"`
	Pool    *string      `json:"pool"`              // null where no range of a pool holds it
	Session *uint32      `json:"session,omitempty"` // of session pool
	Place   *string      `json:"place"`             // page, table, vs, lfh, range, special; null where not known
	Heap    *report.Addr `json:"heap"`              // the _SEGMENT_HEAP; null where in none
	Role    *string      `json:"heap_role"`
	Node    *int         `json:"heap_node"`
	Segment *report.Addr `json:"segment"`    // the _HEAP_PAGE_SEGMENT
	Area    *report.Addr `json:"subsegment"` // or range of pages
	Size    *uint64      `json:"subsegment_size"`
	Where   *string      `json:"belongs_to"` // what an address that is in no pool belongs to
}

func newPage(l *pool.Location) *pageLine {
	r := &pageLine{Page: report.Addr(l.At), Where: orNull(l.Where), Session: l.Session}
	if l.Known {
		name := kdPools[l.Kind]
		r.Pool = &name
	}
	if l.Found {
		r.Place = orNull(placeName(l.Block.Place))
	}
	if h := l.Heap; h != nil {
		at, seg, area, size := report.Addr(h.Area.Heap.At), report.Addr(h.Area.Segment), report.Addr(h.Area.At), h.Area.Size
		role, node := h.Area.Heap.Role.String(), h.Area.Heap.Node
		r.Heap, r.Segment, r.Area, r.Size, r.Role, r.Node = &at, &seg, &area, &size, &role, &node
	}
	return r
}

// Type names the record.
func (*pageLine) Type() string { return "pool_page" }

// WriteText writes kd's line.
func (r *pageLine) WriteText(p *report.Printer) {
	region := "Unknown"
	if r.Pool != nil {
		region = *r.Pool + " pool"
	}
	p.Printf("Pool page %s region is %s\n", r.Page, region)
}

var placeNames = [...]string{pool.InPage: "page", pool.InTable: "table", pool.InVS: "vs", pool.InLFH: "lfh", pool.InRange: "range", pool.InSpecial: "special"}

// placeName spells where a block was found as records do.
func placeName(p pool.Place) string {
	if int(p) < len(placeNames) {
		return placeNames[p]
	}
	return ""
}

// pageBlock is a block as !pool shows it.
type pageBlock struct {
	*blockRecord
	marked   bool
	desc     string
	site     *pool.Location // of the block that holds the address
	contents *contents
}

// AppendFields appends the block's fields and, of the one that holds the
// address, where in it the address lies.
func (r *pageBlock) AppendFields(to []byte) []byte {
	to = r.blockRecord.AppendFields(to)
	to = strconv.AppendBool(append(to, `,"holds_address":`...), r.marked)
	if l := r.site; l != nil {
		to = appendText(append(to, `,"part":`...), l.Part.String())
		to = strconv.AppendInt(append(to, `,"offset":`...), int64(l.At-l.Block.Body), 10)
		if h := l.Heap; h != nil {
			to = appendAddr(append(to, `,"subsegment":`...), report.Addr(h.Area.At))
			if h.Slots() {
				to = strconv.AppendInt(append(to, `,"slot":`...), int64(h.Chunk.Slot), 10)
				to = strconv.AppendUint(append(to, `,"slot_size":`...), h.Chunk.Size, 10)
			} else if h.Chunk.At != 0 {
				to = appendAddr(append(to, `,"chunk":`...), report.Addr(h.Chunk.At))
				to = strconv.AppendUint(append(to, `,"chunk_size":`...), h.Chunk.Size, 10)
			}
		}
		before, behind := l.Agree()
		to = appendNeighbour(to, "previous", l.Previous, before)
		to = appendNeighbour(to, "next", l.Next, behind)
	}
	if c := r.contents; c != nil {
		to = append(to, `,"contents":`...)
		if c.err != nil {
			return append(to, "null"...)
		}
		to = appendText(to, hex.EncodeToString(c.bytes[:]))
	}
	return to
}

// appendNeighbour appends a block beside the one that holds the address, its
// state, and whether the headers of the two agree.
func appendNeighbour(to []byte, side string, b *pool.Block, agrees bool) []byte {
	if b == nil {
		return to
	}
	to = append(append(append(to, `,"`...), side...), `_block":{"header":`...)
	to = appendText(append(appendAddr(to, report.Addr(b.Header)), `,"tag":`...), b.Tag.Spell())
	to = appendText(append(to, `,"state":`...), b.State.String())
	to = strconv.AppendUint(append(to, `,"size":`...), b.Size, 10)
	return append(strconv.AppendBool(append(to, `,"agrees":`...), agrees), '}')
}

// MarshalJSON gives the same fields as an object.
func (r *pageBlock) MarshalJSON() ([]byte, error) {
	return append(r.AppendFields([]byte{'{'}), '}'), nil
}

// WriteText writes the row: a star before the block that holds the address,
// and its description on a line of its own.
func (r *pageBlock) WriteText(p *report.Printer) {
	b := r.block
	switch {
	case b.Place == pool.InSpecial:
		r.special(p)
		return
	case b.Large:
		word := "tag"
		if p.Era == report.Era62 {
			word = "Tag"
		}
		p.Printf("*%s : large page allocation, %s is %s, size is %#x bytes\n", b.Body, word, b.Tag, b.Size)
	case r.marked:
		report.Text("*" + headerRow(b, "*")).WriteText(p)
	default:
		report.Text(" " + headerRow(b, " ")).WriteText(p)
	}
	r.rest(p)
}

// special writes the row of an allocation of special pool, as a public post
// shows it of a debugger of 2009 (whose sizes and addresses were wrong); the
// size is what was asked for.
func (r *pageBlock) special(p *report.Printer) {
	b := r.block
	name := "non-paged"
	if b.Type&1 != 0 {
		name = "paged"
	}
	p.Printf("*%s size: %4x %s special pool, Tag is %s\n", b.Header, b.Size, name, b.Tag)
	r.rest(p)
	if b.State == pool.Free {
		p.Own("The block at %s was released.\n", b.Body)
	} else {
		p.Own("The block itself lies at %s.\n", b.Body)
	}
}

// rest writes what stands below the row of a block.
func (r *pageBlock) rest(p *report.Printer) {
	if r.marked && r.desc != "" {
		p.Printf("\t\t%s\n", r.desc)
	}
	if r.contents != nil {
		r.contents.write(p)
	}
}

// owning gives kd's line about a tag.
func (st *state) owning(t pool.Tag) string {
	d, ok := st.tags.Find(t)
	switch {
	case !ok:
		return "Owning component : Unknown (update pooltag.txt)"
	case d.Binary == "":
		return fmt.Sprintf("Pooltag %s : %s", t, d.Text)
	}
	return fmt.Sprintf("Pooltag %s : %s, Binary : %s", t, d.Text, d.Binary)
}

// contents is the first bytes of a block's body. kd shows eight words, whatever
// the block's size (the documentation's example has blocks of 10 bytes).
type contents struct {
	at    mem.VA
	bytes [32]byte
	known int // bytes that could be read
	err   error
}

func newContents(space *mem.Space, b pool.Block) *contents {
	c := &contents{at: b.Body}
	c.known, c.err = space.ReadVirtual(c.bytes[:], b.Body)
	return c
}

// write writes two rows of four words and an empty line.
func (c *contents) write(p *report.Printer) {
	for i := 0; i < len(c.bytes); i += 4 {
		switch i {
		case 0:
			p.Printf(" %s ", c.at)
		case 16:
			p.Printf("\n    %s ", c.at+16)
		}
		if i+4 > c.known {
			p.Printf(" ????????")
			continue
		}
		p.Printf(" %08x", uint32(c.bytes[i])|uint32(c.bytes[i+1])<<8|uint32(c.bytes[i+2])<<16|uint32(c.bytes[i+3])<<24)
	}
	p.Printf("\n\n")
}

// damageRecord is one place where headers make no sense.
type damageRecord struct {
	What    string       `json:"what"`
	Address report.Addr  `json:"address"`
	Why     string       `json:"why"`
	Bytes   string       `json:"bytes"` // of the structure as it stands, in hex
	Resume  *report.Addr `json:"resumes_at"`
	Size    uint64       `json:"size"` // bytes that can't be told apart
	OneBit  bool         `json:"one_bit"`
	Suspect *suspect     `json:"suspect"`
	Hint    *string      `json:"hint"` // what speaks for or against an overrun

	raw  []byte
	desc string
	self bool // the suspect is the block that holds the place
}

// suspect is the block whose owner may have done the damage.
type suspect struct {
	Header report.Addr  `json:"header"`
	Tag    string       `json:"tag"`
	Size   uint64       `json:"size"`
	State  string       `json:"state"`
	Owner  *report.Addr `json:"owner_process"`

	tag   pool.Tag
	image string
}

func newDamage(st *state, d pool.Damage) *damageRecord {
	r := &damageRecord{What: d.What, Address: report.Addr(d.At), Why: d.Why, Bytes: hex.EncodeToString(d.Bytes), Size: d.Size, OneBit: d.OneBit, Hint: orNull(d.Suspect), raw: d.Bytes}
	if d.Resume != 0 {
		at := report.Addr(d.Resume)
		r.Resume = &at
	}
	if b := d.Culprit; b != nil {
		r.Suspect = &suspect{Header: report.Addr(b.Header), Tag: b.Tag.Spell(), Size: b.Size, State: b.State.String(), tag: b.Tag}
		r.self = d.At >= b.Header && d.At < b.End() || b.Place == pool.InSpecial
		if at, err := st.pool.Owner(*b); err == nil && at != 0 {
			a := report.Addr(at)
			r.Suspect.Owner, r.Suspect.image = &a, imageOf(st, at)
		}
		if t, ok := st.tags.Find(b.Tag); ok {
			r.desc = t.Text
			if t.Binary != "" {
				r.desc += ", " + t.Binary
			}
		}
	}
	return r
}

// Type names the record.
func (*damageRecord) Type() string { return "pool_damage" }

// WriteText writes lines of our own: kd's words for damage are not evidenced.
func (r *damageRecord) WriteText(p *report.Printer) {
	p.Own("Damaged: %s at %s: %s.\n", r.What, r.Address, r.Why)
	if len(r.raw) > 0 {
		p.Own("  it holds %s  %s\n", spaced(r.raw), printable(r.raw))
	}
	if r.OneBit {
		p.Own("  One bit makes the difference: memory that fails does that, a driver rarely.\n")
	}
	switch {
	case r.Resume == nil && r.Size > 0:
		p.Own("  What the %#x bytes from there hold is not known.\n", r.Size)
	case r.Resume != nil && r.Size > 0:
		p.Own("  Headers make sense again at %s, %#x bytes on.\n", *r.Resume, r.Size)
	}
	if s := r.Suspect; s != nil {
		which := "before it"
		if r.self {
			which = "itself"
		}
		text := report.Sprintf("  Suspect: the block "+which+", %s, %#x bytes, %s, tag %s", s.Header, s.Size, s.State, s.tag)
		if r.desc != "" {
			text += report.Sprintf(" (%s)", r.desc)
		}
		if s.Owner != nil {
			text += report.Sprintf(", charged to process %s%s", *s.Owner, s.image)
		}
		p.Own("%s: %s.\n", report.Text(text), *r.Hint)
	} else if r.Hint != nil {
		p.Own("  %s%s.\n", strings.ToUpper((*r.Hint)[:1]), (*r.Hint)[1:])
	}
}

func spaced(b []byte) string {
	var s strings.Builder
	for i, c := range b {
		if i > 0 {
			s.WriteByte(' ')
		}
		fmt.Fprintf(&s, "%02x", c)
	}
	return s.String()
}

func printable(b []byte) string {
	s := make([]byte, len(b))
	for i, c := range b {
		if s[i] = c; c < 0x20 || c > 0x7e {
			s[i] = '.'
		}
	}
	return string(s)
}

// siteText says where an address lies, where the rows don't.
func siteText(l *pool.Location) string {
	if !l.Found {
		return ""
	}
	text := ""
	switch l.Part {
	case pool.PartHeader:
		if l.At == l.Block.Header {
			break // the row says it
		}
		text = report.Sprintf("%s lies in the block's header; its body starts at %s", l.At, l.Block.Body)
	case pool.PartSlack:
		text = report.Sprintf("%s lies behind the block's last byte, in what was set aside for it", l.At)
	case pool.PartChunk:
		text = report.Sprintf("%s lies in the header that the heap keeps before the block; the block's body starts at %s", l.At, l.Block.Body)
	case pool.PartOverhead:
		text = report.Sprintf("%s lies in what the heap keeps for itself", l.At)
	}
	if h := l.Heap; h != nil {
		if text != "" {
			text += ". "
		}
		text += heapText(h)
	}
	if text == "" {
		return ""
	}
	return text + "."
}

// heapText says where in a heap something lies.
func heapText(h *pool.HeapSite) string {
	of := report.Sprintf("the heap at %s (%s, node %d)", h.Area.Heap.At, h.Area.Heap.Role, h.Area.Heap.Node)
	if h.Area.Heap.Private {
		of = report.Sprintf("the heap at %s (%s, session %d)", h.Area.Heap.At, h.Area.Heap.Role, h.Area.Heap.Session)
	}
	switch {
	case h.Metadata:
		return "In the list of large allocations of " + of
	case h.Slots():
		return report.Sprintf("Slot %d of %d, %#x bytes each, of the %s at %s, in the segment at %s of %s",
			h.Chunk.Slot, h.Chunk.Slots, h.Chunk.Size, h.Area.Kind, h.Area.At, h.Area.Segment, of)
	case h.Chunk.At != 0:
		return report.Sprintf("Chunk at %s, %#x bytes, of the %s at %s, in the segment at %s of %s",
			h.Chunk.At, h.Chunk.Size, h.Area.Kind, h.Area.At, h.Area.Segment, of)
	}
	return report.Sprintf("In the %s at %s, in the segment at %s of %s", h.Area.Kind, h.Area.At, h.Area.Segment, of)
}
