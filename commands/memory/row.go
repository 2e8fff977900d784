package memory

import (
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/commands/show"
)

// row is the record "memory": a row of values.
type row struct {
	Address  report.Addr    `json:"address"`
	Physical bool           `json:"physical"`
	Unit     int            `json:"unit"`
	Values   []*report.Addr `json:"values"` // null where the memory is not in the dump
	ASCII    *string        `json:"ascii"`  // null for formats without characters
	Symbols  []*string      `json:"symbols,omitempty"`
	// Sources are the places in source code of the symbols, with .lines on.
	Sources []*show.Source `json:"sources,omitempty"`
	// Text is what the values mean: floating-point numbers, strings pointed at.
	Text []*string `json:"text,omitempty"`
	// Targets are the values that pointers point at.
	Targets []*report.Addr `json:"targets,omitempty"`
	Missing report.Missing `json:"missing,omitempty"`

	f       *format
	columns int    // of a whole row: text stands behind them
	prefix  string // before the address; "#" for the commands of physical memory
}

// Type names the record.
func (*row) Type() string { return "memory" }

// newRow makes the record of a piece of memory. have tells which bytes are known.
func newRow(r source, f *format, at uint64, b []byte, have []bool, columns int) *row {
	x := &row{Address: report.Addr(at), Physical: r.phys != nil, Unit: f.unit, f: f, columns: columns}
	values := make([]report.Addr, len(b)/f.unit) // one piece for all of a row
	x.Values = make([]*report.Addr, len(values))
	for i := range values {
		at := i * f.unit
		if slices.Contains(have[at:at+f.unit], false) {
			continue
		}
		values[i] = report.Addr(f.value(b[at:]))
		x.Values[i] = &values[i]
	}
	if f.text {
		text := characters(b, have)
		x.ASCII = &text
	}
	if f.kind == kindFloats {
		for _, v := range x.Values {
			x.Text = append(x.Text, floatOf(f, v))
		}
	}
	return x
}

func floatOf(f *format, v *report.Addr) *string {
	if v == nil {
		return nil
	}
	text := strings.TrimSpace(f.float(uint64(*v), true))
	return &text
}

// characters spells the bytes of a row; an unknown one is a question mark.
func characters(b []byte, have []bool) string {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = '?'
		if have[i] {
			out[i] = printable(c)
		}
	}
	return string(out)
}

// value gives a value of the row and whether it is known.
func (x *row) value(i int) (uint64, bool) {
	if x.Values[i] == nil {
		return 0, false
	}
	return uint64(*x.Values[i]), true
}

// numbers spells the values with what stands between them.
func (x *row) numbers() string {
	var b strings.Builder
	b.Grow(x.f.width(len(x.Values)))
	for i := range x.Values {
		switch {
		case i == 0:
		case x.f.dash && i%8 == 0:
			b.WriteByte('-')
		default:
			b.WriteByte(' ')
		}
		v, known := x.value(i)
		b.WriteString(x.f.spell(v, known))
	}
	return b.String()
}

// WriteText writes the row as kd does.
func (x *row) WriteText(p *report.Printer) {
	if x.prefix != "" {
		x.writePhysical(p)
		return
	}
	p.Printf("%s  ", x.Address.Tick())
	text := x.numbers()
	switch {
	case x.f.kind == kindBits:
		var hex []string
		for i := range x.Values {
			v, known := x.value(i)
			if known {
				hex = append(hex, digits(v, x.f.unit))
			} else {
				hex = append(hex, unknown(x.f.unit))
			}
		}
		p.Printf("%-*s  %s\n", x.f.width(x.columns), text, strings.Join(hex, " "))
	case x.ASCII != nil:
		p.Printf("%-*s  %s\n", x.f.width(x.columns), text, *x.ASCII)
	default:
		p.Printf("%s%s\n", text, x.behind())
	}
}

// behind gives what follows the one value of a row of pointers.
func (x *row) behind() string {
	var b strings.Builder
	if len(x.Targets) > 0 && x.Targets[0] != nil {
		b.WriteString(" " + digits(uint64(*x.Targets[0]), x.f.unit))
	}
	if x.f.kind == kindPointers && len(x.Text) > 0 && x.Text[0] != nil {
		b.WriteString(` "` + *x.Text[0] + `"`)
	}
	if len(x.Symbols) > 0 && x.Symbols[0] != nil {
		b.WriteString(" " + *x.Symbols[0])
	}
	if len(x.Sources) > 0 {
		b.WriteString(x.Sources[0].String())
	}
	return b.String()
}

// writePhysical writes a row of !db and its kin: the address in eight columns
// behind a number sign, one space before the characters.
func (x *row) writePhysical(p *report.Printer) {
	p.Printf("#%8x ", uint64(x.Address))
	text := x.numbers()
	if x.ASCII == nil {
		p.Printf("%s\n", text)
		return
	}
	// A short row has all its characters: dots stand for those not asked for.
	p.Printf("%s %s\n", text, *x.ASCII+strings.Repeat(".", max(0, x.columns*x.f.unit-len(*x.ASCII))))
}

// heading is the lines above the rows of dyb and dyd, which number the bits.
type heading struct{ f *format }

// Type names the record.
func (heading) Type() string { return "heading" }

// TextOnly marks it.
func (heading) TextOnly() {}

// WriteText writes the heading, as wide as an address and its gap to the left.
func (h heading) WriteText(p *report.Printer) {
	const indent = 19
	if h.f.unit == 4 {
		p.Printf("%*s  3          2          1          0\n%*s 10987654 32109876 54321098 76543210\n", indent-1, "", indent-1, "")
	} else {
		p.Printf("%*s 76543210 76543210 76543210 76543210\n", indent-1, "")
	}
	p.Printf("%*s -------- -------- -------- --------\n", indent-1, "")
}
