package symload

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
)

var ld = &cmd.Command{
	Name: "ld", Group: cmd.GroupSymbols,
	Summary: "load the symbols of modules now",
	Help: `Loads the symbols of the modules whose name matches (wildcards), which otherwise
are loaded when they are needed; servers of the symbol path are asked. What is
loaded already stays; .reload /f looks anew.`,
	Example: "ld nt",
	SeeAlso: []string{".reload", "lm"},
	Args: []cmd.Arg{
		{Name: "file", Kind: cmd.KindSwitch, Switch: "/f", Optional: true, Doc: "match the names of image files"},
		{Name: "module", Kind: cmd.KindWord, Complete: cmd.CompleteModule, Doc: "name of a module, with wildcards"},
	},
	Needs: cmd.NeedTarget,
	Run:   runLd,
}

func runLd(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	match := cmd.NewWildcard(in.Text("module"), true)
	find := func() (mods []*model.Module) {
		for _, m := range s.Kernel.Modules.All {
			name := m.Name
			if in.Has("file") {
				name = m.Image
			}
			if match.Match(name) {
				mods = append(mods, m)
			}
		}
		return mods
	}
	mods := find()
	if len(mods) == 0 {
		return fmt.Errorf("no module matches %q; lm lists them", in.Text("module"))
	}
	came, err := fetchImages(ctx, s, mods)
	if err == nil && came {
		err = loadKernel(ctx, s)
		mods = find()
	}
	if err != nil {
		return err
	}
	var failed []error
	already := map[*model.Module]bool{}
	for _, m := range mods {
		if syms, asked := m.LoadedSymbols(); asked && syms != nil && !substitute(m) {
			already[m] = true
		}
	}
	err = load(ctx, s, mods, func(o outcome) error {
		switch {
		case !o.loaded():
			failed = append(failed, fmt.Errorf("symbols of %s: %w", o.module.Name, o.err))
		case already[o.module]:
			if err := out.Emit(report.Textf("Symbols already loaded for %s\n", o.module.Name)); err != nil {
				return err
			}
		default:
			if err := out.Emit(report.Textf("Symbols loaded for %s\n", o.module.Name)); err != nil {
				return err
			}
		}
		return out.Emit(recordOf(o))
	})
	return errors.Join(append(failed, err)...)
}
