package model

import (
	"context"
	"reflect"
	"strings"
	"sync"

	"gokd/model/types"
	"gokd/model/types/undname"
)

// Undecorate gives the name of a symbol as debuggers show it: of the names that
// C++ compilers decorate, the qualified name without types. Other names, and
// those that can't be read, stay as they are.
func Undecorate(name string) string {
	if !undname.Decorated(name) {
		return name
	}
	if s, err := undname.Demangle(name, undname.NameOnly); err == nil {
		return s
	}
	return name
}

// Limits of what an undecorator keeps. A large C++ program has some 100,000
// decorated names.
const (
	maxShown       = 1 << 13
	maxUndecorated = 1 << 18
	maxNameBytes   = 32 << 20
)

// undecorator undecorates names once: those of frames come again and again, and
// typed names are looked for by what is shown.
type undecorator struct {
	mu sync.Mutex // protects the fields below

	shown  map[string]string
	tables map[types.Symbols]map[string]uint32 // RVAs by undecorated name
	bytes  int                                 // of the names in tables
}

// show is Undecorate with a memory.
func (u *undecorator) show(name string) string {
	if !undname.Decorated(name) {
		return name
	}
	if u == nil {
		return Undecorate(name)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	s, ok := u.shown[name]
	if !ok {
		s = Undecorate(name)
		if u.shown == nil || len(u.shown) >= maxShown {
			u.shown = map[string]string{}
		}
		u.shown[name] = s
	}
	return s
}

// lookup finds an undecorated name in a table of symbols. Of overloaded
// functions it gives the one whose decorated name sorts first.
func (u *undecorator) lookup(ctx context.Context, s types.Symbols, name string) (rva uint32, ok bool) {
	if u == nil || !reflect.TypeOf(s).Comparable() {
		return 0, false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	table, made := u.tables[s]
	if !made {
		if table = u.table(ctx, s); ctx.Err() != nil {
			return 0, false // it may have ended early
		}
		if u.tables == nil {
			u.tables = map[types.Symbols]map[string]uint32{}
		}
		u.tables[s] = table
	}
	rva, ok = table[name]
	return rva, ok
}

// table undecorates the names of a table. Names that begin with "?" stand
// together, as tables are sorted.
func (u *undecorator) table(ctx context.Context, s types.Symbols) map[string]uint32 {
	var table map[string]uint32
	for sym := range s.All() {
		if sym.Name > "@" || len(table) >= maxUndecorated || u.bytes > maxNameBytes || ctx.Err() != nil {
			break
		}
		if !undname.Decorated(sym.Name) || strings.HasPrefix(sym.Name, stringLiteral) {
			continue
		}
		name := Undecorate(sym.Name)
		if _, taken := table[name]; taken || name == sym.Name {
			continue
		}
		if table == nil {
			table = map[string]uint32{}
		}
		table[name] = sym.RVA
		u.bytes += len(name)
	}
	return table
}
