package symbol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

const dtHelp = `Shows the members of a structure with their offsets and types; with an address,
their values. Fields choose members: NAME, NAME. (its members too), NAME.. (two
levels), A.B.C, ARRAY[3], wildcards. A field that a dot follows is taken for the
beginning of names, as kd does. Several fields, the address and the options stand
in any order behind the name. A name with wildcards lists types.

  -r[N]  open structures and follow pointers, N levels (5)
  -b     open everything inside the structure, arrays too; follow no pointer
  -a[N]  elements of arrays on lines of their own; before the name: N instances
  -v     verbose: sizes and counts (also -d)
  -l F   walk the list that field F links, such as ActiveProcessLinks.Flink
  -c -i -o  one line; no indentation; no offsets
  -p     the address is physical
  -y -n  the next word is the beginning of a name; is a name, no address
  -e -t  list types; -s SIZE those of that size
  .      for the name: that of the last dt

Without a module the type is looked for in nt and then in the modules whose
symbols are loaded. Unsigned numbers are hexadecimal, signed ones decimal with
0n. ?? and ???? stand for what is not in the dump, which the last line names.

Types of nt come from its symbol table. Where there is none, the layout in gokd
knows only the structures that gokd itself uses; a line below the first answer
says so. Types of other modules need their own symbols. Tables of Volatility 3 do
not tell what a function returns (<function>), nor the order of members at one
offset.`

var dt = &cmd.Command{
	Name: "dt", Group: cmd.GroupSymbols,
	Summary: "show a type, or what lies at an address as that type",
	Help:    dtHelp,
	Example: "dt nt!_ERESOURCE\ndt nt!_KTHREAD @$thread State WaitReason",
	SeeAlso: []string{"x", "ln", "!list"},
	Args: []cmd.Arg{{
		Name: "[-options] [module!]type [fields] [address] [-l field]", Kind: cmd.KindRest, Complete: cmd.CompleteField,
		Doc: "a type or variable, then in any order what to show of it and where",
	}},
	Needs: cmd.NeedTarget,
	Run:   runDt,
}

// found is a type with the place that it comes from.
type found struct {
	module *model.Module
	store  types.Store
	t      *types.Type
	at     *uint64 // of a variable
	header bool    // the module was not named: a line says which it is
}

// lastDt is what "." stands for.
type lastDt struct{ module, name string }

type lastDtKey struct{}

func runDt(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	var known *found
	var why error
	find := func(o *dtOptions) (*found, error) {
		if known == nil && why == nil {
			if why = repeat(s, o); why == nil {
				known, why = findType(ctx, s, o.module, o.name)
			}
		}
		return known, why
	}
	isField := func(o *dtOptions, f fieldPath) bool {
		ty, err := find(o)
		return err == nil && hasField(ty.t, f)
	}
	o, err := parseDt(ctx, in.Raw, s.Eval, isField)
	if err != nil {
		return cmd.Misuse(err)
	}
	if o.help {
		return out.Emit(report.Textf("%s\n", report.Text(dtHelp)))
	}
	if o.name == "" && !o.again {
		return variableAt(ctx, s, o, out)
	}
	if o.enumerates() {
		return listTypes(ctx, s, o, out)
	}
	ty, err := find(o)
	if err != nil {
		return err
	}
	remember(s, o)
	return showFound(ctx, s, o, ty, out)
}

// repeat gives "." its meaning.
func repeat(s *cmd.Session, o *dtOptions) error {
	if !o.again {
		return nil
	}
	last, err := cmd.Cached(s, lastDtKey{}, func() (*lastDt, error) { return new(lastDt), nil })
	if err != nil || last.name == "" {
		return errors.New("dt . repeats the name of an earlier dt: there was none")
	}
	o.module, o.name = last.module, last.name
	return nil
}

func remember(s *cmd.Session, o *dtOptions) {
	last, err := cmd.Cached(s, lastDtKey{}, func() (*lastDt, error) { return new(lastDt), nil })
	if err == nil {
		*last = lastDt{o.module, o.name}
	}
}

// hasField reports whether a type has a member that the first part of a field
// names.
func hasField(t *types.Type, f fieldPath) bool {
	if t == nil || len(f.parts) == 0 {
		return false
	}
	for _, m := range t.Fields {
		if f.parts[0].match.Match(m.Name) {
			return true
		}
	}
	return false
}

