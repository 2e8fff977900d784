package masm

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/mem"
)

// ForSession gives the evaluator of a session: it follows the session's
// current processor.
func ForSession(s *cmd.Session) *Evaluator { return New(&session{s}) }

// session is the target of a session; it may have no dump open.
type session struct{ s *cmd.Session }

var _ Target = (*session)(nil)

// Symbol implements Target. A bare name is a module's before it is a symbol's.
func (t *session) Symbol(ctx context.Context, module, name string) (mem.VA, bool) {
	k := t.s.Kernel
	if k == nil {
		return 0, false
	}
	if module == "" {
		if m, ok := k.Modules.ByName(name); ok {
			return m.Base, true
		}
	}
	return k.Resolve(ctx, module, name)
}

// ReadVirtual implements Target.
func (t *session) ReadVirtual(p []byte, at mem.VA) (int, error) {
	return t.s.ReadVirtual(p, at)
}

// registerNames are the general registers in the order of unwind codes.
var registerNames = [16]string{
	"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
}

// Register implements Target for the current processor.
func (t *session) Register(name string) (uint64, bool, error) {
	k := t.s.Kernel
	if k == nil {
		return 0, false, nil
	}
	if v, ok := crashRegister(k, name); ok {
		return v, true, nil
	}
	if name, ok := strings.CutPrefix(name, "$"); ok {
		if get, ok := pseudo[name]; ok {
			v, err := get(t)
			return v, true, err
		}
	}
	get, ok := contextRegister(name)
	if !ok {
		return 0, false, nil
	}
	r, err := t.s.Registers()
	if err != nil {
		return 0, true, err
	}
	return get(r), true, nil
}

// crashRegister gives the pseudo-registers of the bug check and exception.
func crashRegister(k *model.Kernel, name string) (uint64, bool) {
	c := &k.Source.Crash
	switch name {
	case "$bug_code":
		return uint64(c.Code), true
	case "$bug_param1", "$bug_param2", "$bug_param3", "$bug_param4":
		return c.Args[name[len(name)-1]-'1'], true
	case "$exr_code":
		if len(c.Exception) >= 4 { // EXCEPTION_RECORD64.ExceptionCode
			return uint64(binary.LittleEndian.Uint32(c.Exception)), true
		}
	}
	return 0, false
}

// contextRegister finds a register of a saved context by its name.
func contextRegister(name string) (func(*model.Registers) uint64, bool) {
	for i, n := range registerNames {
		if n == name {
			return func(r *model.Registers) uint64 { return r.GPR[i] }, true
		}
		if i < 8 && name == "e"+n[1:] {
			return func(r *model.Registers) uint64 { return r.GPR[i] & 0xffffffff }, true
		}
	}
	switch name {
	case "rip", "$ip":
		return func(r *model.Registers) uint64 { return r.RIP }, true
	case "$csp":
		return func(r *model.Registers) uint64 { return r.GPR[model.RSP] }, true
	case "$retreg":
		return func(r *model.Registers) uint64 { return r.GPR[model.RAX] }, true
	case "efl", "eflags":
		return func(r *model.Registers) uint64 { return uint64(r.EFlags) }, true
	case "cs":
		return func(r *model.Registers) uint64 { return uint64(r.CS) }, true
	case "ss":
		return func(r *model.Registers) uint64 { return uint64(r.SS) }, true
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

// pseudo are the pseudo-registers that are read from the processor's block and
// its current thread.
var pseudo = map[string]func(t *session) (uint64, error){
	"prcb":   func(t *session) (uint64, error) { p, err := t.processor(); return at(p, err) },
	"pcrb":   func(t *session) (uint64, error) { p, err := t.processor(); return at(p, err) },
	"thread": (*session).thread,
	"proc":   (*session).process,
	"teb":    func(t *session) (uint64, error) { return t.field("_KTHREAD", "Teb") },
	"tid":    func(t *session) (uint64, error) { return t.field("_ETHREAD", "Cid.UniqueThread") },
	"tpid":   func(t *session) (uint64, error) { return t.field("_ETHREAD", "Cid.UniqueProcess") },
	"peb": func(t *session) (uint64, error) {
		p, err := t.process()
		if err != nil {
			return 0, err
		}
		return t.s.Kernel.Object("_EPROCESS", mem.VA(p)).Field("Peb").Uint()
	},
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
