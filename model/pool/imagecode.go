package pool

import (
	"fmt"
	"strings"

	"gokd/model"
	"gokd/model/disasm"
	"gokd/model/mem"
)

// codeReader reads the code of an image around the bytes of a tag.
type codeReader struct {
	s    *imageSearch
	m    *model.Module
	left int // functions that may still be decoded
	buf  [4096]byte
}

// Limits of what is decoded around a place, in bytes.
const (
	maxBefore = 4096 // from the start of its function
	maxBehind = 160  // to the call that takes the tag
)

// operand looks for the instruction that has the four bytes as its last operand,
// and for the call that it prepares.
func (c *codeReader) operand(p *TagPlace) bool {
	inst, at, ok := c.fromStart(p.At)
	if !ok {
		inst, at, ok = c.byForm(p.At)
	}
	if !ok {
		return false
	}
	p.Kind, p.Inst, p.Instruction = AsOperand, at, inst.Mnemonic+" "+inst.Operands
	p.Argument = argument(inst)
	c.call(p, at+mem.VA(inst.Len))
	return true
}

// fromStart decodes the function that holds a place up to it: then it is certain
// where instructions begin. It needs the image's function table.
func (c *codeReader) fromStart(at mem.VA) (disasm.Inst, mem.VA, bool) {
	start, ok := c.m.FunctionStart(uint32(at - c.m.Base))
	from := c.m.Base + mem.VA(start)
	if !ok || from > at || uint64(at-from) > maxBefore-disasm.MaxLen || c.left <= 0 {
		return disasm.Inst{}, 0, false
	}
	c.left--
	want := int(at-from) + len(Tag{})
	n, _ := c.s.k.Space.ReadVirtual(c.buf[:want], from)
	if n < want {
		return disasm.Inst{}, 0, false
	}
	for i := 0; i+len(Tag{}) <= want; {
		inst, err := disasm.One(c.buf[i:want], uint64(from)+uint64(i), disasm.Options{})
		if err != nil || inst.Len <= 0 {
			break
		}
		if i+inst.Len > want-len(Tag{}) {
			return inst, from + mem.VA(i), i+inst.Len == want && c.immediate(inst)
		}
		i += inst.Len
	}
	return disasm.Inst{}, 0, false
}

// byForm tries the lengths that an instruction with a 32-bit operand can have
// before it. The longest that is of a usual kind is taken: its prefix would be an
// instruction of its own otherwise, such as 41h before mov.
func (c *codeReader) byForm(at mem.VA) (disasm.Inst, mem.VA, bool) {
	const most = 8 // mov dword ptr [rsp+disp32], imm32 has seven bytes before it
	var b [most + len(Tag{})]byte
	if n, _ := c.s.k.Space.ReadVirtual(b[:], at-most); n < len(b) {
		return disasm.Inst{}, 0, false
	}
	for before := most; before > 0; before-- {
		from := at - mem.VA(before)
		inst, err := disasm.One(b[most-before:], uint64(from), disasm.Options{})
		if err != nil || inst.Len != before+len(Tag{}) || !c.immediate(inst) {
			continue
		}
		switch inst.Mnemonic {
		case "mov", "cmp", "push":
			return inst, from, true
		}
	}
	return disasm.Inst{}, 0, false
}

// immediate reports whether the tag is the last operand, and not a displacement.
func (c *codeReader) immediate(inst disasm.Inst) bool {
	_, last, ok := cutLast(strings.ToLower(inst.Operands))
	if !ok && inst.Mnemonic != "push" {
		return false
	}
	v := c.s.tag.Value()
	for _, v := range []uint64{uint64(v), uint64(v | protectedBit), uint64(int64(int32(v | protectedBit)))} {
		if last == fmt.Sprintf("%xh", v) || last == fmt.Sprintf("0%xh", v) {
			return true
		}
	}
	return false
}

// cutLast cuts operands at their last comma.
func cutLast(operands string) (before, last string, ok bool) {
	i := strings.LastIndexByte(operands, ',')
	if i < 0 {
		return "", operands, false
	}
	return operands[:i], operands[i+1:], true
}

