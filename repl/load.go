package repl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/dumpfmt"
	"gokd/model"
	"gokd/model/types"
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

// Close waits a bounded time until what was parsed is in the index, and releases
// all files.
func (t *Target) Close() error { return errors.Join(t.symbols.Close(), t.Dump.Close()) }

// Paths are where symbol files and image files are looked for.
type Paths struct {
	Symbols string // kd's -y: elements, separated by semicolons
	Images  string // kd's -i
	Offline bool   // servers are not asked, whatever the paths name
	Noisy   bool   // kd's -n: tell how symbols are looked for, from the start

	progress func(what string, done, total uint64)
	options  sympath.Options
}

// environment fills in what the environment says of paths: kd's variables, and
// root certificates for symbol servers.
func (p Program) environment(paths Paths) Paths {
	paths.options = sympath.Options{
		CacheDir: p.CacheDir, Version: p.Version, CAFile: p.Getenv("GOKD_CA_FILE"), Proxy: http.ProxyFromEnvironment,
		Offline: paths.Offline, Progress: paths.progress,
	}
	paths.Images = cmp.Or(paths.Images, p.Getenv("_NT_EXECUTABLE_IMAGE_PATH"))
	return paths
}

// defaultSymbolPath gives the symbol path of the environment, as kd makes it.
func (p Program) defaultSymbolPath() string {
	return strings.Trim(p.Getenv("_NT_ALT_SYMBOL_PATH")+";"+p.Getenv("_NT_SYMBOL_PATH"), ";")
}

// load makes a target of an opened dump.
func load(ctx context.Context, o opened, paths Paths) (*Target, error) {
	t := &Target{Dump: o.dump, Name: o.shown}
	src := source.Of(o.shown, o.dump)
	t.symbols = sympath.Open(paths.Symbols, paths.options)
	if paths.Noisy {
		t.symbols.SetFlags(t.symbols.Flags() | sympath.Debug)
	}
	src.Symbols = t.symbols
	if o.symbols != nil {
		src.Symbols = chain{t.symbols, o.symbols}
	}
	src.Warnings = append(src.Warnings, notes("symbol path", t.symbols.Notes())...)
	t.images = sympath.OpenImages(paths.Images, t.symbols)
	src.Images = t.images
	src.Warnings = append(src.Warnings, notes("image path", t.images.Notes())...)
	end := abortable(ctx, t.symbols)
	k, err := model.Load(ctx, src)
	end()
	if err != nil {
		return nil, errors.Join(err, t.symbols.Close())
	}
	t.Kernel = k
	t.warn(ctx)
	return t, nil
}

// warn adds to the kernel's warnings why its symbols could not be had, where that
// is more than that they are nowhere: a file of another build, a server that is
// down.
func (t *Target) warn(ctx context.Context) {
	if t.symbols.Spec() == "" || t.Kernel.ID.Zero() || t.Kernel.Origin().File != "" {
		return
	}
	_, err := t.symbols.Find(ctx, t.Kernel.ID) // the load has asked: the answer is known
	var missing *types.NotFoundError
	if err == nil || errors.As(err, &missing) && err.Error() == missing.Error() {
		return
	}
	t.Kernel.Warnings = append(t.Kernel.Warnings, "kernel symbols: "+strings.ReplaceAll(err.Error(), "\n", "; "))
}

// abortable has Ctrl-C end the downloads of a path that names servers, while a
// dump is opened: it is opened without them then. A second Ctrl-C ends the
// program, as one does where nothing is downloaded.
func abortable(ctx context.Context, p *sympath.Path) (end func()) {
	if !p.Remote() {
		return func() {}
	}
	abort, stop := signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(abort, stop)
	restore := p.AbortDownloads(abort)
	return func() {
		restore()
		stop()
	}
}

// showEvents has the session tell how symbols are looked for, under !sym noisy,
// before the record that needed them.
func showEvents(s *cmd.Session) {
	show := func() {
		if s.Symbols == nil {
			return
		}
		if lines := s.Symbols.Events(); len(lines) > 0 {
			_ = s.Out.Emit(report.Text(strings.Join(lines, "\n") + "\n")) // the record after it fails likewise
		}
	}
	s.Out.Hook(func(report.Record) { show() })
	flush := s.Out.Flush
	s.Out.Flush = func() error {
		show()
		return flush()
	}
}

func notes(what string, notes []string) []string {
	out := make([]string, len(notes))
	for i, n := range notes {
		out[i] = fmt.Sprintf("%s: %s", what, n)
	}
	return out
}
