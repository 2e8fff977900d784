// Package cmd is what every command is made of: its declaration, the grammar
// of its arguments, the session it runs in, and the loop that runs a line.
//
// It is a leaf among the commands: the groups import it. It knows no single
// command, no prompt and no file format.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/model/mem"
)

// Need is a precondition of a command, checked before it runs.
type Need uint8

// The preconditions, each including the ones before it.
const (
	NeedNothing Need = iota
	NeedTarget       // an opened dump
	NeedThreads      // an x64 kernel whose debugger data block, at least, tells of threads
	NeedKernel       // an x64 kernel with layouts that fit
)

// Group is the chapter of the manual that a command stands in.
type Group string

// The groups, in the order of the manual.
const (
	GroupSession Group = "Session"
	GroupScript  Group = "Scripts"
	GroupSymbols Group = "Modules and symbols"
	GroupMemory  Group = "Memory"
	GroupProcess Group = "Processes"
	GroupThread  Group = "Threads and stacks"
	GroupCode    Group = "Code"
	GroupLock    Group = "Locks"
	GroupPool    Group = "Pool"
)

// Groups lists the groups in the order of the manual.
var Groups = []Group{GroupSession, GroupScript, GroupSymbols, GroupMemory, GroupProcess, GroupThread, GroupCode, GroupLock, GroupPool}

// Command is one command: data for help, completion and the manual, and what
// it does.
type Command struct {
	Name    string   // as typed: "!locks"
	Aliases []string // other spellings
	Prefix  bool     // the arguments may follow the name without a space: "~2", "$$><file"
	Case    bool     // the name is meant as it is spelled: "dD" beside "dd"
	Line    bool     // the command takes the rest of the line, semicolons included
	Block   bool     // the command takes commands in braces, over several lines in a script
	// Cut tells how many bytes of the text behind the name belong to the command,
	// where neither a semicolon nor Line nor Block does; nil for most.
	Cut     func(text string) int
	NoEnd   bool // the command ends the session: its JSON answer has no end record
	Group   Group
	Summary string // one line, imperative
	Help    string // what it shows, what it can't know from a dump
	Example string // lines to type; each must run on the embedded snapshot
	SeeAlso []string
	Args    []Arg
	Needs   Need
	Run     func(ctx context.Context, s *Session, in Args, out report.Sink) error
	// ReturnAddress is set by the one command that walks stacks, for
	// Session.ReturnAddress.
	ReturnAddress func(ctx context.Context, s *Session) (mem.VA, error)
}

// Usage gives the line of usage that the declaration implies.
func (c *Command) Usage() string {
	var b strings.Builder
	b.WriteString(c.Name)
	positional := 0
	for _, a := range c.Args {
		text := a.Name
		switch {
		case a.Switch != "" && a.Kind == KindSwitch:
			text = a.Switch
		case a.Switch != "":
			text = a.Switch + " " + a.Name
		}
		if !a.Optional {
			fmt.Fprintf(&b, " %s", text)
			continue
		}
		if a.Switch == "" {
			positional++
			fmt.Fprintf(&b, " [%s", text)
			continue
		}
		fmt.Fprintf(&b, " [%s]", text)
	}
	b.WriteString(strings.Repeat("]", positional))
	return b.String()
}

// UsageError says that a command was typed wrongly; the loop adds the usage.
type UsageError struct {
	Command *Command
	What    string
	kd      bool // What is in kd's words, which stand alone on their line
}

func (e *UsageError) Error() string {
	switch {
	case e.Command == nil:
		return e.What
	case e.kd:
		return fmt.Sprintf("%s\nusage: %s", e.What, e.Command.Usage())
	}
	return fmt.Sprintf("%s: %s\nusage: %s", e.Command.Name, e.What, e.Command.Usage())
}

// Misuse is what a command with a grammar of its own returns where it was typed
// wrongly; the loop adds the command. An expression that is wrong stays as it
// is: how the command is used explains nothing of it.
func Misuse(err error) error {
	if wrong, ok := wrongExpression(err); ok {
		return wrong
	}
	return &UsageError{What: err.Error()}
}

// ExpressionError is implemented by errors about an expression as it was typed,
// which name the place in it, in kd's words.
type ExpressionError interface {
	error
	// Expression is the text with the error.
	Expression() string
}

// wrongExpression finds the error about an expression in another one.
func wrongExpression(err error) (error, bool) {
	var wrong ExpressionError
	ok := errors.As(err, &wrong)
	return wrong, ok
}

// Table is the set of commands of a program.
type Table struct {
	all    []*Command
	byName map[string]*Command // lower case
	exact  map[string]*Command // those whose case counts, as spelled
	prefix []*Command          // longest name first
}

// NewTable checks and indexes commands. It refuses two commands of one name, a
// command without summary, help, group or body, and arguments that can't be
// told apart.
func NewTable(cmds ...*Command) (*Table, error) {
	t := &Table{byName: map[string]*Command{}, exact: map[string]*Command{}}
	for _, c := range cmds {
		if err := c.check(); err != nil {
			return nil, err
		}
		t.all = append(t.all, c)
		for _, n := range append([]string{c.Name}, c.Aliases...) {
			names, key := t.byName, strings.ToLower(n)
			if c.Case {
				names, key = t.exact, n
			}
			if other := names[key]; other != nil {
				return nil, fmt.Errorf("command %s: the name %s is taken by %s", c.Name, n, other.Name)
			}
			names[key] = c
		}
		if c.Prefix {
			t.addPrefix(c)
		}
	}
	return t, nil
}

