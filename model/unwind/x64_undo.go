package unwind

import (
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// undoer undoes one function's frame. Its state starts as the function's and
// ends as its caller's.
type undoer struct {
	k *model.Kernel
	m *model.Module
	state
	rva     uint32 // of rip
	machine mem.VA
	sp      mem.VA // the function's, before anything is undone
	scratch *buffers
	// lostRegister tells that run failed only because a scan lost the function's
	// frame register.
	lostRegister bool
}

// maxChain limits chained and indirect entries, as the system's unwinder does.
const maxChain = 32

// run undoes the frame that a function table entry describes.
func (u *undoer) run(f model.RuntimeFunction) (step, error) {
	u.sp = u.rsp()
	f, in, err := u.entry(f)
	if err != nil {
		return step{}, err
	}
	// A return address is never inside an epilog: the frame still stood when the
	// call was made.
	if u.exact && u.rva-f.Begin >= uint32(in.prolog) {
		done, err := u.epilog(f, in)
		if err != nil {
			return step{}, err
		}
		if done {
			return u.caller()
		}
	}
	frame, err := u.frame(f, in)
	if err != nil {
		return step{}, err
	}
	done := u.rva - f.Begin // how much of the prolog was executed
	for range maxChain {
		if err := u.codes(in, frame, done); err != nil {
			return step{}, err
		}
		if in.flags&flagChained == 0 || u.machine != 0 {
			return u.caller()
		}
		if f, in, err = u.entry(in.chained); err != nil {
			return step{}, err
		}
		done = ^uint32(0) // the function's own prolog is behind
	}
	return step{}, fmt.Errorf("unwind data of %s for %#x: %w: chained without end", u.m.Name, u.rva, errInfo)
}

// entry reads the unwind data of a table entry. Bit 0 of its address says that
// it stands for another entry, whose bounds count then: rip is outside of them,
// so that the whole prolog counts as executed.
func (u *undoer) entry(f model.RuntimeFunction) (model.RuntimeFunction, *info, error) {
	for range maxChain {
		if f.Unwind&1 == 0 {
			in, err := readInfo(u.k.Space, u.m, f.Unwind, u.scratch)
			return f, in, err
		}
		to, err := u.m.ReadFunction(f.Unwind &^ 1)
		if err != nil {
			return f, nil, fmt.Errorf("function table of %s: %w", u.m.Name, err)
		}
		f = to
	}
	return f, nil, fmt.Errorf("function table of %s at %#x: %w: indirect without end", u.m.Name, f.Begin, errInfo)
}

// frame gives the base that saved registers are relative to: rsp after the
// prolog, got from the frame register once that is set up.
func (u *undoer) frame(f model.RuntimeFunction, in *info) (uint64, error) {
	set := in.flags&flagChained != 0 || u.rva-f.Begin >= uint32(in.prolog)
	for _, c := range in.codes {
		if c.op == opSetFPReg && u.rva-f.Begin >= uint32(c.at) {
			set = true
		}
	}
	if in.frameReg == 0 || !set {
		return u.regs.GPR[model.RSP], nil
	}
	return u.fromFrameReg(in)
}

func (u *undoer) fromFrameReg(in *info) (uint64, error) {
	if u.known>>in.frameReg&1 == 0 {
		u.lostRegister = true
		return 0, fmt.Errorf("%s+%#x: its frame register %s is not known", u.m.Name, u.rva, regNames[in.frameReg])
	}
	return u.regs.GPR[in.frameReg] - in.frameOff, nil
}

var regNames = [16]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"}

// codes undoes the codes of that part of the prolog that was executed.
func (u *undoer) codes(in *info, frame uint64, done uint32) error {
	rsp := &u.regs.GPR[model.RSP]
	for _, c := range in.codes {
		if uint32(c.at) > done {
			continue
		}
		var err error
		switch c.op {
		case opPushNonvol:
			err = u.pop(int(c.info))
		case opAllocLarge, opAllocSmall:
			*rsp += uint64(c.value)
		case opSetFPReg:
			*rsp, err = u.fromFrameReg(in)
		case opSaveNonvol, opSaveNonvolFar:
			err = u.load(int(c.info), frame+uint64(c.value))
		case opPushMachFrame:
			return u.machineFrame(mem.VA(*rsp) + mem.VA(c.info)*8)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// load restores a register from memory.
func (u *undoer) load(reg int, at uint64) error {
	v, err := u.scratch.uint64(u.k.Space, mem.VA(at))
	if err != nil {
		return fmt.Errorf("saved %s: %w", regNames[reg], err)
	}
	u.set(reg, v)
	return nil
}

func (u *undoer) pop(reg int) error {
	at := u.regs.GPR[model.RSP]
	if err := u.load(reg, at); err != nil {
		return err
	}
	if reg != model.RSP {
		u.regs.GPR[model.RSP] = at + 8
	}
	return nil
}

// machineFrame goes over what the processor pushed at a trap.
func (u *undoer) machineFrame(at mem.VA) error {
	b, err := u.k.Space.Bytes(at, machineFrameSize)
	if err != nil {
		return fmt.Errorf("machine frame: %w", err)
	}
	f := parseMachineFrame(b)
	u.machine = at
	u.regs.RIP, u.regs.CS, u.regs.EFlags, u.regs.SS = f.rip, uint16(f.cs), uint32(f.flags), uint16(f.ss)
	u.set(model.RSP, f.rsp)
	return nil
}

// caller ends the undoing: the return address is popped unless a machine frame
// gave rip already.
func (u *undoer) caller() (step, error) {
	how := HowMachineFrame
	if u.machine == 0 {
		how = HowData
		rsp := u.regs.GPR[model.RSP]
		v, err := u.scratch.uint64(u.k.Space, mem.VA(rsp))
		if err != nil {
			return step{}, fmt.Errorf("return address of %s+%#x: %w", u.m.Name, u.rva, err)
		}
		u.regs.RIP = v
		u.set(model.RSP, rsp+8)
	}
	s := step{caller: u.state, how: how, machine: u.machine}
	s.caller.known &= savedRegs
	s.caller.exact = u.machine != 0
	if u.machine != 0 {
		trapState(u.k.Space, &s.caller, u.machine, u.sp)
	}
	return s, nil
}
