package session

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var formats = &cmd.Command{
	Name: ".formats", Group: cmd.GroupSession,
	Summary: "show a value in all formats",
	Help: `Evaluates an expression and shows its value in hexadecimal, decimal, octal and
binary, as characters, as a time, as two floats and as a double. A value of up to
32 bits is taken for seconds since 1970, a longer one for a FILETIME (100 ns
since 1601); times are shown in the time zone of this computer.`,
	Example: ".formats 57724231h\n.formats @rip",
	SeeAlso: []string{"?", "??"},
	Args: []cmd.Arg{{
		Name: "expression", Kind: cmd.KindRest, Complete: cmd.CompleteSymbol, Doc: "what to evaluate",
	}},
	Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
		if s.Eval == nil {
			return errNoEvaluator
		}
		v, err := s.Eval.Eval(ctx, in.Text("expression"))
		if err != nil {
			return err
		}
		return out.Emit(newFormatsRecord(v, s.Location))
	},
}

// formatsRecord is a value in many spellings.
type formatsRecord struct {
	Value    report.Addr `json:"value"`
	Signed   string      `json:"signed"`
	Unsigned string      `json:"unsigned"`
	Octal    string      `json:"octal"`
	Binary   string      `json:"binary"`
	Chars    string      `json:"chars"`
	Time     *time.Time  `json:"time"`
	Low      string      `json:"float_low"`
	High     string      `json:"float_high"`
	Double   string      `json:"double"`

	Missing report.Missing `json:"missing,omitempty"`
	zone    *time.Location
}

func newFormatsRecord(v uint64, zone *time.Location) *formatsRecord {
	r := &formatsRecord{
		Value: report.Addr(v), Signed: strconv.FormatInt(int64(v), 10), Unsigned: strconv.FormatUint(v, 10),
		Octal: fmt.Sprintf("%022o", v), zone: zone,
		Low:    shortFloat(float64(math.Float32frombits(uint32(v)))),
		High:   shortFloat(float64(math.Float32frombits(uint32(v >> 32)))),
		Double: shortFloat(math.Float64frombits(v)),
	}
	if zone == nil {
		r.zone = time.UTC
	}
	var binary []string
	var chars strings.Builder
	for shift := 56; shift >= 0; shift -= 8 {
		b := byte(v >> shift)
		binary = append(binary, fmt.Sprintf("%08b", b))
		if b < 0x20 || b > 0x7e {
			b = '.'
		}
		chars.WriteByte(b)
	}
	r.Binary, r.Chars = strings.Join(binary, " "), chars.String()
	switch {
	case v>>32 == 0:
		at := time.Unix(int64(v), 0).UTC()
		r.Time = &at
	case v <= maxFiletime:
		ticks := int64(v - filetimeEpoch)
		at := time.Unix(ticks/1e7, ticks%1e7*100).UTC()
		r.Time = &at
	default:
		r.Missing.Set("time", fmt.Errorf("no FILETIME"))
	}
	return r
}

// shortFloat writes a number with six digits and an exponent of three, as the C
// runtime that the debuggers use does, and its names for what is no number.
func shortFloat(f float64) string {
	switch bits := math.Float64bits(f); {
	case math.IsNaN(f) && bits == 0xfff8000000000000:
		return "-1.#IND"
	case math.IsNaN(f) && bits>>63 != 0:
		return "-1.#QNAN"
	case math.IsNaN(f):
		return "1.#QNAN"
	case math.IsInf(f, 1):
		return "1.#INF"
	case math.IsInf(f, -1):
		return "-1.#INF"
	}
	// Six significant digits; %g of Go turns to exponents where C does.
	text := strconv.FormatFloat(f, 'g', 6, 64)
	mantissa, exponent, found := strings.Cut(text, "e")
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	switch {
	case !found:
		return mantissa
	case len(exponent) == 3:
		return mantissa + "e" + exponent[:1] + "0" + exponent[1:]
	}
	return mantissa + "e" + exponent
}

// Type names the record.
func (*formatsRecord) Type() string { return "formats" }

// WriteText writes kd's lines.
func (r *formatsRecord) WriteText(p *report.Printer) {
	p.Printf("Evaluate expression:\n")
	p.Printf("  Hex:     %s\n", r.Value.Tick())
	p.Printf("  Decimal: %s\n", r.Signed)
	if p.Era > report.Era62 {
		p.Printf("  Decimal (unsigned) : %s\n", r.Unsigned)
	}
	p.Printf("  Octal:   %s\n", r.Octal)
	p.Printf("  Binary:  %s\n", r.Binary)
	p.Printf("  Chars:   %s\n", r.Chars)
	switch {
	case r.Time == nil:
		p.Printf("  Time:    ***** Invalid FILETIME\n")
	case r.Value>>32 == 0:
		p.Printf("  Time:    %s\n", r.Time.In(r.zone).Format("Mon Jan 02 15:04:05 2006"))
	default:
		p.Printf("  Time:    %s\n", sessionTime(*r.Time, r.zone))
	}
	p.Printf("  Float:   low %s high %s\n", r.Low, r.High)
	p.Printf("  Double:  %s\n", r.Double)
}