func (t *Table) addPrefix(c *Command) {
	i := 0
	// Of two names of one length that whose case counts is asked first.
	for i < len(t.prefix) && (len(t.prefix[i].Name) > len(c.Name) || len(t.prefix[i].Name) == len(c.Name) && !c.Case) {
		i++
	}
	t.prefix = append(t.prefix[:i], append([]*Command{c}, t.prefix[i:]...)...)
}

func (c *Command) check() error {
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, " \t"):
		return fmt.Errorf("command %q: no usable name", c.Name)
	case c.Summary == "" || c.Help == "" || c.Group == "":
		return fmt.Errorf("command %s: summary, help or group missing", c.Name)
	case c.Run == nil:
		return fmt.Errorf("command %s: does nothing", c.Name)
	}
	seen := map[string]bool{}
	optional := false
	for _, a := range c.Args {
		if a.Name == "" || a.Doc == "" || seen[a.Name] {
			return fmt.Errorf("command %s: argument %q: no name of its own or no doc", c.Name, a.Name)
		}
		seen[a.Name] = true
		if a.Switch == "" {
			if optional && !a.Optional {
				return fmt.Errorf("command %s: argument %s follows an optional one", c.Name, a.Name)
			}
			optional = a.Optional
		}
		if a.Kind == KindSwitch && a.Switch == "" {
			return fmt.Errorf("command %s: argument %s: a switch needs its spelling", c.Name, a.Name)
		}
	}
	return nil
}

// All gives the commands in the order they were declared.
func (t *Table) All() []*Command { return t.all }

// Find gives the command that a line starts with, and the rest of the line.
// Names are matched whatever their case, as kd does, but for those of Case;
// whole words first.
func (t *Table) Find(line string) (c *Command, rest string, ok bool) {
	word, rest := cutWord(line)
	if c := t.exact[word]; c != nil {
		return c, rest, true
	}
	if c := t.byName[strings.ToLower(word)]; c != nil {
		return c, rest, true
	}
	// What can't stand in a name ends it: ".if(1){...}", "dd@rsp".
	if n := nameEnd(word); n > 0 && n < len(word) {
		c := t.exact[word[:n]]
		if c == nil {
			c = t.byName[strings.ToLower(word[:n])]
		}
		if c != nil {
			return c, line[n:], true
		}
	}
	for _, c := range t.prefix {
		if len(line) < len(c.Name) {
			continue
		}
		if head := line[:len(c.Name)]; head == c.Name || !c.Case && strings.EqualFold(head, c.Name) {
			return c, line[len(c.Name):], true
		}
	}
	return nil, "", false
}

// Lookup gives a command by one of its names; a leading "!" or "." may be
// missing.
func (t *Table) Lookup(name string) (*Command, bool) {
	if c := t.exact[name]; c != nil {
		return c, true
	}
	for _, n := range []string{name, "!" + name, "." + name} {
		if c := t.byName[strings.ToLower(n)]; c != nil {
			return c, true
		}
	}
	return nil, false
}

// Similar gives up to max names close to a mistyped one: the closest there are.
func (t *Table) Similar(name string, max int) []string {
	type near struct {
		name string
		d    int
	}
	var all []near
	for _, c := range t.all {
		d := distance(strings.ToLower(name), strings.ToLower(c.Name))
		if d <= 2 && d < len(c.Name) || strings.EqualFold(strings.TrimLeft(c.Name, "!."), strings.TrimLeft(name, "!.")) {
			all = append(all, near{c.Name, d})
		}
	}
	var out []string
	// Names farther away than the closest would only distract.
	for d := 0; d <= 3 && len(out) == 0; d++ {
		for _, n := range all {
			if n.d == d && len(out) < max {
				out = append(out, n.name)
			}
		}
	}
	return out
}

// Closest gives up to max of some names that are spelled almost like a mistyped
// one, closest first: at most two letters apart, in any case, with or without a
// leading underscore.
func Closest(name string, names []string, max int) []string {
	bare := func(s string) string { return strings.ToLower(strings.TrimLeft(s, "_")) }
	word := bare(name)
	var near [3][]string // by distance
	for _, n := range names {
		b := bare(n)
		if len(b)-len(word) > 2 || len(word)-len(b) > 2 || len(b) <= 2 {
			continue
		}
		if d := distance(word, b); d < len(near) {
			near[d] = append(near[d], n)
		}
	}
	all := slices.Concat(near[0], near[1], near[2])
	return all[:min(max, len(all))]
}

// distance is the number of single-character edits between two words.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}

// nameEnd gives the length of the name of a command that a word begins with.
func nameEnd(word string) int {
	for i := range len(word) {
		if c := word[i]; !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || digit(c) || strings.IndexByte("._!+", c) >= 0) {
			return i
		}
	}
	return len(word)
}

// blanks are what separates words. A new line is one inside the arguments of a
// block; a SoftNewline comes out of an alias.
const blanks = " \t\r\n\v"

func cutWord(line string) (word, rest string) {
	if i := strings.IndexAny(line, blanks+";"); i >= 0 {
		return line[:i], line[i:]
	}
	return line, ""
}
