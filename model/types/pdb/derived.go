package pdb

import (
	"fmt"
	"strings"

	"gokd/model/types"
)

// plain makes a type that refers to others by pointer only: a pointer or a
// function.
func (d *decoder) plain(ti uint32, leaf uint16, r *reader, depth int) (*types.Type, error) {
	n := d.node(byValue(ti))
	if n.state != stateName {
		return n.result()
	}
	var err error
	n.state = stateBusy // a pointer that leads to itself
	switch leaf {
	case lfPointer:
		err = d.pointer(n, r, depth)
	case lfProcedure, lfMFunction:
		err = d.function(n, leaf, r, depth)
	default:
		err = fmt.Errorf("type %#x is of kind %#x", ti, leaf)
	}
	if err == nil {
		err = r.err
	}
	n.state = stateWhole
	if err != nil {
		n.state, n.err = stateBad, err
	}
	return n.result()
}

// Attributes of a pointer (LLVM TypeRecord.h): kind in bits 0 to 4, size in
// bits 13 to 18, which old compilers leave 0.
const (
	pointerNear32 = 0xa
	pointer64     = 0xc
)

func pointerSize(attr uint32) uint32 {
	if size := attr >> 13 & 0x3f; size != 0 {
		return size
	}
	switch attr & 0x1f {
	case pointerNear32:
		return 4
	case pointer64:
		return 8
	}
	return 4
}

func (d *decoder) pointer(n *node, r *reader, depth int) error {
	to := r.u32()
	n.Kind, n.Name, n.Size = types.KindPointer, "*", pointerSize(r.u32())
	if r.err != nil {
		return r.err
	}
	// A pointer to something unreadable is a pointer all the same.
	if elem, err := d.ref(to, depth+1); err == nil {
		n.Elem = elem
		n.Name += elem.Name
	}
	return d.spend(len(n.Name))
}

// maxParams bounds the parameters of a function; C++ wants 256 to be possible.
const maxParams = 1 << 10

// function makes a function: Name is its parameters as a debugger writes them.
func (d *decoder) function(n *node, leaf uint16, r *reader, depth int) error {
	result, params, err := d.signature(leaf, r)
	if err != nil {
		return err
	}
	n.Kind = types.KindFunction
	if n.Elem, err = d.ref(result, depth+1); err != nil {
		n.Elem = nil
	}
	var names []string
	for _, ti := range params {
		name := d.spell(ti, depth+1)
		if err := d.spend(len(name)); err != nil {
			return err
		}
		t, err := d.ref(ti, depth+1)
		if err != nil {
			t = unreadable(ti)
		}
		n.Fields = append(n.Fields, types.Field{Type: t})
		names = append(names, name)
	}
	if len(names) == 0 {
		names = []string{"void"}
	}
	n.Name = "(" + strings.Join(names, ", ") + ")"
	return nil
}

// signature reads what a function returns and takes.
func (d *decoder) signature(leaf uint16, r *reader) (result uint32, params []uint32, err error) {
	result = r.u32()
	if leaf == lfMFunction {
		r.bytes(8) // class and type of this
	}
	r.u32() // calling convention, attributes, count
	list := r.u32()
	if r.err != nil {
		return 0, nil, r.err
	}
	if list == 0 {
		return result, nil, nil
	}
	leaf, data, err := d.record(list)
	if err != nil {
		return 0, nil, fmt.Errorf("parameters: %w", err)
	}
	if leaf != lfArgList {
		return 0, nil, fmt.Errorf("parameters: type %#x is of kind %#x", list, leaf)
	}
	args := &reader{b: data}
	count := args.u32()
	if count > maxParams || 4*uint64(count) > uint64(len(args.b)) {
		return 0, nil, fmt.Errorf("parameters: %d in %d bytes", count, len(args.b))
	}
	for range count {
		params = append(params, args.u32())
	}
	return result, params, nil
}

// array makes an array.
func (d *decoder) array(key nodeKey, r *reader, depth int) (*types.Type, error) {
	n := d.node(key)
	if n.state != stateName {
		return n.result()
	}
	n.state = stateBusy
	if err := d.elements(n, key, r, depth); err != nil {
		n.state, n.err = stateBad, err
		return nil, err
	}
	n.state = stateWhole
	return &n.Type, nil
}

