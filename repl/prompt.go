package repl

import (
	"fmt"
	"io"

	prompt "github.com/c-bata/go-prompt"
)

// editor is the line editor of a terminal, made of go-prompt. That library has
// its ways (it keeps the terminal raw, takes chunks for keys, loses keys, ends
// the process on a signal); all cures are in here and in terminal, so that the
// rest of the program sees a LineReader:
//
//   - terminal replaces its parser: modes are saved by value and restored around
//     every command, one key is handed out at a time;
//   - Input is called in a loop instead of Run, which handles signals itself and
//     deadlocks when a resize meets Enter;
//   - one Prompt lives for the whole session, since each opens /dev/tty anew;
//   - at most maxSuggestions are offered: it formats all of them on every key.
type editor struct {
	term    *terminal
	prompt  *prompt.Prompt
	history *history

	prefix string
}

// suggestion is an entry of the list below the line.
type suggestion struct{ text, doc string }

// newEditor makes the editor. complete gives suggestions for the text before
// the cursor. It fails where the terminal can't be used for editing.
func newEditor(in interface{ Fd() uintptr }, h *history, colored bool, complete func(before string) []suggestion) (e *editor, err error) {
	defer func() {
		if r := recover(); r != nil { // it panics where there is no /dev/tty
			err = fmt.Errorf("line editor: %v", r)
		}
	}()
	known := func(b []byte) bool { return prompt.GetKey(b) != prompt.NotDefined }
	t, err := openTerminal(in, known)
	if err != nil {
		return nil, err
	}
	e = &editor{term: t, history: h}
	prefixColor := prompt.DefaultColor
	if colored {
		prefixColor = prompt.Turquoise
	}
	e.prompt = prompt.New(func(string) {},
		func(d prompt.Document) []prompt.Suggest { return suggests(complete, d) },
		prompt.OptionParser(parser{t}),
		prompt.OptionWriter(&console{ConsoleWriter: prompt.NewStdoutWriter(), plain: !colored}),
		prompt.OptionLivePrefix(func() (string, bool) { return e.prefix, true }),
		prompt.OptionPrefixTextColor(prefixColor),
		prompt.OptionCompletionWordSeparator(wordSeparators),
		prompt.OptionHistory(h.lines()),
		// A key that stands for a resize gives the line up; it is drawn anew.
		prompt.OptionSetExitCheckerOnInput(func(string, bool) bool { return t.redraw.Load() }),
	)
	return e, nil
}

// suggests asks for suggestions, but not for an empty word: the list would
// cover the screen after every command.
func suggests(complete func(string) []suggestion, d prompt.Document) []prompt.Suggest {
	if d.GetWordBeforeCursorUntilSeparator(wordSeparators) == "" {
		return nil
	}
	var out []prompt.Suggest
	for _, s := range complete(d.TextBeforeCursor()) {
		if len(out) == maxSuggestions {
			break
		}
		out = append(out, prompt.Suggest{Text: s.text, Description: s.doc})
	}
	return out
}

// ReadLine implements LineReader. Ctrl-D on an empty line, or a terminal that
// went away, is io.EOF.
func (e *editor) ReadLine(prefix string) (line string, err error) {
	e.prefix = prefix
	defer func() {
		if r := recover(); r != nil {
			_ = e.term.tearDown()
			err = fmt.Errorf("line editor: %v", r)
		}
	}()
	for {
		line = e.prompt.Input()
		switch {
		case e.term.redraw.Swap(false):
			continue // the library kept the line
		case line == "" && e.term.ended():
			return "", io.EOF
		}
		break
	}
	if line != "" {
		e.history.add(line)
		// The library adds doubles; ours is the list.
		err = prompt.OptionHistory(e.history.lines())(e.prompt)
	}
	return line, err
}

// Typed reports whether the last Enter was typed rather than pasted.
func (e *editor) Typed() bool { return e.term.byHand }

// Close gives the terminal back.
func (e *editor) Close() error { return e.term.close() }

// parser is the terminal in go-prompt's words.
type parser struct{ *terminal }

func (p parser) Setup() error          { return p.setup() }
func (p parser) TearDown() error       { return p.tearDown() }
func (p parser) Read() ([]byte, error) { return p.read() }

func (p parser) GetWinSize() *prompt.WinSize {
	rows, cols := p.size()
	return &prompt.WinSize{Row: rows, Col: cols}
}

// console leaves the window's title alone and, where colours are off, shows
// what is chosen in reverse.
type console struct {
	prompt.ConsoleWriter
	plain bool
}

// SetTitle does nothing.
func (*console) SetTitle(string) {}

// ClearTitle does nothing: it would take the title that the shell set.
func (*console) ClearTitle() {}

// SetColor leaves colours out where they are off.
func (c *console) SetColor(fg, bg prompt.Color, bold bool) {
	switch {
	case !c.plain:
		c.ConsoleWriter.SetColor(fg, bg, bold)
	case bold: // the chosen entry
		c.WriteRawStr("\x1b[0;7m")
	default:
		c.WriteRawStr("\x1b[0m")
	}
}

var (
	_ prompt.ConsoleParser = parser{}
	_ LineReader           = (*editor)(nil)
)
