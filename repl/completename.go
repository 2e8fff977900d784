package repl

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/types"
)

// operators end a name inside an expression, beside wordSeparators.
const operators = "-/&|<>^%~:?"

// registers are the names that follow "@", sorted: those of the processor, then
// the pseudo-registers (documentation of the debuggers, "Pseudo-Register
// Syntax").
var registers = strings.Fields(`
	cr0 cr2 cr3 cr4 cr8 cs ds efl es fs gs r10 r11 r12 r13 r14 r15 r8 r9
	rax rbp rbx rcx rdi rdx rip rsi rsp ss
	$bug_code $bug_param1 $bug_param2 $bug_param3 $bug_param4 $csp $eventip $exentry $exp $extret
	$frame $ip $p $pcr $peb $prcb $proc $ra $retreg $scopeip
	$t0 $t1 $t2 $t3 $t4 $t5 $t6 $t7 $t8 $t9 $t10 $t11 $t12 $t13 $t14 $t15 $t16 $t17 $t18 $t19
	$teb $thread $tid $tpid`)

// completeRegister offers the registers that a name may become; head is kept
// before them.
func completeRegister(head, name string) []suggestion {
	var out []suggestion
	for _, r := range registers {
		if hasPrefixFold(r, name) {
			out = append(out, suggestion{text: head + r})
		}
	}
	return limit(out)
}

// completeValue completes a word of an expression: a register behind "@", a
// symbol. bare: a name without "@" and "!" may be one too.
func completeValue(s *cmd.Session, word string, bare bool) []suggestion {
	mark := strings.LastIndexByte(word, '!')
	if i := strings.LastIndexByte(word, '@'); i > mark {
		return completeRegister(word[:i+1], word[i+1:])
	}
	end := len(word)
	if mark >= 0 {
		end = mark // names of C++ have operators in them
	}
	at := strings.LastIndexAny(word[:end], operators) + 1
	head, name := word[:at], word[at:]
	if name == "" || !bare && !strings.Contains(name, "!") {
		return nil
	}
	out := completeSymbol(s, name)
	for i := range out {
		out[i].text = head + out[i].text
	}
	return out
}

// minBare is how long a name without a module is before symbols of the kernel
// are offered for it: shorter ones are more likely those of modules.
const minBare = 3

// completeSymbol completes "mod" to "module!" and to symbols of the kernel, and
// "module!pre" to the module's symbols.
func completeSymbol(s *cmd.Session, word string) []suggestion {
	if s.Kernel == nil {
		return nil
	}
	module, prefix, qualified := strings.Cut(word, "!")
	if qualified {
		m, ok := s.Kernel.Modules.ByName(module)
		if !ok {
			return nil
		}
		return named(module+"!", symbolNames(s, m, prefix))
	}
	out := completeModule(s, word, "!")
	if m, ok := kernelModule(s); ok && len(word) >= minBare && len(out) == 0 {
		out = named("", symbolNames(s, m, word))
	}
	return out
}

func kernelModule(s *cmd.Session) (*model.Module, bool) { return s.Kernel.Modules.ByName("nt") }

// named makes suggestions of names.
func named(head string, names []string) []suggestion {
	var out []suggestion
	for _, n := range names {
		out = append(out, suggestion{text: head + n})
	}
	return out
}

// symbolNames gives loaded symbols of a module that begin like this; where none
// does, those that do but for the case of letters, which kd ignores.
func symbolNames(s *cmd.Session, m *model.Module, prefix string) []string {
	loaded, _ := m.LoadedSymbols()
	if loaded == nil {
		return nil
	}
	if names := loaded.Prefix(prefix, maxSuggestions); len(names) > 0 || prefix == "" {
		return names
	}
	return foldedNames(s, symbolList, loaded, loaded.Len(), func() []string {
		names := make([]string, 0, loaded.Len())
		for sym := range loaded.All() {
			names = append(names, sym.Name)
		}
		return names
	}).prefix(prefix)
}

// completeType completes names of types: "pre" to those of the kernel,
// "module!pre" to the module's.
func completeType(s *cmd.Session, word string) []suggestion {
	if s.Kernel == nil {
		return nil
	}
	store, head, name := typeStore(s, word)
	list, ok := store.(types.Lister)
	if !ok {
		return nil
	}
	return named(head, foldedNames(s, typeList, store, 0, list.TypeNames).prefix(name))
}

// typeStore finds the loaded types that a name belongs to.
func typeStore(s *cmd.Session, word string) (store types.Store, head, name string) {
	module, name, qualified := strings.Cut(word, "!")
	if !qualified {
		if m, ok := kernelModule(s); ok {
			return m.LoadedTypes(), "", word
		}
		return s.Kernel.Types, "", word
	}
	m, ok := s.Kernel.Modules.ByName(module)
	if !ok {
		return nil, "", ""
	}
	return m.LoadedTypes(), module + "!", name
}

