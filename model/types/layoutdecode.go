package types

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// shorthand is how layout files spell the common base types.
var shorthand = map[string]string{
	"u1": "unsigned char", "u2": "unsigned short", "u4": "unsigned long", "u8": "unsigned long long",
	"i1": "char", "i2": "short", "i4": "long", "i8": "long long",
}

// baseTypes are the base types of the public symbol tables of x64 Windows,
// where long has 4 bytes.
var baseTypes = []Type{
	{Name: "void", Kind: KindVoid},
	{Name: "function", Kind: KindFunction},
	{Name: "char", Kind: KindChar, Size: 1},
	{Name: "unsigned char", Kind: KindChar, Size: 1},
	{Name: "wchar", Kind: KindSigned, Size: 2},
	{Name: "short", Kind: KindSigned, Size: 2},
	{Name: "unsigned short", Kind: KindInt, Size: 2},
	{Name: "int", Kind: KindSigned, Size: 4},
	{Name: "unsigned int", Kind: KindInt, Size: 4},
	{Name: "long", Kind: KindSigned, Size: 4},
	{Name: "unsigned long", Kind: KindInt, Size: 4},
	{Name: "HRESULT", Kind: KindInt, Size: 4},
	{Name: "long long", Kind: KindSigned, Size: 8},
	{Name: "unsigned long long", Kind: KindInt, Size: 8},
	{Name: "f32", Kind: KindFloat, Size: 4},
	{Name: "float", Kind: KindFloat, Size: 4},
	{Name: "double", Kind: KindFloat, Size: 8},
	{Name: "bool", Kind: KindBool, Size: 1},
}

// decode makes the types of one image of the family, or for table -1 of any:
// then without the fields that move.
func (f *family) decode(table int) (*builder, error) {
	file, err := f.file()
	if err != nil {
		return nil, err
	}
	defs, enums := maps.Clone(file.Types), maps.Clone(file.Enums)
	for _, v := range file.Variants {
		switch {
		case table < 0:
			if lines, ok := defs[v.Type]; ok {
				defs[v.Type] = settled(lines, v.Changes)
			}
		case !slices.Contains(v.Tables, table):
		case v.Changes[0] == "gone":
			delete(defs, v.Type)
			delete(enums, v.Type)
		case v.Changes[0] == "enum":
			enums[v.Type] = v.Changes[1:]
		default:
			defs[v.Type] = changed(defs[v.Type], v.Changes)
		}
	}
	b, err := decodeLayout(defs, enums)
	if err != nil {
		return nil, fmt.Errorf("embedded layout %s: %w", f.name, err)
	}
	return b, nil
}

// changed applies a variant to a type's lines.
func changed(lines, changes []string) []string {
	var header []string
	if _, _, err := parseHeader(changes[0]); err == nil {
		header, changes = changes[:1], changes[1:]
	} else if len(lines) > 0 {
		header = lines[:1]
	}
	out := slices.Clone(header)
	for _, line := range lines[min(1, len(lines)):] {
		if !slices.Contains(changes, "-"+fieldName(line)) {
			out = append(out, line)
		}
	}
	for _, line := range changes {
		if !strings.HasPrefix(line, "-") {
			out = append(out, line)
		}
	}
	return out
}

