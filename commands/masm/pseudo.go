package masm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/unwind"
)

// pseudo are the automatic pseudo-registers (documentation of the debuggers,
// "Pseudo-Register Syntax"), without the dollar sign.
var pseudo = map[string]func(t *session) (uint64, error){
	"prcb":    func(t *session) (uint64, error) { p, err := t.processor(); return at(p, err) },
	"pcrb":    func(t *session) (uint64, error) { p, err := t.processor(); return at(p, err) },
	"pcr":     (*session).pcr,
	"thread":  (*session).thread,
	"proc":    (*session).process,
	"teb":     func(t *session) (uint64, error) { return t.field("_KTHREAD", "Teb") },
	"tid":     func(t *session) (uint64, error) { return t.field("_ETHREAD", "Cid.UniqueThread") },
	"tpid":    func(t *session) (uint64, error) { return t.field("_ETHREAD", "Cid.UniqueProcess") },
	"peb":     func(t *session) (uint64, error) { return t.ofProcess("Peb") },
	"exentry": (*session).firstEntry,

	"ip":       register("rip"),
	"scopeip":  register("rip"),
	"eventip":  (*session).eventIP,
	"csp":      register("rsp"),
	"retreg":   register("rax"),
	"retreg64": register("rax"),
	"argreg":   register("rcx"),
	"frame":    func(t *session) (uint64, error) { return uint64(t.s.Scope.Frame), nil },
	"dbgtime":  func(*session) (uint64, error) { return uint64(time.Now().UnixNano()/100 + filetimeEpoch), nil },

	"bug_code": func(t *session) (uint64, error) { return uint64(t.s.Kernel.Source.Crash.Code), nil },
	// EXCEPTION_RECORD64 (ntddk.h): the code at 0, the number of parameters at 18.
	"exr_code":      exceptionField(0),
	"exr_numparams": exceptionField(0x18),

	"ea":         unavailable("no instruction was executed: the effective address stands in the last line of r"),
	"ea2":        unavailable("no instruction was executed: the effective address stands in the last line of r"),
	"previp":     unavailable("a dump has one event, and none before it"),
	"relip":      unavailable("no branch is being traced"),
	"exr_chance": unavailable("dumps do not hold the chance of their exception"),
	"clrex":      unavailable("managed code is not known here"),
	"lastclrex":  unavailable("managed code is not known here"),
	"ra":         (*session).returnAddress,
	"extin":      unavailable("no extension has an input here"),
	"dtid":       func(t *session) (uint64, error) { return uint64(t.s.CPU), nil },
	"dpid":       func(*session) (uint64, error) { return 0, nil },
	"dsid":       func(*session) (uint64, error) { return 0, nil },
}

// filetimeEpoch is 1 January 1970 as a FILETIME (100 ns units since 1601).
const filetimeEpoch = 116444736000000000

func unavailable(why string) func(*session) (uint64, error) {
	return func(*session) (uint64, error) { return 0, errors.New("has no value in a dump: " + why) }
}

// register gives a register of the current scope.
func register(name string) func(*session) (uint64, error) {
	return func(t *session) (uint64, error) {
		r, err := t.s.Registers()
		if err != nil {
			return 0, err
		}
		get, _ := contextRegister(name)
		return get(r), nil
	}
}

// eventIP is the instruction pointer of the event: where the machine stopped,
// whatever the scope is now.
func (t *session) eventIP() (uint64, error) {
	if r, ok := model.ParseContext(t.s.Kernel.Source.Crash.Context); ok {
		return r.RIP, nil
	}
	if n := t.s.Kernel.CrashProcessor(); n >= 0 && n < len(t.s.Kernel.Processors) {
		if p := t.s.Kernel.Processors[n]; p.Context != nil {
			return p.Context.RIP, nil
		}
	}
	return 0, errors.New("the registers of the crash are not in the dump")
}

// returnAddress is $ra: where the function of the current scope will return to,
// found as k finds it.
func (t *session) returnAddress() (uint64, error) {
	r, err := t.s.Registers()
	if err != nil {
		return 0, err
	}
	k, scope := t.s.Kernel, &t.s.Scope
	var segments []unwind.Segment
	if thread, err := t.s.Thread(); err == nil && k.Types != nil {
		segments, _ = unwind.Segments(k, thread) // without them the walk goes by the registers alone
	}
	o := unwind.Options{MaxFrames: 1, NoArgs: true}
	if scope.Registers != nil {
		o.Known, o.Called = scope.Known, scope.Called
	}
	st := unwind.From(context.Background(), k, *r, segments, o)
	switch {
	case len(st.Frames) > 0 && st.Frames[0].ReturnAddress != 0:
		return uint64(st.Frames[0].ReturnAddress), nil
	case st.Err != nil:
		return 0, st.Err
	}
	return 0, errors.New("the stack ends at this function")
}

