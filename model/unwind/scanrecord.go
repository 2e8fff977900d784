package unwind

import (
	"encoding/binary"
	"strings"

	"gokd/model"
	"gokd/model/mem"
)

// exceptionRecordSize is the size in bytes of EXCEPTION_RECORD64 (winnt.h).
const exceptionRecordSize = 0x98

// recordAt tells how many bytes of the stack from a slot on are a record of
// registers, in which return addresses are not to be looked for; 0 for none.
// The bugcheck may name such records, and the functions that dispatch
// exceptions keep some in their frames.
func (w *walker) recordAt(slot mem.VA, b []byte) int {
	c := &w.k.Source.Crash
	if i, ok := contextArg[c.Code]; ok && mem.VA(c.Args[i]) == slot {
		return model.ContextSize
	}
	if i, ok := exceptionArg[c.Code]; ok && mem.VA(c.Args[i]) == slot {
		return exceptionRecordSize
	}
	if slot < w.contextsTo && slot%16 == 0 && w.looksLikeContext(b) {
		return model.ContextSize
	}
	return 0
}

// exceptionArg is contextArg for the exception record.
var exceptionArg = map[uint32]int{0x7e: 2, 0x1000007e: 2}

// contextReach is the most bytes of stack that one function uses which has a
// CONTEXT or two in its frame.
const contextReach = 0x1000

// noteContext lets a CONTEXT be recognized in the frame of a function that may
// hold one. Elsewhere one on the stack may be left over from earlier, with newer
// frames written into it.
func (w *walker) noteContext(cur state) {
	name := w.k.NameOf(w.ctx, cur.rip()).Function
	may := name == ""
	for _, part := range [...]string{"Exception", "Raise", "Unwind", "Context", "BugCheck", "StackBackTrace", "WalkFrameChain"} {
		may = may || strings.Contains(name, part)
	}
	if may {
		w.contextsTo = cur.rsp() + contextReach
	}
}

// Bits of CONTEXT.ContextFlags on x64 (winnt.h): the architecture, the parts
// that are saved, and how the thread was when they were.
const (
	contextAMD64 = 0x100000
	contextBits  = contextAMD64 | 0xff | 0xf8000000
)

// looksLikeContext recognizes a CONTEXT of kernel mode by its flags, selectors,
// rip in code and rsp on the stack.
func (w *walker) looksLikeContext(b []byte) bool {
	if len(b) < model.ContextSize {
		return false
	}
	r, ok := model.ParseContext(b)
	if !ok || r.Flags&^contextBits != 0 || r.CS != kernelCode || r.SS != kernelData {
		return false
	}
	const mxcsr = 0x34
	if binary.LittleEndian.Uint32(b[mxcsr:])>>16 != 0 {
		return false
	}
	sp := mem.VA(r.GPR[model.RSP])
	return sp%8 == 0 && inModuleCode(w.k, mem.VA(r.RIP)) && (w.on == nil || w.find(sp) != nil)
}
