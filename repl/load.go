package repl

import (
	"context"
	"fmt"

	"gokd/dumpfmt"
	"gokd/model"
	"gokd/model/types"
)

// Target is an opened dump with the kernel in it.
type Target struct {
	Dump   *dumpfmt.Dump
	Kernel *model.Kernel
	Name   string // as given, or the scenario's

	symbols *types.Path // the symbol path; nil where none was given
	images  *types.ImagePath
}

// Close releases the dump's file.
func (t *Target) Close() error { return t.Dump.Close() }

// Paths are where symbol tables and image files are looked for.
type Paths struct {
	Symbols string // kd's -y: folders, separated by semicolons
	Images  string // kd's -i
}

// load makes a target of an opened dump.
func load(ctx context.Context, o opened, paths Paths) (*Target, error) {
	t := &Target{Dump: o.dump, Name: o.shown}
	src := source(o.shown, o.dump)
	src.Symbols = o.symbols
	if paths.Symbols != "" {
		t.symbols = types.NewPath(paths.Symbols)
		src.Symbols = t.symbols
		if o.symbols != nil {
			src.Symbols = chain{t.symbols, o.symbols}
		}
		src.Warnings = append(src.Warnings, notes("symbol path", t.symbols.Notes())...)
	}
	if paths.Images != "" {
		t.images = types.NewImagePath(paths.Images)
		src.Images = t.images
		src.Warnings = append(src.Warnings, notes("image path", t.images.Notes())...)
	}
	k, err := model.Load(ctx, src)
	if err != nil {
		return nil, err
	}
	t.Kernel = k
	return t, nil
}

func notes(what string, notes []string) []string {
	out := make([]string, len(notes))
	for i, n := range notes {
		out[i] = fmt.Sprintf("%s: %s", what, n)
	}
	return out
}

// majorChecked is DUMP_HEADER64.MajorVersion of a checked build; a free one
// has 0xf.
const majorChecked = 0xc

// source says what a container holds in the model's words. Neither package
// knows the other; this is the one place where both meet.
func source(name string, d *dumpfmt.Dump) model.Source {
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
