package symload

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
	"gokd/model/types/sympath"
)

var reload = &cmd.Command{
	Name: ".reload", Group: cmd.GroupSymbols,
	Summary: "load modules and symbols anew",
	Help: `Finds the kernel, its modules and its types anew, after the symbol path changed
or files were put there: symbols and images that were missing are looked for
again. Other modules' symbols are loaded when they are needed. With a module, by
image name, whose letters may be wildcards, only its symbols are dropped.

  /f          load the symbols now, and fetch them and the images that the dump
              lacks from the servers of the paths, several at a time; servers are
              asked again for what they did not have lately
  /i          with a PDB whose GUID and age differ, where none matches; implies /f
  /o          fetch files anew that a store has already
  /u          unload: drop the symbols of the module, or of all
  /l          list the modules
  /n          kernel modules only; /user user modules only (gokd lists none)
  /v          tell address, size, checksum and time stamp of each module
  /w          the module's name has no wildcards
  /d, /s      all modules: the default here

A dot stands for a module. kd's MODULE=ADDRESS,SIZE adds a module of which the
dump knows nothing; gokd shows only the dump's own.`,
	Example: ".reload\n.reload /f nt\n.reload /u nt",
	SeeAlso: []string{".sympath", "lm", "ld", "!sym"},
	Args: []cmd.Arg{{
		Name: "options", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteModule, Doc: "/f, /i, /o, /u, /l, /n, /v, /w and a module",
	}},
	Needs: cmd.NeedTarget,
	Run:   runReload,
}

// request is what .reload was asked for.
type request struct {
	force, ignore, overwrite, unload, list, kernelOnly, userOnly, unloaded, verbose, literal bool

	module string // pattern; empty: all
}

// parseRequest reads the options, which begin with a slash or a dash.
func parseRequest(text string) (r request, err error) {
	words, err := cmd.Words(text)
	if err != nil {
		return r, err
	}
	flags := map[string]*bool{
		"f": &r.force, "i": &r.ignore, "o": &r.overwrite, "u": &r.unload, "l": &r.list, "n": &r.kernelOnly,
		"user": &r.userOnly, "unl": &r.unloaded, "v": &r.verbose, "w": &r.literal, "d": new(bool), "s": new(bool),
	}
	for _, w := range words {
		if w[:min(1, len(w))] == "/" || strings.HasPrefix(w, "-") {
			flag := flags[strings.ToLower(w[1:])]
			if flag == nil {
				return r, fmt.Errorf("unknown option %s", w)
			}
			*flag = true
			continue
		}
		if r.module != "" {
			return r, fmt.Errorf("one module at a time; %q follows %q", w, r.module)
		}
		r.module = w
	}
	if name, _, ok := strings.Cut(r.module, "="); ok {
		return r, fmt.Errorf("%s: modules can't be added: gokd shows only those that the dump knows", name)
	}
	r.force = r.force || r.ignore
	return r, nil
}

func runReload(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	r, err := parseRequest(in.Raw)
	if err != nil {
		return cmd.Misuse(err)
	}
	switch {
	case r.list:
		return listModules(ctx, s, out)
	case r.unload:
		return unload(s, r, out)
	case r.unloaded:
		return out.Emit(report.Note("Unloaded modules have no symbols here: what is left of them is their place and name; lm lists them."))
	}
	restore := r.options(s)
	defer restore()
	if r.module != "" {
		return reloadSome(ctx, s, r, out)
	}
	return reloadAll(ctx, s, r, out)
}

// options sets the symbol options that a request stands for, and gives what sets
// them back.
func (r request) options(s *cmd.Session) (restore func()) {
	if s.Symbols == nil {
		return func() {}
	}
	old := s.Symbols.Flags()
	flags := old
	if r.ignore {
		flags |= sympath.LoadAnything
	}
	if r.overwrite {
		flags |= sympath.Overwrite
	}
	s.Symbols.SetFlags(flags)
	return func() { s.Symbols.SetFlags(old) }
}

// listModules is lm.
func listModules(ctx context.Context, s *cmd.Session, out report.Sink) error {
	lm, _, ok := s.Commands.Find("lm")
	if !ok {
		return errors.New("lm is missing")
	}
	return lm.Run(ctx, s, cmd.Args{}, out)
}

// absentError says that no module has a name, in kd's words.
type absentError string

// Error gives kd's line.
func (e absentError) Error() string {
	return fmt.Sprintf("%q was not found in the image list.", string(e))
}

// chosen gives the modules that a name stands for: of the image, or kd's.
func chosen(s *cmd.Session, r request) ([]*model.Module, error) {
	match := func(name string) bool { return strings.EqualFold(name, r.module) }
	if !r.literal {
		match = cmd.NewWildcard(r.module, true).Match
	}
	var mods []*model.Module
	for _, m := range s.Kernel.Modules.All {
		if match(m.Image) || match(m.Name) || match(stem(m)) {
			mods = append(mods, m)
		}
	}
	if len(mods) == 0 {
		return nil, absentError(r.module)
	}
	return mods, nil
}

// unload drops the symbols of modules.
func unload(s *cmd.Session, r request, out report.Sink) error {
	mods := s.Kernel.Modules.All
	if r.module != "" {
		var err error
		if mods, err = chosen(s, r); err != nil {
			return err
		}
	}
	for _, m := range mods {
		forget(s, m)
		if r.module == "" {
			continue
		}
		if err := out.Emit(report.Textf("Unloaded %s\n", m.Image)); err != nil {
			return err
		}
	}
	if err := emitDeferred(mods, out); err != nil {
		return err
	}
	return out.Emit(report.Note("The modules stay in the list; their symbols are loaded again when they are needed."))
}

