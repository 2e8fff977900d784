package model

import (
	"encoding/binary"
	"fmt"

	"gokd/model/mem"
	"gokd/model/types"
)

// RuntimeFunction is an entry of an image's function table: RUNTIME_FUNCTION
// of the x64 exception-handling ABI, three RVAs.
type RuntimeFunction struct {
	Begin, End uint32
	Unwind     uint32 // RVA of UNWIND_INFO; bit 0 set: of another entry
}

const runtimeFunctionSize = 12

// maxFunctionTable limits the size of a function table in bytes; the kernel's
// own is about 0.5 MB.
const maxFunctionTable = 32 << 20

// FunctionTable tells where an image's function table lies and how many
// entries it has: as the loader entry names it, else as the PE header does.
func (m *Module) FunctionTable() (at mem.VA, entries int, err error) {
	at, size := m.ExceptionTable, m.ExceptionSize
	if !m.Contains(at) || size == 0 {
		h, err := m.Header()
		if err != nil {
			return 0, 0, fmt.Errorf("function table of %s: %w", m.Name, err)
		}
		dir, _ := h.Directory(types.DirException)
		at, size = m.Base+mem.VA(dir.RVA), dir.Size
	}
	if size < runtimeFunctionSize || !m.Contains(at) {
		return 0, 0, fmt.Errorf("function table of %s: the image has none", m.Name)
	}
	size = min(size, maxFunctionTable, uint32(min(uint64(m.End()-at), maxFunctionTable)))
	return at, int(size / runtimeFunctionSize), nil
}

// FunctionAt finds the entry that covers an RVA. ok is false for a leaf
// function, which has none; an error says that the table can't be read there.
func (m *Module) FunctionAt(rva uint32) (f RuntimeFunction, ok bool, err error) {
	table, n, err := m.FunctionTable()
	if err != nil {
		return f, false, err
	}
	lo, hi := 0, n
	var b [runtimeFunctionSize]byte // once, since what is read through an interface escapes
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if f, err = m.readFunction(table+mem.VA(mid*runtimeFunctionSize), b[:]); err != nil {
			return f, false, fmt.Errorf("function table of %s: %w", m.Name, err)
		}
		switch {
		case rva < f.Begin:
			hi = mid
		case rva >= f.End:
			lo = mid + 1
		default:
			return f, true, nil
		}
	}
	return RuntimeFunction{}, false, nil
}

// ReadFunction reads the entry at an RVA of the image.
func (m *Module) ReadFunction(rva uint32) (RuntimeFunction, error) {
	var b [runtimeFunctionSize]byte
	return m.readFunction(m.Base+mem.VA(rva), b[:])
}

// readFunction reads the entry at an address through a buffer of its size.
func (m *Module) readFunction(at mem.VA, b []byte) (f RuntimeFunction, err error) {
	if _, err = m.k.Space.ReadVirtual(b, at); err != nil {
		return f, err
	}
	le := binary.LittleEndian
	return RuntimeFunction{le.Uint32(b), le.Uint32(b[4:]), le.Uint32(b[8:])}, nil
}

// unwindChained is the flag of UNWIND_INFO that says that the entry continues
// another function's.
const unwindChained = 4

// maxChain limits chained entries, as the system's own unwinder does.
const maxChain = 32

// FunctionStart gives the RVA of the function that holds an RVA, following
// chained entries to the primary one; ok is false where the unwind data of the
// image name none.
func (m *Module) FunctionStart(rva uint32) (start uint32, ok bool) { return m.functionStart(rva) }

// functionStart gives the RVA of the function that holds an RVA, following
// chained entries to the primary one.
func (m *Module) functionStart(rva uint32) (uint32, bool) {
	f, ok, err := m.FunctionAt(rva)
	for range maxChain {
		if err != nil || !ok {
			return 0, false
		}
		if f.Unwind&1 != 0 {
			f, err = m.ReadFunction(f.Unwind &^ 1)
			continue
		}
		var head [4]byte
		if _, err = m.k.Space.ReadVirtual(head[:], m.Base+mem.VA(f.Unwind)); err != nil || head[0]>>3&unwindChained == 0 {
			return f.Begin, err == nil
		}
		// The chained entry stands after the codes, whose count is padded to even.
		f, err = m.ReadFunction(f.Unwind + 4 + 2*((uint32(head[2])+1)&^1))
	}
	return 0, false
}
