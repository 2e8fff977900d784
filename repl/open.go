package repl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"gokd/dumpfmt"
	"gokd/dumpfmt/snapshot"
	"gokd/model/types"
)

// OpenError says that a dump can't be opened, and what can be done.
type OpenError struct {
	Name string
	Err  error
}

// Error names the file, the reason and the next step.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("can't open [%s]: %v", e.Name, reason(e.Err))
	if next := nextStep(e.Name, e.Err); next != "" {
		text += "\n      " + next
	}
	return text
}

// Unwrap gives the reason.
func (e *OpenError) Unwrap() error { return e.Err }

// reason leaves the file's name out of an error of the file system: it is
// named already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func nextStep(name string, err error) string {
	var unsupported *dumpfmt.UnsupportedError
	switch {
	case errors.As(err, &unsupported):
		return "" // says it itself
	case errors.Is(err, fs.ErrNotExist) && strings.ContainsAny(name, `"'`):
		return "the name holds a quotation mark; leave it out"
	case errors.Is(err, snapshot.ErrScenario):
		return "the README in testdata/snapshots describes scenarios; gokd snapshot list shows the embedded ones"
	case errors.Is(err, fs.ErrNotExist):
		return "check the path; gokd without a file opens its embedded snapshot"
	case errors.Is(err, fs.ErrPermission):
		return "the file can't be read by this user; copy it or change its permissions"
	case errors.Is(err, dumpfmt.ErrUnreadable):
		return "the file changed or its disk fails; copy it to a local disk and open the copy"
	case errors.Is(err, dumpfmt.ErrFormat):
		return "the file is damaged or was cut short; compare its size with the original and copy it again"
	}
	return ""
}

// opened is a container and what came with it.
type opened struct {
	dump    *dumpfmt.Dump
	shown   string         // its name for messages
	symbols types.Resolver // the symbols that a snapshot brings; nil: none
}

// Open opens a dump by name and loads the kernel in it. A name that ends in
// .yaml or .yml is a snapshot's scenario; an empty one is the embedded
// scenario. Errors are *OpenError.
func (p Program) Open(ctx context.Context, name string, paths Paths) (*Target, error) {
	o, err := p.open(name)
	if err != nil {
		return nil, &OpenError{name, err}
	}
	t, err := load(ctx, o, p.environment(paths))
	if err != nil {
		_ = o.dump.Close() // only read from
		return nil, &OpenError{o.shown, err}
	}
	return t, nil
}

func (p Program) open(name string) (opened, error) {
	if name == "" || isScenario(name) {
		return p.openScenario(name)
	}
	d, err := dumpfmt.OpenFile(name)
	return opened{dump: d, shown: name}, err
}