// findType finds a type or a variable by name: in the module that was named,
// else in the kernel and then in the modules whose symbols are loaded.
func findType(ctx context.Context, s *cmd.Session, module, name string) (*found, error) {
	k := s.Kernel
	if module != "" {
		m, ok := k.Modules.ByName(module)
		if !ok && strings.EqualFold(module, "ntkrnlmp") {
			m, ok = k.Modules.ByName("nt")
		}
		if !ok {
			return nil, &unknownName{module: module, name: name, why: "no module of that name is loaded (lm lists them)"}
		}
		ty, err := typeIn(ctx, m, name)
		if err != nil {
			return nil, notFound(m, name, err)
		}
		return ty, nil
	}
	var first error
	for _, m := range k.Modules.All {
		loaded, _ := m.LoadedSymbols()
		if m.Base != k.Base && loaded == nil {
			continue
		}
		ty, err := typeIn(ctx, m, name)
		if err == nil {
			ty.header = true
			return ty, nil
		}
		if first == nil {
			first = notFound(m, name, err)
		}
	}
	// Without modules there are the kernel's layouts all the same.
	if first == nil && k.Types != nil {
		if t, err := lookupType(k.Types, name); err == nil {
			return &found{store: k.Types, t: t}, nil
		}
	}
	if t, ok := baseAliases[strings.ToUpper(name)]; ok {
		return &found{t: t, store: k.Types}, nil
	}
	if first == nil {
		first = &unknownName{name: name, why: "no symbols are loaded"}
	}
	var near *unknownName
	if errors.As(first, &near) && len(near.near) > 0 {
		return nil, first
	}
	return nil, fmt.Errorf("%w; of the other modules only those are searched whose symbols are loaded: name the module, as in dt MODULE!%s", first, name)
}

// typeIn finds a type, else a variable of a known type, in one module: first as
// spelled, then types whose names differ in case or a leading underscore.
func typeIn(ctx context.Context, m *model.Module, name string) (*found, error) {
	store, err := m.Types(ctx)
	if err == nil {
		t, terr := store.Type(name)
		if terr == nil {
			return &found{module: m, store: store, t: t}, nil
		}
		err = terr
	}
	var untyped error
	if symbols, serr := m.Symbols(ctx); serr == nil && symbols != nil {
		if sym, ok := symbols.Lookup(name); ok {
			at := uint64(m.Base) + uint64(sym.RVA)
			if typed, ok := symbols.(types.TypedSymbols); ok {
				if t, ok := typed.TypeOf(sym.Name); ok && t != nil {
					return &found{module: m, store: store, t: t, at: &at}, nil
				}
			}
			untyped = &untypedError{m.Name, sym.Name, at, symbols.Describe()}
		}
	}
	if store != nil {
		if t, err := lookupType(store, name); err == nil {
			return &found{module: m, store: store, t: t}, nil
		}
	}
	if t, ok := baseAliases[strings.ToUpper(name)]; ok {
		return &found{module: m, store: store, t: t}, nil
	}
	return nil, cmp.Or(untyped, err)
}

// untypedError says that a variable's type is not known.
type untypedError struct {
	module, name string
	at           uint64
	source       string
}

func (e *untypedError) Error() string {
	return fmt.Sprintf("%s!%s at %s: <no type information>: its %s symbols do not tell its type; dt TYPE %x shows it as a type that you name",
		e.module, e.name, pointer(e.at), e.source, e.at)
}

// lookupType finds a type as spelled, with an underscore before it, or whatever
// its case.
func lookupType(store types.Store, name string) (*types.Type, error) {
	t, err := store.Type(name)
	if err == nil {
		return t, nil
	}
	if t, uerr := store.Type("_" + name); uerr == nil {
		return t, nil
	}
	if l, ok := store.(types.Lister); ok {
		for _, n := range l.TypeNames() {
			if strings.EqualFold(n, name) || strings.EqualFold(n, "_"+name) {
				return store.Type(n)
			}
		}
	}
	return nil, err
}

