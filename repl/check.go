package repl

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// maxLog limits the session log that is checked, in bytes.
const maxLog = 64 << 20

// checkLog is "gokd check LOG -z FILE": it runs the commands of a pasted session
// again and shows where the answers differ. Blanks are not compared, and lines
// that gokd adds to kd's need not stand in the log.
func checkLog(ctx context.Context, p Program, args []string) error {
	opt := options{era: report.Era19041, paths: Paths{Symbols: p.defaultSymbolPath()}}
	names, err := parseArgs(flagSet(&opt), args)
	switch {
	case err != nil:
		return err
	case len(names) != 1 || len(opt.dumps) > 1:
		return fmt.Errorf("%w: gokd check takes one log, and one dump after -z", errUsage)
	}
	text, err := readLog(names[0])
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	_, list := parseTranscript(text)
	if len(list) == 0 {
		return fmt.Errorf("%w: %s holds no prompt (\"0: kd> \"), so no command", errUsage, names[0])
	}
	s, _, err := p.newSession(opt, false)
	if err != nil {
		return err
	}
	t, err := p.openInto(ctx, s, opt)
	if err != nil {
		return err
	}
	defer t.Close()
	return interruptible(ctx, func(ctx context.Context) error { return p.checkAll(ctx, s, opt.era, names[0], list) })
}

func readLog(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	if err == nil && len(b) > maxLog {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxLog)
	}
	return string(b), err
}

// checkAll runs the commands and reports.
func (p Program) checkAll(ctx context.Context, s *cmd.Session, era report.Era, file string, list []exchange) error {
	r := newReplayer(s, era)
	checked, differ := 0, 0
	for _, x := range list {
		if s.Quit || ctx.Err() != nil {
			break
		}
		if x.Command == "" || skipCheck(s, x.Command) {
			continue
		}
		checked++
		got := r.run(ctx, x.Command)
		if sameText(x.Answer, got.Full) || sameText(x.Answer, got.KDOnly) {
			continue
		}
		differ++
		fmt.Fprintf(p.Stdout, "%s:%d: %s%s\n", report.Safe(file), x.Line, x.Prompt, report.Safe(x.Command))
		// The shorter difference is the one that matters: the log is kd's, or ours.
		d := diff(x.Answer, got.KDOnly)
		if full := diff(x.Answer, got.Full); len(full) < len(d) {
			d = full
		}
		for _, line := range d {
			fmt.Fprintf(p.Stdout, "  %s\n", report.Safe(line))
		}
	}
	if err := ctx.Err(); err != nil {
		return cmd.ErrInterrupted
	}
	fmt.Fprintf(p.Stdout, "commands run: %d, different answers: %d\n", checked, differ)
	if differ > 0 {
		return errFailed
	}
	return nil
}

// skipCheck leaves out commands whose answer is about the session that was
// logged, not about the dump.
func skipCheck(s *cmd.Session, line string) bool {
	c, _, ok := s.Commands.Find(line)
	if !ok {
		return false
	}
	switch {
	case c.NoEnd:
		s.Quit = true
		return true
	case strings.HasPrefix(c.Name, ".log"), c.Name == "version":
		return true
	}
	return false
}

// openInto opens the first dump of the command line, or the one that stands in
// for none, and makes it the session's.
func (p Program) openInto(ctx context.Context, s *cmd.Session, opt options) (*Target, error) {
	name := ""
	if len(opt.dumps) > 0 {
		name = opt.dumps[0]
	}
	opt.paths.progress = s.Report
	t, err := p.Open(ctx, name, opt.paths)
	if err != nil {
		return nil, err
	}
	s.Kernel, s.Changed = t.Kernel, t.Dump.Changed
	s.Symbols, s.Images = t.symbols, t.images
	s.CPU = t.Kernel.CrashProcessor()
	preload(ctx, s)
	return t, nil
}
