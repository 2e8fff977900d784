package types

import (
	"encoding/base64"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// isfNames are the symbols of a table.
type isfNames struct {
	*Names
	linkage map[string]string // name as the linker had it -> name in the table
	fixed   map[string]string // name of a constant -> its bytes in base64
}

// decodeSymbols reads the names. Addresses are relative to the image's base;
// what lies beyond 4 GB or has no address is none of the image's names.
func (t *ISF) decodeSymbols() (*isfNames, error) {
	var names []string
	var rvas []uint32
	n := &isfNames{Names: NewNames("isf", nil, nil), linkage: map[string]string{}, fixed: map[string]string{}}
	p, ok := t.section("symbols")
	if !ok {
		return n, nil
	}
	p.object(func(name string) {
		address := int64(-1)
		var linkage string
		p.object(func(key string) {
			switch key {
			case "address":
				address = p.int()
			case "linkage_name":
				if !p.null() {
					linkage = p.str()
				}
			case "constant_data":
				if !p.null() && len(n.fixed) < maxNames {
					n.fixed[name] = p.str()
				} else if p.peek() == '"' {
					p.skip()
				}
			default:
				p.skip()
			}
		})
		if address < 0 || address > 1<<32-1 || p.err != nil {
			return
		}
		if len(names) == maxNames {
			p.fail("more than %d names", maxNames)
			return
		}
		if linkage != "" && linkage != name {
			n.linkage[linkage] = name
		}
		names, rvas = append(names, name), append(rvas, uint32(address))
	})
	if p.err != nil {
		return nil, fmt.Errorf("ISF table %s: symbols: %w", t.file, p.err)
	}
	n.Names = NewNames("isf", names, rvas)
	return n, nil
}

// hasSymbolTypes reports whether the table may know types of symbols. Public
// tables of Windows do not, and looking for the key costs little.
func (t *ISF) hasSymbolTypes() bool {
	at := t.sections["symbols"]
	return strings.Contains(t.text[at.start:at.end], `"type"`)
}

// readSymbolTypes reads the types of symbols. A name that has "void" for its
// type has none: that is how tables write that they do not know it.
func (t *ISF) readSymbolTypes(b *builder) error {
	p, ok := t.section("symbols")
	if !ok || !t.typed() {
		return nil
	}
	b.symbols = map[string]*Type{}
	p.object(func(name string) {
		p.object(func(key string) {
			if key != "type" || p.peek() != '{' || len(b.symbols) >= maxNames {
				p.skip()
				return
			}
			typ := readDescriptor(p, b, new(descriptor), 0)
			if _, twice := b.symbols[name]; typ == nil || twice || typ.Name == "void" {
				return
			}
			b.symbols[name] = typ
		})
		if err := b.count(); err != nil {
			p.fail("%v", err)
		}
	})
	return p.err
}

// TypeOf implements TypedSymbols.
func (t *ISF) TypeOf(name string) (*Type, bool) {
	if !t.typed() {
		return nil, false
	}
	b, err := t.types()
	if err != nil {
		return nil, false
	}
	typ, ok := b.symbols[t.names().spelled(name)]
	return typ, ok
}

// Constant gives the bytes of a symbol that is a value without a place in
// memory, as the table has them.
func (t *ISF) Constant(name string) ([]byte, bool) {
	text, ok := t.names().fixed[name]
	if !ok {
		return nil, false
	}
	data, err := base64.StdEncoding.DecodeString(text)
	return data, err == nil
}

// names gives the table's names, none where they can't be read; Err tells why.
func (t *ISF) names() *isfNames {
	n, err := t.symbols()
	if err != nil {
		return &isfNames{Names: &Names{describe: "isf"}}
	}
	return n
}

// spelled gives the name as the table has it; the linker's spelling leads to
// it too. Tables have "memcpy_0" for what the linker knows as "_memcpy_0".
func (n *isfNames) spelled(name string) string {
	if _, ok := n.Names.Lookup(name); ok {
		return name
	}
	if known, ok := n.linkage[name]; ok {
		return known
	}
	return name
}

// dress adds what a symbol's type tells.
func (t *ISF) dress(s Symbol) Symbol {
	if !t.typed() {
		return s
	}
	if b, err := t.types(); err == nil {
		if typ := b.symbols[s.Name]; typ != nil {
			s.Kind, s.Size = SymData, typ.Size
			if typ.Kind == KindFunction {
				s.Kind, s.Size = SymFunction, 0
			}
		}
	}
	return s
}

// Lookup implements Symbols. A name as the linker had it is found too.
func (t *ISF) Lookup(name string) (Symbol, bool) {
	n := t.names()
	s, ok := n.Lookup(n.spelled(name))
	return t.dress(s), ok
}

// Nearest implements Symbols.
func (t *ISF) Nearest(rva uint32) (Symbol, uint32, bool) {
	s, delta, ok := t.names().Nearest(rva)
	return t.dress(s), delta, ok
}

// Prefix implements Symbols.
func (t *ISF) Prefix(prefix string, max int) []string { return t.names().Prefix(prefix, max) }

// All implements Symbols.
func (t *ISF) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for s := range t.names().All() {
			if !yield(t.dress(s)) {
				return
			}
		}
	}
}

// Aliases gives the names as the linker had them, sorted, where they differ
// from those of the table, each with the table's.
func (t *ISF) Aliases() iter.Seq2[string, string] {
	linkage := t.names().linkage
	return func(yield func(alias, name string) bool) {
		for _, alias := range slices.Sorted(maps.Keys(linkage)) {
			if !yield(alias, linkage[alias]) {
				return
			}
		}
	}
}

// Len implements Symbols.
func (t *ISF) Len() int { return t.names().Len() }
