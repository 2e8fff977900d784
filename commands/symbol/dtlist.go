package symbol

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types"
)

// rule is the line that dt draws under the heading of an element.
const rule = "---------------------------------------------"

// array shows instances that lie one behind the other.
func (e *dtEmitter) array(at uint64, n int) error {
	if e.ty.t.Size == 0 {
		return fmt.Errorf("%s: its size is not known", typeName(e.ty.t))
	}
	plain := e.ty.t.Kind != types.KindStruct && e.ty.t.Kind != types.KindUnion
	for i := range min(n, maxElements) {
		if err := e.ctx.Err(); err != nil {
			return err
		}
		here := at + uint64(i)*uint64(e.ty.t.Size)
		head := fmt.Sprintf("[%d] ", i)
		if !plain && !e.o.compact {
			head = fmt.Sprintf("[%d] @ %s \n%s\n", i, report.Addr(here).Tick(), rule)
		}
		if err := e.one(&here, head); err != nil {
			return err
		}
		if !plain && !e.o.compact {
			if err := e.out.Emit(report.Text("\n")); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxElements bounds -a and -l.
const maxElements = 1 << 16

// list shows the structures that a field links: -l. A list ends at a null
// pointer or where it comes back to its first structure; one that comes back to
// another never would.
func (e *dtEmitter) list(at uint64) error {
	link, err := linkOf(e.ty.store, e.ty.t, e.o.list)
	if err != nil {
		return fmt.Errorf("-l %s: %w", e.o.list, err)
	}
	m, err := e.o.reading(e.s)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for here := at; ; {
		head := fmt.Sprintf("%s at %s\n%s\n", report.Safe(e.o.list), pointer(here), rule)
		if err := e.one(&here, head); err != nil {
			return err
		}
		if err := e.out.Emit(report.Text("\n")); err != nil {
			return err
		}
		seen[here] = true
		next, err := link.next(m, here)
		switch {
		case e.ctx.Err() != nil:
			return e.ctx.Err()
		case err != nil:
			return e.out.Emit(report.Notef("the list breaks off: %v; %d shown", err, len(seen)))
		case next == 0 || next == at:
			return nil
		case seen[next]:
			return e.out.Emit(report.Notef("the list comes back to %#x, not to its start; %d shown", next, len(seen)))
		case len(seen) >= maxElements:
			return e.out.Emit(report.Notef("the list is longer than %d; the rest is not shown", maxElements))
		}
		here = next
	}
}

// link is how structures of a list follow each other.
type link struct {
	path   []types.Field // members down to the pointer; those before a pointer are followed
	offset uint64        // of the entry that the pointer leads to, in the next structure
}

// linkOf resolves the field that links a list. Where its last member is the
// pointer of a list entry inside the structure, it leads to the entry of the
// next one, whose start lies before it.
func linkOf(store types.Store, t *types.Type, path string) (*link, error) {
	l := &link{}
	owner := t
	entry := uint64(0) // offset of the structure that holds the pointer
	for name := range strings.SplitSeq(path, ".") {
		if len(l.path) >= maxFieldPath {
			return nil, fmt.Errorf("more than %d members", maxFieldPath)
		}
		f, ok := memberOf(owner, name)
		if !ok {
			return nil, &types.NotFoundError{What: "field", Name: name, In: typeName(owner)}
		}
		l.path = append(l.path, f)
		inner := f.Type
		if inner.Kind == types.KindPointer {
			inner = inner.Elem
		} else {
			entry += uint64(f.Offset)
		}
		if inner != nil && len(inner.Fields) == 0 && store != nil && inner.Name != "" {
			if full, err := store.Type(inner.Name); err == nil {
				inner = full
			}
		}
		if f.Type.Kind == types.KindPointer && owner != t && inner != nil && inner.Name == owner.Name {
			l.offset = entry // the pointer leads to another entry of the same kind
		}
		if owner = inner; owner == nil {
			owner = &types.Type{Name: "void"}
		}
	}
	if last := l.path[len(l.path)-1]; last.Type.Kind != types.KindPointer {
		return nil, fmt.Errorf("%s is no pointer but %s", last.Name, typeText(last.Type, false))
	}
	return l, nil
}

func memberOf(t *types.Type, name string) (types.Field, bool) {
	if f, ok := t.Field(name); ok {
		return f, true
	}
	for _, f := range t.Fields {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return types.Field{}, false
}

// next reads where the structure after the one at an address begins; 0 ends.
func (l *link) next(m *reader, at uint64) (uint64, error) {
	v := &valuer{mem: m}
	for _, f := range l.path {
		at += uint64(f.Offset)
		if f.Type.Kind != types.KindPointer {
			continue
		}
		n, err := v.raw(f.Type, at)
		if err != nil || n == 0 {
			return 0, err
		}
		at = n
	}
	if at < l.offset {
		return 0, fmt.Errorf("%#x: no structure can begin before it", at)
	}
	return at - l.offset, nil
}

// typeItem is a type or variable in a list of names.
type typeItem struct {
	Name    string       `json:"name"`
	Module  string       `json:"module"`
	Size    *uint32      `json:"size"`
	Address *report.Addr `json:"address"`
	verbose bool
}

// Type names the record.
func (*typeItem) Type() string { return "type_name" }

// WriteText writes the line of dt MODULE!PATTERN.
func (r *typeItem) WriteText(p *report.Printer) {
	at := strings.Repeat(" ", 9)
	if r.Address != nil {
		at = r.Address.Tick() + " "
	}
	if r.verbose {
		size := uint32(0)
		if r.Size != nil {
			size = *r.Size
		}
		p.Printf("%s  %03x %s!%s\n", report.Text(at), size, r.Module, r.Name)
		return
	}
	p.Printf("%s %s!%s\n", report.Text(at), r.Module, r.Name)
}

// listTypes lists the types, and the variables of known types, that a pattern
// matches.
func listTypes(ctx context.Context, s *cmd.Session, o *dtOptions, out report.Sink) error {
	pattern := o.name
	if o.prefix || o.enumerate && !strings.ContainsAny(pattern, "*?[#+") && o.size != nil {
		pattern += "*"
	}
	w := cmd.NewWildcard(pattern, true)
	modules := chooseModules(s.Kernel, o.module)
	if len(modules) == 0 {
		return &unknownName{module: o.module, name: o.name, why: "no module of that name is loaded (lm lists them)"}
	}
	if o.verbose {
		size := ""
		if o.size != nil {
			size = fmt.Sprintf(", Size = %#x", *o.size)
		}
		shown := pattern
		if o.module != "" {
			shown = o.module + "!" + pattern
		}
		if err := out.Emit(report.Textf("Enumerating symbols matching %s%s\nAddress   Size Symbol\n", shown, size)); err != nil {
			return err
		}
	}
	count := 0
	var firstErr error
	var one *found
	for _, m := range modules {
		items, first, err := typesMatching(ctx, m, w, o)
		if err != nil && firstErr == nil {
			firstErr = err
		}
		for _, it := range items {
			if err := out.Emit(it); err != nil {
				return err
			}
		}
		if count += len(items); one == nil {
			one = first
		}
	}
	switch {
	case count == 0 && firstErr != nil:
		return notFound(modules[0], o.name, firstErr)
	case count == 0:
		return &unknownName{module: modules[0].Name, name: o.name}
	case o.prefix && one != nil: // -y shows the first match in full
		return showFound(ctx, s, o, one, out)
	}
	return nil
}

// chooseModules gives the modules that a name, a pattern or nothing chooses.
func chooseModules(k *model.Kernel, pattern string) []*model.Module {
	if pattern == "" {
		var loaded []*model.Module
		for _, m := range k.Modules.All {
			if s, _ := m.LoadedSymbols(); s != nil || m.Base == k.Base {
				loaded = append(loaded, m)
			}
		}
		return loaded
	}
	if m, ok := k.Modules.ByName(pattern); ok {
		return []*model.Module{m}
	}
	if strings.EqualFold(pattern, "ntkrnlmp") {
		if m, ok := k.Modules.ByName("nt"); ok {
			return []*model.Module{m}
		}
	}
	w := cmd.NewWildcard(pattern, true)
	var some []*model.Module
	for _, m := range k.Modules.All {
		if w.Match(m.Name) {
			some = append(some, m)
		}
	}
	return some
}

// typesMatching gives a module's types that a pattern matches, sorted by name.
func typesMatching(ctx context.Context, m *model.Module, w *cmd.Wildcard, o *dtOptions) ([]*typeItem, *found, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	store, err := m.Types(ctx)
	if err != nil {
		return nil, nil, err
	}
	lister, ok := store.(types.Lister)
	if !ok {
		return nil, nil, errors.New("its symbols can't list their types")
	}
	items := variablesMatching(ctx, m, w, o)
	var first *found
	for _, name := range lister.TypeNames() {
		if !w.Match(name) || len(items) >= maxDtLines {
			continue
		}
		t, err := store.Type(name)
		if err != nil || nameless(name) {
			continue
		}
		if o.size != nil && uint64(t.Size) != *o.size {
			continue
		}
		if first == nil {
			first = &found{module: m, store: store, t: t}
		}
		size := t.Size
		items = append(items, &typeItem{Name: name, Module: m.Name, Size: &size, verbose: o.verbose})
	}
	return items, first, nil
}

// variablesMatching gives a module's variables of known types, which kd lists
// before the types.
func variablesMatching(ctx context.Context, m *model.Module, w *cmd.Wildcard, o *dtOptions) (items []*typeItem) {
	symbols, err := m.Symbols(ctx)
	typed, ok := symbols.(types.TypedSymbols)
	if err != nil || !ok || o.prefix {
		return nil
	}
	for sym := range typed.All() {
		if !w.Match(sym.Name) || len(items) >= maxDtLines {
			continue
		}
		t, ok := typed.TypeOf(sym.Name)
		if !ok || t == nil || t.Kind == types.KindFunction || o.size != nil && uint64(t.Size) != *o.size {
			continue
		}
		size, at := t.Size, report.Addr(uint64(m.Base)+uint64(sym.RVA))
		items = append(items, &typeItem{Name: sym.Name, Module: m.Name, Size: &size, Address: &at, verbose: o.verbose})
	}
	return items
}
