package show

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/model/thread"
	"gokd/model/types"
)

const matchExact = types.MatchExact

// unknown is what stands for a value that the dump does not hold.
const unknown = "????????????????"

func hex16(a *report.Addr) string {
	if a == nil {
		return unknown
	}
	return a.String()
}

func text[T any](v *T, format string) string {
	if v == nil {
		return "????"
	}
	return fmt.Sprintf(format, *v)
}

// WriteText writes the thread as !thread does.
func (r *Thread) WriteText(p *report.Printer) {
	in := strings.Repeat(" ", r.indent)
	if r.InterpretedFrom != nil {
		p.Printf("%s%s is not a thread object, interpreting as stack value...\n", in, r.InterpretedFrom.String())
	}
	cid := "????.????"
	if r.CID != nil {
		cid = fmt.Sprintf("%04x.%04x", r.CID.PID, r.CID.TID)
	}
	p.Styled(report.Strong, "%sTHREAD %s  Cid %s  Teb: %s Win32Thread: %s %s\n",
		in, r.Address.String(), cid, hex16(r.Teb), hex16(r.Win32Thread), r.stateText())
	if r.flags&FlagWait == 0 {
		return
	}
	r.writeWaits(p, in)
	if r.flags&FlagStack == 0 {
		return
	}
	r.writeOwner(p, in)
	r.writeTimes(p, in)
	r.writePlace(p, in)
	r.writeStack(p, in)
}

// stateText is the end of the header line.
func (r *Thread) stateText() string {
	if r.State == nil {
		return "????"
	}
	switch r.t.State {
	case thread.Running:
		return "RUNNING on processor " + text(r.Processor, "%d")
	case thread.Waiting, thread.GateWait:
		word := "WAIT"
		if r.t.State == thread.GateWait {
			word = "GATEWAIT"
		}
		if r.brief {
			return word
		}
		alert := "Non-Alertable"
		if r.t.Alertable {
			alert = "Alertable"
		}
		return fmt.Sprintf("%s: (%s) %s %s", word, text(r.WaitReason, "%s"), text(r.WaitMode, "%s"), alert)
	}
	return strings.ToUpper(*r.State)
}

func (r *Thread) writeWaits(p *report.Printer, in string) {
	if r.t.SuspendCount != 0 {
		p.Printf("%sSuspendCount %d\n", in, r.t.SuspendCount)
	}
	if r.t.FreezeCount != 0 {
		p.Printf("%sFreezeCount %d\n", in, r.t.FreezeCount)
	}
	for i, w := range r.WaitObjects {
		p.Printf("%s    %s  %s\n", in, w.Address.String(), waitText(w, r.t.WaitObjects[i]))
	}
}

func waitText(w WaitObject, o thread.WaitObject) string {
	switch w.Type {
	case "Semaphore":
		return fmt.Sprintf("Semaphore Limit %#x", o.Limit)
	case "Mutant":
		return fmt.Sprintf("Mutant - owning thread %016x", uint64(o.Owner))
	case "Process", "Queue":
		return w.Type + "Object"
	}
	return w.Type
}

var impersonationLevels = [...]string{"Anonymous", "Identification", "Impersonation", "Delegation"}

func (r *Thread) writeOwner(p *report.Printer, in string) {
	if len(r.IRPs) > 0 {
		p.Printf("%sIRP List:\n", in)
		for _, i := range r.IRPs {
			p.Printf("%s    %s: (%04x,%04x) Flags: %08x  Mdl: %08x\n", in, i.Address.String(), i.Type, i.Size, i.Flags, uint64(i.MDL))
		}
	}
	switch {
	case r.t.Impersonating:
		p.Printf("%sImpersonation token:  %s (Level %s)\n", in, hex16(r.Token), impersonationLevels[r.t.ImpersonationLevel&3])
	case r.t.Gaps["impersonation_token"] == nil:
		p.Printf("%sNot impersonating\n", in)
	}
	p.Printf("%sDeviceMap                 %s\n", in, hex16(r.DeviceMap))
	p.Printf("%sOwning Process            %s       Image:         %s\n", in, hex16(r.Process), image(r.Image))
	if r.Attached == nil {
		p.Printf("%sAttached Process          N/A            Image:         N/A\n", in)
		return
	}
	p.Printf("%sAttached Process          %s       Image:         %s\n", in, r.Attached.String(), r.t.AttachedImage)
}

func image(s *string) string {
	if s == nil {
		return "????"
	}
	return *s
}

