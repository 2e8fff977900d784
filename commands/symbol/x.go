package symbol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	cmds "gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

var x = &cmds.Command{
	Name: "x", Group: cmds.GroupSymbols,
	Summary: "list the symbols that match a pattern",
	Help: `Lists the symbols of modules that match MODULE!PATTERN, whatever their case: * any
run of characters, ? any one, [a-c] one of these, # and + the character before
them any number of times, or at least once. A leading underscore stands for any
number of them. The module may be a pattern too; x *! lists the modules. Without a
module all modules whose symbols are loaded are searched.

  /0 /1 /2  addresses only; names only; addresses and names
  /t        the type before the name; /v: class, address and size before it
  /f /d     functions only; data only
  /s SIZE   symbols of that size, and those of an unknown one
  /q /p     names in @!"..."; no blank before the parameters
  /a /A /n /N /z /Z   sorted by address, name, size; capitals: downwards

Variables are shown with their value where their type is known: private PDB
symbols know it, public ones and most tables of Volatility 3 do not. Whether a
name is a function then follows from the section that it lies in; where the
image's headers are not in the dump either, all names are listed as without a
type. A public name is left out where a private one has its address. Local
variables, x *, are not shown.`,
	Example: "x nt!Ex*Fast*\nx /2 sis!*",
	SeeAlso: []string{"ln", "dt"},
	Args: []cmds.Arg{{
		Name: "[/options] [module!]pattern", Kind: cmds.KindRest, Complete: cmds.CompleteSymbol,
		Doc: "names with wildcards",
	}},
	Needs: cmds.NeedTarget,
	Run:   runX,
}

// xOptions are what a line of x asks for.
type xOptions struct {
	short           byte // '0', '1', '2'; 0: all
	types, verbose  bool
	quoted, tight   bool
	functions, data bool
	sort            byte // a A n N z Z; 0: by name
	size            *uint64
	module, pattern string
	modules         bool
}

// parseX reads the arguments of x.
func parseX(ctx context.Context, text string, eval cmds.Evaluator) (o xOptions, err error) {
	text = strings.TrimSpace(text)
	for strings.HasPrefix(text, "/") {
		word, rest, _ := strings.Cut(text, " ")
		text = strings.TrimSpace(rest)
		for letters := word[1:]; letters != ""; letters = letters[1:] {
			if letters[0] == 's' {
				value := letters[1:]
				if value == "" {
					value, text, _ = strings.Cut(text, " ")
					text = strings.TrimSpace(text)
				}
				if o.size, err = sizeOf(ctx, value, eval); err != nil {
					return o, err
				}
				break
			}
			if letters[0] != '/' && !o.set(letters[0]) {
				return o, fmt.Errorf("unknown option /%c", letters[0])
			}
		}
	}
	module, pattern, ok := strings.Cut(text, "!")
	switch {
	case text == "":
		return o, errors.New("a pattern is missing")
	case ok && pattern == "":
		o.module, o.modules = module, true
	case ok:
		o.module, o.pattern = module, pattern
	default:
		o.pattern = text
	}
	return o, nil
}

func sizeOf(ctx context.Context, text string, eval cmds.Evaluator) (*uint64, error) {
	if text == "" || eval == nil {
		return nil, errors.New("/s needs a size")
	}
	v, err := eval.Eval(ctx, text)
	if err == nil && v == 0 {
		err = errors.New("/s needs a size other than 0")
	}
	return &v, err
}

func (o *xOptions) set(c byte) bool {
	switch c {
	case '0', '1', '2':
		o.short = c
	case 't':
		o.types = true
	case 'v':
		o.verbose = true
	case 'q':
		o.quoted = true
	case 'p':
		o.tight = true
	case 'f':
		o.functions = true
	case 'd':
		o.data = true
	case 'a', 'A', 'n', 'N', 'z', 'Z':
		o.sort = c
	case 'D': // links, which a terminal has not
	default:
		return false
	}
	return true
}

// symbolRecord is a symbol in the answers of x and ln.
type symbolRecord struct {
	Name    string         `json:"name"`
	Module  string         `json:"module"`
	Address report.Addr    `json:"address"`
	Size    *uint32        `json:"size"`
	Kind    string         `json:"kind"` // function, data, unknown
	Private bool           `json:"private"`
	TypeOf  *string        `json:"type"`
	Value   *string        `json:"value"`
	Missing report.Missing `json:"missing,omitempty"`

	opt *xOptions
}

// Type names the record.
func (*symbolRecord) Type() string { return "symbol" }

