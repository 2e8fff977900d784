package snapshot

import (
	"context"
	"fmt"
	"slices"

	"gokd/model/types"
)

// symbolTable is what a snapshot knows of one of its images.
type symbolTable struct {
	id    types.ImageID
	names []string
	rvas  []uint32
	store types.Store // of the kernel image, else nil
	build uint32
}

// symbolTables collects the names of all images: routines, labels, variables.
func (m *machine) symbolTables() []*symbolTable {
	list := make([]*symbolTable, 0, len(m.images))
	for _, img := range m.images {
		t := &symbolTable{id: img.id, build: m.prof.build}
		add := func(name string, rva uint32) {
			t.names, t.rvas = append(t.names, name), append(t.rvas, rva)
		}
		for _, f := range img.sorted {
			add(f.name, f.rva)
			if other := aliases[f.name]; other != "" && img.funcs[other] == nil {
				add(other, f.rva)
			}
			if around := labelled[f.name]; around != "" && f.label && img.funcs[around] == nil {
				add(around, f.start)
			}
		}
		for _, name := range sortedKeys(img.vars) {
			at, _ := img.address(name)
			add(name, uint32(at-img.base))
		}
		if img.kernel() {
			t.store = m.layout.store
		}
		list = append(list, t)
	}
	return list
}

// Images gives the identities of the snapshot's images, the kernel's first.
func (im *Image) Images() []types.ImageID {
	list := make([]types.ImageID, len(im.symbols))
	for i, t := range im.symbols {
		list[i] = t.id
	}
	return list
}

// Resolver gives the snapshot's own symbols, so that it can be opened without
// any file: names for every image, types for the kernel.
func (im *Image) Resolver() types.Resolver { return resolver(im.symbols) }

type resolver []*symbolTable

// Resolve implements types.Resolver by GUID and age.
func (r resolver) Resolve(_ context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	for _, t := range r {
		if t.id.GUID == id.GUID && t.id.Age == id.Age {
			names := types.NewNames("snapshot", slices.Clone(t.names), slices.Clone(t.rvas))
			return t.store, names, nil
		}
	}
	return nil, nil, &types.NotFoundError{What: "symbol table", Name: id.PDB, In: "the snapshot"}
}

// SymbolFiles gives the same symbols as files in the intermediate symbol format
// of Volatility 3: content by path, "ntkrnlmp.pdb/GUID-1.json". Put below a
// folder of a symbol path they serve gokd, below symbols/windows Volatility.
func (im *Image) SymbolFiles() (map[string][]byte, error) {
	files := make(map[string][]byte, len(im.symbols))
	for _, t := range im.symbols {
		text, err := t.isf()
		if err != nil {
			return nil, fmt.Errorf("symbol table of %s: %w", t.id.Name, err)
		}
		files[fmt.Sprintf("%s/%s-%d.json", t.id.PDB, t.id.GUID, t.id.Age)] = text
	}
	return files, nil
}