// arguments are the places of arguments in the x64 calling convention of
// Windows, as the operands of instructions spell them.
var arguments = map[string]int{
	"ecx": 1, "rcx": 1, "edx": 2, "rdx": 2, "r8d": 3, "r8": 3, "r9d": 4, "r9": 4,
	"dword ptr [rsp+20h]": 5, "dword ptr [rsp+28h]": 6, "dword ptr [rsp+30h]": 7, "dword ptr [rsp+38h]": 8,
}

// argument tells which argument of a call an instruction sets.
func argument(inst disasm.Inst) int {
	to, _, _ := cutLast(strings.ToLower(inst.Operands))
	if inst.Mnemonic != "mov" {
		return 0
	}
	return arguments[to]
}

// call looks for the next call behind an instruction that sets an argument.
func (c *codeReader) call(p *TagPlace, from mem.VA) {
	if p.Argument == 0 {
		return
	}
	n, _ := c.s.k.Space.ReadVirtual(c.buf[:maxBehind], from)
	for i := 0; i < n; {
		inst, err := disasm.One(c.buf[i:n], uint64(from)+uint64(i), disasm.Options{})
		if err != nil || inst.Len <= 0 || inst.Unknown() || inst.Flow == disasm.FlowReturn || inst.Flow == disasm.FlowTrap {
			return
		}
		// Compilers end a function with a jump where its last act is a call.
		tail := inst.Flow == disasm.FlowJump && (!inst.HasTarget || c.leaves(p.At, mem.VA(inst.Target)))
		if inst.Flow == disasm.FlowCall || tail {
			p.Call = from + mem.VA(i)
			p.Routine = c.routine(inst)
			if takesTag(p.Routine, p.Argument) {
				p.Kind = AsTag
			}
			return
		}
		i += inst.Len
	}
}

// leaves reports whether a jump goes to another function.
func (c *codeReader) leaves(at, target mem.VA) bool {
	if !c.m.Contains(target) {
		return true
	}
	a, ok := c.m.FunctionStart(uint32(at - c.m.Base))
	b, ok2 := c.m.FunctionStart(uint32(target - c.m.Base))
	return ok && ok2 && a != b
}

// routine names what a call goes to: its target, or what the pointer in the
// image's import table leads to.
func (c *codeReader) routine(inst disasm.Inst) string {
	var to mem.VA
	switch {
	case inst.HasTarget:
		to = mem.VA(inst.Target)
	case inst.HasMem && inst.Mem.PCRel:
		to, _ = c.s.k.Space.Pointer(mem.VA(inst.Mem.Addr))
	}
	switch {
	case to == 0:
		return ""
	case uint64(to) < c.m.Size:
		return c.imported(uint64(to))
	}
	name := c.s.k.NameOf(c.s.ctx, to)
	if name.Function == "" || name.Offset != 0 {
		return ""
	}
	return name.String()
}

// imported names the routine of an import that no loader has bound: pages that
// come from an image file have the place of its name there (PE format, Hint/Name
// Table: a number of 16 bits, then the name).
func (c *codeReader) imported(rva uint64) string {
	const most = 128
	name, err := c.s.k.Space.CString(c.m.Base+mem.VA(rva)+2, most)
	if err != nil || name == "" {
		return ""
	}
	for i := range len(name) {
		if !letter(name[i]) {
			return ""
		}
	}
	return name
}

// takesTag reports whether a routine's argument is a pool tag, by the
// declarations in the kit's documentation (wdm.h, ntifs.h,
// fltkernel.h, ndis.h, storport.h).
func takesTag(routine string, argument int) bool {
	name := routine[strings.IndexByte(routine, '!')+1:]
	switch {
	case strings.HasPrefix(name, "ExAllocatePool"), strings.HasPrefix(name, "FsRtlAllocatePool"):
		return argument == 3 // type or flags, bytes, tag
	case strings.HasPrefix(name, "ExFreePool"):
		return argument == 2 // address, tag
	case name == "ExInitializeNPagedLookasideList", name == "ExInitializePagedLookasideList":
		return argument == 6
	case name == "ExInitializeLookasideListEx":
		return argument == 7
	case strings.HasPrefix(name, "NdisAllocateMemoryWithTag"), name == "StorPortAllocatePool", name == "FltFreePoolAlignedWithTag":
		return argument == 3
	case name == "FltAllocatePoolAlignedWithTag":
		return argument == 4
	case name == "MmAllocateMappingAddress", name == "MmMapLockedPagesWithReservedMapping":
		return argument == 2
	}
	return false
}
