// Package source says what a dump's container holds in the words of the model.
// Neither side knows the other; this is the one place where both meet.
package source

import (
	"gokd/dumpfmt"
	"gokd/model"
)

// majorChecked is DUMP_HEADER64.MajorVersion of a checked build; a free one
// has 0xf.
const majorChecked = 0xc

// Of gives what model.Load needs to know of a dump. Symbols and images are not
// in a dump: they are the caller's to add. The dump must stay open as long as
// the kernel is used.
func Of(name string, d *dumpfmt.Dump) model.Source {
	s := model.Source{
		Name: name, Machine: d.Machine, Build: d.Build, Checked: d.Major == majorChecked,
		Physical: d.Physical, Virtual: d.Virtual, DTB: d.DTB,
		DebugData: d.DebugData, LoadedModules: d.LoadedModules, ActiveProcs: d.ActiveProcs,
		Processors: d.Processors,
		Crash: model.Crash{
			Code: d.BugCheck, Args: d.BugCheckArgs, Context: d.Context, Exception: d.Exception,
			SystemTime: d.SystemTime, UpTime: d.UpTime,
			ProductType: d.ProductType, SuiteMask: d.SuiteMask,
			Live: d.Live, DumpType: d.Type, Format: d.Format, Unverified: d.Unverified,
		},
	}
	s.Warnings = append(s.Warnings, d.Warnings...)
	for _, f := range d.Header() {
		s.Header = append(s.Header, model.HeaderField(f))
	}
	for _, b := range d.Secondary {
		s.Secondary = append(s.Secondary, model.SecondaryData{Tag: b.Tag, Size: b.Size, Read: b.Data})
	}
	if d.Triage != nil {
		s.Crash.Triage = triage(d.Triage)
	}
	return s
}

func triage(t *dumpfmt.Triage) *model.Triage {
	m := &model.Triage{
		Prcb: t.Prcb, Process: t.Process, Thread: t.Thread,
		StackTop: t.StackTop, StackSize: uint64(len(t.Stack)), ServicePack: t.ServicePack,
	}
	if t.Memory != nil {
		m.Place = t.Memory.Add
	}
	for _, d := range t.Drivers {
		m.Drivers = append(m.Drivers, model.TriageDriver{
			Path: d.Name, Base: d.Base, Entry: d.Entry,
			Size: d.Size, CheckSum: d.CheckSum, Timestamp: d.Timestamp,
		})
	}
	for _, u := range t.Unloaded {
		m.Unloaded = append(m.Unloaded, model.TriageUnloaded{Name: u.Name, Start: u.Start, End: u.End})
	}
	return m
}