func (d *decoder) elements(n *node, key nodeKey, r *reader, depth int) error {
	of := r.u32()
	r.u32() // type of the index
	size := r.number()
	switch {
	case r.err != nil:
		return r.err
	case size > maxTypeSize:
		return fmt.Errorf("array of %#x bytes, at most %#x", size, maxTypeSize)
	}
	use := d.get
	if key.behind() {
		use = d.ref
	}
	elem, err := use(of, depth+1)
	if err != nil {
		return err
	}
	// Behind a pointer the element may still be a name: its record knows the size.
	n.Kind, n.Elem, n.Size = types.KindArray, elem, uint32(size)
	if each := d.sizeOf(of, depth+1); each > 0 {
		n.Count = uint32(size / each)
	}
	n.Name = fmt.Sprintf("[%d]%s", n.Count, elem.Name)
	return d.spend(len(n.Name))
}

// sizeOf gives the bytes of a type from its record alone; 0 where unknown.
func (d *decoder) sizeOf(ti uint32, depth int) uint64 {
	if ti < firstType {
		if mode := ti >> 8 & 7; mode != 0 {
			return uint64(pointerSizes[mode])
		}
		if t := baseTypes[ti&0xff]; t != nil {
			return uint64(t.Size)
		}
		return 0
	}
	leaf, data, err := d.record(ti)
	if err != nil || depth > maxDepth {
		return 0
	}
	if isUDT(leaf) {
		u, _, err := d.definition(ti, leaf, data)
		switch {
		case err != nil:
			return 0
		case u.leaf == lfEnum:
			return d.sizeOf(u.underlying, depth+1)
		}
		return u.size
	}
	r := &reader{b: data}
	to := r.u32()
	switch leaf {
	case lfModifier, lfAlias:
		return d.sizeOf(to, depth+1)
	case lfPointer:
		return uint64(pointerSize(r.u32()))
	case lfArray:
		r.u32()
		return r.number()
	}
	return 0
}

// maxSpelling bounds the spelling of a type in a function's parameters.
const maxSpelling = 1 << 12

// spell writes a type as debuggers do in the parameters of a function: "struct
// _IRP *", "<function> *". They drop const and volatile.
func (d *decoder) spell(ti uint32, depth int) string {
	if ti < firstType {
		name := debuggerNames[ti&0xff]
		if t := baseTypes[ti&0xff]; name == "" && t != nil {
			name = t.Name
		}
		if ti>>8&7 != 0 {
			name += " *"
		}
		return name
	}
	leaf, data, err := d.record(ti)
	if err != nil || depth > maxDepth {
		return "?"
	}
	if isUDT(leaf) {
		u, err := parseUDT(leaf, data)
		if err != nil {
			return "?"
		}
		return keyword(leaf) + " " + string(u.name[:min(len(u.name), maxSpelling)])
	}
	r := &reader{b: data}
	to := r.u32()
	switch leaf {
	case lfModifier, lfAlias:
		return d.spell(to, depth+1)
	case lfPointer:
		return d.spellPointer(to, r.u32(), depth)
	case lfArray:
		r.u32()
		size := r.number()
		if each := d.sizeOf(to, depth+1); each > 0 {
			size /= each
		}
		return fmt.Sprintf("%s [%d]", d.spell(to, depth+1), size)
	case lfProcedure, lfMFunction:
		return "<function>"
	}
	return "?"
}

// spellPointer adds the mark of a pointer or reference, its mode in bits 5 to
// 7: 1 and 4 are C++'s references.
func (d *decoder) spellPointer(to, attr uint32, depth int) string {
	mark := "*"
	switch attr >> 5 & 7 {
	case 1:
		mark = "&"
	case 4:
		mark = "&&"
	}
	s := d.spell(to, depth+1)
	if !strings.HasSuffix(s, "*") {
		s += " "
	}
	return s + mark
}

func keyword(leaf uint16) string {
	switch leaf {
	case lfClass, lfClass2:
		return "class"
	case lfUnion, lfUnion2:
		return "union"
	case lfEnum:
		return "enum"
	case lfInterface, lfInterface2:
		return "interface"
	}
	return "struct"
}