func (r *Thread) writeTimes(p *report.Printer, in string) {
	ago := ""
	if r.WaitTicks != nil && *r.WaitTicks != 0 && r.k.Time.Increment != 0 {
		ago = " (" + Elapsed(r.k.Time.Milliseconds(uint64(*r.WaitTicks))) + ")"
	}
	p.Printf("%sWait Start TickCount      %-15sTicks: %s%s\n", in, text(r.WaitStart, "%d"), text(r.WaitTicks, "%d"), ago)
	large := ""
	if r.t.LargeStack {
		large = "    LargeStack"
	}
	switches := text(r.Switches, "%d")
	if p.Era != report.Era62 { // training material of that time shows no ideal processor
		switches = fmt.Sprintf("%-15sIdealProcessor: %s", switches, text(known(r.t.Gaps, "ideal_processor", r.t.IdealProcessor), "%d"))
	}
	p.Printf("%sContext Switch Count      %s             %s\n", in, switches, large)
	p.Printf("%sUserTime                  %s\n", in, clock(r.UserTime))
	p.Printf("%sKernelTime                %s\n", in, clock(r.KernelTime))
}

// Elapsed spells milliseconds as kd does after a tick count: d:hh:mm:ss.mmm.
func Elapsed(ms uint64) string {
	return fmt.Sprintf("%d:%02d:%02d:%02d.%03d", ms/86400000, ms/3600000%24, ms/60000%60, ms/1000%60, ms%1000)
}

// Clock spells milliseconds as hh:mm:ss.mmm.
func Clock(ms uint64) string {
	return fmt.Sprintf("%02d:%02d:%02d.%03d", ms/3600000, ms/60000%60, ms/1000%60, ms%1000)
}

func clock(ms *uint64) string {
	if ms == nil {
		return "??:??:??.???"
	}
	return Clock(*ms)
}

func (r *Thread) writePlace(p *report.Printer, in string) {
	what, at, name := "Win32 Start Address", r.Win32StartAddress, r.start
	if at != nil && *at == 0 && r.StartAddress != nil {
		what, at, name = "Start Address", r.StartAddress, ""
	}
	switch {
	case at == nil:
		p.Printf("%s%s %s\n", in, what, unknown)
	case name == "":
		p.Printf("%s%s 0x%s\n", in, what, at.String())
	default:
		p.Printf("%s%s %s (0x%s)\n", in, what, name, at.String())
	}
	call := hex16(r.Stack.Call)
	if p.Era == report.Era62 && r.Stack.Call != nil {
		call = fmt.Sprintf("%x", uint64(*r.Stack.Call))
	}
	p.Printf("%sStack Init %s Current %s\n", in, hex16(r.Stack.Init), hex16(r.Stack.Current))
	p.Printf("%sBase %s Limit %s Call %s\n", in, hex16(r.Stack.Base), hex16(r.Stack.Limit), call)
	r.writePriority(p, in)
}

func (r *Thread) writePriority(p *report.Printer, in string) {
	pri, base := text(r.Priority, "%d"), text(r.BasePriority, "%d")
	io, page := text(r.IoPriority, "%d"), text(r.PagePriority, "%d")
	switch p.Era {
	case report.Era62:
		p.Printf("%sPriority %s BasePriority %s UnusualBoost %s ForegroundBoost %s IoPriority %s PagePriority %s\n",
			in, pri, base, text(r.UnusualBoost, "%d"), text(r.ForegroundBoost, "%d"), io, page)
	case report.Era26100:
		p.Printf("%sPriority %s  BasePriority %s  IoPriority %s  PagePriority %s\n", in, pri, base, io, page)
	default:
		p.Printf("%sPriority %s BasePriority %s PriorityDecrement %s IoPriority %s PagePriority %s\n",
			in, pri, base, text(known(r.t.Gaps, "priority_decrement", r.t.PriorityDecrement), "%d"), io, page)
	}
}

func (r *Thread) writeStack(p *report.Printer, in string) {
	switch {
	case r.notRes:
		p.Printf("%sKernel stack not resident.\n", in)
		r.writeMissing(p, in)
		p.Printf("\n")
		return
	case len(r.Frames) > 0:
		WriteFrames(p, in, r.Frames, r.flags&FlagNoArgs == 0)
	}
	if r.StackNote != "" {
		p.Own("%s(%s)\n", in, r.StackNote)
	}
	if r.StackError != "" {
		p.Own("%s(the stack ends here: %s)\n", in, r.StackError)
	}
	r.writeMissing(p, in)
	p.Printf("\n")
}

// writeMissing says why question marks stand where a value should: the fields,
// by reason.
func (r *Thread) writeMissing(p *report.Printer, in string) {
	fields := map[string][]string{}
	for _, f := range slices.Sorted(maps.Keys(r.Missing)) {
		if f != "frames" { // of which the line before tells
			why := r.Missing[f]
			fields[why] = append(fields[why], strings.ReplaceAll(strings.TrimSuffix(f, "_ms"), "_", " "))
		}
	}
	for _, why := range slices.Sorted(maps.Keys(fields)) {
		p.Own("%s(unknown: %s: %s)\n", in, strings.Join(fields[why], ", "), why)
	}
}