// notFound words what kd says of a name that it does not find, and which symbols
// would know it.
func notFound(m *model.Module, name string, why error) error {
	var untyped *untypedError
	if errors.As(why, &untyped) {
		return why
	}
	err := &unknownName{module: m.Name, name: name}
	var missing *types.NotFoundError
	if why != nil && !errors.As(why, &missing) {
		err.why = why.Error() // it is there, and damaged
		return err
	}
	id := m.ID()
	origin, known := m.SymbolOrigin()
	switch {
	case known && origin.Match == types.MatchExact && origin.File != "":
		// A table that knows all types does not have it.
		if l, ok := m.LoadedTypes().(types.Lister); ok {
			err.near = cmd.Closest(name, l.TypeNames(), 3)
		}
		return err
	case !id.Zero():
		err.why = fmt.Sprintf("types of %s are in its symbols: %s, GUID %s, age %d", m.Name, id.PDB, id.GUID, id.Age)
	default:
		err.why = fmt.Sprintf("types of %s are in its symbols, whose identity is not in the dump: %v", m.Name, why)
	}
	return err
}

// unknownName says in kd's words that nothing has a name, and why.
type unknownName struct {
	module, name, why string
	near              []string // names that may have been meant
}

// Error gives kd's sentence, then the reason.
func (e *unknownName) Error() string {
	name := e.name
	if e.module != "" {
		name = e.module + "!" + name
	}
	switch {
	case e.why == "" && len(e.near) > 0:
		return "Symbol " + name + " not found.\nDid you mean " + strings.Join(e.near, ", ") + "?"
	case e.why == "":
		return "Symbol " + name + " not found."
	}
	return "Symbol " + name + " not found: " + e.why
}

// variableAt shows the variable that lies at an address.
func variableAt(ctx context.Context, s *cmd.Session, o *dtOptions, out report.Sink) error {
	at := mem.VA(*o.address)
	n := s.Kernel.NameOf(ctx, at)
	if n.Module == nil || n.Function == "" || n.Offset != 0 {
		return fmt.Errorf("%#x: no variable begins there; dt TYPE %x shows it as a type that you name", uint64(at), uint64(at))
	}
	ty, err := typeIn(ctx, n.Module, n.Function)
	if err != nil {
		return err
	}
	ty.at = o.address
	o.name = n.Function
	return showFound(ctx, s, o, ty, out)
}

// reading gives the memory that an answer reads.
func (o *dtOptions) reading(s *cmd.Session) (*reader, error) {
	if !o.physical {
		return &reader{read: func(p []byte, at uint64) (int, error) { return s.ReadVirtual(p, mem.VA(at)) }}, nil
	}
	phys := s.Kernel.Source.Physical
	if phys == nil {
		return nil, errors.New("-p: the dump has no physical memory")
	}
	return &reader{read: func(p []byte, at uint64) (int, error) { return phys.ReadPhysical(p, mem.PA(at)) }}, nil
}

// showFound shows a type, an instance, an array of instances or a list.
func showFound(ctx context.Context, s *cmd.Session, o *dtOptions, ty *found, out report.Sink) error {
	at := ty.at
	if o.address != nil {
		at = o.address
	}
	emit := &dtEmitter{ctx: ctx, s: s, o: o, ty: ty, out: out}
	named := ty.t.Kind == types.KindStruct || ty.t.Kind == types.KindUnion || ty.t.Kind == types.KindEnum
	if ty.header && named && !(s.Out.Printer.Era == report.Era26100 && len(o.fields) > 0) {
		emit.head = report.Safe(ty.module.Name+"!"+typeName(ty.t)) + "\n"
	}
	var err error
	switch {
	case at == nil:
		err = emit.one(nil, "")
	case o.list != "":
		err = emit.list(*at)
	case o.array != noArray && len(o.fields) == 0 && (o.array > 0 || ty.t.Kind != types.KindArray) && o.address != nil && !isContainer(ty.t, o):
		err = emit.array(*at, max(o.array, 1))
	case o.count != noArray:
		err = emit.array(*at, o.count)
	default:
		err = emit.one(at, "")
	}
	if errors.Is(err, errNoField) {
		return &noFieldError{emit.similar()}
	}
	if err != nil {
		return err
	}
	return note(s, out, ty.store)
}

// isContainer: -a without a number means the arrays inside a structure.
func isContainer(t *types.Type, o *dtOptions) bool {
	return o.array == 0 && (t.Kind == types.KindStruct || t.Kind == types.KindUnion)
}

