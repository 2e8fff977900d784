package symbol

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/report"
	"gokd/model/types"
)

// Limits of one answer of dt: a type table can make structures that hold others
// many times over.
const (
	defaultDepth = 5 // levels of -r without a number
	blockDepth   = 32
	maxDtLines   = 200_000
)

var errDtLines = fmt.Errorf("more than %d lines: choose fields, or a smaller depth", maxDtLines)

// shower collects the fields of a record.
type shower struct {
	ctx  context.Context
	v    *valuer // v.mem is nil where there is no address
	o    *dtOptions
	r    *typeRecord
	open []visit // what is being shown now, against circles
}

type visit struct {
	t  *types.Type
	at uint64
}

// where is a place in the walk over a structure.
type where struct {
	path  string
	at    uint64 // address; 0 where there is none
	base  uint32 // offset from the structure that the path began in
	level int
	short bool // dots opened the structure: kd leaves out the names of types
}

// structure shows the members of a type that the selectors choose, or all, and
// below each as many levels as deep says; block stays inside the structure.
func (s *shower) structure(t *types.Type, w where, fields []fieldPath, deep int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	t = s.v.complete(t)
	// Only pointers can lead in a circle: a structure does not contain itself.
	here := visit{t, w.at}
	if slices.Contains(s.open, here) {
		return nil
	}
	s.open = append(s.open, here)
	defer func() { s.open = s.open[:len(s.open)-1] }()
	for _, f := range t.Fields {
		if f.Type == nil {
			continue
		}
		c := s.choose(t, fields, f)
		if len(fields) > 0 && c.plain == nil && len(c.below) == 0 {
			continue
		}
		if err := s.member(f, w, c, deep); err != nil {
			return err
		}
	}
	return nil
}

// choice is what the selectors ask for of one member.
type choice struct {
	plain *fieldPath  // the selector of the member itself; nil where none is
	below []fieldPath // what the others ask for inside it
	index int         // the element of an array that they name; noArray: none
}

// choose gives what the selectors ask for of a member of t. Of "a.b" the first
// part stands for every name that begins like it, unless one is spelled so, and
// only members that have a b count.
func (s *shower) choose(t *types.Type, fields []fieldPath, f types.Field) choice {
	c := choice{index: noArray}
	for i := range fields {
		sel := &fields[i]
		if len(sel.parts) == 0 || !sel.parts[0].match.Match(f.Name) {
			continue
		}
		if len(sel.parts) > 1 && (!s.leads(f.Type, sel.parts[1]) ||
			!strings.EqualFold(sel.parts[0].pattern, f.Name) && spelled(t, sel.parts[0].pattern)) {
			continue
		}
		if sel.parts[0].index != noArray {
			c.index = sel.parts[0].index
		}
		if len(sel.parts) == 1 {
			c.plain = sel
			continue
		}
		next := *sel
		next.parts = sel.parts[1:]
		c.below = append(c.below, next)
	}
	return c
}

// spelled reports whether a type has a member of exactly that name, in any case.
func spelled(t *types.Type, name string) bool {
	_, ok := memberOf(t, name)
	return ok
}

// leads reports whether a member holds, or points at, one that a part names.
func (s *shower) leads(t *types.Type, part fieldPart) bool {
	for t.Kind == types.KindArray && t.Elem != nil {
		t = t.Elem
	}
	inner := s.inner(t)
	return inner != nil && slices.ContainsFunc(inner.Fields, func(f types.Field) bool { return part.match.Match(f.Name) })
}

// dots tells how many levels the dots behind the member's name open.
func (c choice) dots() int {
	if c.plain == nil {
		return 0
	}
	return c.plain.expand
}

