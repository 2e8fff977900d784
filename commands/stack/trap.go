package stack

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

var trapFrame = &cmd.Command{
	Name: ".trap", Group: cmd.GroupThread,
	Summary: "show a trap frame and use its registers",
	Args: []cmd.Arg{{
		Name: "Address", Kind: cmd.KindAddr, Optional: true,
		Doc: "a _KTRAP_FRAME, as kv names them; none: back to the processor's own registers",
	}},
	Needs: cmd.NeedTarget,
	Help: `Shows the registers that the kernel saved when it was entered by an interrupt, an
exception or a system call, and lets r and k start from them. A trap frame holds
rip, rsp, rbp and the registers that calls do not preserve; the others show as
zeros. kv and !thread name the addresses of trap frames. Memory whose selectors
and flags are none of a trap frame is refused. .trap alone goes back.`,
	Example: "kv\n.trap",
	SeeAlso: []string{"k", ".cxr", ".frame", "r"},
	Run:     runTrap,
}

func runTrap(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at := in.Addr("Address")
	if at == 0 {
		return reset(s, out)
	}
	if err := x64Only(s, ".trap"); err != nil {
		return err
	}
	v, err := readTrap(s, at)
	if err != nil {
		return fmt.Errorf(".trap: %w%s", err, butIs(ctx, s, at))
	}
	return use(ctx, s, v, out)
}

// readTrap reads the trap frame at an address.
func readTrap(s *cmd.Session, at mem.VA) (*view, error) {
	if s.Kernel.Types == nil {
		return nil, fmt.Errorf("trap frame at %#x: %w", uint64(at), model.ErrNoLayout)
	}
	t, err := s.Kernel.Types.Type("_KTRAP_FRAME")
	if err != nil {
		return nil, fmt.Errorf("trap frame at %#x: %w", uint64(at), err)
	}
	if t.Size > maxTrapFrame {
		return nil, fmt.Errorf("trap frame at %#x: its type has %d bytes", uint64(at), t.Size)
	}
	b := make([]byte, t.Size)
	if n, err := s.ReadVirtual(b, at); err != nil {
		return nil, fmt.Errorf("trap frame at %#x: %d bytes could be read: %w", uint64(at), n, err)
	}
	v, err := parseTrap(t, b)
	if err != nil {
		return nil, fmt.Errorf("trap frame at %#x: %w", uint64(at), err)
	}
	return v, nil
}

// maxTrapFrame is more than any _KTRAP_FRAME has, in bytes.
const maxTrapFrame = 0x1000

// errNoTrap is the class of errors about memory that is no trap frame.
var errNoTrap = errors.New("no trap frame")

// volatile are the registers of a trap frame, by the names of its fields. rbx,
// rsi and rdi have fields too, which only system calls fill in.
var volatile = [...]struct {
	field string
	index int
}{
	{"Rax", model.RAX}, {"Rcx", model.RCX}, {"Rdx", model.RDX}, {"R8", 8}, {"R9", 9}, {"R10", 10}, {"R11", 11},
	{"Rbp", model.RBP}, {"Rsp", model.RSP},
}

var preserved = [...]struct {
	field string
	index int
}{{"Rbx", model.RBX}, {"Rsi", model.RSI}, {"Rdi", model.RDI}}

// serviceActive is the value of ExceptionActive in the trap frame of a system
// call; 0 is an interrupt's, 1 an exception's.
const serviceActive = 2

// parseTrap reads a trap frame by its type.
func parseTrap(t *types.Type, b []byte) (*view, error) {
	get := func(name string) (uint64, error) {
		f, ok := t.Field(name)
		if !ok || f.Type == nil || f.Type.Size == 0 || f.Type.Size > 8 || uint64(f.Offset)+uint64(f.Type.Size) > uint64(len(b)) {
			return 0, &types.NotFoundError{What: "field", Name: name, In: t.Name}
		}
		var v [8]byte
		copy(v[:], b[f.Offset:f.Offset+f.Type.Size])
		return binary.LittleEndian.Uint64(v[:]), nil
	}
	v := &view{set: setTrap, noSegments: true}
	r := &v.regs
	for _, o := range volatile {
		n, err := get(o.field)
		if err != nil {
			return nil, err
		}
		r.GPR[o.index] = n
		v.known |= 1 << o.index
	}
	if n, err := get("ExceptionActive"); err == nil && n == serviceActive {
		for _, o := range preserved {
			if n, err := get(o.field); err == nil {
				r.GPR[o.index] = n
				v.known |= 1 << o.index
			}
		}
	}
	var words [4]uint64
	for i, name := range [...]string{"Rip", "SegCs", "EFlags", "SegSs"} {
		n, err := get(name)
		if err != nil {
			return nil, err
		}
		words[i] = n
	}
	r.RIP, r.CS, r.EFlags, r.SS = words[0], uint16(words[1]), uint32(words[2]), uint16(words[3])
	return v, v.saneTrap()
}

// Selectors of 64-bit Windows for code: the kernel's, and those of user mode for
// 64 and 32 bits.
const (
	kernelCode = 0x10
	userCode   = 0x33
	userCode32 = 0x23
)

// saneTrap checks what the processor pushes: bit 1 of rflags is always set; 3,
// 5, 15 and above 21 never are (Intel SDM volume 1, 3.4.3).
func (v *view) saneTrap() error {
	r := &v.regs
	switch {
	case r.CS != kernelCode && r.CS != userCode && r.CS != userCode32:
		return fmt.Errorf("%w: cs is %#x there", errNoTrap, r.CS)
	case r.EFlags&0xffc0802a != 2:
		return fmt.Errorf("%w: the flags are %#x there", errNoTrap, r.EFlags)
	case r.GPR[model.RSP] == 0:
		return fmt.Errorf("%w: rsp is 0 there", errNoTrap)
	}
	return nil
}

var _ report.Record = (*registerSet)(nil)
