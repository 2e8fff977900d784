package pool

import (
	"strconv"

	"gokd/commands/report"
	"gokd/model/pool"
)

// blockRecord is one block of !poolfind or !pool.
type blockRecord struct {
	Address      report.Addr    `json:"address"` // of the body
	Header       report.Addr    `json:"header"`
	Tag          string         `json:"tag"`
	Size         uint64         `json:"size"` // bytes, with the header of a small block
	PreviousSize uint32         `json:"previous_size"`
	State        string         `json:"state"`
	Protected    bool           `json:"protected"`
	Pool         string         `json:"pool"`
	Large        bool           `json:"large"`
	Room         uint64         `json:"room"` // bytes set aside for it, from header on; 0 where not known
	Place        string         `json:"place"`
	Heap         *report.Addr   `json:"heap"` // the _SEGMENT_HEAP it lies in
	Owner        *report.Addr   `json:"owner_process"`
	Missing      report.Missing `json:"missing,omitempty"`

	block pool.Block
}

func newBlock(p *pool.Pool, b pool.Block, owner bool) *blockRecord {
	r := &blockRecord{
		Address: report.Addr(b.Body), Header: report.Addr(b.Header), Tag: b.Tag.Spell(), Size: b.Size,
		PreviousSize: b.PreviousSize, State: b.State.String(), Protected: b.Protected, Pool: b.Kind.String(),
		Large: b.Large, Room: b.Room, Place: placeName(b.Place), block: b,
	}
	if b.Heap != 0 {
		at := report.Addr(b.Heap)
		r.Heap = &at
	}
	if owner {
		at, err := p.Owner(b)
		r.Missing.Set("owner_process", err)
		if at != 0 {
			a := report.Addr(at)
			r.Owner = &a
		}
	}
	return r
}

// Type names the record.
func (*blockRecord) Type() string { return "pool_block" }

// kdPools are the pools' names as kd writes them.
var kdPools = [...]string{pool.Nonpaged: "Nonpaged", pool.Paged: "Paged", pool.Session: "Session", pool.Special: "Special"}

// WriteText writes the row of !poolfind.
func (r *blockRecord) WriteText(p *report.Printer) {
	p.Printf("%s", report.Text((&findRow{block: r.block}).AppendText(nil, p.Era)))
}

// appendHex appends a number with at least width digits.
func appendHex(to []byte, v uint64, width int, fill byte) []byte {
	var digits [16]byte
	d := strconv.AppendUint(digits[:0], v, 16)
	for range width - len(d) {
		to = append(to, fill)
	}
	return append(to, d...)
}

// bodySize is what the allocating code got, in bytes.
func bodySize(b pool.Block) uint64 {
	if b.Large || b.Place == pool.InSpecial {
		return b.Size
	}
	return max(b.Size, pool.HeaderSize) - pool.HeaderSize // 0 where a header was overwritten
}

// rowStart is the address that a row of the classic layout names: the header.
// A free piece of a variable-size subsegment has none, and is named, and its
// size told, from the heap's chunk header on, which is where kd reads its tag.
func rowStart(b pool.Block) uint64 {
	if b.Place == pool.InVS && b.State == pool.Free {
		return uint64(b.Header) - pool.HeaderSize
	}
	return uint64(b.Header)
}

// headerRow is a row of the classic layout, which names the header; mark
// stands before the tag.
func headerRow(b pool.Block, mark string) string {
	row := make([]byte, 0, 80)
	start := rowStart(b)
	row = appendHex(row, start, 16, '0')
	row = append(row, " size: "...)
	row = appendHex(row, b.Size+(uint64(b.Header)-start), 4, ' ')
	row = append(row, " previous size: "...)
	row = appendHex(row, uint64(b.PreviousSize), 4, ' ')
	if b.State != pool.Allocated {
		row = append(row, "  (Free)      "...)
	} else {
		row = append(row, "  (Allocated) "...)
	}
	row = append(append(row, mark...), b.Tag.String()...)
	if b.Protected {
		row = append(row, " (Protected)"...)
	}
	return string(append(row, '\n'))
}
