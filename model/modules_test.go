package model

import (
	"context"
	"errors"
	"testing"

	"gokd/model/mem"
	"gokd/model/types"
)

// tables resolves one image to one table.
type tables struct {
	guid    types.GUID
	store   types.Store
	symbols types.Symbols
}

func (r tables) Resolve(_ context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	if id.GUID != r.guid {
		return nil, nil, &types.NotFoundError{What: "symbol table", Name: id.PDB, In: "the test"}
	}
	return r.store, r.symbols, nil
}

// TestModule_Types: the kernel's module has the kernel's types, others those of
// the table with their symbols.
func TestModule_Types(t *testing.T) {
	t.Parallel()
	k := fake(t, pages{})
	k.Base = 0x1000
	own := types.Embedded(7601)[0]
	guid := types.GUID{1}
	k.Source.Symbols = tables{guid, own, types.NewNames("test", []string{"Foo"}, []uint32{8})}
	nt := &Module{k: k, Name: "nt", Base: k.Base}
	known := &Module{k: k, Name: "known", Base: 0x2000, image: &types.Image{Debug: types.DebugID{GUID: guid}}}
	known.once.Do(func() {})
	other := &Module{k: k, Name: "other", Image: "other.sys", Base: 0x3000}
	for _, tt := range []struct {
		m    *Module
		want types.Store
	}{{nt, k.Types}, {known, own}} {
		if got, err := tt.m.Types(t.Context()); err != nil || got != tt.want {
			t.Errorf("%s: types %v, %v", tt.m.Name, got, err)
		}
	}
	var missing *types.NotFoundError
	if got, err := other.Types(t.Context()); got != nil || !errors.As(err, &missing) {
		t.Errorf("a module without a table: types %v, %v", got, err)
	}
	if o, ok := known.SymbolOrigin(); !ok || o.Build != own.Origin().Build {
		t.Errorf("origin of symbols: %v, %v", o, ok)
	}
	if o, ok := other.SymbolOrigin(); ok {
		t.Errorf("origin of no symbols: %v", o)
	}
	if o, ok := nt.SymbolOrigin(); ok {
		t.Errorf("origin of symbols not asked for: %v", o)
	}
}

// TestModule_Types_exports: an export table has no types, and the reason says so.
func TestModule_Types_exports(t *testing.T) {
	t.Parallel()
	k := fake(t, pages{})
	m := &Module{k: k, Image: "drv.sys", Base: mem.VA(0x5000)}
	m.symOnce.Do(func() { m.symbols = types.NewNames("export", nil, nil); m.asked.Store(true) })
	_, err := m.Types(t.Context())
	if want := "table with types drv.sys: not in the symbol path"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
