package stack

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"

	"gokd/commands/cmd"
	"gokd/model"
)

// wide is a register of any width.
type wide struct {
	register
	data []byte // little-endian; nil where it is not known
}

// wideOf makes a register of n bytes, up to 8.
func wideOf(name string, v uint64, n int) wide {
	b := binary.LittleEndian.AppendUint64(nil, v)[:n:n]
	return wide{register{name: name, value: v & (1<<(8*n-1)<<1 - 1), digits: 2 * n}, b}
}

// named finds a register of a view by its name, which is in lower case.
func (v *view) named(name string) (wide, bool) {
	if w, ok := v.general(name); ok {
		return w, true
	}
	c := &v.regs
	switch name {
	case "rip":
		return wideOf(name, c.RIP, 8), true
	case "eip":
		return wideOf(name, c.RIP, 4), true
	case "efl", "eflags":
		return v.saved(wideOf(name, uint64(c.EFlags), 4), !v.noFlags), true
	case "iopl":
		return v.saved(wide{register{name: name, value: uint64(c.EFlags >> 12 & 3), digits: 1}, []byte{byte(c.EFlags >> 12 & 3)}}, !v.noFlags), true
	case "tf":
		return v.flag(name, 8), true
	}
	for _, f := range flagNames {
		if f.name == name {
			return v.flag(name, f.bit), true
		}
	}
	for _, g := range []struct {
		name  string
		value uint16
		ok    bool
	}{{"cs", c.CS, true}, {"ss", c.SS, true}, {"ds", c.DS, !v.noSegments}, {"es", c.ES, !v.noSegments}, {"fs", c.FS, !v.noSegments}, {"gs", c.GS, !v.noSegments}} {
		if g.name == name {
			return v.saved(wideOf(name, uint64(g.value), 2), g.ok && !v.noFlags), true
		}
	}
	return v.extended(name)
}

// saved marks a register as lost where it is.
func (v *view) saved(w wide, ok bool) wide {
	if !ok {
		w.lost, w.marked, w.data = true, v.marks, nil
		if !v.marks {
			w.value = 0
		}
	}
	return w
}

func (v *view) flag(name string, bit uint) wide {
	b := v.regs.EFlags >> bit & 1
	return v.saved(wide{register{name: name, value: uint64(b), digits: 1}, []byte{byte(b)}}, !v.noFlags)
}

// general finds a general register or a part of one: rax eax ax al ah, r8 r8d
// r8w r8b, sil.
func (v *view) general(name string) (wide, bool) {
	for i, full := range gprNames {
		get := func(shift, size int) (wide, bool) {
			return v.saved(wideOf(name, v.regs.GPR[i]>>shift, size), v.known>>i&1 != 0), true
		}
		switch {
		case name == full:
			return get(0, 8)
		case i >= 8 && name == full+"d", i < 8 && name == "e"+full[1:]:
			return get(0, 4)
		case i >= 8 && name == full+"w", i < 8 && name == full[1:]:
			return get(0, 2)
		case i >= 8 && name == full+"b", i < 4 && name == full[1:2]+"l", i >= 4 && i < 8 && name == full[1:]+"l":
			return get(0, 1)
		case i < 4 && name == full[1:2]+"h":
			return get(8, 1)
		}
	}
	return wide{}, false
}

// Offsets in CONTEXT of x64 (winnt.h): the debug registers, and in FltSave, an
// XSAVE_FORMAT, as fxsave writes it (Intel SDM volume 1, 10.5.1).
const (
	atMxCsr   = 0x34
	atDr0     = 0x48
	atFltSave = 0x100
	atFloat   = atFltSave + 0x20
	atXmm     = atFltSave + 0xa0
)

// extended finds a register in the parts of the CONTEXT beyond the general ones.
func (v *view) extended(name string) (wide, bool) {
	part := func(flag uint32, at, n int) (wide, bool) {
		w := wide{register: register{name: name, digits: 2 * n}}
		ok := len(v.raw) >= model.ContextSize && v.regs.Flags&flag != 0
		if !ok {
			w.lost, w.marked = true, true
			return w, true
		}
		w.data = v.raw[at : at+n : at+n]
		if n <= 8 {
			var b [8]byte
			copy(b[:], w.data)
			w.value = binary.LittleEndian.Uint64(b[:])
		}
		return w, true
	}
	if i, ok := numbered(name, "xmm", 16); ok {
		w, ok := part(contextFloat, atXmm+16*i, 16)
		w.text = w.floats()
		return w, ok
	}
	if i, ok := numbered(name, "st", 8); ok {
		w, ok := part(contextFloat, atFloat+16*i, 10)
		w.text = w.float80()
		return w, ok
	}
	if i, ok := numbered(name, "mm", 8); ok {
		return part(contextFloat, atFloat+16*i, 8)
	}
	if i, ok := numbered(name, "dr", 8); ok && i != 4 && i != 5 {
		if i > 3 {
			i -= 2 // dr6 and dr7 follow dr3
		}
		return part(contextDebug, atDr0+8*i, 8)
	}
	switch name {
	case "mxcsr":
		return part(contextFloat, atMxCsr, 4)
	case "fpcw":
		return part(contextFloat, atFltSave, 2)
	case "fpsw":
		return part(contextFloat, atFltSave+2, 2)
	case "fptw":
		return part(contextFloat, atFltSave+4, 1)
	}
	return wide{}, false
}

