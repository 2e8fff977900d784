package model

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"gokd/model/mem"
	"gokd/model/types"
)

// maxPath is the longest access path an Object remembers for its errors.
const maxPath = 8

// Object is a typed view of target memory. It is a value: a failed step sticks
// and is reported, with the access path, by the accessor that ends the chain.
type Object struct {
	k     *Kernel
	space *mem.Space
	typ   *types.Type
	at    mem.VA
	bits  types.Field // BitLen > 0 for a bit-field
	path  [maxPath]string
	steps int
	err   error
}

// ObjectError says which access failed, where and why.
type ObjectError struct {
	Path string // "_ERESOURCE.OwnerEntry.OwnerThread"
	At   mem.VA
	Err  error
}

func (e *ObjectError) Error() string {
	// A fault names its address itself.
	if _, ok := e.Err.(*mem.Fault); ok {
		return e.Path + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %#x: %v", e.Path, uint64(e.At), e.Err)
}

// Unwrap gives the reason.
func (e *ObjectError) Unwrap() error { return e.Err }

// ErrNoLayout is the class of errors for want of a type's layout.
var ErrNoLayout = errors.New("no layout for this build")

// Object gives a typed view of the structure at an address.
func (k *Kernel) Object(typeName string, at mem.VA) Object {
	return k.ObjectIn(k.Space, typeName, at)
}

// ObjectIn is Object in another address space, such as a process's.
func (k *Kernel) ObjectIn(space *mem.Space, typeName string, at mem.VA) Object {
	o := Object{k: k, space: space, at: at}
	o = o.step(typeName)
	if k.Types == nil {
		o.err = fmt.Errorf("%s: %w", typeName, ErrNoLayout)
		return o
	}
	t, err := k.Types.Type(typeName)
	o.typ, o.err = t, err
	return o
}

func (o Object) step(name string) Object {
	if o.steps < maxPath {
		o.path[o.steps] = name
		o.steps++
	} else {
		o.path[maxPath-1] = name
	}
	return o
}

// Path gives the access path so far.
func (o Object) Path() string {
	var b strings.Builder
	for i, s := range o.path[:o.steps] {
		if i > 0 && !strings.HasPrefix(s, "->") && !strings.HasPrefix(s, "[") {
			b.WriteByte('.')
		}
		b.WriteString(s)
	}
	return b.String()
}

func (o Object) fail(err error) error {
	var oe *ObjectError
	if errors.As(err, &oe) {
		return err
	}
	return &ObjectError{Path: o.Path(), At: o.at, Err: err}
}

// Addr gives the object's address.
func (o Object) Addr() mem.VA { return o.at }

// Type gives the object's type; nil after a failed step.
func (o Object) Type() *types.Type { return o.typ }

// Err gives the first failed step.
func (o Object) Err() error {
	if o.err == nil {
		return nil
	}
	return o.fail(o.err)
}

// Has reports whether the type has a field, which is how layouts of different
// builds are told apart.
func (o Object) Has(field string) bool {
	if o.err != nil || o.typ == nil {
		return false
	}
	_, ok := o.typ.Field(field)
	return ok
}

// Field gives a member. A dotted name goes down several members.
func (o Object) Field(name string) Object {
	for part := range strings.SplitSeq(name, ".") {
		o = o.field(part)
	}
	return o
}

func (o Object) field(name string) Object {
	if o.err != nil {
		return o
	}
	o = o.step(name)
	f, ok := o.typ.Field(name)
	if !ok {
		o.err = &types.NotFoundError{What: "field", Name: name, In: o.typ.Name}
		return o
	}
	o.at += mem.VA(f.Offset)
	o.typ, o.bits = f.Type, f
	return o
}

// Index gives element i of an array, or of the array a pointer points at.
func (o Object) Index(i uint32) Object {
	if o.err != nil {
		return o
	}
	if o.typ.Kind == types.KindPointer {
		o = o.Deref()
		if o.err != nil {
			return o
		}
		o.at += mem.VA(uint64(i) * uint64(o.typ.Size))
		return o.step(fmt.Sprintf("[%d]", i))
	}
	o = o.step(fmt.Sprintf("[%d]", i))
	if o.typ.Kind != types.KindArray || o.typ.Elem == nil || i >= o.typ.Count {
		o.err = fmt.Errorf("index %d of %s: out of range", i, o.typ.Name)
		return o
	}
	o.typ = o.typ.Elem
	o.at += mem.VA(uint64(i) * uint64(o.typ.Size))
	o.bits = types.Field{}
	return o
}

// Deref follows a pointer to the object it points at.
func (o Object) Deref() Object {
	if o.err != nil {
		return o
	}
	p, err := o.Pointer()
	if err != nil {
		o.err = err
		return o
	}
	to := o.typ.Elem
	if to == nil {
		o.err = fmt.Errorf("pointer to an unknown type")
		return o
	}
	o = o.step("->")
	o.at, o.typ, o.bits = p, o.k.complete(to), types.Field{}
	if p == 0 {
		o.err = errNull
	}
	return o
}

var errNull = errors.New("null pointer")

// complete gives the full type where a pointer names it only.
func (k *Kernel) complete(t *types.Type) *types.Type {
	if len(t.Fields) > 0 || t.Name == "" || (t.Kind != types.KindStruct && t.Kind != types.KindUnion) {
		return t
	}
	if full, err := k.Types.Type(t.Name); err == nil {
		return full
	}
	return t
}

// As gives the object at the same address as another type.
func (o Object) As(typeName string) Object {
	if o.err != nil {
		return o
	}
	n := o.k.ObjectIn(o.space, typeName, o.at)
	n.path, n.steps = o.path, o.steps
	return n.step("(" + typeName + ")")
}

// Container gives the structure of which the object is the given member.
func (o Object) Container(typeName, field string) Object {
	if o.err != nil {
		return o
	}
	n := o.k.ObjectIn(o.space, typeName, o.at)
	if n.err != nil {
		return n
	}
	f := n.Field(field)
	if f.err != nil {
		return f
	}
	n.at = o.at - (f.at - o.at)
	return n
}

// Uint reads an integer, enumeration, pointer or bit-field of up to 8 bytes.
func (o Object) Uint() (uint64, error) {
	if o.err != nil {
		return 0, o.fail(o.err)
	}
	var b [8]byte
	size := o.typ.Size
	if size == 0 || size > 8 {
		return 0, o.fail(fmt.Errorf("%s is %d bytes, no integer", o.typ.Name, size))
	}
	if _, err := o.space.ReadVirtual(b[:size], o.at); err != nil {
		return 0, o.fail(err)
	}
	v := binary.LittleEndian.Uint64(b[:])
	if o.bits.BitLen > 0 {
		v = v >> o.bits.BitPos & (1<<o.bits.BitLen - 1)
	}
	return v, nil
}

// Int reads a signed integer, extended from its size.
func (o Object) Int() (int64, error) {
	v, err := o.Uint()
	if err != nil {
		return 0, err
	}
	if o.bits.BitLen > 0 {
		return int64(v), nil
	}
	shift := 64 - 8*o.typ.Size
	return int64(v) << shift >> shift, nil
}

// Pointer reads an address.
func (o Object) Pointer() (mem.VA, error) {
	v, err := o.Uint()
	return mem.VA(v), err
}

// Bytes reads n bytes from the object's start.
func (o Object) Bytes(n int) ([]byte, error) {
	if o.err != nil {
		return nil, o.fail(o.err)
	}
	b, err := o.space.Bytes(o.at, n)
	if err != nil {
		return b, o.fail(err)
	}
	return b, nil
}

// CString reads bytes up to a NUL, at most the array's size.
func (o Object) CString() (string, error) {
	if o.err != nil {
		return "", o.fail(o.err)
	}
	b, err := o.space.Bytes(o.at, int(min(o.typ.Size, 1024)))
	if err != nil {
		return "", o.fail(err)
	}
	if i := strings.IndexByte(string(b), 0); i >= 0 {
		b = b[:i]
	}
	return string(b), nil
}
