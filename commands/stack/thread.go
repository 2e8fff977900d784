package stack

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/thread"
	"gokd/model/unwind"
)

var threadContext = &cmd.Command{
	Name: ".thread", Group: cmd.GroupThread,
	Summary: "choose the thread that registers and stacks are of",
	Args: []cmd.Arg{
		{Name: "user", Kind: cmd.KindSwitch, Switch: "/p", Optional: true, Doc: "also choose the thread's process, as .process does"},
		{Name: "symbols", Kind: cmd.KindSwitch, Switch: "/r", Optional: true, Doc: "accepted: symbols of user mode are not loaded"},
		{Name: "wow", Kind: cmd.KindSwitch, Switch: "/w", Optional: true, Doc: "accepted: 32-bit contexts are not read"},
		{Name: "Thread", Kind: cmd.KindAddr, Optional: true, Doc: "thread object; none or 0: back to the processor's current thread"},
	},
	Needs: cmd.NeedThreads,
	Help: `Makes a thread the implicit one: r and k show its registers and stack from then
on, and @$thread is its address. /P is the same as /p: pages in transition are
always found. Of a thread that does not run, a dump holds the registers that a
context switch keeps: rip, rsp and rbp; the others show as zeros.`,
	Example: ".thread fffffa80169538a0\nk 4\n.thread",
	SeeAlso: []string{".process", ".cxr", "k", "r", "!thread"},
	Run:     runThreadContext,
}

func runThreadContext(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at := in.Addr("Thread")
	if at == 0 {
		return resetThread(s, in.Has("user"), out)
	}
	k := s.Kernel
	if !thread.IsThread(k, at) {
		return refuse(ctx, s, at, "a thread object")
	}
	text := fmt.Sprintf("Implicit thread is now %s\n", report.Addr(at).Tick())
	scope := cmd.Scope{Process: s.Scope.Process, Space: s.Scope.Space, Thread: at, Set: setThread}
	if in.Has("user") {
		owner, err := k.Object("_KTHREAD", at).Field("ApcState.Process").Pointer()
		if err != nil {
			return fmt.Errorf("process of thread %s: %w", at, err)
		}
		if scope.Space, err = spaceOf(s, owner); err != nil {
			return err
		}
		scope.Process = owner
		text += fmt.Sprintf("Implicit process is now %s\n", report.Addr(owner).Tick())
	}
	st, err := unwind.Thread(ctx, k, at, unwind.Options{MaxFrames: 1, NoArgs: true})
	if err == nil && len(st.Frames) > 0 {
		f := &st.Frames[0]
		scope.Registers, scope.Known, scope.Called = &f.Regs, f.Known, f.How == unwind.HowSwitch
		if f.How == unwind.HowContext {
			scope.Raw = contextOf(s, at)
		}
	}
	scope.Err = err
	s.Scope = scope
	if err := out.Emit(change(s, false, text)); err != nil {
		return err
	}
	if err != nil {
		return out.Emit(report.Notef("(its registers are not known: %v)", err))
	}
	return nil
}

// contextOf gives the CONTEXT of the processor that runs a thread.
func contextOf(s *cmd.Session, at mem.VA) []byte {
	for i := range s.Kernel.Processors {
		if s.Kernel.Processors[i].CurrentThread == at {
			one := &cmd.Session{Kernel: s.Kernel, CPU: i}
			return processorContext(one)
		}
	}
	return nil
}

// resetThread goes back to the processor's thread; with /p the address space of
// user mode too.
func resetThread(s *cmd.Session, user bool, out report.Sink) error {
	s.ResetRegisters()
	if user {
		s.Scope = cmd.Scope{}
	}
	at, err := s.Thread()
	if err != nil {
		return err
	}
	return out.Emit(change(s, true, fmt.Sprintf("Implicit thread is now %s\n", report.Addr(at).Tick())))
}