// member shows one member.
func (s *shower) member(f types.Field, w where, c choice, deep int) error {
	in := where{path: join(w.path, f.Name), at: w.at + uint64(f.Offset), base: w.base + f.Offset, level: w.level, short: w.short}
	shown, name := f.Offset, f.Name
	if t := f.Type; c.index != noArray && t.Kind == types.KindArray && t.Elem != nil {
		if c.index >= int(t.Count) {
			return fmt.Errorf("%s[%d]: the array has %d elements", in.path, c.index, t.Count)
		}
		off := uint32(c.index) * t.Elem.Size
		f.Type, f.BitLen = t.Elem, 0
		name = fmt.Sprintf("%s[%d]", f.Name, c.index)
		in.path, in.at, in.base, shown = fmt.Sprintf("%s[%d]", in.path, c.index), in.at+uint64(off), in.base+off, shown+off
	}
	expand := deep
	if c.dots() > 0 {
		expand = c.dots()
	}
	chosen := len(c.below) > 0 || c.dots() > 0
	array, elements := s.asElements(f.Type, c)
	inner := s.inner(f.Type)
	opens := inner != nil && (len(c.below) > 0 || expand > 0 && s.follows(f.Type, c))
	// kd leaves out the type's name where it opens a member, except for -r.
	in.short = in.short || chosen
	if err := s.add(f, in, name, shown, elements || opens && (s.o.block || in.short)); err != nil {
		return err
	}
	switch next := max(expand-1, 0); {
	case elements:
		return s.elements(f.Type, in, array, c.below, next)
	case opens:
		return s.inside(f.Type, inner, in, c.below, next)
	}
	return nil
}

// asElements tells whether the elements of an array are shown one by one, and how
// many; 0: all.
func (s *shower) asElements(t *types.Type, c choice) (count int, ok bool) {
	if t.Kind != types.KindArray || t.Elem == nil || t.Count == 0 || character(t.Elem) || wide(t.Elem) {
		return 0, false
	}
	count = noArray
	switch {
	case c.plain != nil:
		count = c.plain.array
	case s.o.array != noArray && s.o.count == noArray:
		count = s.o.array
	}
	return max(count, 0), count != noArray || s.o.block || len(c.below) > 0
}

