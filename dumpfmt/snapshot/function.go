package snapshot

import (
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"
)

// function is a routine of an image: where it lies, which calls it makes, and
// how much stack it takes. Its code and unwind data are made of that.
type function struct {
	img   *image
	name  string
	rva   uint32
	fixed bool // rva is given, not assigned
	line  int

	start, end uint32               // of the code, which a label lies inside of
	sites      map[uint32]*function // offset of a return address: who is called
	stops      map[uint32]bool      // offsets where it was interrupted
	entry      bool                 // seen with the program counter on its first byte
	label      bool                 // lies inside of code that starts before it

	frame int64  // bytes of stack below the return address; -1 unknown
	trap  bool   // a machine frame ends its frame instead of a return address
	tag   string // pool tag that the code holds as an operand

	prolog []byte
	codes  []byte // UNWIND_CODEs
	pushes []byte // registers
	alloc  uint32
	saves  []saved
	unwind uint32 // RVA of UNWIND_INFO
}

// saved is a register that the prologue stores into its frame.
type saved struct {
	reg byte
	off uint32 // from the stack pointer
}

func hashOf(parts ...string) uint32 {
	h := fnv.New32a()
	for _, s := range parts {
		_, _ = h.Write([]byte(s)) // never fails
	}
	return h.Sum32()
}

func (f *function) String() string { return f.img.name + "!" + f.name }

// setFrame notes how much stack a function takes; it takes the same everywhere.
func (f *function) setFrame(size int64, line int) error {
	switch {
	case size < 0 || size%8 != 0 || size > 0x5000:
		return wrong(line, "%s: a frame of %#x bytes is not possible", f, size)
	case f.frame >= 0 && f.frame != size:
		return wrong(line, "%s: a frame of %#x bytes here, of %#x elsewhere", f, size, f.frame)
	}
	f.frame = size
	return nil
}

// setAddress notes where a function starts.
func (f *function) setAddress(at uint64, line int) error {
	base := uint64(f.img.base)
	if at < base+pageSize || at-base >= maxImageSize {
		return wrong(line, "%s at %#x does not lie in its image, which starts at %#x", f, at, base)
	}
	rva := uint32(at - base)
	if f.fixed && f.rva != rva {
		return wrong(line, "%s lies at %#x here, at %#x elsewhere", f, at, base+uint64(f.rva))
	}
	f.fixed, f.rva = true, rva
	if f.line == 0 {
		f.line = line
	}
	return nil
}

// room is how many bytes there are before the first place where the program
// counter is known to stand in the function's body; negative where a call
// would not fit.
func (f *function) room() int {
	low := maxOffset
	for off := range f.sites {
		low = min(low, int(off)-callSize)
	}
	for off := range f.stops {
		low = min(low, int(off))
	}
	return low
}

func (f *function) maxOffset() uint32 {
	high := uint32(0)
	for off := range f.sites {
		high = max(high, off)
	}
	for off := range f.stops {
		high = max(high, off)
	}
	return high
}

const (
	callSize   = 6    // of the longest call instruction
	labelAhead = 0x50 // of code before a label inside a function
	minBody    = 0x20
	leafRoom   = 12 // bytes that a short prologue takes
)

// labelled names the routine around a label, and other names of a routine
// (names in the public symbol tables of Windows kernels).
var labelled = map[string]string{"KiSwitchKernelStackContinue": "KiSwitchKernelStackAndCallout"}
var aliases = map[string]string{"KySwitchKernelStackCallout": "KxSwitchKernelStackCallout", "KxStartSystemThread": "KiStartSystemThread"}

// plan decides prologue and epilogue. Afterwards the length is known.
func (f *function) plan(exception *exceptionLayout) {
	room := f.room()
	switch {
	case f.frame >= 0:
	case f.trap:
		f.frame = machineFrameAt
	case room < leafRoom && len(f.sites) == 0:
		f.frame = 0 // a leaf, which needs no prologue
	default:
		// Odd multiples of 8 keep the stack aligned to 16 in the function.
		f.frame = 0x28 + int64(hashOf(f.img.name, f.name)%9)*0x10
	}
	f.start = f.rva
	if room < leafRoom && f.frame != 0 { // a label: the code before it has the prologue
		ahead := min(f.rva-pageSize, labelAhead)
		f.start = (f.rva - ahead + 15) &^ 15
		room = int(f.rva - f.start)
		f.label = true
	}
	switch {
	case f.trap:
		f.alloc = uint32(f.frame)
	case exception != nil && f.frame == int64(exception.size) && room >= 0x60:
		f.alloc, f.saves = uint32(f.frame), exception.saves
	default:
		f.choosePushes(room)
	}
	f.encodeProlog()
	f.end = f.rva + max(f.maxOffset()+minBody, minBody) + uint32(hashOf(f.name)%4)*0x10
	f.end = (f.end + 15) &^ 15
}

