package pool

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/pool"
	"gokd/model/types"
)

// typesRecord names the types of a module that have the size that was asked for.
type typesRecord struct {
	Tag    string      `json:"tag"`
	Module string      `json:"module"`
	Least  uint64      `json:"least"` // bytes
	Most   uint64      `json:"most"`
	Types  []typeMatch `json:"types"`
	More   int         `json:"more"`
}

// typeMatch is one of them.
type typeMatch struct {
	Name string `json:"name"`
	Size uint64 `json:"size"`
}

// Type names the record.
func (*typesRecord) Type() string { return "pool_size_types" }

// OwnLine marks it: kd draws no conclusions.
func (*typesRecord) OwnLine() {}

// WriteText names the types on a line of its own.
func (r *typesRecord) WriteText(p *report.Printer) {
	var list []string
	for _, t := range r.Types {
		list = append(list, report.Sprintf("%s (%#x)", t.Name, t.Size))
	}
	if r.More > 0 {
		list = append(list, fmt.Sprintf("and %d more", r.More))
	}
	if len(list) == 0 {
		p.Own("  No type of %s has that size.\n", r.Module)
		return
	}
	p.Own("  Types of %s of that size: %s.\n", r.Module, report.Text(strings.Join(list, ", ")))
}

// Limits of the search for types.
const (
	maxTypeNames   = 1 << 15 // of one module that are looked at
	maxTypeMatches = 6       // that are named
	maxOwners      = 3       // modules that are looked at
)

// typesOfSize gives the types of a module whose size is in a range.
func typesOfSize(ctx context.Context, store types.Store, least, most uint64) (found []typeMatch, more int) {
	l, ok := store.(types.Lister)
	if !ok {
		return nil, 0
	}
	names := l.TypeNames()
	for _, name := range names[:min(len(names), maxTypeNames)] {
		if ctx.Err() != nil {
			return found, more
		}
		t, err := store.Type(name)
		if err != nil || t.Size == 0 || uint64(t.Size) < least || uint64(t.Size) > most || t.Kind == types.KindEnum {
			continue
		}
		if len(found) == maxTypeMatches {
			more++
			continue
		}
		found = append(found, typeMatch{name, uint64(t.Size)})
	}
	return found, more
}

// owners gives the loaded drivers that a tag is likely of: those whose code
// passes it to the pool, and the one that the description names. The kernel is
// none: it has types of every size.
func (g *sig) owners(ctx context.Context, t pool.Tag) []*model.Module {
	var list []*model.Module
	search, err := pool.SearchTag(ctx, g.s.Kernel, t)
	if err != nil {
		return nil
	}
	for _, u := range search.Users {
		if u.Kind() >= pool.AsOperand && !u.Kernel() && len(list) < maxOwners {
			list = append(list, u.Module)
		}
	}
	if d, ok := g.st.tags.Find(t); ok && len(list) == 0 {
		for _, m := range g.s.Kernel.Modules.All {
			if strings.EqualFold(m.Image, d.Binary) {
				return []*model.Module{m}
			}
		}
	}
	return list
}

// types names the structures of the likely drivers that have the size that was
// asked for, where their symbols tell of types.
func (g *sig) types(ctx context.Context, tag pool.Tag, least, most uint64) error {
	for _, m := range g.owners(ctx, tag) {
		store, err := m.Types(ctx)
		if err != nil || store == nil {
			continue
		}
		found, more := typesOfSize(ctx, store, least, most)
		if err := emit(g.out, &typesRecord{tag.Spell(), m.Name, least, most, append([]typeMatch{}, found...), more}); err != nil {
			return err
		}
	}
	return nil
}