// completeField completes the arguments of dt: the type, then its fields, or
// symbols and registers for the address.
func completeField(s *cmd.Session, rest, word string) []suggestion {
	if s.Kernel == nil {
		return nil
	}
	typ, list := "", false
	words := strings.Fields(rest)
	for _, w := range words[:len(words)-1] {
		switch {
		case w[0] == '-':
			list = strings.EqualFold(w, "-l")
			continue
		case !list && typ == "":
			typ = w
		}
		list = false
	}
	if typ == "" {
		if out := completeType(s, word); len(out) > 0 {
			return out
		}
		return completeValue(s, word, true)
	}
	if !strings.ContainsAny(word, "!@") {
		if out := fieldNames(s, typ, word); len(out) > 0 {
			return out
		}
	}
	return completeValue(s, word, true)
}

// maxDepth limits how deep a path of fields is followed.
const maxDepth = 16

// fieldNames completes the last part of a path of fields.
func fieldNames(s *cmd.Session, typ, path string) []suggestion {
	store, _, name := typeStore(s, typ)
	if store == nil {
		return nil
	}
	t, err := store.Type(name)
	if err != nil {
		return nil // no such type, or a variable
	}
	parts := strings.Split(path, ".")
	if len(parts) > maxDepth {
		return nil
	}
	for _, part := range parts[:len(parts)-1] {
		part, _, _ = strings.Cut(part, "[")
		i := slices.IndexFunc(t.Fields, func(f types.Field) bool { return strings.EqualFold(f.Name, part) })
		if i < 0 {
			return nil
		}
		if t = structure(store, t.Fields[i].Type); t == nil {
			return nil
		}
	}
	head, prefix := path[:len(path)-len(parts[len(parts)-1])], parts[len(parts)-1]
	var out []suggestion
	for _, f := range t.Fields {
		if hasPrefixFold(f.Name, prefix) && f.Name != "" {
			out = append(out, suggestion{text: head + f.Name})
		}
	}
	slices.SortFunc(out, func(a, b suggestion) int { return compareFold(a.text, b.text) })
	return limit(out)
}

// structure gives the structure that a field is, holds or points at.
func structure(store types.Store, t *types.Type) *types.Type {
	for range maxDepth {
		if t == nil || t.Kind != types.KindPointer && t.Kind != types.KindArray {
			break
		}
		t = t.Elem
	}
	if t != nil && len(t.Fields) == 0 && t.Name != "" {
		if full, err := store.Type(t.Name); err == nil {
			return full
		}
	}
	return t
}

func completeModule(s *cmd.Session, word, mark string) []suggestion {
	if s.Kernel == nil {
		return nil
	}
	var out []suggestion
	for _, m := range s.Kernel.Modules.All {
		if hasPrefixFold(m.Name, word) {
			out = append(out, suggestion{m.Name + mark, m.Image})
		}
	}
	slices.SortFunc(out, func(a, b suggestion) int { return compareFold(a.text, b.text) })
	return limit(out)
}

// sorted is names in the order of their letters, whatever their case.
type sorted []string

// prefix gives the first names that begin like this.
func (l sorted) prefix(prefix string) []string {
	i, _ := slices.BinarySearchFunc(l, prefix, compareLetters)
	var out []string
	for ; i < len(l) && len(out) < maxSuggestions && hasPrefixFold(l[i], prefix); i++ {
		if l[i] != "" {
			out = append(out, l[i])
		}
	}
	return out
}

// Limits of what the completer keeps: names of one list, and lists.
const (
	maxNames = 1 << 18
	maxLists = 32
)

// listOf is a kind of names and the table they are from: one table may have
// symbols and types.
type listOf struct {
	kind  listKind
	table any
}

type listKind uint8

const (
	symbolList listKind = iota
	typeList
)

// lists are names by where they are from.
type lists map[listOf]sorted

// listsKey is where a session keeps them.
type listsKey struct{}

// foldedNames gives the sorted names of a table, made once: a key must not wait
// for forty thousand names each time. expect is how many there will be, as far
// as known; more than can be kept are not asked for.
func foldedNames(s *cmd.Session, kind listKind, table any, expect int, names func() []string) sorted {
	if expect > maxNames || !reflect.ValueOf(table).Comparable() {
		return nil
	}
	all, err := cmd.Cached(s, listsKey{}, func() (lists, error) { return lists{}, nil })
	if err != nil {
		return nil
	}
	list, ok := all[listOf{kind, table}]
	if !ok {
		if len(all) >= maxLists {
			clear(all) // of images that were unloaded
		}
		list = names()
		list = slices.Clone(list[:min(len(list), maxNames)])
		slices.SortFunc(list, compareFold)
		list = slices.Compact(list)
		all[listOf{kind, table}] = list
	}
	return list
}

// lower is the small letter of an ASCII one.
func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// compareLetters orders texts by their bytes, letters of ASCII as small ones.
func compareLetters(a, b string) int {
	for i := range min(len(a), len(b)) {
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

// compareFold orders those that differ in nothing else by case.
func compareFold(a, b string) int {
	return cmp.Or(compareLetters(a, b), strings.Compare(a, b))
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
