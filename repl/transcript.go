package repl

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// exchange is one command of a pasted session and the answer below it.
type exchange struct {
	Line    int    // of the prompt in the text, from 1
	Prompt  string // as pasted: "2: kd> "
	Command string
	Answer  []string // lines, without trailing blanks; none at the end are empty
}

// promptLine is kd's prompt: a processor's number, "kd>" or "lkd>", maybe an
// architecture before ">", and the command.
var promptLine = regexp.MustCompile(`^\s*((?:\d+(?:\.\d+)?: )?l?kd(?::\w+)?> ?)(.*)$`)

// parseTranscript cuts a pasted session into its head, which is everything
// before the first prompt, and its exchanges.
func parseTranscript(text string) (head []string, list []exchange) {
	text = strings.TrimPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "\ufeff")
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		// The blank after an empty prompt may be lost by an editor.
		if m := promptLine.FindStringSubmatch(line); m != nil {
			list = append(list, exchange{Line: n + 1, Prompt: strings.TrimRight(m[1], " ") + " ", Command: strings.TrimSpace(m[2])})
			continue
		}
		if len(list) == 0 {
			head = append(head, line)
			continue
		}
		last := &list[len(list)-1]
		last.Answer = append(last.Answer, line)
	}
	for i := range list {
		list[i].Answer = trimEnd(list[i].Answer)
	}
	return head, list
}

func trimEnd(lines []string) []string {
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// maxAnswer limits the text that is kept of one answer.
const maxAnswer = 64 << 20

// replayer runs commands and keeps their text.
type replayer struct {
	s     *cmd.Session
	text  bytes.Buffer // as the session prints
	plain bytes.Buffer // without lines of our own
}

// replay is an answer as given now.
type replay struct {
	Full   []string // with gokd's own lines
	KDOnly []string // without them
	Err    error
}

// newReplayer makes a session print into memory. Its colours are off.
func newReplayer(s *cmd.Session, era report.Era) *replayer {
	r := &replayer{s: s}
	s.Out = cmd.NewOutput(&limited{&r.text}, era, false)
	plain := report.NewPrinter(&limited{&r.plain}, era, false)
	plain.KDOnly = true
	s.Out.Hook(func(rec report.Record) {
		plain.Era = s.Out.Printer.Era
		_ = plain.Emit(rec) // writes into memory
	})
	return r
}

// run runs a line.
func (r *replayer) run(ctx context.Context, line string) replay {
	r.text.Reset()
	r.plain.Reset()
	err := r.s.Execute(ctx, line)
	a := replay{Full: lines(r.text.String()), KDOnly: lines(r.plain.String()), Err: err}
	if err != nil {
		a.KDOnly = a.Full // an error's text passes no hook
	}
	return a
}

func lines(text string) []string {
	list := strings.Split(text, "\n")
	for i := range list {
		list[i] = strings.TrimRight(list[i], " \t")
	}
	return trimEnd(list)
}

// limited drops what goes beyond maxAnswer.
type limited struct{ b *bytes.Buffer }

// Write keeps what fits.
func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxAnswer {
		return 0, fmt.Errorf("answer larger than %d bytes", maxAnswer)
	}
	return l.b.Write(p)
}