// numbered reads "xmm12".
func numbered(name, prefix string, count int) (int, bool) {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || digits == "" || digits[0] == '0' && digits != "0" {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 8)
	return int(n), err == nil && int(n) < count
}

// floats spells an xmm register as four numbers of single precision, the highest
// first.
func (w *wide) floats() string {
	n, err := w.as("f")
	if err != nil || w.data == nil {
		return ""
	}
	return n.text
}

// float80 spells a register of the floating-point unit as kd does: 21 decimals
// and four digits of exponent.
func (w *wide) float80() string {
	if len(w.data) < 10 {
		return ""
	}
	mantissa := binary.LittleEndian.Uint64(w.data)
	head := binary.LittleEndian.Uint16(w.data[8:])
	sign, exp := " ", int(head&0x7fff)
	if head&0x8000 != 0 {
		sign = "-"
	}
	if exp == 0x7fff || mantissa>>63 == 0 && exp != 0 {
		return fmt.Sprintf("%s<%04x:%016x>", sign, head, mantissa) // infinity, not a number, or unsupported
	}
	if exp == 0 {
		exp = 1 // denormal
	}
	f := new(big.Float).SetPrec(64).SetUint64(mantissa)
	f.SetMantExp(f, exp-16383-63)
	text, digits, _ := strings.Cut(f.Text('e', 21), "e")
	n, err := strconv.Atoi(digits)
	if err != nil {
		return sign + text
	}
	return fmt.Sprintf("%s%se%+05d", sign, text, n)
}

// elements are the types that a register can be shown as (documentation of the
// debuggers, "r (Registers)").
var elements = map[string]struct {
	size   int
	signed bool
	float  bool
}{
	"ib": {1, true, false}, "ub": {1, false, false}, "iw": {2, true, false}, "uw": {2, false, false},
	"id": {4, true, false}, "ud": {4, false, false}, "iq": {8, true, false}, "uq": {8, false, false},
	"f": {4, false, true}, "d": {8, false, true},
}

// as shows a register as elements of a type, the highest first; a number before
// the type limits how many.
func (w *wide) as(typ string) (wide, error) {
	i := 0
	for i < len(typ) && typ[i] >= '0' && typ[i] <= '9' {
		i++
	}
	e, ok := elements[strings.ToLower(typ[i:])]
	if !ok {
		return *w, fmt.Errorf("r: there is no type %q: ib ub iw uw id ud iq uq f d are", typ)
	}
	n := *w
	if w.data == nil {
		return n, nil
	}
	count := max(len(w.data)/e.size, 1)
	if i > 0 {
		limit, err := strconv.ParseUint(typ[:i], 10, 8)
		if err != nil || limit == 0 || limit > 64 {
			return *w, fmt.Errorf("r: %q: 1 to 64 elements can be shown", typ)
		}
		count = min(count, int(limit))
	}
	var parts []string
	for k := count - 1; k >= 0; k-- {
		var b [8]byte
		copy(b[:e.size], w.data[min(k*e.size, len(w.data)):])
		v := binary.LittleEndian.Uint64(b[:])
		switch {
		case e.float && e.size == 4:
			parts = append(parts, strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', 6, 32))
		case e.float:
			parts = append(parts, strconv.FormatFloat(math.Float64frombits(v), 'g', 6, 64))
		case e.signed:
			shift := 64 - 8*e.size
			parts = append(parts, strconv.FormatInt(int64(v)<<shift>>shift, 10))
		default:
			parts = append(parts, fmt.Sprintf("%0*x", 2*e.size, v))
		}
	}
	n.text = strings.Join(parts, " ")
	return n, nil
}

// specials are the registers that _KPRCB.ProcessorState.SpecialRegisters keeps
// of each processor: name, field, bytes.
var specials = [...]struct {
	name, field string
	size        int
}{
	{"cr0", "Cr0", 8}, {"cr2", "Cr2", 8}, {"cr3", "Cr3", 8}, {"cr4", "Cr4", 8}, {"cr8", "Cr8", 8},
	{"gdtr", "Gdtr.Base", 8}, {"gdtl", "Gdtr.Limit", 2}, {"idtr", "Idtr.Base", 8}, {"idtl", "Idtr.Limit", 2},
	{"tr", "Tr", 2}, {"ldtr", "Ldtr", 2},
}

// controlRegister reads one of the current processor's control registers, which
// belong to no context.
func controlRegister(s *cmd.Session, name string) (wide, bool, error) {
	for _, c := range specials {
		if c.name != name {
			continue
		}
		p := s.Processor()
		if p == nil || p.PRCB == 0 {
			return wide{}, true, fmt.Errorf("r: %s: the control block of processor %d is not in the dump", name, s.CPU)
		}
		n, err := s.Kernel.Object("_KPRCB", p.PRCB).Field("ProcessorState.SpecialRegisters." + c.field).Uint()
		if err != nil {
			return wide{}, true, fmt.Errorf("r: %s: %w", name, err)
		}
		return wideOf(name, n, c.size), true, nil
	}
	return wide{}, false, nil
}