// layoutNote says what a layout may lack; empty where it is that of a table that
// matches the image.
func layoutNote(store types.Store) string {
	if store == nil {
		return ""
	}
	o := store.Origin()
	switch {
	case o.Match == types.MatchNearest:
		return o.Source + ", the nearest one: it has the structures that gokd uses, and of them the members that no known update moved"
	case strings.HasPrefix(o.Source, "embedded layout"):
		return o.Source + ": it has the structures that gokd uses, not all of the kernel's"
	case o.Match != types.MatchExact && o.Match != types.MatchSynthetic:
		return o.Source + ": it has only what the debugger data block tells"
	}
	return ""
}

type notedKey struct{ text string }

// note shows what a layout may lack, once in a session: each record names the
// layout in JSON.
func note(s *cmd.Session, out report.Sink, store types.Store) error {
	text := layoutNote(store)
	if text == "" {
		return nil
	}
	done, err := cmd.Cached(s, notedKey{text}, func() (*bool, error) { return new(bool), nil })
	if err != nil || *done {
		return err
	}
	*done = true
	return out.Emit(report.Notef("%s", text))
}

// dtEmitter emits the records of one dt.
type dtEmitter struct {
	ctx  context.Context
	s    *cmd.Session
	o    *dtOptions
	ty   *found
	out  report.Sink
	head string // of the first record
}

// one shows the type, or the instance at an address.
func (e *dtEmitter) one(at *uint64, head string) error {
	t := e.ty.t
	r := &typeRecord{Name: t.Name, Size: t.Size, Kind: kindName(t.Kind), opt: e.o, head: e.head + head, Fields: []dtField{}}
	e.head = ""
	if e.ty.module != nil {
		r.Module = e.ty.module.Name
	}
	if e.ty.store != nil && layoutNote(e.ty.store) != "" {
		r.Layout = e.ty.store.Origin().Source
	}
	v := &valuer{ctx: e.ctx, store: e.ty.store, verbose: e.o.verbose, name: func(at mem.VA) string {
		n := e.s.Kernel.NameOf(e.ctx, at)
		if n.Module == nil || n.Function == "" {
			return n.String()
		}
		return fmt.Sprintf("%s!%s+%x", n.Module.Name, n.Function, n.Offset)
	}}
	var where uint64
	if at != nil {
		where = *at
		a := report.Addr(where)
		r.Address = &a
		m, err := e.o.reading(e.s)
		if err != nil {
			return err
		}
		v.mem = m
	}
	sh := &shower{ctx: e.ctx, v: v, o: e.o, r: r}
	if err := sh.show(t, where); err != nil && !errors.Is(err, errDtLines) {
		return err
	} else if err != nil {
		defer e.out.Emit(report.Notef("%v", err))
	}
	if v.mem != nil {
		r.bad = v.mem.bad
	}
	return e.out.Emit(r)
}

// noFieldError says in kd's words that a type has none of the members asked for.
type noFieldError struct{ why string }

// Error gives kd's sentence, then the reason.
func (e *noFieldError) Error() string { return "Cannot find specified field members. " + e.why }

// Unwrap gives the class.
func (e *noFieldError) Unwrap() error { return errNoField }

// similar names the fields that resemble what was asked for.
func (e *dtEmitter) similar() string {
	if len(e.ty.t.Fields) == 0 {
		return fmt.Sprintf("%s has none", typeName(e.ty.t))
	}
	var near []string
	for _, sel := range e.o.fields {
		if len(sel.parts) == 0 {
			continue
		}
		w := cmd.NewWildcard("*"+sel.parts[0].pattern+"*", true)
		for _, f := range e.ty.t.Fields {
			if w.Match(f.Name) && len(near) < 5 && !slices.Contains(near, f.Name) {
				near = append(near, f.Name)
			}
		}
	}
	text := fmt.Sprintf("%s has no such member", typeName(e.ty.t))
	if len(near) > 0 {
		text += "; it has " + strings.Join(near, ", ")
	}
	if o := e.ty.store; o != nil && strings.HasPrefix(o.Origin().Source, "embedded layout") {
		text += "; the embedded layout may lack members that the module's symbols have"
	}
	return text
}
