// Package thread is the group of commands about threads and stacks.
package thread

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
	"gokd/model/process"
	"gokd/model/thread"
)

// Commands lists the group.
func Commands() []*cmd.Command { return []*cmd.Command{threadCommand} }

var threadCommand = &cmd.Command{
	Name: "!thread", Aliases: []string{"!kdexts.thread"}, Group: cmd.GroupThread,
	Summary: "show a thread: state, waits, requests, times and stack",
	Args: []cmd.Arg{
		{Name: "process", Kind: cmd.KindSwitch, Switch: "-p", Optional: true, Doc: "also show the owning process"},
		{Name: "id", Kind: cmd.KindSwitch, Switch: "-t", Optional: true, Doc: "Address is a thread id"},
		{Name: "Address", Kind: cmd.KindAddr, Optional: true, Doc: "thread object, or any address in a kernel stack; -1 or none: the current thread"},
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "2 wait objects, 4 fields and stack (with 2), 8 no arguments, 10 in the process's context; default 6"},
	},
	Needs: cmd.NeedThreads,
	Help: `Shows the thread at Address. An address that is no thread object is taken as a
value on a kernel stack: the thread whose stack holds it is shown. Any value
will do, unaligned ones and those that ExSetResourceOwnerPointer stores (low
bits set) too, and stacks that the thread left for a larger one are searched.

Ticks are counted from the start of the wait to the moment of the dump. The
stack is unwound by the images' own unwind data; where the dump lacks it, the
stack is scanned for return addresses, and those frames are marked. Frames of
user mode are not walked.`,
	Example: "!thread fffff88007fab7f3 e",
	SeeAlso: []string{"!locks", "!process"},
	Run:     runThread,
}

func runThread(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	o := show.Options{Flags: in.Uint("Flags", show.FlagDefault)}
	at, err := pick(ctx, s, in)
	if err != nil {
		return err
	}
	if !thread.IsThread(s.Kernel, at) {
		found, ok, err := stackOwner(ctx, s, at)
		if err != nil {
			return err
		}
		if !ok {
			if err := out.Emit(report.Textf("%s is not a thread object, interpreting as stack value...\n", at)); err != nil {
				return err
			}
			return fmt.Errorf("TYPE mismatch for thread object at %s", at)
		}
		o.InterpretedFrom, at = at, found
	}
	o.Source = show.Sources(ctx, s)
	r, err := show.ThreadAt(ctx, s.Kernel, at, o)
	if err != nil {
		return err
	}
	if in.Has("process") && r.Process != nil {
		if p, err := process.At(s.Kernel, mem.VA(*r.Process)); err == nil {
			if err := out.Emit(show.NewProcess(s.Kernel, p)); err != nil {
				return err
			}
		}
	}
	return out.Emit(r)
}

// pick gives the address that the arguments mean.
func pick(ctx context.Context, s *cmd.Session, in cmd.Args) (mem.VA, error) {
	at := in.Addr("Address")
	if in.Has("id") {
		if !in.Has("Address") {
			return 0, fmt.Errorf("!thread -t: the thread id is missing")
		}
		return byID(ctx, s, uint64(at))
	}
	if !in.Has("Address") || at == 0 || at == ^mem.VA(0) {
		return current(s)
	}
	return at, nil
}

func current(s *cmd.Session) (mem.VA, error) {
	p := s.Processor()
	if p == nil || p.CurrentThread == 0 {
		return 0, fmt.Errorf("the current thread of processor %d is not in this dump", s.CPU)
	}
	// A triage dump names the thread of each processor and holds one.
	if _, err := s.Kernel.Object("_ETHREAD", p.CurrentThread).Field("Tcb.Header.Type").Uint(); errors.Is(err, mem.ErrNotCaptured) {
		return 0, fmt.Errorf("the current thread of processor %d, %s, is not in this dump", s.CPU, p.CurrentThread)
	}
	return p.CurrentThread, nil
}

func byID(ctx context.Context, s *cmd.Session, id uint64) (mem.VA, error) {
	var unread error
	for at, err := range thread.Addresses(ctx, s.Kernel) {
		tid := ^id
		if err == nil {
			tid, err = s.Kernel.Object("_ETHREAD", at).Field("Cid.UniqueThread").Uint()
		}
		if err != nil {
			unread = err
		} else if tid == id {
			return at, nil
		}
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if unread != nil {
		return 0, fmt.Errorf("no thread with the id %x was found, but not all could be read: %w", id, unread)
	}
	return 0, fmt.Errorf("no thread has the id %x", id)
}

// stackOwner finds the thread in whose kernel stack a value lies.
func stackOwner(ctx context.Context, s *cmd.Session, at mem.VA) (mem.VA, bool, error) {
	x, err := show.StackIndex(ctx, s)
	if err != nil {
		return 0, false, err
	}
	t, _, _, ok := x.Find(uint64(at))
	return t, ok, nil
}
