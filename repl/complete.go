package repl

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gokd/commands/cmd"
)

// wordSeparators end the word that is completed. "!", "." and "$" belong to
// words, and so do "-" and "/", which begin switches and stand in paths.
const wordSeparators = " ()+*,;=[]{}\""

// maxSuggestions limits what is offered at once; the line editor formats every
// one of them on every key.
const maxSuggestions = 50

// complete gives suggestions for the text before the cursor: each replaces the
// word that ends there. It loads nothing: symbols and types are offered where
// they are loaded already.
func complete(s *cmd.Session, before string) []suggestion {
	before = strings.TrimLeft(before[commandStart(before):], " \t\"")
	word := lastWord(before)
	if word == "" {
		return nil
	}
	if word == before {
		if out := completeGlued(s, word); out != nil {
			return out
		}
		return completeCommand(s, word)
	}
	c, rest, ok := s.Commands.Find(before)
	if !ok {
		return nil
	}
	arg, isSwitch := argumentAt(c, rest)
	switch {
	case isSwitch:
		return completeSwitch(c, word)
	case arg.Complete == cmd.CompleteCommand && arg.Kind == cmd.KindRest:
		return complete(s, rest) // shorter than before
	case arg.Complete == cmd.CompleteField:
		return completeField(s, rest, word)
	}
	return completeArgument(s, arg, word)
}

// lastWord gives the word at the end of a text.
func lastWord(text string) string { return text[strings.LastIndexAny(text, wordSeparators)+1:] }

// commandStart finds where the last command of a line begins: behind a
// semicolon, or a brace that is none of an alias, ${name}.
func commandStart(line string) int {
	start, alias := 0, false
	for i := range len(line) {
		switch line[i] {
		case ';':
			start = i + 1
		case '{':
			if alias = i > 0 && line[i-1] == '$'; !alias {
				start = i + 1
			}
		case '}':
			if !alias {
				start = i + 1
			}
			alias = false
		}
	}
	return start
}

// completeGlued completes what follows a command without a blank: a file right
// behind $$>< and its kin, the expression of ?nt!Ke and dd@rs.
func completeGlued(s *cmd.Session, word string) []suggestion {
	c, rest, ok := s.Commands.Find(word)
	if !ok || rest == "" || len(c.Args) == 0 {
		return nil
	}
	var out []suggestion
	if c.Args[0].Complete == cmd.CompleteFile {
		if !c.Prefix {
			return nil
		}
		out = completeFile(rest)
	} else {
		out = completeValue(s, rest, false)
	}
	for i := range out {
		out[i].text = word[:len(word)-len(rest)] + out[i].text
	}
	return out
}

// completeCommand matches names from their start, with or without the mark.
func completeCommand(s *cmd.Session, word string) []suggestion {
	var out, bare []suggestion
	low := strings.ToLower(word)
	for _, c := range s.Commands.All() {
		name := strings.ToLower(c.Name)
		switch {
		case strings.HasPrefix(name, low):
			out = append(out, suggestion{c.Name, c.Summary})
		case strings.HasPrefix(strings.TrimLeft(name, "!."), low):
			bare = append(bare, suggestion{c.Name, c.Summary})
		}
	}
	byText := func(a, b suggestion) int { return strings.Compare(a.text, b.text) }
	slices.SortFunc(out, byText)
	slices.SortFunc(bare, byText)
	return limit(append(out, bare...))
}

// argumentAt finds which argument the last word of a line is.
func argumentAt(c *cmd.Command, rest string) (arg cmd.Arg, isSwitch bool) {
	words := strings.Fields(rest)
	n := 0
	for i, w := range words {
		last := i == len(words)-1
		if (w[0] == '-' || w[0] == '/') && hasSwitch(c, w) {
			if last {
				return arg, true
			}
			if a, ok := switchNamed(c, w); ok && a.Kind != cmd.KindSwitch && i+1 == len(words)-1 {
				return a, false
			} else if ok && a.Kind != cmd.KindSwitch {
				n-- // the next word is its value
			}
			continue
		}
		if !last {
			n++
		}
	}
	for _, a := range c.Args {
		if a.Switch != "" {
			continue
		}
		if n <= 0 || a.Kind == cmd.KindRest {
			return a, false
		}
		n--
	}
	return arg, false
}

// hasSwitch tells a switch, maybe unfinished, from a path or an expression.
func hasSwitch(c *cmd.Command, word string) bool {
	return slices.ContainsFunc(c.Args, func(a cmd.Arg) bool {
		return len(a.Switch) >= len(word) && strings.EqualFold(a.Switch[:len(word)], word)
	})
}

func switchNamed(c *cmd.Command, word string) (cmd.Arg, bool) {
	for _, a := range c.Args {
		if a.Switch != "" && strings.EqualFold(a.Switch, word) {
			return a, true
		}
	}
	return cmd.Arg{}, false
}

func completeSwitch(c *cmd.Command, word string) []suggestion {
	var out []suggestion
	for _, a := range c.Args {
		if a.Switch != "" && strings.HasPrefix(strings.ToLower(a.Switch), strings.ToLower(word)) {
			out = append(out, suggestion{a.Switch, a.Doc})
		}
	}
	return out
}

func completeArgument(s *cmd.Session, arg cmd.Arg, word string) []suggestion {
	switch {
	case arg.Complete == cmd.CompleteFile:
		return completeFile(word)
	case arg.Complete == cmd.CompleteCommand:
		return completeCommand(s, word)
	case arg.Complete == cmd.CompleteModule:
		return completeModule(s, word, "")
	case arg.Complete == cmd.CompleteRegister && !strings.ContainsAny(word, "@!"):
		return completeRegister("", word)
	case arg.Complete == cmd.CompleteType:
		if out := completeType(s, word); len(out) > 0 {
			return out
		}
		return completeValue(s, word, true)
	case arg.Complete == cmd.CompleteSymbol || arg.Kind == cmd.KindAddr:
		return completeValue(s, word, true)
	case arg.Kind == cmd.KindRest || arg.Kind == cmd.KindFlags:
		// Text as well as expressions: what can't be mistaken is offered.
		return completeValue(s, word, false)
	}
	return nil
}

// completeFile completes the last part of a path.
func completeFile(word string) []suggestion {
	dir, base := filepath.Split(word)
	read := dir
	if read == "" {
		read = "."
	}
	entries, err := os.ReadDir(read)
	if err != nil {
		return nil // nothing to offer
	}
	var out []suggestion
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || base == "" && name[0] == '.' || strings.ContainsAny(name, wordSeparators) {
			continue
		}
		if e.IsDir() {
			name += string(filepath.Separator)
		}
		out = append(out, suggestion{text: dir + name})
	}
	return limit(out)
}

func limit(list []suggestion) []suggestion { return list[:min(len(list), maxSuggestions)] }
