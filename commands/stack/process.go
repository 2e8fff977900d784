package stack

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/process"
)

var processContext = &cmd.Command{
	Name: ".process", Group: cmd.GroupProcess,
	Summary: "choose the process that user-mode addresses belong to",
	Args: []cmd.Arg{
		{Name: "user", Kind: cmd.KindSwitch, Switch: "/p", Optional: true, Doc: "accepted: addresses are translated by the process's page tables anyway"},
		{Name: "symbols", Kind: cmd.KindSwitch, Switch: "/r", Optional: true, Doc: "accepted: symbols of user mode are not loaded"},
		{Name: "invasive", Kind: cmd.KindSwitch, Switch: "/i", Optional: true, Doc: "of live targets only: refused"},
		{Name: "Process", Kind: cmd.KindAddr, Optional: true, Doc: "process object; none shows the implicit one; 0 goes back to the processor's"},
	},
	Needs: cmd.NeedThreads,
	Help: `Makes a process the implicit one: addresses of user mode are read through its page
tables, and @$proc is its address. The implicit thread and its registers stay. /P
is the same as /p. A kernel dump holds hardly any pages of user mode, and a small
one no page tables at all.`,
	Example: ".process\n.process fffffa800cd6a5f0\n.process 0",
	SeeAlso: []string{".thread", ".context", "!process"},
	Run:     runProcessContext,
}

func runProcessContext(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	if in.Has("invasive") {
		return errors.New(".process /i: only a live target can be made to run a process")
	}
	at := in.Addr("Process")
	switch {
	case !in.Has("Process"):
	case at == 0:
		s.Scope.Process, s.Scope.Space = 0, nil
	default:
		if err := enterProcess(ctx, s, at); err != nil {
			return err
		}
	}
	at, err := s.Process()
	if err != nil {
		return err
	}
	text := fmt.Sprintf("Implicit process is now %s\n", report.Addr(at).Tick())
	return out.Emit(change(s, in.Has("Process") && s.Scope.Process == 0, text))
}

func enterProcess(ctx context.Context, s *cmd.Session, at mem.VA) error {
	if _, err := process.At(s.Kernel, at); err != nil {
		if at < 0x100000 { // maybe an id was meant
			for p, err := range process.Find(ctx, s.Kernel, uint64(at), "") {
				if err == nil {
					return fmt.Errorf("%s is not a process object: the process with the id %x is at %s", at, uint64(at), p.Address)
				}
			}
		}
		return refuse(ctx, s, at, "a process object")
	}
	space, err := spaceOf(s, at)
	if err != nil {
		return err
	}
	s.Scope.Process, s.Scope.Space = at, space
	return nil
}

// spaceOf gives the address space of a process. One whose page tables are not in
// the dump would make the kernel unreadable too.
func spaceOf(s *cmd.Session, at mem.VA) (*mem.Space, error) {
	space, err := process.Space(s.Kernel, at)
	if err == nil && space.Paged() {
		err = rootReadable(s, space.Root())
	}
	if err != nil {
		return nil, fmt.Errorf("page tables of process %s: %w", at, err)
	}
	return space, nil
}

// rootReadable tells why a top page table can't be used.
func rootReadable(s *cmd.Session, root mem.PA) error {
	var b [mem.PageSize]byte
	_, err := s.Kernel.Space.Physical().ReadPhysical(b[:], root&^(mem.PageSize-1))
	return err
}

var userContext = &cmd.Command{
	Name: ".context", Group: cmd.GroupProcess,
	Summary: "choose the page tables that user-mode addresses are read through",
	Args: []cmd.Arg{{
		Name: "PageDirectoryBase", Kind: cmd.KindAddr, Optional: true,
		Doc: "physical address, the DirBase of !process; none shows the one in use, 0 goes back",
	}},
	Needs: cmd.NeedTarget,
	Help: `Reads addresses of user mode through the page tables at a physical address, which
!process shows as DirBase. .process does the same by the address of a process.`,
	Example: ".context",
	SeeAlso: []string{".process", "!process"},
	Run:     runUserContext,
}

func runUserContext(_ context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	space := s.Space()
	if !space.Paged() {
		return errors.New(".context: this dump has no page tables")
	}
	text := ""
	switch root := mem.PA(in.Addr("PageDirectoryBase")); {
	case !in.Has("PageDirectoryBase"):
		text = fmt.Sprintf("User-mode page directory base is %x\n", uint64(space.Root()))
	case root == 0:
		s.Scope.Space, s.Scope.Process = nil, 0
	default:
		if err := rootReadable(s, root); err != nil {
			return fmt.Errorf(".context: page tables at %#x: %w", uint64(root), err)
		}
		s.Scope.Space, s.Scope.Process = s.Kernel.Space.WithRoot(root), 0
	}
	return out.Emit(change(s, in.Has("PageDirectoryBase") && s.Scope.Space == nil, text))
}