// exceptionField reads a 32-bit field of the dump's exception record.
func exceptionField(offset int) func(*session) (uint64, error) {
	return func(t *session) (uint64, error) {
		b := t.s.Kernel.Source.Crash.Exception
		if len(b) < offset+4 {
			return 0, errors.New("the dump holds no exception record")
		}
		return uint64(binary.LittleEndian.Uint32(b[offset:])), nil
	}
}

// numbered gives the pseudo-registers with a number at their end: $bug_param1,
// $exr_param0, $bp0.
func (t *session) numbered(name string) (uint64, bool, error) {
	word := strings.TrimRight(name, "0123456789")
	n, err := strconv.ParseUint(name[len(word):], 10, 8)
	if err != nil {
		return 0, false, nil
	}
	c := &t.s.Kernel.Source.Crash
	switch {
	case word == "bug_param" && n >= 1 && n <= 4:
		return c.Args[n-1], true, nil
	case word == "exr_param" && n < 15: // ExceptionInformation, at 20
		b := c.Exception
		if len(b) < 0x20+8*15 {
			return 0, true, errors.New("the dump holds no exception record")
		}
		return binary.LittleEndian.Uint64(b[0x20+8*n:]), true, nil
	case word == "bp": // a breakpoint that is not there is 0
		return 0, true, nil
	case word == "u":
		return 0, true, fmt.Errorf("$%s is an alias, set by r $.%s=text: it is replaced by its text before expressions are read", name, name)
	}
	return 0, false, nil
}

// pcr is the processor control region, of which the control block is a part.
func (t *session) pcr() (uint64, error) {
	p, err := t.processor()
	prcb, err := at(p, err)
	if err != nil {
		return 0, err
	}
	offset := uint32(prcbInPCR)
	if store := t.s.Kernel.Types; store != nil {
		if known, err := model.OffsetOf(store, "_KPCR", "Prcb"); err == nil {
			offset = known
		}
	}
	return prcb - uint64(offset), nil
}

// prcbInPCR is where the control block lies in the control region of every x64
// kernel (_KPCR.Prcb in the public type tables, Vista to Windows 11).
const prcbInPCR = 0x180

// firstEntry is $exentry: where the image of the current process begins to run.
func (t *session) firstEntry() (uint64, error) {
	peb, err := t.ofProcess("Peb")
	if err != nil {
		return 0, err
	}
	if peb == 0 {
		return 0, errors.New("the current process has no user-mode part")
	}
	// _PEB.ImageBaseAddress, at 10 in every 64-bit Windows.
	var b [8]byte
	if _, err := t.s.ReadVirtual(b[:], mem.VA(peb+0x10)); err != nil {
		return 0, fmt.Errorf("_PEB.ImageBaseAddress: %w", err)
	}
	entry, err := t.Entry(mem.VA(binary.LittleEndian.Uint64(b[:])))
	return uint64(entry), err
}

// registerNames are the general registers in the order of unwind codes.
var registerNames = [16]string{
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
}

// flagBits are the flags of eflags that have names, and their places (Intel's
// manual of the architecture, volume 1, "EFLAGS Register").
var flagBits = map[string]uint{
	"cf": 0, "pf": 2, "af": 4, "zf": 6, "sf": 7, "tf": 8, "if": 9, "df": 10, "of": 11, "vip": 20, "vif": 19,
}

type getter func(*model.Registers) uint64

