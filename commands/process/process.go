// Package process is the group of commands about processes.
package process

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/mem"
	"gokd/model/process"
)

// Commands lists the group.
func Commands() []*cmd.Command { return []*cmd.Command{processCommand} }

var processCommand = &cmd.Command{
	Name: "!process", Aliases: []string{"!kdexts.process"}, Group: cmd.GroupProcess,
	Summary: "list processes, or show one, with its threads",
	Args: []cmd.Arg{
		{Name: "Process", Kind: cmd.KindAddr, Optional: true, Doc: "0: all; process object or process id; -1 or none: the current process"},
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "0 the process alone, 2 threads with their waits, 4 threads (with 2: and their stacks), 8 no arguments; default f for a process that is named, else 3"},
		{Name: "ImageName", Kind: cmd.KindWord, Optional: true, Doc: "only processes of this image, after Process 0"},
	},
	Needs: cmd.NeedKernel,
	Help: `Lists what the system's list of active processes holds. Processes that have
ended are not on it. The image name is the 15 characters that the kernel keeps.
Of the flags, those about threads are shown; the statistics of flag 1 are not.`,
	Example: "!process 0 0",
	SeeAlso: []string{"!thread"},
	Run:     runProcess,
}

// maxPID tells a process id from an address: ids are small.
const maxPID = 1 << 31

func runProcess(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	which := in.Addr("Process")
	all := in.Has("Process") && which == 0
	// kd's own defaults: much for a process that is named, else little.
	flags := in.Uint("Flags", 0x3)
	if !in.Has("Flags") && which != 0 && which != ^mem.VA(0) {
		flags = 0xf
	}
	switch {
	case all:
		return list(ctx, s, in.Text("ImageName"), flags, out)
	case in.Has("ImageName"):
		return fmt.Errorf("!process: an image name needs Process 0")
	case which != 0 && which < maxPID:
		if err := out.Emit(report.Textf("Searching for Process with Cid == %x\n", uint64(which))); err != nil {
			return err
		}
		var unread error
		for p, err := range process.Find(ctx, s.Kernel, uint64(which), "") {
			if err == nil {
				return one(ctx, s, p, flags, out)
			}
			unread = err
		}
		if unread != nil {
			return fmt.Errorf("no process with the id %x was found, but not all could be read: %w", uint64(which), unread)
		}
		return fmt.Errorf("no process has the id %x", uint64(which))
	case which == 0 || which == ^mem.VA(0):
		at, err := current(s)
		if err != nil {
			return err
		}
		which = at
	}
	p, err := process.At(s.Kernel, which)
	if err != nil {
		return err
	}
	return one(ctx, s, p, flags, out)
}

func current(s *cmd.Session) (mem.VA, error) {
	if p := s.Processor(); p != nil && p.CurrentThread != 0 {
		return s.Kernel.Object("_KTHREAD", p.CurrentThread).Field("ApcState.Process").Pointer()
	}
	return 0, fmt.Errorf("the current process of processor %d is not in this dump", s.CPU)
}

// Summary ends a list of processes.
type Summary struct {
	Processes int    `json:"processes"`
	Unnamed   int    `json:"unnamed,omitempty"` // left out: their image names can't be read
	Broken    string `json:"broken,omitempty"`

	image   string // the only image wanted
	partial int    // of these, processes of which fields are missing
}

// Type names the record.
func (*Summary) Type() string { return "process_summary" }

// SkippedItems counts the processes left out, and a broken list as one.
func (r *Summary) SkippedItems() int {
	if r.Broken != "" {
		return r.Unnamed + 1
	}
	return r.Unnamed
}

// WriteText says where the list broke, and that no process was found, which kd
// would not.
func (r *Summary) WriteText(p *report.Printer) {
	if r.Unnamed > 0 {
		p.Own("The image names of %d processes could not be read.\n", r.Unnamed)
	} else if r.Processes == 0 && r.image != "" {
		p.Own("No process has the image name %s; the kernel keeps 15 characters of it.\n", r.image)
	}
	if r.partial > 0 {
		p.Own("%d of these %d processes could be read only in part (????).\n", r.partial, r.Processes)
	}
	if r.Broken != "" {
		p.Own("%s\n", r.Broken)
	}
}

func list(ctx context.Context, s *cmd.Session, image string, flags uint64, out report.Sink) error {
	if image == "" {
		if err := out.Emit(report.Text("**** NT ACTIVE PROCESS DUMP ****\n")); err != nil {
			return err
		}
	}
	sum := Summary{image: image}
	for p, err := range process.All(ctx, s.Kernel) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			sum.Broken = err.Error()
			continue
		}
		if image != "" && p.Gaps["image"] != nil {
			sum.Unnamed++
			continue
		}
		if image != "" && !strings.EqualFold(p.Image, image) {
			continue
		}
		sum.Processes++
		if len(p.Gaps) > 0 {
			sum.partial++
		}
		if err := one(ctx, s, p, flags, out); err != nil {
			return err
		}
	}
	if sum.Processes == 0 && sum.Broken != "" {
		return fmt.Errorf("%s", notHere(s, sum.Broken))
	}
	return out.Emit(&sum)
}

// notHere says what a triage dump lacks.
func notHere(s *cmd.Session, why string) string {
	if s.Kernel.Triage() {
		return "the list of processes is not in this dump: " + why
	}
	return why
}

func one(ctx context.Context, s *cmd.Session, p process.Process, flags uint64, out report.Sink) error {
	if err := out.Emit(show.NewProcess(s.Kernel, p)); err != nil || flags&threadFlags == 0 {
		return err
	}
	return showThreads(ctx, s, p, flags, out)
}
