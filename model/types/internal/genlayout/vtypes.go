package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gokd/model/types"
)

const earlyFamily = "7601-early"

// earlySeven makes the layout of Windows 7 SP1 kernels before update .24000
// from volatility's table, which names its enumerations nowhere; those come
// from the later kernel of the same product.
func earlySeven(checkout string, late *flat) (*layout, error) {
	file := filepath.Join(checkout, "volatility/plugins/overlays/windows/win7_sp1_x64_vtypes.py")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	table, err := readVtypes(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	l := &layout{
		flat: flatten(table, choose(table.names())), Family: earlyFamily, Build: 7601, FileVersion: "6.1.7601 before .24000",
		PDB:    "ntkrnlmp.pdb",
		Origin: "facts of volatilityfoundation/volatility, volatility/plugins/overlays/windows/win7_sp1_x64_vtypes.py",
		Evidence: "offsets and sizes of that table, whose GUID is not recorded; it does not tell char from unsigned char " +
			"nor name the types of enumerations",
		ByHand: map[string]string{},
	}
	var names []string
	for name := range late.enums {
		names = append(names, name)
	}
	l.complete(late, names, "enumeration of 6.1.7601.24540")
	l.addByHand()
	return l, nil
}

// vtypes is a table of structures in volatility 2's notation; a types.Store.
type vtypes map[string]*types.Type

func (v vtypes) Type(name string) (*types.Type, error) {
	if t := v[name]; t != nil {
		return t, nil
	}
	return nil, &types.NotFoundError{What: "type", Name: name, In: "vtypes"}
}

func (v vtypes) Origin() types.Origin { return types.Origin{} }

func (v vtypes) names() []string {
	var names []string
	for name, t := range v {
		if t.Kind == types.KindStruct {
			names = append(names, name)
		}
	}
	return names
}

// readVtypes reads the one dictionary of such a file:
// name: [size, {field: [offset, [type...]]}].
func readVtypes(text string) (v vtypes, err error) {
	defer func() {
		if r := recover(); r != nil { // the notation is not what this reader knows
			err = fmt.Errorf("%v", r)
		}
	}()
	_, text, _ = strings.Cut(text, "=")
	p := &python{s: text}
	v = vtypes{}
	for name, value := range p.value().(map[string]any) {
		def := value.([]any)
		t := v.named(name)
		t.Size = uint32(def[0].(int64))
		for field, value := range def[1].(map[string]any) {
			at := value.([]any)
			f := types.Field{Name: field, Offset: uint32(at[0].(int64))}
			if f.Type = v.descriptor(at[1].([]any), &f); f.Type != nil {
				t.Fields = append(t.Fields, f)
			}
		}
	}
	sortFields(v)
	return v, nil
}

var baseSizes = map[string]uint32{
	"void": 0, "unsigned char": 1, "char": 1, "unsigned short": 2, "short": 2, "wchar": 2,
	"unsigned long": 4, "long": 4, "unsigned long long": 8, "long long": 8, "double": 8,
}

func (v vtypes) named(name string) *types.Type {
	t := v[name]
	if t == nil {
		t = &types.Type{Name: name, Kind: types.KindStruct}
		if size, ok := baseSizes[name]; ok {
			t.Kind, t.Size = types.KindInt, size
		}
		v[name] = t
	}
	return t
}

// descriptor reads a field's type; nil for an array of less than no elements,
// which the table has where it did not know how many.
func (v vtypes) descriptor(d []any, f *types.Field) *types.Type {
	switch word := d[0].(string); word {
	case "pointer64":
		return &types.Type{Kind: types.KindPointer, Size: 8, Elem: v.descriptor(d[1].([]any), f)}
	case "array":
		if d[1].(int64) < 0 {
			return nil
		}
		return &types.Type{Kind: types.KindArray, Count: uint32(d[1].(int64)), Elem: v.descriptor(d[2].([]any), f)}
	case "BitField":
		opt := d[1].(map[string]any)
		f.BitPos = uint8(opt["start_bit"].(int64))
		f.BitLen = uint8(opt["end_bit"].(int64)) - f.BitPos
		return v.named(opt["native_type"].(string))
	case "Enumeration":
		// Stored as what it is read as; the name of its type is not told.
		return v.named(d[1].(map[string]any)["target"].(string))
	default:
		return v.named(word)
	}
}

// python reads the literals that such a file consists of: dictionaries, also
// as dict(a = 1), lists, strings and numbers. It panics on anything else.
type python struct {
	s string
	i int
}

func (p *python) next() byte {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\n', '\r', '\t', ',':
			p.i++
		case '#':
			p.i += max(1, strings.IndexByte(p.s[p.i:], '\n'))
		default:
			return p.s[p.i]
		}
	}
	panic("file ends inside a value")
}

func (p *python) value() any {
	switch c := p.next(); {
	case c == '{':
		p.i++
		return p.dict('}', ':')
	case c == '[':
		p.i++
		var list []any
		for p.next() != ']' {
			list = append(list, p.value())
		}
		p.i++
		return list
	case c == '\'':
		end := strings.IndexByte(p.s[p.i+1:], '\'') + p.i + 1
		word := p.s[p.i+1 : end]
		p.i = end + 1
		return word
	case strings.HasPrefix(p.s[p.i:], "dict("):
		p.i += len("dict(")
		return p.dict(')', '=')
	}
	n, err := strconv.ParseInt(p.word(), 0, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func (p *python) word() string {
	start := p.i
	for strings.IndexByte(" \n\r\t,:=[]{}()", p.s[p.i]) < 0 {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *python) dict(end, between byte) map[string]any {
	d := map[string]any{}
	for p.next() != end {
		var key string
		if p.s[p.i] == '\'' {
			key = p.value().(string)
		} else {
			key = p.word()
		}
		if p.next() != between {
			panic(fmt.Sprintf("offset %#x: want %q", p.i, between))
		}
		p.i++
		d[key] = p.value()
	}
	p.i++
	return d
}
