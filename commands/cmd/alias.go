package cmd

import (
	"slices"
	"strings"
)

// Aliases are the texts that stand for others in what is typed (documentation
// of the debuggers, "Using Aliases"). The zero value holds none.
type Aliases struct {
	fixed [fixedAliases]string // $u0 to $u9
	user  map[string]string
	// scopes are the variables of .foreach loops being run, innermost last.
	scopes []map[string]string
}

// maxAliasText limits what a replacement may grow to, in bytes: aliases that
// contain each other double at every step.
const maxAliasText = 16 << 20

// Set defines an alias, or changes it.
func (a *Aliases) Set(name, text string) {
	if a.user == nil {
		a.user = map[string]string{}
	}
	a.user[name] = text
}

// Delete removes an alias; false where there was none.
func (a *Aliases) Delete(name string) bool {
	_, ok := a.user[name]
	delete(a.user, name)
	return ok
}

// Clear removes all aliases that have a name of the user's.
func (a *Aliases) Clear() { a.user = nil }

// Names gives the user-named aliases, sorted.
func (a *Aliases) Names() []string {
	names := make([]string, 0, len(a.user))
	for n := range a.user {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Get gives the text of an alias, or of a variable of a loop being run.
func (a *Aliases) Get(name string) (string, bool) {
	for i := len(a.scopes) - 1; i >= 0; i-- {
		if text, ok := a.scopes[i][name]; ok {
			return text, true
		}
	}
	text, ok := a.user[name]
	return text, ok
}

// SoftNewline stands in the text of an alias for a new line: it is a blank to
// the parsers, where a new line would end a command, and is printed as one.
const SoftNewline = '\v'

// ReplaceTokens replaces names in a text by other texts, wherever they stand:
// the @#NAME tokens of the !for_each commands. A longer name wins over a shorter
// one that it begins with.
func ReplaceTokens(text string, tokens map[string]string) string {
	names := make([]string, 0, len(tokens))
	for n := range tokens {
		if n != "" {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) })
	var b strings.Builder
scan:
	for i := 0; i < len(text); {
		for _, n := range names {
			if strings.HasPrefix(text[i:], n) {
				b.WriteString(tokens[n])
				i += len(n)
				continue scan
			}
		}
		b.WriteByte(text[i])
		i++
	}
	return b.String()
}

// expand replaces aliases in what is about to be run: a line, a command file, or
// a block when it is entered. Fixed names are replaced anywhere, first; the
// user's only as words of their own, or as ${name}. A text that begins with one
// of the commands on aliases stays as it is up to its first new line.
func (s *Session) expand(text string) string {
	text = s.Aliases.expandFixed(text)
	if !strings.Contains(text, "${") && len(s.Aliases.user) == 0 && len(s.Aliases.scopes) == 0 {
		return text
	}
	kept := ""
	if aliasCommand(text) {
		i := strings.IndexByte(text, '\n')
		if i < 0 {
			return text
		}
		kept, text = text[:i], text[i:]
	}
	return kept + s.Aliases.expandUser(text, s.automatic)
}

// aliasCommand tells whether a text begins with as, aS, ad or al.
func aliasCommand(text string) bool {
	if len(text) < 2 || text[0] != 'a' || !strings.ContainsRune("sSdl", rune(text[1])) {
		return false
	}
	return len(text) == 2 || strings.ContainsRune(" \t;\n\v", rune(text[2]))
}

func (a *Aliases) expandFixed(text string) string {
	if !strings.Contains(text, "$u") {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '$' && i+2 < len(text) && text[i+1] == 'u' && digit(text[i+2]) && b.Len() < maxAliasText {
			b.WriteString(a.fixed[text[i+2]-'0'])
			i += 2
			continue
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// boundary tells the characters that may stand around the name of an alias.
func boundary(c byte) bool { return strings.IndexByte(" \t\n\r\v;\"", c) >= 0 }

// expandUser replaces names that stand alone and the ${} tokens.
func (a *Aliases) expandUser(text string, automatic func(string) (string, bool)) string {
	get := func(name string) (string, bool) {
		if t, ok := a.Get(name); ok {
			return strings.ReplaceAll(strings.ReplaceAll(t, "\r", ""), "\n", string(SoftNewline)), true
		}
		return automatic(name)
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		if b.Len() > maxAliasText {
			b.WriteString(text[i:])
			break
		}
		if strings.HasPrefix(text[i:], "${") {
			n := tokenEnd(text[i:])
			b.WriteString(interpret(text[i:i+n], get))
			i += n
			continue
		}
		if boundary(text[i]) {
			b.WriteByte(text[i])
			i++
			continue
		}
		end := i
		for end < len(text) && !boundary(text[end]) && !strings.HasPrefix(text[end:], "${") {
			end++
		}
		word := text[i:end]
		// A name is a word of its own: a ${} token at its side is text beside it.
		alone := (i == 0 || boundary(text[i-1])) && (end == len(text) || boundary(text[end]))
		if t, ok := a.Get(word); alone && ok {
			word = strings.ReplaceAll(strings.ReplaceAll(t, "\r", ""), "\n", string(SoftNewline))
		}
		b.WriteString(word)
		i = end
	}
	return b.String()
}

// tokenEnd gives the length of the ${} token that a text begins with; 2 where it
// is not closed on its line.
func tokenEnd(text string) int {
	for i := 2; i < len(text); i++ {
		switch text[i] {
		case '}':
			return i + 1
		case '{', '\n', ';', '"':
			return 2
		}
	}
	return 2
}

// interpret gives what a ${} token stands for (documentation of the debuggers,
// "${ } (Alias Interpreter)").
func interpret(token string, get func(string) (string, bool)) string {
	name := strings.TrimSuffix(strings.TrimPrefix(token, "${"), "}")
	mode := byte(0)
	if len(name) > 3 && name[0] == '/' && name[2] == ':' {
		mode, name = name[1], name[3:]
	}
	if mode == 'v' {
		return token
	}
	text, ok := get(name)
	switch {
	case mode == 'd' && ok:
		return "1"
	case mode == 'd':
		return "0"
	case mode == 'f':
		return text
	case mode == 'n' && ok:
		return name
	case mode == 0 && ok:
		return text
	}
	return token
}

// AliasName takes the ${/v: } off a name, as the commands on aliases do.
func AliasName(word string) string {
	if name, ok := strings.CutPrefix(word, "${/v:"); ok && strings.HasSuffix(name, "}") {
		return strings.TrimSuffix(name, "}")
	}
	return word
}

// automatic gives the aliases that the debugger sets by itself.
func (s *Session) automatic(name string) (string, bool) {
	switch name {
	case "$ntnsym", "$ntsym":
		return "nt", s.Kernel != nil
	case "$CurrentDumpFile":
		if s.Kernel != nil {
			return baseName(s.Kernel.Source.Name), true
		}
	case "$CurrentDumpPath":
		if s.Kernel != nil {
			return strings.TrimRight(strings.TrimSuffix(s.Kernel.Source.Name, baseName(s.Kernel.Source.Name)), `/\`), true
		}
	}
	return "", false
}

func baseName(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// WithVariable runs fn while name stands for text in the blocks that are
// entered: the variable of a .foreach loop.
func (s *Session) WithVariable(name, text string, fn func() error) error {
	s.Aliases.scopes = append(s.Aliases.scopes, map[string]string{name: text})
	defer func() { s.Aliases.scopes = s.Aliases.scopes[:len(s.Aliases.scopes)-1] }()
	return fn()
}
