package repl

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"gokd/commands/report"
)

// options are those of the command line.
type options struct {
	dumps     []string // -z and the positional argument
	paths     Paths
	commands  string // -c
	script    string // -cf
	log       string // -logo or -loga
	logAppend bool
	json      bool
	quiet     bool
	keepGoing bool
	noColor   bool
	version   bool
	help      bool
	era       report.Era
}

// usageText is what -h prints.
const usageText = `usage: gokd [flags] [dump]
       gokd check LOG -z FILE
       gokd snapshot build SCENARIO -o FILE [-format full|bitmap|kernel]
                           [-size BYTES] [-symbols FOLDER]
       gokd snapshot list
       gokd symbols [-missing] [-urls] DUMP

Opens a Windows kernel dump, or a snapshot scenario (.yaml), and answers kd's
commands. Without a dump it opens the embedded self-deadlock snapshot.

  -z FILE       dump, snapshot or scenario to open
  -y PATH       symbol path: folders, stores and servers, separated by semicolons:
                FOLDER, srv*FOLDER*URL, srv* (Microsoft's), cache*FOLDER
                (default: $_NT_SYMBOL_PATH); only a server that it names is asked
  -i PATH       image path, likewise (default: $_NT_EXECUTABLE_IMAGE_PATH)
  -n            noisy: tell how symbols are looked for
  -c "CMDS"     run these commands first, separated by semicolons
  -cf FILE      run a command file first, before -c
  -logo FILE    log the session to a new file
  -loga FILE    log the session to the end of a file
  -json         answers as JSON lines on standard output, diagnostics on standard
                error
  -q            no banner
  -keepgoing    a failing command does not stop a script or -c
  -compat ERA   print like debugger 6.2, 10.0.19041 (default) or 10.0.26100
  -no-color     no colors; also with NO_COLOR, TERM=dumb or output to a file
  -version      print the version
  -h            print this

Where standard input is no terminal, commands are read from it, one a line.
Downloads and indexes are kept in the user's cache folder, or in $GOKD_CACHE;
$GOKD_CA_FILE adds root certificates (PEM) for symbol servers; $GOKD_POOLTAGS
names a pooltag.txt (see .pooltags).
Exit code: 0 fine, 1 a command failed, 2 wrong use, 3 the dump can't be opened.
`

// errUsage is the class of errors of the command line itself.
var errUsage = errors.New("wrong use")

// flagSet declares the flags, for opt to be filled.
func flagSet(opt *options) *flag.FlagSet {
	f := flag.NewFlagSet("gokd", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("z", "", func(v string) error { opt.dumps = append(opt.dumps, v); return nil })
	f.StringVar(&opt.paths.Symbols, "y", opt.paths.Symbols, "")
	f.StringVar(&opt.paths.Images, "i", "", "")
	f.BoolVar(&opt.paths.Noisy, "n", false, "")
	f.StringVar(&opt.commands, "c", "", "")
	f.StringVar(&opt.script, "cf", "", "")
	f.Func("logo", "", func(v string) error { opt.log, opt.logAppend = v, false; return nil })
	f.Func("loga", "", func(v string) error { opt.log, opt.logAppend = v, true; return nil })
	f.BoolVar(&opt.json, "json", false, "")
	f.BoolVar(&opt.quiet, "q", false, "")
	f.BoolVar(&opt.keepGoing, "keepgoing", false, "")
	f.BoolVar(&opt.noColor, "no-color", false, "")
	f.BoolVar(&opt.version, "version", false, "")
	f.BoolVar(&opt.help, "h", false, "")
	f.BoolVar(&opt.help, "help", false, "")
	f.Func("compat", "", func(v string) (err error) { opt.era, err = report.ParseEra(v); return err })
	return f
}

// parseArgs reads flags and positional arguments in any order.
func parseArgs(f *flag.FlagSet, args []string) (positional []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		rest := f.Args()
		// After "--" nothing is a flag.
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			return append(positional, rest...), nil
		}
		if len(rest) == 0 {
			return positional, nil
		}
		positional = append(positional, rest[0])
		args = rest[1:]
	}
}

// parseOptions reads the command line of a session.
func parseOptions(args []string, symbolPath string) (options, error) {
	opt := options{era: report.Era19041, paths: Paths{Symbols: symbolPath}}
	positional, err := parseArgs(flagSet(&opt), args)
	if err != nil {
		return opt, err
	}
	opt.dumps = append(opt.dumps, positional...)
	if len(opt.dumps) > 1 {
		return opt, fmt.Errorf("%w: one dump at a time, not %d: %s", errUsage, len(opt.dumps), strings.Join(opt.dumps, ", "))
	}
	return opt, nil
}

// endsInQuit reports whether commands end the session themselves, so that no
// prompt is wanted.
func endsInQuit(commands string) bool {
	last := commands
	if i := strings.LastIndexByte(commands, ';'); i >= 0 {
		last = commands[i+1:]
	}
	switch strings.ToLower(strings.TrimSpace(last)) {
	case "q", "qq", "qd":
		return true
	}
	return false
}