// WriteText writes the line of x.
func (r *symbolRecord) WriteText(p *report.Printer) {
	name := r.Module + "!" + shownName(r.Name)
	if r.opt.quoted {
		name = `@!"` + name + `"`
	}
	blank := " "
	if p.Era == report.Era62 {
		blank = "   " // as debuggers of the 2010s did
	}
	switch r.opt.short {
	case '0':
		p.Printf("%s\n", r.Address.Tick())
		return
	case '1':
		p.Printf("%s\n", name)
		return
	case '2':
		p.Printf("%s%s%s\n", r.Address.Tick(), blank, name)
		return
	}
	if r.opt.verbose {
		p.Printf("%s ", report.Text(r.class(p.Era)))
	}
	p.Printf("%s", r.Address.Tick())
	if r.opt.verbose {
		size := uint32(0)
		if r.Size != nil {
			size = *r.Size
		}
		p.Printf(" %4x ", size)
	} else {
		p.Printf("%s", blank)
	}
	if r.opt.types {
		p.Printf("%s ", r.typeWord())
	}
	p.Printf("%s%s\n", name, r.tail(r.opt))
}

// shownName gives a name as kd prints it: those of C++ without what the compiler
// adds.
func shownName(name string) string { return model.Undecorate(name) }

// class gives the words of x /v: where the symbol comes from, and what it is.
func (r *symbolRecord) class(era report.Era) string {
	what := "global"
	if r.Kind == "function" {
		what = "func"
	}
	switch {
	case era == report.Era62:
		return what
	case r.Private:
		return fmt.Sprintf("prv %-6s", what)
	}
	return fmt.Sprintf("pub %-6s", what)
}

func (r *symbolRecord) typeWord() string {
	if r.TypeOf == nil {
		return "<NoType>"
	}
	return *r.TypeOf
}

// tail gives what stands behind a name: the parameters of a function, or the
// value of a variable.
func (r *symbolRecord) tail(o *xOptions) string {
	switch {
	case r.Kind == "function":
		params := "(<no parameter info>)"
		if r.Value != nil {
			params = *r.Value
		}
		if o.tight {
			return params
		}
		return " " + params
	case r.Value == nil:
		return " = <no type information>"
	case o.verbose && r.TypeOf != nil:
		return " = " + *r.TypeOf
	}
	return " = " + *r.Value
}