// inside shows the members of a member, or of what it points at.
func (s *shower) inside(t, inner *types.Type, in where, below []fieldPath, deep int) error {
	if t.Kind != types.KindPointer {
		in.level++
		return s.structure(inner, in, below, deep)
	}
	to := where{path: in.path, level: in.level + 1, short: in.short}
	if s.v.mem != nil {
		at, err := s.v.raw(t, in.at)
		if err != nil || at == 0 {
			return nil
		}
		to.at = at
	}
	return s.structure(inner, to, below, deep)
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// inner gives the structure that a member is or points at; nil for others.
func (s *shower) inner(t *types.Type) *types.Type {
	if t.Kind == types.KindPointer {
		t = t.Elem
	}
	t = s.v.complete(t)
	if t == nil || t.Kind != types.KindStruct && t.Kind != types.KindUnion || len(t.Fields) == 0 {
		return nil
	}
	return t
}

// follows: -b opens what lies inside the structure; -r and dots follow pointers.
func (s *shower) follows(t *types.Type, c choice) bool {
	return t.Kind != types.KindPointer || !s.o.block || c.dots() > 0
}

// add appends a member to the record.
func (s *shower) add(f types.Field, in where, name string, shown uint32, short bool) error {
	if len(s.r.Fields) >= maxDtLines {
		return errDtLines
	}
	d := dtField{Path: in.path, Offset: in.base, Type: typeText(f.Type, false), name: name, shown: shown, level: in.level}
	if f.BitLen > 0 {
		d.BitPos, d.BitLen = &f.BitPos, &f.BitLen
	}
	d.Text = s.text(f, in, short, &d)
	s.r.Fields = append(s.r.Fields, d)
	return nil
}

// text gives what stands behind a member's colon.
func (s *shower) text(f types.Field, in where, short bool, d *dtField) string {
	switch {
	case s.v.mem == nil && short:
		return ""
	case s.v.mem == nil && f.BitLen > 0:
		word := "Bits"
		if f.BitLen == 1 {
			word = "Bit"
		}
		text := fmt.Sprintf("Pos %d, %d %s", f.BitPos, f.BitLen, word)
		if s.o.verbose {
			return "Bitfield " + text
		}
		return text
	case s.v.mem == nil:
		return typeText(f.Type, s.o.verbose)
	case short && f.Type.Kind == types.KindArray:
		return ""
	case short && f.Type.Kind == types.KindPointer:
		if n, err := s.v.raw(f.Type, in.at); err == nil {
			v := report.Addr(n)
			d.Value = &v
			if n == 0 {
				return "(null) "
			}
		} else {
			s.r.Missing.Set(in.path, err)
			return "???? "
		}
		return ""
	case short:
		text, err := s.v.special(f.Type, in.at)
		s.r.Missing.Set(in.path, err)
		return text
	}
	text, value, err := s.v.field(f, in.at, in.level)
	s.r.Missing.Set(in.path, err)
	if value != nil {
		v := report.Addr(*value)
		d.Value = &v
	}
	return text
}

// elements shows the elements of an array, each on a line with its index.
func (s *shower) elements(t *types.Type, in where, count int, below []fieldPath, deep int) error {
	n := int(t.Count)
	if count > 0 {
		n = min(n, count)
	}
	elem := t.Elem
	opens := s.inner(elem) != nil && (len(below) > 0 || s.o.block && elem.Kind != types.KindPointer)
	for i := range n {
		if len(s.r.Fields) >= maxDtLines {
			return errDtLines
		}
		off := uint32(i) * elem.Size
		at := where{
			path: fmt.Sprintf("%s[%d]", in.path, i), at: in.at + uint64(off), base: in.base + off, level: in.level,
		}
		d := dtField{Path: at.path, Offset: at.base, Type: typeText(elem, false), name: fmt.Sprintf("[%02d]", i), level: in.level, header: true}
		d.Text = s.text(types.Field{Type: elem}, at, opens, &d)
		s.r.Fields = append(s.r.Fields, d)
		if !opens {
			continue
		}
		if err := s.inside(elem, s.inner(elem), at, below, deep); err != nil {
			return err
		}
	}
	return nil
}

// show fills the record: the instance at an address, or the type.
func (s *shower) show(t *types.Type, at uint64) error {
	deep := s.o.depth
	if s.o.block {
		deep = blockDepth
	}
	switch {
	case t.Kind == types.KindEnum && s.v.mem == nil:
		s.r.Values = constants(t)
		if s.o.verbose {
			s.r.head += report.Safe(typeText(t, true)) + "\n"
		}
		return nil
	case t.Kind != types.KindStruct && t.Kind != types.KindUnion:
		s.r.alone = true
		if s.v.mem == nil {
			s.r.Text = typeText(t, s.o.verbose)
			return nil
		}
		text, _, err := s.v.value(t, at, 0)
		s.r.Text = text
		s.r.Missing.Set("text", err)
		return s.pointee(t, at, deep)
	}
	if s.o.verbose {
		s.r.head += report.Safe(typeText(t, true)) + "\n"
	}
	if s.v.mem != nil && len(s.o.fields) == 0 {
		special, err := s.v.special(t, at)
		s.r.Missing.Set("text", err)
		if special = strings.TrimPrefix(special, "\n"); special != "" {
			s.r.Text = strings.TrimSpace(special)
			s.r.head += report.Safe(special) + "\n"
		}
	}
	err := s.structure(t, where{at: at}, s.o.fields, deep)
	switch {
	case err != nil:
		return err
	case len(t.Fields) == 0:
		return fmt.Errorf("%s: its table does not describe its members", typeName(t))
	case len(s.r.Fields) == 0:
		return errNoField
	}
	return nil
}

// pointee shows the structure that a variable points at, below the pointer, as kd
// does.
func (s *shower) pointee(t *types.Type, at uint64, deep int) error {
	inner := s.inner(t)
	if t.Kind != types.KindPointer || inner == nil || s.r.Missing["text"] != "" {
		return nil
	}
	to, err := s.v.raw(t, at)
	if err != nil || to == 0 {
		return nil
	}
	s.r.head, s.r.alone = s.r.head+pointer(to)+" \n", false
	return s.structure(inner, where{at: to}, s.o.fields, deep)
}

var errNoField = errors.New("no such member")

// constants gives the names of an enumeration by value.
func constants(t *types.Type) []enumConst {
	list := make([]enumConst, 0, len(t.Consts))
	for name, v := range t.Consts {
		list = append(list, enumConst{name, signed(uint64(v), t.Size)})
	}
	slices.SortFunc(list, func(a, b enumConst) int {
		switch {
		case a.Value != b.Value && a.Value < b.Value:
			return -1
		case a.Value != b.Value:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return list
}