// contextRegister finds a register of a saved context by its name. As in kd,
// those of 32 bits are extended by their sign (documentation of the debuggers,
// "Sign Extension").
func contextRegister(name string) (getter, bool) {
	for i, n := range registerNames {
		if shift, bits, ok := part(i, n, name); ok {
			return func(r *model.Registers) uint64 {
				v := r.GPR[i] >> shift
				switch bits {
				case 64:
					return v
				case 32:
					return uint64(int64(int32(v)))
				}
				return v & (1<<bits - 1)
			}, true
		}
	}
	if bit, ok := flagBits[name]; ok {
		return func(r *model.Registers) uint64 { return uint64(r.EFlags) >> bit & 1 }, true
	}
	get, ok := map[string]getter{
		"rip":    func(r *model.Registers) uint64 { return r.RIP },
		"eip":    func(r *model.Registers) uint64 { return uint64(int64(int32(r.RIP))) },
		"ip":     func(r *model.Registers) uint64 { return r.RIP & 0xffff },
		"efl":    func(r *model.Registers) uint64 { return uint64(r.EFlags) },
		"eflags": func(r *model.Registers) uint64 { return uint64(r.EFlags) },
		"fl":     func(r *model.Registers) uint64 { return uint64(r.EFlags) & 0xffff },
		"iopl":   func(r *model.Registers) uint64 { return uint64(r.EFlags) >> 12 & 3 },
		"cs":     func(r *model.Registers) uint64 { return uint64(r.CS) },
		"ss":     func(r *model.Registers) uint64 { return uint64(r.SS) },
		"ds":     func(r *model.Registers) uint64 { return uint64(r.DS) },
		"es":     func(r *model.Registers) uint64 { return uint64(r.ES) },
		"fs":     func(r *model.Registers) uint64 { return uint64(r.FS) },
		"gs":     func(r *model.Registers) uint64 { return uint64(r.GS) },
	}[name]
	return get, ok
}

// part tells which bits of a general register a name means: rax, eax, ax, al and
// ah; r8, r8d, r8w and r8b; sil and its kin.
func part(i int, full, name string) (shift, bits uint, ok bool) {
	if name == full {
		return 0, 64, true
	}
	if i >= 8 {
		for suffix, bits := range map[string]uint{"d": 32, "w": 16, "b": 8} {
			if name == full+suffix {
				return 0, bits, true
			}
		}
		return 0, 0, false
	}
	short := full[1:] // "ax", "sp"
	switch {
	case name == "e"+short:
		return 0, 32, true
	case name == short:
		return 0, 16, true
	case i < 4 && name == short[:1]+"l", i >= 4 && name == short+"l":
		return 0, 8, true
	case i < 4 && name == short[:1]+"h":
		return 8, 8, true
	}
	return 0, 0, false
}

// unreadable says why registers that exist have no place in an expression.
func unreadable(name string) (error, bool) {
	switch word := strings.TrimRight(name, "0123456789"); {
	case (word == "xmm" || word == "ymm" || word == "st" || word == "mm") && word != name:
		return fmt.Errorf("%s is wider than an expression: r %s shows it", name, name), true
	case (word == "cr" || word == "dr") && word != name,
		name == "gdtr", name == "idtr", name == "gdtl", name == "idtl", name == "tr", name == "ldtr", name == "mxcsr":
		return fmt.Errorf("%s is no part of a saved context: r shows what the dump holds of it", name), true
	}
	return nil, false
}

// processor gives the current processor. Of one in a small dump the block may be
// missing while its thread and registers are known.
func (t *session) processor() (*model.Processor, error) {
	if p := t.s.Processor(); p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("processor %d: its control block was not found in the dump", t.s.CPU)
}

// lacks says why something of a processor is not known.
func lacks(p *model.Processor, what string) error {
	if p.Err != nil {
		return fmt.Errorf("processor %d: %w", p.Number, p.Err)
	}
	return fmt.Errorf("processor %d: %s", p.Number, what)
}

func at(p *model.Processor, err error) (uint64, error) {
	switch {
	case err != nil:
		return 0, err
	case p.PRCB == 0:
		return 0, lacks(p, "its control block is not in the dump")
	}
	return uint64(p.PRCB), nil
}

func (t *session) thread() (uint64, error) {
	at, err := t.s.Thread()
	return uint64(at), err
}

func (t *session) process() (uint64, error) {
	at, err := t.s.Process()
	return uint64(at), err
}

// field reads a field of the current thread.
func (t *session) field(typ, name string) (uint64, error) {
	at, err := t.thread()
	if err != nil {
		return 0, err
	}
	return t.s.Kernel.Object(typ, mem.VA(at)).Field(name).Uint()
}

// ofProcess reads a field of the current process.
func (t *session) ofProcess(name string) (uint64, error) {
	p, err := t.process()
	if err != nil {
		return 0, err
	}
	return t.s.Kernel.Object("_EPROCESS", mem.VA(p)).Field(name).Uint()
}