func runX(ctx context.Context, s *cmds.Session, in cmds.Args, out report.Sink) error {
	o, err := parseX(ctx, in.Raw, s.Eval)
	switch {
	case err != nil:
		return cmds.Misuse(err)
	case o.modules:
		return listModules(ctx, s, o.module, out)
	case o.module == "" && o.pattern == "*":
		return errors.New("x * lists local variables, which gokd does not show; x nt!* lists the kernel's symbols")
	}
	modules := chooseModules(s.Kernel, o.module)
	if len(modules) == 0 {
		return fmt.Errorf("x: no module matches %q (lm lists them)", o.module)
	}
	var why error
	count, unknown := 0, false
	for _, m := range modules {
		n, blind, err := o.module1(ctx, s, m, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && why == nil {
			why = err
		}
		count, unknown = count+n, unknown || blind
	}
	switch {
	case count == 0 && why != nil && len(modules) == 1:
		return fmt.Errorf("x: symbols of %s: %w", modules[0].Name, why)
	case unknown && (o.functions || o.data):
		return out.Emit(report.Note("some symbols may be functions or data: the table does not tell, and the image's headers are not in the dump"))
	}
	return nil
}

// listModules is x MODULE!: the modules that a pattern matches.
func listModules(_ context.Context, s *cmds.Session, pattern string, out report.Sink) error {
	if err := out.Emit(report.Text("start             end                 module name\n")); err != nil {
		return err
	}
	mods := slices.Clone(chooseModules(s.Kernel, cmp.Or(pattern, "*")))
	slices.SortStableFunc(mods, func(a, b *model.Module) int { return cmp.Compare(a.Base, b.Base) })
	for _, m := range mods {
		if err := out.Emit(moduleOf(m)); err != nil {
			return err
		}
	}
	return nil
}

// hit is a symbol that matches, before its record is made.
type hit struct {
	sym  types.Symbol
	kind types.SymbolKind
	size uint32
}

// module1 lists the symbols of one module. blind tells that it was not known of
// all whether they are functions.
func (o *xOptions) module1(ctx context.Context, s *cmds.Session, m *model.Module, out report.Sink) (n int, blind bool, err error) {
	symbols, err := m.Symbols(ctx)
	if err != nil || symbols == nil {
		return 0, false, err
	}
	d := newDescriber(ctx, s, m, symbols)
	match := symbolMatcher(o.pattern)
	private := privateAddresses(symbols)
	var hits []hit
	for sym := range symbols.All() {
		// A public name stands in for a private one only where there is none.
		if !sym.Private && private[sym.RVA] {
			continue
		}
		if shown := shownName(sym.Name); !match(shown) && (shown == sym.Name || !match(sym.Name)) {
			continue
		}
		h := d.hit(sym)
		if h.kind == types.SymUnknown {
			blind = true
		}
		if o.wants(h) {
			hits = append(hits, h)
		}
	}
	o.order(hits)
	for i := range hits {
		if err := ctx.Err(); err != nil {
			return n, blind, err
		}
		if err := out.Emit(d.record(&hits[i], o)); err != nil {
			return n, blind, err
		}
		n++
	}
	return n, blind, nil
}

// privateAddresses gives the addresses with a private symbol; nil where the table
// has none.
func privateAddresses(symbols types.Symbols) map[uint32]bool {
	if symbols.Describe() != "private pdb" {
		return nil
	}
	at := map[uint32]bool{}
	for sym := range symbols.All() {
		if sym.Private {
			at[sym.RVA] = true
		}
	}
	return at
}

// symbolMatcher matches names as kd matches symbols: whatever their case, and a
// leading underscore for any number of them.
func symbolMatcher(pattern string) func(name string) bool {
	if !strings.HasPrefix(pattern, "_") {
		w := cmds.NewWildcard(pattern, true)
		return w.Match
	}
	w := cmds.NewWildcard(strings.TrimLeft(pattern, "_"), true)
	return func(name string) bool { return w.Match(strings.TrimLeft(name, "_")) }
}

// wants applies the filters. What is not known is not filtered out.
func (o *xOptions) wants(h hit) bool {
	switch {
	case o.functions && h.kind == types.SymData, o.data && h.kind == types.SymFunction:
		return false
	case o.size != nil && h.size != 0 && uint64(h.size) != *o.size:
		return false
	}
	return true
}

// order sorts as an option asks; the names come sorted.
func (o *xOptions) order(hits []hit) {
	var by func(a, b hit) int
	switch o.sort {
	case 'a', 'A':
		by = func(a, b hit) int { return cmp.Compare(a.sym.RVA, b.sym.RVA) }
	case 'z', 'Z':
		by = func(a, b hit) int { return cmp.Compare(a.size, b.size) }
	case 'N':
		slices.Reverse(hits)
		return
	default:
		return
	}
	if o.sort == 'A' || o.sort == 'Z' {
		up := by
		by = func(a, b hit) int { return up(b, a) }
	}
	slices.SortStableFunc(hits, by)
}

// describer tells what is known of the symbols of one module.
type describer struct {
	m      *model.Module
	typed  types.TypedSymbols // nil where the table knows no types
	image  *types.Image       // nil where the headers are not in the dump
	values *valuer
}

func newDescriber(ctx context.Context, s *cmds.Session, m *model.Module, symbols types.Symbols) *describer {
	d := &describer{m: m}
	d.typed, _ = symbols.(types.TypedSymbols)
	d.image, _ = m.Header()
	store, _ := m.Types(ctx)
	d.values = &valuer{
		ctx: ctx, store: store, mem: &reader{read: func(p []byte, at uint64) (int, error) { return s.ReadVirtual(p, mem.VA(at)) }},
		name: func(mem.VA) string { return "" },
	}
	return d
}

// hit finds out what a symbol is.
func (d *describer) hit(sym types.Symbol) hit {
	h := hit{sym: sym, kind: sym.Kind, size: sym.Size}
	if h.kind == types.SymUnknown && d.image != nil {
		if sec, ok := d.image.SectionAt(sym.RVA); ok {
			h.kind = types.SymData
			if sec.Executable() {
				h.kind = types.SymFunction
			}
		}
	}
	if h.size == 0 && d.typed != nil && h.kind != types.SymFunction {
		if t, ok := d.typed.TypeOf(sym.Name); ok {
			h.size = t.Size
		}
	}
	return h
}

// record makes the record of a symbol, with its value where its type is known.
func (d *describer) record(h *hit, o *xOptions) *symbolRecord {
	r := &symbolRecord{
		Name: h.sym.Name, Module: d.m.Name, Address: report.Addr(uint64(d.m.Base) + uint64(h.sym.RVA)),
		Kind: "unknown", Private: h.sym.Private, opt: o,
	}
	if h.size != 0 {
		r.Size = &h.size
	}
	switch h.kind {
	case types.SymFunction:
		r.Kind = "function"
	case types.SymData:
		r.Kind = "data"
	}
	if d.typed == nil || o.short != 0 {
		return r
	}
	t, ok := d.typed.TypeOf(h.sym.Name)
	if !ok || t == nil {
		return r
	}
	text := cText(t, 0)
	r.TypeOf = &text
	if t.Kind == types.KindFunction {
		r.Kind = "function"
		if knownFunction(t) {
			r.Value = &t.Name
			whole := cText(t.Elem, 0) + " " + t.Name
			r.TypeOf = &whole
		}
		return r
	}
	value := text
	if t.Kind != types.KindStruct && t.Kind != types.KindUnion && t.Kind != types.KindArray {
		var err error
		value, _, err = d.values.value(t, uint64(r.Address), 0)
		r.Missing.Set("value", err)
		value = strings.TrimRight(value, " ")
	}
	r.Value = &value
	return r
}