// forget has the symbols of a module looked for anew.
func forget(s *cmd.Session, m *model.Module) {
	m.ForgetSymbols()
	if s.Symbols == nil {
		return
	}
	id := m.ID()
	for _, name := range []string{id.Name, id.PDB} {
		if clean, err := types.CleanName(name); err == nil {
			s.Symbols.Forget(clean)
		}
	}
}

// ask lets servers be asked again for what they did not have.
func (r request) ask(s *cmd.Session, m *model.Module) {
	if !r.force || s.Symbols == nil {
		return
	}
	if m == nil {
		s.Symbols.ForgetMisses("")
		return
	}
	for _, name := range []string{m.ID().PDB, m.Image} {
		if clean, err := types.CleanName(name); err == nil {
			s.Symbols.ForgetMisses(clean)
		}
	}
}

// reloadSome drops the symbols of some modules and, with /f, loads them. The
// kernel's lead to everything else.
func reloadSome(ctx context.Context, s *cmd.Session, r request, out report.Sink) error {
	mods, err := chosen(s, r)
	if err != nil {
		return err
	}
	kernel := false
	for _, m := range mods {
		r.ask(s, m)
		forget(s, m)
		kernel = kernel || m.Base == s.Kernel.Base
	}
	if r.force {
		if s.Images != nil {
			s.Images.Forget()
		}
		came, err := fetchImages(ctx, s, mods)
		if err != nil {
			return err
		}
		kernel = kernel || came
	}
	if kernel {
		if mods, err = reloadKernel(ctx, s, mods); err != nil {
			return err
		}
	}
	if r.verbose {
		if err := verbose(mods, out); err != nil {
			return err
		}
	}
	if !r.force {
		return emitDeferred(mods, out)
	}
	return loadNow(ctx, s, mods, nil, out)
}

// loadKernel loads the kernel and its modules anew. The kernel's own symbols are
// always needed: kd does not defer them either.
func loadKernel(ctx context.Context, s *cmd.Session) error {
	old := s.Kernel
	if err := s.Reload(ctx); err != nil {
		return err
	}
	if nt, ok := s.Kernel.Modules.ByName("nt"); ok {
		_, _ = nt.Symbols(ctx) // lm tells what there is
	}
	if ctx.Err() != nil {
		s.Kernel = old // an interrupted load has found only a part
	}
	return ctx.Err()
}

// reloadKernel loads the kernel anew and gives its modules at the places of the
// old ones.
func reloadKernel(ctx context.Context, s *cmd.Session, mods []*model.Module) ([]*model.Module, error) {
	at := map[mem.VA]bool{}
	for _, m := range mods {
		at[m.Base] = true
	}
	if err := loadKernel(ctx, s); err != nil {
		return nil, err
	}
	mods = nil
	for _, m := range s.Kernel.Modules.All {
		if at[m.Base] {
			mods = append(mods, m)
		}
	}
	return mods, nil
}

// reloadAll loads the kernel and its modules anew.
func reloadAll(ctx context.Context, s *cmd.Session, r request, out report.Sink) error {
	if r.userOnly {
		return loadUser(s, out)
	}
	r.ask(s, nil)
	if s.Symbols != nil {
		s.Symbols.Forget("")
	}
	if s.Images != nil {
		s.Images.Forget()
	}
	if r.force {
		if _, err := fetchImages(ctx, s, s.Kernel.Modules.All); err != nil {
			return err
		}
	}
	changed(s)
	if err := loadKernel(ctx, s); err != nil {
		return err
	}
	if err := out.Emit(report.Text("Loading Kernel Symbols\n")); err != nil {
		return err
	}
	mods := s.Kernel.Modules.All
	d := &dots{out: out, line: firstLine}
	var err error
	switch {
	case r.force:
		err = loadNow(ctx, s, mods, d, out)
	default:
		for range mods {
			if err = d.dot(); err != nil {
				return err
			}
		}
		err = errors.Join(d.end(), emitDeferred(mods, out))
	}
	if err == nil && r.verbose {
		err = verbose(mods, out)
	}
	if err == nil && !r.kernelOnly {
		err = loadUser(s, out)
	}
	if err == nil {
		err = loadUnloaded(ctx, s, out)
	}
	if err == nil && s.Kernel.Modules.Err != nil {
		err = out.Emit(report.Notef("The list of modules ends early: %v", s.Kernel.Modules.Err))
	}
	return err
}

// loadNow loads symbols and tells what could not be loaded. d is nil where kd
// prints no dots.
func loadNow(ctx context.Context, s *cmd.Session, mods []*model.Module, d *dots, out report.Sink) error {
	var failed []outcome
	err := load(ctx, s, mods, func(o outcome) error {
		if d != nil {
			if err := d.dot(); err != nil {
				return err
			}
		}
		if !o.loaded() {
			failed = append(failed, o)
			if err := d.interrupt(out, failure(o)); err != nil {
				return err
			}
		}
		return out.Emit(recordOf(o))
	})
	if err == nil && d != nil {
		err = d.end()
	}
	if err == nil && len(failed) > 0 {
		err = out.Emit(&summary{failed})
	}
	return err
}
