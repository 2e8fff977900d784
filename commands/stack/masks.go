package stack

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// registerLines is the record of registers that rF, rX and rM show.
type registerLines struct {
	processor int
	set       string
	lines     [][]register
	gap       string // between registers of a line
}

// Type names the record.
func (*registerLines) Type() string { return "registers" }

// MarshalJSON gives each register by its name.
func (r *registerLines) MarshalJSON() ([]byte, error) {
	values := map[string]any{}
	var missing report.Missing
	for _, l := range r.lines {
		for _, v := range l {
			name := strings.TrimSpace(v.name)
			switch {
			case v.lost:
				values[name] = nil
				missing.Set(name, errLost)
			case v.text != "":
				values[name] = v.text
			default:
				values[name] = report.Addr(v.value)
			}
		}
	}
	return json.Marshal(struct {
		Processor int            `json:"processor"`
		Set       string         `json:"set,omitempty"`
		Registers map[string]any `json:"registers"`
		Missing   report.Missing `json:"missing,omitempty"`
	}{r.processor, r.set, values, missing})
}

// WriteText writes the lines.
func (r *registerLines) WriteText(p *report.Printer) {
	for _, l := range r.lines {
		for i, v := range l {
			if i > 0 {
				p.Printf("%s", r.gap)
			}
			p.Printf("%s", v.String())
		}
		p.Printf("\n")
	}
}

// errNoFloat tells why rF and rX have nothing to show.
var errNoFloat = errors.New("the floating-point registers were not saved in this context")

// floatingPoint shows the floating-point unit as rF does.
func floatingPoint(v *view, cpu int, out report.Sink) error {
	lines, err := v.floatLines()
	if err != nil {
		return fmt.Errorf("rF: %w", err)
	}
	return out.Emit(&registerLines{cpu, v.set, lines, "  "})
}

func (v *view) floatLines() ([][]register, error) {
	cw, _ := v.extended("fpcw")
	sw, _ := v.extended("fpsw")
	tw, _ := v.extended("fptw")
	if cw.data == nil {
		return nil, errNoFloat
	}
	cw.text = fmt.Sprintf("%04X: %s", cw.value, controlWord(uint16(cw.value)))
	sw.text = fmt.Sprintf("%04X: %s", sw.value, statusWord(uint16(sw.value)))
	tw.digits = 4
	tw.text = fmt.Sprintf("%04X", tw.value)
	save := v.raw[atFltSave:]
	le := binary.LittleEndian
	lines := [][]register{
		{cw.register, sw.register, tw.register},
		{
			{name: "fopcode", value: uint64(le.Uint16(save[6:])), digits: 4},
			{name: "fpip", text: fmt.Sprintf("%04x:%08x", le.Uint16(save[0xc:]), le.Uint32(save[8:]))},
			{name: "fpdp", text: fmt.Sprintf("%04x:%08x", le.Uint16(save[0x14:]), le.Uint32(save[0x10:]))},
		},
	}
	for i := 0; i < 8; i += 2 {
		a, _ := v.extended(fmt.Sprintf("st%d", i))
		b, _ := v.extended(fmt.Sprintf("st%d", i+1))
		lines = append(lines, []register{a.register, b.register})
	}
	return lines, nil
}

// controlWord spells rounding, precision in bits and the exceptions that are
// masked (Intel SDM volume 1, 8.1.5).
func controlWord(w uint16) string {
	rounding := [...]string{"rn", "rd", "ru", "rz"}[w>>10&3]
	precision := [...]string{"24", "??", "53", "64"}[w>>8&3]
	return rounding + " " + precision + " " + letters("puozdi", w)
}

// statusWord spells the top of the register stack, the condition codes and the
// exceptions that occurred (8.1.3 there).
func statusWord(w uint16) string {
	return fmt.Sprintf("top=%x cc=%d%d%d%d %s", w>>11&7, w>>14&1, w>>10&1, w>>9&1, w>>8&1, letters("bspuozdi", w))
}

// letters gives one letter for each low bit that is set, the highest first.
func letters(names string, w uint16) string {
	b := []byte(names)
	for i := range b {
		if w>>(len(b)-1-i)&1 == 0 {
			b[i] = '-'
		}
	}
	return string(b)
}

