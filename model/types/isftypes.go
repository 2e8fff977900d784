package types

import (
	"fmt"
	"slices"
)

// section sets p to a section's value; false where the table has none.
func (t *ISF) section(name string) (*scanner, bool) {
	at, ok := t.sections[name]
	return &scanner{s: t.text, i: at.start}, ok
}

// decodeTypes reads base_types, enums and user_types.
func (t *ISF) decodeTypes() (*builder, error) {
	b := newBuilder()
	steps := []struct {
		name string
		read func(p *scanner, b *builder, name string)
	}{{"base_types", readBase}, {"enums", readEnum}, {"user_types", readUser}}
	for _, step := range steps {
		p, ok := t.section(step.name)
		if !ok {
			continue
		}
		p.object(func(name string) {
			step.read(p, b, name)
			if err := b.count(); err != nil {
				p.fail("%v", err)
			}
		})
		if p.err != nil {
			return nil, fmt.Errorf("ISF table %s: %s: %w", t.file, step.name, p.err)
		}
	}
	if err := t.readSymbolTypes(b); err != nil {
		return nil, fmt.Errorf("ISF table %s: symbols: %w", t.file, err)
	}
	err := b.finish()
	if err == nil {
		err = b.flatten()
	}
	if err != nil {
		return nil, fmt.Errorf("ISF table %s: %w", t.file, err)
	}
	return b, nil
}

// baseKind maps the kinds of base types that the schema knows. Unknown ones
// read as unsigned integers: the size is what matters.
func baseKind(kind string, signed bool) Kind {
	switch kind {
	case "void":
		return KindVoid
	case "float":
		return KindFloat
	case "char":
		return KindChar
	case "bool":
		return KindBool
	}
	if signed {
		return KindSigned
	}
	return KindInt
}

func readBase(p *scanner, b *builder, name string) {
	var size uint32
	var kind string
	var signed bool
	p.object(func(key string) {
		switch key {
		case "size":
			size = p.uint(maxTypeSize)
		case "kind":
			kind = p.str()
		case "signed":
			signed = p.bool()
		default:
			p.skip()
		}
	})
	t := b.named(b.base, name, KindVoid)
	if b.define(t) {
		t.Kind, t.Size = baseKind(kind, signed), size
	}
}

func readEnum(p *scanner, b *builder, name string) {
	t := b.named(b.enum, name, KindEnum)
	if !b.define(t) {
		p.skip()
		return
	}
	t.Consts = map[string]int64{}
	p.object(func(key string) {
		switch key {
		case "size":
			t.Size = p.uint(8)
		case "constants":
			p.object(func(name string) {
				if v, ok := p.constant(); ok {
					t.Consts[name] = v
				} else {
					b.skipped++
				}
				if b.consts++; b.consts > maxConsts {
					p.fail("more than %d constants", maxConsts)
				}
			})
		default:
			p.skip()
		}
	})
}

func readUser(p *scanner, b *builder, name string) {
	t := b.named(b.user, name, KindStruct)
	if !b.define(t) {
		p.skip()
		return
	}
	p.object(func(key string) {
		switch key {
		case "size":
			t.Size = p.uint(maxTypeSize)
		case "kind":
			if p.str() == "union" {
				t.Kind = KindUnion
			} else {
				t.Kind = KindStruct
			}
		case "fields":
			p.object(func(name string) {
				f, anonymous, ok := readField(p, b, name)
				switch {
				case !ok:
					b.skipped++
				case anonymous:
					b.anonymous[t] = append(b.anonymous[t], f)
				default:
					t.Fields = append(t.Fields, f)
				}
				if b.fields++; b.fields > maxFields {
					p.fail("more than %d fields", maxFields)
				}
			})
		default:
			p.skip()
		}
	})
}

