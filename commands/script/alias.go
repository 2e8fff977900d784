package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
)

const aliasHelp = `An alias is a name that is replaced by a text before commands are read: where it
stands between blanks, semicolons or quotes, and as ${name} anywhere. ${/v:name}
keeps the name as it is, ${/d:name} is 1 or 0, ${/f:name} the text or nothing,
${/n:name} the name. Names are replaced when a line, a command file or a block is
entered: .block { } makes a new alias known to the commands in it. A line that
begins with as, aS, ad or al is left as it is; a semicolon before them helps.

  as name text       all of the line, semicolons too
  aS name text       up to a semicolon; in quotes it may hold some
  /x name expr       the value of an expression, 0x...
  /ma /mu name addr  the string of bytes or of 16-bit characters at an address
  /msa /msu          that of the ANSI_STRING or UNICODE_STRING at an address
  /e name variable   a variable of gokd's environment
  /f name file       the text of a file
  /c name commands   what commands print

A text that is read from the dump becomes part of a command where its name
stands, as in kd: a semicolon in it begins another command.

The names $u0 to $u9 are set by r: "r $.u0=text".`

func aliasCommand(name string, phrase bool, summary, example string) *cmd.Command {
	return &cmd.Command{
		Name: name, Case: true, Group: cmd.GroupScript, Summary: summary, Help: aliasHelp, Example: example,
		Cut:     func(raw string) int { return endOfAlias(raw, phrase) },
		SeeAlso: []string{"al", "ad", ".block"},
		Args:    []cmd.Arg{{Name: "[/switch] name text", Kind: cmd.KindRest, Doc: "the alias, and what it stands for"}},
		Run: func(ctx context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
			return runAlias(ctx, s, in.Raw, phrase)
		},
	}
}

var (
	setAlias       = aliasCommand("as", false, "set an alias to the rest of the line", "as top nt!KeBugCheckEx\n? top")
	setAliasPhrase = aliasCommand("aS", true, "set an alias to a text up to a semicolon", "aS /x five 2 + 3; .block { ? ${five} }")
)

// endOfAlias tells how much of a text is the alias: switches that take an
// expression end at a semicolon, as aS does.
func endOfAlias(raw string, phrase bool) int {
	i := skip(raw, 0, " \t")
	word := wordAt(raw, i)
	switch word {
	case "/e", "/ma", "/mu", "/msa", "/msu", "/x":
		phrase = true
	}
	if !phrase {
		if n := strings.IndexByte(raw, '\n'); n >= 0 {
			return n
		}
		return len(raw)
	}
	return statement(raw, i)
}

func runAlias(ctx context.Context, s *cmd.Session, raw string, phrase bool) error {
	mode := ""
	if strings.HasPrefix(raw, "/") {
		mode = wordAt(raw, 0)
		raw = raw[skip(raw, len(mode), " \t"):]
	}
	end := strings.IndexAny(raw, " \t")
	if end < 0 {
		end = len(raw)
	}
	name, text := cmd.AliasName(raw[:end]), raw[skip(raw, end, " \t"):]
	if name == "" {
		return cmd.Misuse(errors.New("an alias needs a name and a text"))
	}
	switch len(name) {
	case 3:
		if strings.HasPrefix(name, "$u") && name[2] >= '0' && name[2] <= '9' {
			return fmt.Errorf("%s is a fixed name: r $.%s=text sets it", name, name[1:])
		}
	case 2:
		if strings.ContainsRune("asaSadal", rune(name[1])) && name[0] == 'a' && name[1] != 'a' {
			return fmt.Errorf("%s is the name of a command on aliases", name)
		}
	}
	text, err := aliasText(ctx, s, mode, text, phrase)
	if err != nil {
		return err
	}
	if len(text) > maxText {
		return fmt.Errorf("alias %s: %d bytes of text: at most %d", name, len(text), maxText)
	}
	s.Aliases.Set(name, text)
	return nil
}

// aliasText gives the text of an alias by its switch.
func aliasText(ctx context.Context, s *cmd.Session, mode, text string, phrase bool) (string, error) {
	switch mode {
	case "":
		if phrase && len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
			text = text[1 : len(text)-1]
		}
		return text, nil
	case "/e":
		v, ok := os.LookupEnv(strings.TrimSpace(text))
		if !ok {
			return "", fmt.Errorf("the environment has no variable %q", strings.TrimSpace(text))
		}
		return v, nil
	case "/f":
		return s.ReadText(strings.TrimSpace(text))
	case "/c":
		return capture(ctx, s, unquote(text))
	case "/x", "/ma", "/mu", "/msa", "/msu":
		if s.Eval == nil {
			return "", errors.New("no evaluator")
		}
		v, err := s.Eval.Eval(ctx, text)
		if err != nil {
			return "", err
		}
		if mode == "/x" {
			return fmt.Sprintf("%#x", v), nil
		}
		return readString(s, mode[1:], mem.VA(v))
	}
	return "", cmd.Misuse(fmt.Errorf("unknown switch %s", mode))
}

// unquote takes quotes off a text that has them on both sides.
func unquote(text string) string {
	if n := len(text); n >= 2 && text[0] == '"' && text[n-1] == '"' {
		return text[1 : n-1]
	}
	return text
}

var deleteAlias = &cmd.Command{
	Name: "ad", Case: true, Group: cmd.GroupScript,
	Summary: "delete aliases",
	Help: `Deletes the alias of a name, or with * all of them. /q says nothing where there is
none.`,
	Example: "as x 1\nad x\nad /q x\nad *\nal",
	SeeAlso: []string{"as", "al"},
	Args:    []cmd.Arg{{Name: "[/q] name", Kind: cmd.KindRest, Doc: "the alias, or * for all"}},
	Run: func(_ context.Context, s *cmd.Session, in cmd.Args, _ report.Sink) error {
		name := in.Raw
		quiet := false
		if after, ok := strings.CutPrefix(name, "/q"); ok {
			name, quiet = strings.TrimSpace(after), true
		}
		switch name = cmd.AliasName(name); {
		case name == "":
			return cmd.Misuse(errors.New("a name is missing"))
		case name == "*":
			s.Aliases.Clear()
		case !s.Aliases.Delete(name) && !quiet:
			return fmt.Errorf("no alias is named '%s'; al lists them", name)
		}
		return nil
	},
}

var listAliases = &cmd.Command{
	Name: "al", Case: true, Group: cmd.GroupScript,
	Summary: "list the aliases",
	Help: `Lists the aliases that as and aS set, by name. Those named $u0 to $u9 are not
among them.`,
	Example: "as short nt!KeBugCheckEx\nal",
	SeeAlso: []string{"as", "ad"},
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		names := s.Aliases.Names()
		if len(names) == 0 {
			return out.Emit(report.Text("No aliases\n"))
		}
		if err := out.Emit(report.Text("  Alias            Value  \n -------          ------- \n")); err != nil {
			return err
		}
		for _, n := range names {
			text, _ := s.Aliases.Get(n)
			if err := out.Emit(aliasRecord{n, text}); err != nil {
				return err
			}
		}
		return nil
	},
}

// aliasRecord is an alias and its text.
type aliasRecord struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Type names the record.
func (aliasRecord) Type() string { return "alias" }

// WriteText writes a line of kd's list.
func (a aliasRecord) WriteText(p *report.Printer) {
	p.Printf(" %-16s %s \n", a.Name, report.Text(a.Text))
}
