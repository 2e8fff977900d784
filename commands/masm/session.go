package masm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// ForSession gives the evaluator of a session: it follows the session's scope
// and settings.
func ForSession(s *cmd.Session) *Evaluator { return New(&session{s}) }

// session is the target of a session; it may have no dump open.
type session struct{ s *cmd.Session }

var (
	_ Target             = (*session)(nil)
	_ Settings           = (*session)(nil)
	_ Physical           = (*session)(nil)
	_ Images             = (*session)(nil)
	_ Returns            = (*session)(nil)
	_ Typed              = (*session)(nil)
	_ cmd.TypedEvaluator = (*Evaluator)(nil)
)

// Symbol implements Target. A bare name is a module's before it is a symbol's.
func (t *session) Symbol(ctx context.Context, module, name string) (mem.VA, bool) {
	k := t.s.Kernel
	if k == nil {
		return 0, false
	}
	if module == "" {
		if m, ok := k.Modules.ByName(name); ok {
			return m.Base, true
		}
	}
	return k.Resolve(ctx, module, name)
}

// ReadVirtual implements Target.
func (t *session) ReadVirtual(p []byte, at mem.VA) (int, error) {
	return t.s.ReadVirtual(p, at)
}

// ReadPhysical implements Physical.
func (t *session) ReadPhysical(p []byte, at mem.PA) (int, error) {
	if t.s.Kernel == nil || t.s.Kernel.Source.Physical == nil {
		return 0, errors.New("the dump holds no physical memory")
	}
	return t.s.Kernel.Source.Physical.ReadPhysical(p, at)
}

// Radix implements Settings.
func (t *session) Radix() int { return t.s.Vars.Radix }

// CPP implements Settings.
func (t *session) CPP() bool { return t.s.Vars.CPP }

// Entry implements Images: of a loaded module as the loader has it, else from
// the header at the address.
func (t *session) Entry(base mem.VA) (mem.VA, error) {
	if k := t.s.Kernel; k != nil {
		if m, ok := k.Modules.At(base); ok && m.Base == base {
			if h, err := m.Header(); err == nil {
				return base + mem.VA(h.EntryPoint), nil
			} else if m.Entry == 0 {
				return 0, err
			}
			return m.Entry, nil
		}
	}
	h, err := types.ParseImage(types.RVAReaderFunc(func(p []byte, rva uint32) (int, error) {
		return t.s.ReadVirtual(p, base+mem.VA(rva))
	}))
	if err != nil {
		return 0, err
	}
	return base + mem.VA(h.EntryPoint), nil
}

// ReturnType implements Returns. Symbol tables name a function's result by its
// basic type; what a typedef called it is not in them.
func (t *session) ReturnType(ctx context.Context, at mem.VA) (string, bool) {
	k := t.s.Kernel
	if k == nil {
		return "", false
	}
	n := k.NameOf(ctx, at)
	if n.Module == nil || n.Function == "" || n.Offset != 0 {
		return "", false
	}
	f, ok := typeOf(ctx, n.Module, n.Function)
	if !ok || f.Kind != types.KindFunction || f.Elem == nil {
		return "", false
	}
	return f.Elem.Name, f.Elem.Kind == types.KindPointer
}

// typeOf gives the type of a module's symbol, where its symbols know it.
func typeOf(ctx context.Context, m *model.Module, name string) (*types.Type, bool) {
	s, err := m.Symbols(ctx)
	if err != nil {
		return nil, false
	}
	typed, ok := s.(types.TypedSymbols)
	if !ok {
		return nil, false
	}
	return typed.TypeOf(name)
}

// SymbolType implements Typed.
func (t *session) SymbolType(ctx context.Context, module, name string) (typ *types.Type, in string, ok bool) {
	k := t.s.Kernel
	if k == nil {
		return nil, "", false
	}
	at, ok := k.Resolve(ctx, module, name)
	if !ok {
		return nil, "", false
	}
	m, ok := k.Modules.At(at)
	if !ok {
		return nil, "", false
	}
	typ, ok = typeOf(ctx, m, name)
	return typ, m.Name, ok
}

// TypeByName implements Typed: in a module, or in the kernel's table and then in
// those of modules whose symbols are loaded.
func (t *session) TypeByName(ctx context.Context, module, name string) (typ *types.Type, in string, err error) {
	k := t.s.Kernel
	if k == nil {
		return nil, "", errors.New("no dump is open to look types up in")
	}
	if module != "" {
		m, ok := k.Modules.ByName(module)
		if !ok {
			return nil, "", fmt.Errorf("no module %s", module)
		}
		store, err := m.Types(ctx)
		if err != nil {
			return nil, "", err
		}
		typ, err = store.Type(name)
		return typ, m.Name, err
	}
	if k.Types != nil {
		if typ, err = k.Types.Type(name); err == nil {
			return typ, "nt", nil
		}
	}
	for _, m := range k.Modules.All {
		if _, asked := m.LoadedSymbols(); !asked {
			continue
		}
		store, err := m.Types(ctx)
		if err != nil {
			continue
		}
		if typ, err := store.Type(name); err == nil {
			return typ, m.Name, nil
		}
	}
	return nil, "", &types.NotFoundError{What: "type", Name: name, In: "the symbols at hand"}
}

// Variable implements Typed.
func (t *session) Variable(name string) (cmd.Typed, bool) { return t.s.Pseudo(name) }

// Register implements Target for the current scope.
func (t *session) Register(name string) (uint64, bool, error) {
	if v, ok := t.s.Pseudo(name); ok {
		return v.Value, true, nil
	}
	if t.s.Kernel == nil {
		return 0, false, nil
	}
	if name, ok := strings.CutPrefix(name, "$"); ok {
		if get, ok := pseudo[name]; ok {
			v, err := get(t)
			return v, true, err
		}
		return t.numbered(name)
	}
	if why, ok := unreadable(name); ok {
		return 0, true, why
	}
	get, ok := contextRegister(name)
	if !ok {
		return 0, false, nil
	}
	r, err := t.s.Registers()
	if err != nil {
		return 0, true, err
	}
	return get(r), true, nil
}
