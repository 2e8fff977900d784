package symbol

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types"
)

var lm = &cmd.Command{
	Name: "lm", Prefix: true, Group: cmd.GroupSymbols,
	Summary: "list loaded modules",
	Help: `Lists the images that were loaded in the kernel, by address, with the state of
their symbols, and below them those that had been unloaded. Options stand in any
order, together or apart; lmvm nt is lm v m nt.

  m PATTERN   modules whose name matches (* and ?); M PATTERN matches the path
  a ADDRESS   the module that holds an address
  v           verbose: path, time stamp, checksum, size, version resource, PDB
  o, l        loaded modules only; only those with symbols loaded
  e           only those whose symbols were looked for and not found
  c           checksums instead of symbols
  k, u        kernel modules (all that a kernel dump has); user modules (none)
  n, i        image names instead of symbols
  f, p        full paths instead of symbols
  t           time stamps
  1m          names only, one a line
  sm          sorted by name

Symbols are loaded when they are first needed: until then they are (deferred).
(isf symbols) come from a table that matches the image's GUID and age, (export
symbols) from the image's own export table. Where the page with an image's
header is not in the dump its time stamp and PDB are not known; the image is
listed all the same. Since Windows 10 most time stamps are hashes, no times. The
version resource is pageable: where its pages are not in the dump nor in a file
of the image path (-i), a line says so.`,
	Example: "lm\nlmvm nt\nlm m n*",
	SeeAlso: []string{"vertarget"},
	Args: []cmd.Arg{{
		Name: "options", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteModule,
		Doc: "letters of options; m, M and a take the next word",
	}},
	Needs: cmd.NeedTarget,
	Run:   runLm,
}

func runLm(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	opt, err := parseOptions(ctx, in.Raw, s.Eval)
	if err != nil {
		return cmd.Misuse(err)
	}
	if !opt.namesOnly {
		if s.Out.Printer.Era == report.Era26100 && (opt.verbose || opt.filtered()) {
			if err := out.Emit(report.Text("Browse full module list\n")); err != nil {
				return err
			}
		}
		if err := out.Emit(report.Text("start             end                 module name\n")); err != nil {
			return err
		}
	}
	if !opt.user {
		if err := emitModules(ctx, s, opt, out); err != nil {
			return err
		}
		if err := emitUnloaded(ctx, s, opt, out); err != nil {
			return err
		}
	}
	if err := s.Kernel.Modules.Err; err != nil {
		return out.Emit(moduleGap{Text: err.Error()})
	}
	return nil
}

// emitModules lists the modules that the options choose.
func emitModules(ctx context.Context, s *cmd.Session, opt options, out report.Sink) error {
	mods := slices.Clone(s.Kernel.Modules.All)
	slices.SortStableFunc(mods, func(a, b *model.Module) int {
		if opt.byName {
			return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		}
		return cmp.Compare(a.Base, b.Base)
	})
	for _, m := range mods {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !opt.match(m.Name, m.Path) || opt.at != nil && !m.Contains(*opt.at) {
			continue
		}
		r := moduleOf(m)
		r.opt, r.zone = opt, s.Location
		if opt.verbose {
			r.describe(ctx, s, m)
		}
		if loaded, asked := m.LoadedSymbols(); opt.withSymbols && loaded == nil || opt.problems && !problem(loaded, asked) {
			continue
		}
		if err := out.Emit(r); err != nil {
			return err
		}
	}
	return nil
}

// problem reports whether a module's symbols were looked for and not found, so
// that at most its exports are known.
func problem(s types.Symbols, asked bool) bool {
	return asked && (s == nil || s.Describe() == "export")
}

// emitUnloaded lists the images that were unloaded before the dump was made.
func emitUnloaded(ctx context.Context, s *cmd.Session, opt options, out report.Sink) error {
	if opt.loadedOnly || opt.withSymbols || opt.problems || opt.namesOnly {
		return nil
	}
	first := true
	for u, err := range unloaded(ctx, s.Kernel) {
		if err != nil {
			return out.Emit(moduleGap{Text: err.Error()})
		}
		if !opt.match(u.Name, u.Name) || opt.at != nil && (*opt.at < u.Start || *opt.at >= u.End) {
			continue
		}
		if first {
			if err := out.Emit(report.Text("\nUnloaded modules:\n")); err != nil {
				return err
			}
			first = false
		}
		if err := out.Emit(unloadedRecord{u.Name, report.Addr(u.Start), report.Addr(u.End)}); err != nil {
			return err
		}
	}
	return nil
}
