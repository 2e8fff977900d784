package memory

import (
	"context"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
)

var compareCommand = &cmd.Command{
	Name: "c", Group: cmd.GroupMemory,
	Summary: "compare two pieces of memory byte by byte",
	Args:    restArg("Range Address", "what is compared with as many bytes at the address", false),
	Needs:   cmd.NeedTarget,
	Help: `Shows each pair of bytes that differ, with their addresses. Bytes that the dump
does not hold on either side are not compared; how many is told.`,
	Example: "c nt L40 hal",
	SeeAlso: []string{"db", "s"},
	Run:     runCompare,
}

// difference is the record "difference": two bytes that are not alike.
type difference struct {
	First  report.Addr `json:"first"`
	Second report.Addr `json:"second"`
	A      uint8       `json:"first_value"`
	B      uint8       `json:"second_value"`
}

// Type names the record.
func (*difference) Type() string { return "difference" }

// WriteText writes kd's line.
func (d *difference) WriteText(p *report.Printer) {
	p.Printf("%s  %02x - %s  %02x\n", d.First.Tick(), d.A, d.Second.Tick(), d.B)
}

// compared is the record "compare_summary".
type compared struct {
	Bytes   uint64 `json:"bytes"`
	Differ  uint64 `json:"differ"`
	Unknown uint64 `json:"unknown"`
}

// Type names the record.
func (*compared) Type() string { return "compare_summary" }

// SkippedItems counts the bytes that could not be compared.
func (c *compared) SkippedItems() int { return int(min(c.Unknown, 1<<30)) }

// WriteText says on a line of our own what kd leaves unsaid.
func (c *compared) WriteText(p *report.Printer) {
	switch {
	case c.Unknown > 0:
		p.Own("%d of %d bytes differ; %d were not compared: they are not in the dump on both sides.\n", c.Differ, c.Bytes, c.Unknown)
	case c.Differ == 0:
		p.Own("All %d bytes are alike.\n", c.Bytes)
	}
}

func runCompare(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	r, rest, err := cmd.ParseRange(ctx, s.Eval, in.Raw, 1, 0)
	if err != nil {
		return err
	}
	if !r.Given {
		return wrong("a range is needed: ADDRESS L COUNT or ADDRESS END")
	}
	other, err := numbers(ctx, s.Eval, rest, 1)
	if err != nil {
		return err
	}
	src, err := virtual(s)
	if err != nil {
		return err
	}
	sum := &compared{Bytes: r.Bytes}
	var a, b [mem.PageSize]byte
	var haveA, haveB [mem.PageSize]bool
	for off := uint64(0); off < r.Bytes; off += mem.PageSize {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if off%(1<<24) == 0 {
			s.Report("MB compared", off>>20, r.Bytes>>20)
		}
		n := min(mem.PageSize, r.Bytes-off)
		first, second := uint64(r.Start)+off, other[0]+off
		_ = src.fill(a[:n], haveA[:n], first) // what is missing is counted below
		_ = src.fill(b[:n], haveB[:n], second)
		for i := range n {
			switch {
			case !haveA[i] || !haveB[i]:
				sum.Unknown++
			case a[i] != b[i]:
				sum.Differ++
				if err := out.Emit(&difference{report.Addr(first + i), report.Addr(second + i), a[i], b[i]}); err != nil {
					return err
				}
			}
		}
	}
	return out.Emit(sum)
}
