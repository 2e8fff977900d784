package model

import (
	"context"
	"fmt"
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

// Name is an address as a debugger names it.
type Name struct {
	Module   *Module // nil outside every module
	Function string  // undecorated; empty where no symbol is known
	// Decorated is the symbol's name as its table spells it, for lookups; equal
	// to Function but for C++.
	Decorated string
	Offset    uint64 // bytes from the function, or from the module's base
	RVA       uint32 // bytes from the module's base
}

// Plain gives the name as it is to be shown: code whose nearest symbol is a
// string constant has no function of that name.
func (n Name) Plain() Name {
	if n.Offset > 0 && (strings.HasPrefix(n.Decorated, stringLiteral) || strings.HasPrefix(n.Function, stringLiteral)) {
		n.Function, n.Decorated, n.Offset = "", "", uint64(n.RVA)
	}
	return n
}

// String gives "nt!KiSwapContext+0x7a", "sis+0x1234", or "" outside every module.
func (n Name) String() string {
	n = n.Plain()
	switch {
	case n.Module == nil:
		return ""
	case n.Function == "":
		return fmt.Sprintf("%s+%#x", n.Module.Name, n.Offset)
	case n.Offset == 0:
		return n.Module.Name + "!" + n.Function
	}
	return fmt.Sprintf("%s!%s+%#x", n.Module.Name, n.Function, n.Offset)
}

// NameOf names an address by its module and the nearest symbol at or below it.
// Where only an export table or embedded addresses are known, a symbol counts
// only if it starts the very function that holds the address: a distant export
// would name the wrong function.
func (k *Kernel) NameOf(ctx context.Context, at mem.VA) Name {
	m, ok := k.Modules.At(at)
	if !ok {
		return Name{}
	}
	rva := uint32(at - m.Base)
	n := Name{Module: m, Offset: uint64(rva), RVA: rva}
	s, err := m.Symbols(ctx)
	if err != nil || s == nil {
		return n
	}
	sym, delta, ok := s.Nearest(rva)
	if !ok {
		return n
	}
	if delta > 0 && sparse(s) {
		if start, ok := m.functionStart(rva); !ok || start != sym.RVA {
			return n
		}
	}
	n.Function, n.Decorated, n.Offset = k.undecorated.show(sym.Name), sym.Name, uint64(delta)
	return n
}

// stringLiteral starts the decorated name of a string constant.
const stringLiteral = "??_C@"

// sparse reports whether a table names only some of an image's functions.
func sparse(s types.Symbols) bool {
	switch s.Describe() {
	case "export", "embedded":
		return true
	}
	return false
}

// Resolve finds "module!name" or a bare name, which is looked for in the
// kernel image first and then in the others. Names of C++ may be given as the
// table spells them or undecorated.
func (k *Kernel) Resolve(ctx context.Context, module, name string) (mem.VA, bool) {
	if module != "" {
		m, ok := k.Modules.ByName(module)
		if !ok {
			return 0, false
		}
		return k.resolveIn(ctx, m, name)
	}
	if k.Modules == nil {
		return 0, false
	}
	for _, m := range k.Modules.All {
		if at, ok := k.resolveIn(ctx, m, name); ok {
			return at, true
		}
	}
	return 0, false
}

func (k *Kernel) resolveIn(ctx context.Context, m *Module, name string) (mem.VA, bool) {
	if s, err := m.Symbols(ctx); err == nil && s != nil {
		if sym, ok := s.Lookup(name); ok {
			return m.Base + mem.VA(sym.RVA), true
		}
		if rva, ok := k.undecorated.lookup(ctx, s, name); ok {
			return m.Base + mem.VA(rva), true
		}
	}
	if m.Base == k.Base {
		if at, err := k.Global(name); err == nil {
			return at, true
		}
	}
	return 0, false
}