// xmmRegisters shows the xmm registers as rX does.
func xmmRegisters(v *view, cpu int, out report.Sink) error {
	lines, err := v.xmmLines()
	if err != nil {
		return fmt.Errorf("rX: %w", err)
	}
	return out.Emit(&registerLines{cpu, v.set, lines, " "})
}

func (v *view) xmmLines() ([][]register, error) {
	var lines [][]register
	for i := range 16 {
		w, _ := v.extended(fmt.Sprintf("xmm%d", i))
		if w.data == nil {
			return nil, errNoFloat
		}
		lines = append(lines, []register{w.register})
	}
	return lines, nil
}

// Bits of the mask of rM (documentation of the debuggers, "rm (Register Mask)").
const (
	maskGeneral  = 0x1
	maskGeneral2 = 0x2
	maskFloat    = 0x4
	maskSegments = 0x8
	maskMMX      = 0x10
	maskDebug    = 0x20
	maskXMM      = 0x40
	maskControl  = 0x80
	maskSystem   = 0x100
	maskAll      = 0x1ff
)

// runMask shows the groups of registers that a mask asks for.
func runMask(ctx context.Context, s *cmd.Session, text string, out report.Sink) error {
	if text == "" {
		return cmd.Misuse(errors.New("rM needs a mask: 1 general, 4 floating point, 8 segments, 20 debug, 40 xmm, 80 control registers"))
	}
	mask, rest, err := s.Eval.EvalPrefix(ctx, text)
	switch {
	case err != nil:
		return err
	case strings.TrimSpace(rest) != "":
		return cmd.Misuse(fmt.Errorf("unexpected %q behind the mask", strings.TrimSpace(rest)))
	case mask == 0 || mask&^maskAll != 0:
		return cmd.Misuse(fmt.Errorf("mask %#x: its bits are 1 to 100", mask))
	}
	v, err := scopeView(s)
	if err != nil {
		return err
	}
	r := &registerLines{processor: s.CPU, set: v.set, gap: " "}
	if mask&(maskGeneral|maskGeneral2) != 0 {
		r.add(3, x64(v).list)
	}
	if mask&maskSegments != 0 {
		r.named(v, 6, "cs", "ss", "ds", "es", "fs", "gs")
	}
	if mask&maskFloat != 0 {
		if err := r.join(v.floatLines()); err != nil {
			return fmt.Errorf("rM: %w", err)
		}
	}
	if mask&maskMMX != 0 {
		r.named(v, 2, "mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7")
	}
	if mask&maskDebug != 0 {
		r.named(v, 3, "dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
	}
	if mask&maskXMM != 0 {
		if err := r.join(v.xmmLines()); err != nil {
			return fmt.Errorf("rM: %w", err)
		}
	}
	if err := r.special(s, mask); err != nil {
		return err
	}
	return out.Emit(r)
}

// special adds the registers that belong to no context.
func (r *registerLines) special(s *cmd.Session, mask uint64) error {
	for _, g := range []struct {
		bit   uint64
		names []string
	}{{maskControl, []string{"cr0", "cr2", "cr3", "cr4", "cr8"}}, {maskSystem, []string{"gdtr", "gdtl", "idtr", "idtl", "tr", "ldtr"}}} {
		if mask&g.bit == 0 {
			continue
		}
		var list []register
		for _, n := range g.names {
			w, _, err := controlRegister(s, n)
			if err != nil {
				return err
			}
			list = append(list, w.register)
		}
		r.add(3, list)
	}
	return nil
}

// named adds registers of a view, some a line.
func (r *registerLines) named(v *view, perLine int, names ...string) {
	var list []register
	for _, n := range names {
		if w, ok := v.named(n); ok {
			list = append(list, w.register)
		}
	}
	r.add(perLine, list)
}

func (r *registerLines) add(perLine int, list []register) {
	for len(list) > 0 {
		n := min(perLine, len(list))
		r.lines, list = append(r.lines, list[:n]), list[n:]
	}
}

func (r *registerLines) join(lines [][]register, err error) error {
	r.lines = append(r.lines, lines...)
	return err
}