// readField reads one field; false where it makes no sense. Tables made from
// volatility 2's have arrays of -28 elements, so one such field must not cost
// the table.
func readField(p *scanner, b *builder, name string) (f Field, anonymous, ok bool) {
	f.Name = name
	offset := int64(-1)
	p.object(func(key string) {
		switch key {
		case "offset":
			offset = p.int()
		case "type":
			var d descriptor
			f.Type = readDescriptor(p, b, &d, 0)
			f.BitPos, f.BitLen = uint8(d.bitPos), uint8(d.bitLen)
		case "anonymous":
			anonymous = !p.null() && p.bool()
		default:
			p.skip()
		}
	})
	f.Offset = uint32(offset)
	// Only a structure can lend its members to the one around it.
	anonymous = anonymous && f.Type != nil && (f.Type.Kind == KindStruct || f.Type.Kind == KindUnion)
	return f, anonymous, f.Type != nil && offset >= 0 && offset <= maxTypeSize
}

// flatten gives members of anonymous structures and unions to the structure
// that holds them, where C code and PDB files have them.
func (b *builder) flatten() error {
	done := map[*Type]bool{}
	for t := range b.anonymous {
		if err := b.flattenOne(t, done); err != nil {
			return err
		}
	}
	return nil
}

// flattenOne completes t, inner structures first. finish has seen to it that
// none holds itself: it counts the anonymous ones too.
func (b *builder) flattenOne(t *Type, done map[*Type]bool) error {
	if done[t] {
		return nil
	}
	done[t] = true
	for _, f := range b.anonymous[t] {
		if err := b.flattenOne(f.Type, done); err != nil {
			return err
		}
		if b.fields += len(f.Type.Fields); b.fields > maxFields {
			return fmt.Errorf("more than %d fields", maxFields)
		}
		for _, inner := range f.Type.Fields {
			if uint64(inner.Offset)+uint64(f.Offset) > maxTypeSize {
				b.skipped++
				continue
			}
			inner.Offset += f.Offset
			t.Fields = append(t.Fields, inner)
		}
	}
	if len(b.anonymous[t]) > 0 {
		slices.SortFunc(t.Fields, compareFields)
	}
	return nil
}

// descriptor is a type descriptor while its members come in, in any order.
type descriptor struct {
	kind, name            string
	elem                  *Type
	count, bitPos, bitLen int64
}

// readDescriptor reads how a field's type is put together; nil where that makes
// no sense. The kinds are those of the schema: base, struct, union, class,
// enum, function, pointer, array, bitfield.
func readDescriptor(p *scanner, b *builder, d *descriptor, level int) *Type {
	if level > maxTypeDepth {
		p.fail("more than %d pointers and arrays in a type", maxTypeDepth)
		return nil
	}
	p.object(func(key string) {
		switch key {
		case "kind":
			d.kind = p.str()
		case "name":
			d.name = p.str()
		case "subtype", "type":
			if p.null() {
				return
			}
			d.elem = readDescriptor(p, b, new(descriptor), level+1)
		case "count":
			d.count = p.int()
		case "bit_position":
			d.bitPos = p.int()
		case "bit_length":
			d.bitLen = p.int()
		default:
			p.skip()
		}
	})
	if p.err != nil {
		return nil
	}
	return d.build(b)
}

// build gives the type that d describes, nil if it makes no sense.
func (d *descriptor) build(b *builder) *Type {
	switch d.kind {
	case "base":
		return b.named(b.base, d.name, KindVoid)
	case "struct", "class":
		return b.named(b.user, d.name, KindStruct)
	case "union":
		return b.named(b.user, d.name, KindUnion)
	case "enum":
		return b.named(b.enum, d.name, KindEnum)
	case "function":
		return b.named(b.base, "function", KindFunction)
	case "pointer":
		size := uint32(8)
		if t := b.base["pointer"]; t != nil && t.Size > 0 && t.Size <= 8 {
			size = t.Size // 4 in tables of 32-bit images
		}
		return b.pointer(d.elem, size)
	case "array":
		if d.elem != nil && d.count >= 0 && d.count <= maxTypeSize {
			return b.array(d.elem, uint32(d.count))
		}
	case "bitfield":
		if d.elem != nil && d.bitPos >= 0 && d.bitLen > 0 && d.bitLen <= 64-d.bitPos {
			return d.elem
		}
	}
	return nil
}
