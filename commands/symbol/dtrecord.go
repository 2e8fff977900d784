package symbol

import (
	"fmt"
	"strings"

	"gokd/commands/report"
)

// dtField is a member of a structure in dt's record.
type dtField struct {
	Path   string       `json:"path"`
	Offset uint32       `json:"offset"` // from the start of the structure that the path leads into by value
	Type   string       `json:"type"`
	BitPos *uint8       `json:"bit_position,omitempty"`
	BitLen *uint8       `json:"bit_length,omitempty"`
	Value  *report.Addr `json:"value"`
	Text   string       `json:"text"`

	name   string
	shown  uint32 // offset as printed: from the enclosing structure
	level  int
	header bool // an index line, "[00]"
}

// typeRecord is what dt shows of a type or an instance.
type typeRecord struct {
	Name    string         `json:"name"`
	Module  string         `json:"module"`
	Size    uint32         `json:"size"`
	Kind    string         `json:"kind"`
	Address *report.Addr   `json:"address"`
	Text    string         `json:"text,omitempty"` // of the whole, where kd shows it in a line
	Fields  []dtField      `json:"fields"`
	Values  []enumConst    `json:"constants,omitempty"` // of an enumeration
	Layout  string         `json:"layout,omitempty"`    // where it comes from, unless a table knows the type exactly
	Missing report.Missing `json:"missing,omitempty"`

	head  string // lines before the fields, each with its newline
	opt   *dtOptions
	bad   *uint64
	alone bool // no field to show: Text is the answer
}

type enumConst struct {
	Name  string `json:"name"`
	Value int64  `json:"value"`
}

// Type names the record.
func (*typeRecord) Type() string { return "type" }

// WriteText writes the fields as dt does.
func (r *typeRecord) WriteText(p *report.Printer) {
	p.Printf("%s", report.Text(report.Layout(r.head)))
	for _, c := range r.Values {
		p.Printf("   %s = 0n%d\n", c.Name, c.Value)
	}
	switch {
	case r.alone && r.Text != "":
		p.Printf("%s\n", r.Text)
	case r.opt.compact && len(r.Fields) > 0:
		for _, f := range r.Fields {
			p.Printf("%s", report.Text(report.Sprintf("%s%s : %s ", report.Text(f.place(r.opt)), f.name, lines(f.Text))))
		}
		p.Printf("\n")
	default:
		width := r.opt.width()
		for _, f := range r.Fields {
			f.write(p, r.opt, width)
		}
	}
	if r.bad != nil {
		p.Printf("Memory read error %016x\n", *r.bad)
	}
}

// lines gives a value's text, safe for a terminal; that of a list entry in
// verbose answers has two lines.
func lines(text string) report.Text {
	first, second, two := strings.Cut(text, "\n")
	if two {
		return report.Text(report.Safe(first) + "\n" + report.Safe(second))
	}
	return report.Text(report.Safe(text))
}

// place gives the indentation and offset of a field.
func (f *dtField) place(o *dtOptions) string {
	indent := strings.Repeat("   ", f.level+1)
	if o.noIndent {
		indent = ""
	}
	if o.noOffsets {
		return indent
	}
	return fmt.Sprintf("%s+0x%03x ", indent, f.shown)
}

func (f *dtField) write(p *report.Printer, o *dtOptions, width int) {
	if f.header {
		indent := strings.Repeat("   ", f.level+1) + " "
		if o.noIndent {
			indent = ""
		}
		p.Printf("%s%s %s\n", report.Text(indent), f.name, lines(f.Text))
		return
	}
	p.Printf("%s%-*s : %s\n", report.Text(f.place(o)), width, f.name, lines(f.Text))
}
