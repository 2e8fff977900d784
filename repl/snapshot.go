package repl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gokd/dumpfmt"
	"gokd/dumpfmt/snapshot"
	"gokd/model/types"
)

// defaultScenario is the embedded one that gokd opens without a file.
const defaultScenario = "self-deadlock.yaml"

// maxScenario limits a scenario in bytes; a teacher's has a few hundred lines.
const maxScenario = 4 << 20

// isScenario tells a scenario from a dump by its name.
func isScenario(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return ext == ".yaml" || ext == ".yml"
}

// readScenario reads a scenario: a file, or an embedded one by its name, with
// its ending or without. An empty name is the default one.
func (p Program) readScenario(name string) (text []byte, shown string, err error) {
	if name == "" {
		name = defaultScenario
	} else if text, err := readLimited(os.DirFS(filepath.Dir(name)), filepath.Base(name)); err == nil {
		return text, name, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, name, err
	}
	embedded := name
	if !isScenario(embedded) {
		embedded += ".yaml"
	}
	if p.Scenarios == nil || !fs.ValidPath(embedded) {
		return nil, name, fs.ErrNotExist
	}
	text, err = readLimited(p.Scenarios, embedded)
	return text, "embedded " + embedded, err
}

func readLimited(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxScenario+1))
	if err == nil && len(b) > maxScenario {
		err = fmt.Errorf("a scenario of more than %d bytes", maxScenario)
	}
	return b, err
}

// openScenario builds a snapshot in memory and opens it as any other dump.
func (p Program) openScenario(name string) (opened, error) {
	text, shown, err := p.readScenario(name)
	if err != nil {
		return opened{}, err
	}
	im, err := snapshot.Build(text, snapshot.Options{})
	if err != nil {
		return opened{}, err
	}
	d, err := dumpfmt.Open(im, im.Size())
	return opened{d, shown, im.Resolver()}, err
}

// chain asks several resolvers in turn.
type chain []types.Resolver

// Resolve implements types.Resolver: the first answer counts, else the first
// error.
func (c chain) Resolve(ctx context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	var first error
	for _, r := range c {
		store, symbols, err := r.Resolve(ctx, id)
		if err == nil {
			return store, symbols, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}

// snapshots is "gokd snapshot build" and "gokd snapshot list".
func snapshots(_ context.Context, p Program, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "build":
			return p.snapshotBuild(args[1:])
		case "list":
			return p.snapshotList(args[1:])
		}
	}
	return fmt.Errorf("%w: want gokd snapshot build or gokd snapshot list", errUsage)
}

// snapshotList lists the embedded scenarios with the comment that begins each.
func (p Program) snapshotList(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%w: gokd snapshot list takes nothing", errUsage)
	}
	names, err := fs.Glob(p.Scenarios, "*.yaml")
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := readLimited(p.Scenarios, name)
		if err != nil {
			return err
		}
		first, _, _ := strings.Cut(string(text), "\n")
		fmt.Fprintf(p.Stdout, "%-24s %s\n", strings.TrimSuffix(name, path.Ext(name)), strings.TrimSpace(strings.TrimLeft(first, "# ")))
	}
	return nil
}

// snapshotBuild writes a scenario's dump, and beside it its symbol tables.
func (p Program) snapshotBuild(args []string) error {
	f := flag.NewFlagSet("gokd snapshot build", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	output := f.String("o", "", "")
	format := f.String("format", "", "")
	size := f.String("size", "", "")
	symbols := f.String("symbols", "", "")
	names, err := parseArgs(f, args)
	switch {
	case err != nil:
		return err
	case len(names) != 1 || *output == "":
		return fmt.Errorf("%w: gokd snapshot build takes a scenario and -o FILE", errUsage)
	}
	var opt snapshot.Options
	if opt.Format, err = snapshot.ParseFormat(*format); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if opt.Size, err = parseSize(*size); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	text, shown, err := p.readScenario(names[0])
	if err != nil {
		return &OpenError{names[0], err}
	}
	im, err := snapshot.Build(text, opt)
	if err != nil {
		return fmt.Errorf("%s: %w", shown, err)
	}
	if err := writeFile(*output, im); err != nil {
		return err
	}
	fmt.Fprintf(p.Stdout, "%s: %d bytes, %s dump\n", *output, im.Size(), im.Format())
	if *symbols == "" {
		return nil
	}
	return p.writeSymbols(*symbols, im)
}

// writeSymbols writes the snapshot's symbol tables into a folder.
func (p Program) writeSymbols(dir string, im *snapshot.Image) error {
	files, err := im.SymbolFiles()
	if err != nil {
		return err
	}
	for name, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(p.Stdout, "%s: %d symbol tables\n", dir, len(files))
	return nil
}

// writeFile writes a file whole or not at all.
func writeFile(name string, from io.WriterTo) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".gokd-*")
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("can't write %s: %w", name, path.Err) // not the passing name
	}
	if err != nil {
		return err
	}
	_, err = from.WriteTo(tmp)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// parseSize reads a number of bytes, with K, M or G for powers of 1024.
func parseSize(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	shift := 0
	digits := s
	switch s[len(s)-1] {
	case 'k', 'K':
		shift = 10
	case 'm', 'M':
		shift = 20
	case 'g', 'G':
		shift = 30
	}
	if shift > 0 {
		digits = s[:len(s)-1]
	}
	v, err := strconv.ParseUint(digits, 0, 64)
	if err != nil || v > 1<<40>>shift {
		return 0, fmt.Errorf("size %q: want bytes, or a number with K, M or G", s)
	}
	return v << shift, nil
}