// nonvolatile registers in the order that compilers push them, by the numbers
// of the x64 encoding: rbx, rbp, rsi, rdi, r12.
var pushOrder = []byte{3, 5, 6, 7, 12}

// choosePushes splits a frame into pushes and an allocation that leaves the
// callee's home space.
func (f *function) choosePushes(room int) {
	n := int(hashOf(f.name, "pushes") % uint32(len(pushOrder)))
	for n > 0 && (f.frame-int64(8*n) < 0x20 || room < 2*n+7) {
		n--
	}
	f.pushes = pushOrder[:n]
	f.alloc = uint32(f.frame) - uint32(8*n)
}

// Unwind operations (Microsoft's "x64 exception handling" documentation).
const (
	uwopPush        = 0
	uwopAllocLarge  = 1
	uwopAllocSmall  = 2
	uwopSave        = 4
	uwopPushMachine = 10
)

// encodeProlog writes the prologue's instructions and its unwind codes, which
// stand last instruction first.
func (f *function) encodeProlog() {
	var codes [][]byte
	note := func(op, info byte, more ...byte) {
		codes = append(codes, append([]byte{byte(len(f.prolog)), op | info<<4}, more...))
	}
	if f.trap {
		note(uwopPushMachine, 0)
	}
	for i, reg := range f.pushes {
		switch {
		case reg >= 8:
			f.prolog = append(f.prolog, 0x41, 0x50+reg-8)
		case i == 0:
			f.prolog = append(f.prolog, 0x40, 0x50+reg) // two bytes, so that it can be patched
		default:
			f.prolog = append(f.prolog, 0x50+reg)
		}
		note(uwopPush, reg)
	}
	switch {
	case f.alloc == 0:
	case f.alloc <= 0x78:
		f.prolog = append(f.prolog, 0x48, 0x83, 0xec, byte(f.alloc))
		note(uwopAllocSmall, byte(f.alloc/8-1))
	case f.alloc <= 0x80:
		f.prolog = append(f.prolog, 0x48, 0x81, 0xec, byte(f.alloc), 0, 0, 0)
		note(uwopAllocSmall, byte(f.alloc/8-1))
	default:
		f.prolog = binary.LittleEndian.AppendUint32(append(f.prolog, 0x48, 0x81, 0xec), f.alloc)
		note(uwopAllocLarge, 0, byte(f.alloc/8), byte(f.alloc/8>>8))
	}
	for _, s := range f.saves {
		rex, reg := byte(0x48), s.reg
		if reg >= 8 {
			rex, reg = 0x4c, reg-8
		}
		f.prolog = binary.LittleEndian.AppendUint32(append(f.prolog, rex, 0x89, 0x84|reg<<3, 0x24), s.off)
		note(uwopSave, s.reg, byte(s.off/8), byte(s.off/8>>8))
	}
	slices.Reverse(codes)
	f.codes = slices.Concat(codes...)
}