// settled gives the lines of a type without the fields that lie elsewhere, or
// whose place holds nothing, in some image of the family. A field that was
// only renamed stays.
func settled(lines, changes []string) []string {
	if changes[0] == "gone" || changes[0] == "enum" {
		return lines
	}
	renamed := map[string]bool{} // place and type of what the variant adds, if the name is new
	for _, line := range changes {
		if !strings.HasPrefix(line, "-") && !slices.Contains(changes, "-"+fieldName(line)) {
			renamed[unnamedField(line)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool {
		return slices.Contains(changes, "-"+fieldName(line)) && !renamed[unnamedField(line)]
	})
}

// unnamedField gives a field's line without its name.
func unnamedField(line string) string {
	place, rest, _ := strings.Cut(line, " ")
	_, expr, _ := strings.Cut(rest, " ")
	return place + " " + expr
}

// fieldName gives the name in "OFFSET NAME TYPE".
func fieldName(line string) string {
	_, rest, _ := strings.Cut(line, " ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// parseHeader reads "struct SIZE" or "union SIZE".
func parseHeader(line string) (Kind, uint32, error) {
	word, number, _ := strings.Cut(line, " ")
	kind := KindStruct
	switch word {
	case "struct":
	case "union":
		kind = KindUnion
	default:
		return 0, 0, fmt.Errorf("%q: want struct or union and a size", clip(line))
	}
	size, err := strconv.ParseUint(number, 0, 31)
	return kind, uint32(size), err
}

// decodeLayout makes types of a layout file's lines.
func decodeLayout(defs, enums map[string][]string) (*builder, error) {
	b := newBuilder()
	for _, t := range baseTypes {
		b.define(&t)
		b.base[t.Name] = &t
	}
	for name, lines := range enums {
		t := b.named(b.enum, name, KindEnum)
		b.define(t)
		if err := decodeEnum(t, lines); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, lines := range defs {
		t := b.named(b.user, name, KindStruct)
		b.define(t)
		var err error
		if t.Kind, t.Size, err = parseHeader(lines[0]); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, line := range lines[1:] {
			field, err := decodeField(b, line)
			if err != nil {
				return nil, fmt.Errorf("%s: field %q: %w", name, line, err)
			}
			t.Fields = append(t.Fields, field)
		}
	}
	return b, b.finish()
}

func decodeEnum(t *Type, lines []string) error {
	size, err := strconv.ParseUint(lines[0], 10, 8)
	if err != nil {
		return err
	}
	t.Size, t.Consts = uint32(size), make(map[string]int64, len(lines)-1)
	for _, line := range lines[1:] {
		number, name, _ := strings.Cut(line, " ")
		if t.Consts[name], err = strconv.ParseInt(number, 10, 64); err != nil {
			return err
		}
	}
	return nil
}

func decodeField(b *builder, line string) (f Field, err error) {
	place, rest, ok1 := strings.Cut(line, " ")
	name, expr, ok2 := strings.Cut(rest, " ")
	if !ok1 || !ok2 {
		return f, fmt.Errorf("want place, name and type")
	}
	offset, bits, isBits := strings.Cut(place, ":")
	at, err := strconv.ParseUint(offset, 0, 31)
	if err != nil {
		return f, err
	}
	if isBits {
		pos, length, _ := strings.Cut(bits, "+")
		low, err := strconv.ParseUint(pos, 10, 6)
		if err != nil {
			return f, err
		}
		count, err := strconv.ParseUint(length, 10, 7)
		if err != nil {
			return f, err
		}
		f.BitPos, f.BitLen = uint8(low), uint8(count)
	}
	f.Name, f.Offset = name, uint32(at)
	f.Type, err = decodeExpr(b, expr)
	return f, err
}

// decodeExpr reads a type: "*T", "[n]T" or a name.
func decodeExpr(b *builder, expr string) (*Type, error) {
	switch {
	case strings.HasPrefix(expr, "*"):
		elem, err := decodeExpr(b, expr[1:])
		if err != nil {
			return nil, err
		}
		return b.pointer(elem, 8), nil
	case strings.HasPrefix(expr, "["):
		number, rest, _ := strings.Cut(expr[1:], "]")
		count, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return nil, err
		}
		elem, err := decodeExpr(b, rest)
		if err != nil {
			return nil, err
		}
		return b.array(elem, uint32(count)), nil
	}
	if long, ok := shorthand[expr]; ok {
		expr = long
	}
	if t := b.base[expr]; t != nil {
		return t, nil
	}
	if t := b.enum[expr]; t != nil {
		return t, nil
	}
	return b.named(b.user, expr, KindStruct), nil
}
