package repl

import (
	"context"
	"fmt"

	"gokd/dumpfmt"
	"gokd/model"
	"gokd/model/types/sympath"
	"gokd/repl/source"
)

// Target is an opened dump with the kernel in it.
type Target struct {
	Dump   *dumpfmt.Dump
	Kernel *model.Kernel
	Name   string // as given, or the scenario's

	symbols *sympath.Path // the symbol path; may be empty
	images  *sympath.Images
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
	src := source.Of(o.shown, o.dump)
	t.symbols = sympath.New(paths.Symbols)
	src.Symbols = t.symbols
	if o.symbols != nil {
		src.Symbols = chain{t.symbols, o.symbols}
	}
	src.Warnings = append(src.Warnings, notes("symbol path", t.symbols.Notes())...)
	t.images = sympath.NewImages(paths.Images)
	src.Images = t.images
	src.Warnings = append(src.Warnings, notes("image path", t.images.Notes())...)
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
