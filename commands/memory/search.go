package memory

import (
	"context"
	"errors"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var searchCommand = &cmd.Command{
	Name: "s", Group: cmd.GroupMemory,
	Summary: "search memory for values or strings",
	Args:    restArg("[-[Flags]Type] Range Pattern", "types b w d q: values; a u: a string; sa su: any string, without a pattern", false),
	Needs:   cmd.NeedTarget,
	Help: `Searches what is mapped of a range of virtual memory and shows each hit as a row.
The pattern is a list of values of the type's size, bytes without one, or for a and
u a string; the length of the range counts bytes, L? allows more than 256 MB. Types
w, d, q and u match at multiples of their size from the start. sa and su show every
string of at least three characters from space to tilde, su in UTF-16.

Flags, in brackets: 1 addresses only (for .foreach), w only pages that can be
written, l LENGTH the least length of a string, s keep the hits, n HITS how many
(400 in hex, unless told), r look only at the hits kept, not at the range.

How much of the range was mapped but is not in the dump is told: what lies there
was not searched. Page tables that appear as memory are left out.`,
	Example: "s -a nt L?300000 \"7601.\"\ns nt L1000 4d 5a",
	SeeAlso: []string{"db", "c", "!poolfind"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return runSearch(ctx, s, in.Raw, out)
	},
}

// searchGlued is s with its options glued to it, as they may be in kd: "s-[1]b".
// The names of other commands start with s too, so that s itself must stand
// alone.
var searchGlued = &cmd.Command{
	Name: "s-", Prefix: true, Group: cmd.GroupMemory,
	Summary: "search memory, as s does",
	Args:    restArg("[[Flags]Type] Range Pattern", "as those of s", false),
	Needs:   cmd.NeedTarget,
	Help:    "The same as s, without the space before the minus sign.",
	Example: "s-a nt L?300000 \"7601.\"",
	SeeAlso: []string{"s"},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		return runSearch(ctx, s, "-"+in.Raw, out)
	},
}

// match is the record "match": a hit of which only the address is wanted.
type match struct {
	Address report.Addr `json:"address"`
}

// Type names the record.
func (*match) Type() string { return "match" }

// WriteText writes the address alone.
func (m *match) WriteText(p *report.Printer) { p.Printf("0x%s\n", m.Address.Tick()) }

// searched is the record "search_summary".
type searched struct {
	Matches uint64 `json:"matches"`
	Bytes   uint64 `json:"bytes"`         // searched
	Missing uint64 `json:"pages_missing"` // mapped, but not in the dump
	Holes   uint64 `json:"gaps"`          // larger pieces of which nothing is known: their tables are missing

	writable bool // only what can be written was wanted
}

// Type names the record.
func (*searched) Type() string { return "search_summary" }

// SkippedItems counts what could not be searched.
func (x *searched) SkippedItems() int { return int(min(x.Missing+x.Holes, 1<<30)) }

// WriteText says on a line of our own what kd leaves unsaid.
func (x *searched) WriteText(p *report.Printer) {
	switch {
	case x.Matches > 0:
	case x.Bytes == 0 && x.writable:
		p.Own("Nothing was searched: no memory of the range is in the dump and can be written.\n")
	case x.Bytes == 0:
		p.Own("Nothing was searched: no memory of the range is in the dump.\n")
	default:
		p.Own("Nothing found in the %d bytes of the range that are in the dump.\n", x.Bytes)
	}
	if x.Missing > 0 {
		p.Own("Pages of the range that are not in the dump, and were not searched: %d.\n", x.Missing)
	}
	if x.Holes > 0 {
		p.Own("Gaps in the range, of which the dump has neither pages nor page tables: %d.\n", x.Holes)
	}
}

// savedHits is what the flag s keeps for the flag r.
type savedHits struct {
	at       []uint64
	overflow bool
}

type savedKey struct{}

// hunt is one run of s.
type hunt struct {
	ctx  context.Context
	s    *cmd.Session
	src  source
	out  report.Sink
	q    query
	sum  searched
	kept *savedHits

	row  []byte
	have []bool
}

func runSearch(ctx context.Context, s *cmd.Session, text string, out report.Sink) error {
	q, err := parseSearch(ctx, s.Eval, text)
	if err != nil {
		return err
	}
	kept, err := cmd.Cached(s, savedKey{}, func() (*savedHits, error) { return &savedHits{}, nil })
	if err != nil {
		return err
	}
	src, err := virtual(s)
	if err != nil {
		return err
	}
	h := &hunt{ctx: ctx, s: s, src: src, out: out, q: q, kept: kept, row: make([]byte, 16), have: make([]bool, 16)}
	h.sum.writable = q.writable
	switch {
	case q.writable && !h.src.space.Paged():
		return errors.New("s: the flag w needs page tables, and this dump has none")
	case q.saved:
		err = h.again()
	default:
		if q.save {
			*kept = savedHits{}
		}
		err = h.area()
	}
	if err != nil {
		return err
	}
	if kept.overflow && q.save {
		if err := out.Emit(report.Text("Overflow error: not all hits were saved\n")); err != nil {
			return err
		}
	}
	return out.Emit(&h.sum)
}

// area searches the range.
func (h *hunt) area() error {
	c := newScanner(h.ctx, h.src, h.q)
	c.hit, c.text = h.hit, h.text
	c.progress = func(bytes uint64) { h.s.Report("MB searched", bytes>>20, 0) }
	err := c.search()
	h.sum.Bytes, h.sum.Missing, h.sum.Holes = c.bytes, c.missing, c.holes
	return err
}

// again looks at the hits of the last search that was saved.
func (h *hunt) again() error {
	if h.q.pattern == nil {
		return wrong("the flag r needs a pattern")
	}
	buf := make([]byte, len(h.q.pattern))
	for _, at := range h.kept.at {
		if h.ctx.Err() != nil {
			return h.ctx.Err()
		}
		n, err := h.src.read(buf, at)
		h.sum.Bytes += uint64(n)
		switch {
		case err != nil:
			h.sum.Missing++
		case string(buf) == string(h.q.pattern):
			if err := h.hit(at); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *hunt) keep(at uint64) {
	h.sum.Matches++
	switch {
	case !h.q.save:
	case len(h.kept.at) < h.q.keep:
		h.kept.at = append(h.kept.at, at)
	default:
		h.kept.overflow = true
	}
}

// hit shows a match: one row of 16 bytes from its start, whatever the range.
func (h *hunt) hit(at uint64) error {
	h.keep(at)
	if h.q.addresses {
		return h.out.Emit(&match{report.Addr(at)})
	}
	n := 16
	if left := -at; left != 0 && left < 16 {
		n = int(left) &^ (h.q.unit - 1)
	}
	_ = h.src.fill(h.row[:n], h.have[:n], at) // missing bytes are question marks
	return h.out.Emit(newRow(h.src, h.q.show, at, h.row[:n], h.have[:n], h.q.show.columns))
}

// text shows a string that was found.
func (h *hunt) text(at uint64, chars []byte) error {
	h.keep(at)
	if h.q.addresses {
		return h.out.Emit(&match{report.Addr(at)})
	}
	t := &characterRun{at: at, unit: h.q.unit, known: make([]bool, len(chars)), chars: make([]uint16, len(chars))}
	for i, c := range chars {
		t.chars[i], t.known[i] = uint16(c), true
	}
	return h.out.Emit(t.record(request{columns: h.q.show.columns}, h.src))
}
