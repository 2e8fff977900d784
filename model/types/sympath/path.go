package sympath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gokd/model/types"
)

// Path is a symbol path: folders with ISF tables. It implements Resolver.
//
// A table is looked for in each folder, in order: as Volatility 3 and symbol
// stores keep it, PDB/GUID-AGE.json, also below a folder named windows; then
// plainly GUID-AGE.json. The age is decimal, the ending may go on with .xz or
// .gz, upper and lower case are one.
type Path struct {
	dirs    []string
	notes   []string
	folders folders

	mu    sync.Mutex // protects the field below
	known map[string]*resolved
}

// resolved is the answer for one identity; once keeps a second asker waiting
// for the first.
type resolved struct {
	once  sync.Once
	table *types.ISF
	err   error
}

// New reads a symbol path as kd has it: parts separated by semicolons.
// Parts that are no folders (srv*, cache*, a typing mistake) are reported by Notes.
func New(spec string) *Path {
	p := &Path{known: map[string]*resolved{}}
	p.dirs, p.notes = parsePath(spec)
	return p
}

// Folders gives the folders that are searched, in order.
func (p *Path) Folders() []string { return slices.Clone(p.dirs) }

// Notes tells which parts of the path are not used, and why.
func (p *Path) Notes() []string { return slices.Clone(p.notes) }

// Resolve implements Resolver. The store is nil where the table has no types.
// An answer is kept, also that there is none: reading a kernel's table takes a
// good part of a second.
func (p *Path) Resolve(ctx context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if id.Zero() {
		return nil, nil, fmt.Errorf("symbols of %s: no GUID to look for", clip(id.Name))
	}
	names, err := tableNames(id)
	if err != nil {
		return nil, nil, err
	}
	r := p.answer(fmt.Sprintf("%s/%s-%d", strings.Join(names, "/"), id.GUID, id.Age))
	r.once.Do(func() { r.table, r.err = p.search(names, id.GUID, id.Age) })
	switch {
	case r.err != nil:
		return nil, nil, r.err
	case !r.table.HasTypes():
		return nil, r.table, nil
	}
	return r.table, r.table, nil
}

// tableNames gives the names under which a table may lie: the PDB's, and the
// image's with that ending, for a record whose PDB name can't be trusted. The
// GUID and age in the table decide whether it is the right one. An image
// without either is looked for by GUID alone.
func tableNames(id types.ImageID) ([]string, error) {
	var names []string
	var refused error
	base := strings.TrimSuffix(id.Name, filepath.Ext(id.Name))
	for _, name := range []string{id.PDB, base + ".pdb"} {
		if name == "" || name == ".pdb" {
			continue
		}
		clean, err := types.CleanName(name)
		if err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		if clean = strings.ToLower(clean); !slices.Contains(names, clean) {
			names = append(names, clean)
		}
	}
	if len(names) == 0 && refused != nil {
		return nil, fmt.Errorf("symbols of %s: %w", clip(id.Name), refused)
	}
	return names, nil
}

func (p *Path) answer(key string) *resolved {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.known[key]
	if r == nil {
		r = new(resolved)
		p.known[key] = r
	}
	return r
}

// search opens the first table that is there, whole and of that identity. A
// broken one does not hide a good one in a later folder.
func (p *Path) search(names []string, g types.GUID, age uint32) (*types.ISF, error) {
	var broken []error
	for _, dir := range p.dirs {
		for _, file := range p.candidates(dir, names, g, age) {
			t, err := types.OpenISF(file)
			if err == nil {
				err = errors.Join(t.Check(g, age), t.Err())
			}
			if err == nil {
				return t, nil
			}
			broken = append(broken, err)
		}
	}
	if len(broken) > 0 {
		return nil, errors.Join(broken...)
	}
	what := fmt.Sprintf("%s-%d", g, age)
	if len(names) > 0 {
		what = names[0] + "/" + what
	}
	return nil, &types.NotFoundError{What: "symbol table", Name: what, In: "symbol path " + strings.Join(p.dirs, ";")}
}

func (p *Path) candidates(dir string, names []string, g types.GUID, age uint32) []string {
	var ways [][]string
	for _, name := range names {
		ways = append(ways, []string{name}, []string{"windows", name})
	}
	var found []string
	for _, way := range append(ways, nil) {
		for _, ending := range []string{".json", ".json.xz", ".json.gz"} {
			name := fmt.Sprintf("%s-%d%s", g, age, ending)
			if file, ok := p.folders.find(dir, append(slices.Clone(way), name)...); ok {
				found = append(found, file)
			}
		}
	}
	return found
}

var _ types.Resolver = (*Path)(nil)

// clip shortens a name from a target for a message.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
