package repl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Exit codes of the program.
const (
	ExitFine   = 0
	ExitFailed = 1 // a command failed, or a check differed
	ExitUsage  = 2
	ExitOpen   = 3 // the dump can't be opened
)

// Program is the process as the command line sees it.
type Program struct {
	Args    []string // without the program's name
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Getenv  func(string) string
	Version string

	Scenarios fs.FS          // embedded snapshot scenarios, *.yaml
	Location  *time.Location // of the clock that times are shown in
	StateDir  string         // for the history of the prompt; empty: none is kept
	CacheDir  string         // for downloaded symbols and their index; empty: none are kept
	TagFiles  []string       // descriptions of pool tags (pooltag.txt), the most important first
}

// Main runs the program and gives its exit code.
func Main(ctx context.Context, p Program) int {
	if len(p.Args) > 0 {
		if sub, ok := subcommand(p.Args[0]); ok {
			return p.exit(sub(ctx, p, p.Args[1:]))
		}
	}
	opt, err := parseOptions(p.Args, p.defaultSymbolPath())
	switch {
	case err != nil:
	case opt.help:
		fmt.Fprint(p.Stdout, usageText)
	case opt.version:
		fmt.Fprintf(p.Stdout, "gokd %s\n", p.Version)
	default:
		err = p.session(ctx, opt)
	}
	return p.exit(err)
}

// subcommand gives what a word in a dump's place stands for.
func subcommand(word string) (func(context.Context, Program, []string) error, bool) {
	switch word {
	case "check":
		return checkLog, true
	case "snapshot":
		return snapshots, true
	case "symbols":
		return listSymbols, true
	}
	return nil, false
}

// errFailed says that a command failed; that was shown when it happened.
var errFailed = errors.New("a command failed")

// exit turns an error into an exit code and shows what was not shown before.
func (p Program) exit(err error) int {
	var open *OpenError
	switch {
	case err == nil:
		return ExitFine
	case errors.Is(err, errFailed):
		return ExitFailed
	case errors.As(err, &open):
		fmt.Fprintf(p.Stderr, "gokd: %v\n", err)
		return ExitOpen
	case errors.Is(err, errUsage):
		fmt.Fprintf(p.Stderr, "gokd: %s\ngokd -h shows the flags\n", strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
		return ExitUsage
	}
	fmt.Fprintf(p.Stderr, "gokd: %v\n", err)
	return ExitFailed
}