// unwindInfo gives the function's UNWIND_INFO, version 1, without a handler.
func (f *function) unwindInfo() []byte {
	b := []byte{1, byte(len(f.prolog)), byte(len(f.codes) / 2), 0}
	b = append(b, f.codes...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// filler is what function bodies are made of: instructions that no unwinder
// takes for the start of an epilogue.
var filler = [][]byte{
	{0x48, 0x8b, 0xd9},             // mov rbx,rcx
	{0x48, 0x8b, 0xfa},             // mov rdi,rdx
	{0x33, 0xc0},                   // xor eax,eax
	{0x48, 0x8b, 0x43, 0x18},       // mov rax,[rbx+18h]
	{0x85, 0xc0},                   // test eax,eax
	{0x48, 0x85, 0xc9},             // test rcx,rcx
	{0x0f, 0xb6, 0xc8},             // movzx ecx,al
	{0x48, 0x8d, 0x4c, 0x24, 0x20}, // lea rcx,[rsp+20h]
	{0x45, 0x33, 0xc0},             // xor r8d,r8d
	{0x41, 0xb0, 0x01},             // mov r8b,1
	{0x8b, 0xd0},                   // mov edx,eax
	{0x48, 0x89, 0x44, 0x24, 0x20}, // mov [rsp+20h],rax
}

// epilog undoes the prologue and returns.
func (f *function) epilog() []byte {
	var b []byte
	switch {
	case f.alloc == 0:
	case f.alloc < 0x80:
		b = append(b, 0x48, 0x83, 0xc4, byte(f.alloc))
	default:
		b = binary.LittleEndian.AppendUint32(append(b, 0x48, 0x81, 0xc4), f.alloc)
	}
	for _, reg := range slices.Backward(f.pushes) {
		if reg >= 8 {
			b = append(b, 0x41)
		}
		b = append(b, 0x58+reg&7)
	}
	if f.trap {
		return append(b, 0x48, 0xcf) // iretq
	}
	return append(b, 0xc3)
}

// code makes the function's bytes from start to end. Every known return
// address follows a call of the routine that returned there.
func (f *function) code() ([]byte, error) {
	b := slices.Clone(f.prolog)
	seed := hashOf(f.img.name, f.name)
	fill := func(to int) {
		for len(b) < to {
			seed = seed*1664525 + 1013904223
			part := filler[seed>>16%uint32(len(filler))]
			if len(b)+len(part) > to {
				part = []byte{0x90}
			}
			b = append(b, part...)
		}
	}
	if f.tag != "" {
		b = append(append(b, 0x41, 0xb8), f.tag[:4]...) // mov r8d,'Tag '
		b = append(b, 0x33, 0xc9)                       // xor ecx,ecx
	}
	for _, off := range f.places() {
		at := f.rva + off
		var call []byte
		if callee, ok := f.sites[off]; ok {
			call = f.call(callee, at)
		}
		to := int(at-f.start) - len(call)
		if to < len(b) {
			return nil, wrong(f.line, "%s+%#x: there is no room for a call before it", f, off)
		}
		fill(to)
		b = append(b, call...)
	}
	end := f.epilog()
	size := int(f.end - f.start)
	if len(b)+len(end) > size {
		return nil, wrong(f.line, "%s overlaps the function behind it", f)
	}
	fill(max(size-len(end)-int(seed%7), len(b)))
	b = append(b, end...)
	for len(b) < size {
		b = append(b, 0xcc)
	}
	return b, nil
}

// call makes the instruction that returns to an RVA: a near call inside the
// image, one through the import table into another.
func (f *function) call(to *function, ret uint32) []byte {
	switch {
	case to == nil || to == f:
		return []byte{0xff, 0x53, 0x10} // call [rbx+10h]
	case to.img == f.img:
		return binary.LittleEndian.AppendUint32([]byte{0xe8}, to.rva-ret)
	}
	return binary.LittleEndian.AppendUint32([]byte{0xff, 0x15}, f.img.imports[to]-ret)
}

// exceptionLayout is how KiSwapContext stores registers: a _KEXCEPTION_FRAME.
type exceptionLayout struct {
	size  uint32 // without the return address
	saves []saved
}

// exceptionFrame reads the registers' places from the layout.
func (m *machine) exceptionFrame() *exceptionLayout {
	e := &exceptionLayout{size: uint32(m.offset("_KEXCEPTION_FRAME", "Return"))}
	for _, r := range []struct {
		name string
		reg  byte
	}{{"Rbp", 5}, {"Rbx", 3}, {"Rdi", 7}, {"Rsi", 6}, {"R12", 12}, {"R13", 13}, {"R14", 14}, {"R15", 15}} {
		e.saves = append(e.saves, saved{r.reg, uint32(m.offset("_KEXCEPTION_FRAME", r.name))})
	}
	return e
}

// places lists the offsets where an instruction must start.
func (f *function) places() []uint32 {
	list := slices.Collect(maps.Keys(f.sites))
	for off := range f.stops {
		if _, ok := f.sites[off]; !ok {
			list = append(list, off)
		}
	}
	slices.Sort(list)
	return list
}

// check refuses a function that is seen at its first byte and inside of a
// frame there.
func (f *function) check() error {
	if f.entry && f.label {
		return wrong(f.line, "%s: no call returns to its first bytes", f)
	}
	return nil
}
