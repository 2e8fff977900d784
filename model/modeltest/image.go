package modeltest

import (
	"context"
	"encoding/binary"
	"unicode/utf16"

	"gokd/model/mem"
	"gokd/model/types"
)

// Image of a machine with page tables: its headers, and the variables behind
// the fixed structures.
const (
	variables = base + 0x40000
	// Those of real kernels lie below this.
	realVariables = base + 0x1400000
	imageSize     = 0x2000000
)

// imageGUID is the identity of the machine's kernel; no real one has it.
var imageGUID = types.GUID{'m', 'o', 'd', 'e', 'l', 't', 'e', 's', 't', ' ', 'k', 'e', 'r', 'n', 'e', 'l'}

// Variable gives n bytes of zeroed memory in the kernel image.
func (m *Machine) Variable(n int) mem.VA {
	m.t.Helper()
	if m.variables == 0 {
		m.variables = variables
		if m.real != nil {
			m.variables = realVariables
		}
	}
	at := m.variables
	m.variables = (at + mem.VA(n) + 0x3f) &^ 0x3f
	if m.variables > base+imageSize {
		m.t.Fatalf("variables of %#x bytes do not fit the image", n)
	}
	for p := at.Page(); p < m.variables; p += mem.PageSize {
		m.page(p)
	}
	return at
}

// Global gives the address of a variable of the kernel, which OpenPaged makes
// known under its name; n is its size in bytes where it is new.
func (m *Machine) Global(name string, n int) mem.VA {
	m.t.Helper()
	at, ok := m.globals[name]
	if ok {
		return at
	}
	if sym, known := m.lookup(name); known {
		at = base + mem.VA(sym.RVA)
		for p := at.Page(); p < at+mem.VA(n); p += mem.PageSize {
			m.page(p)
		}
	} else {
		at = m.Variable(n)
	}
	m.globals[name] = at
	return at
}

// Real makes the kernel the very one of the layout: it has that one's identity,
// and its variables lie where that one has them, so that the embedded tables tell
// of them and no symbols are needed. It is for dumps that a program opens; call
// it first. Not every family has a kernel that is known so.
func (m *Machine) Real() {
	m.t.Helper()
	guid, age, ok := m.Layout.ID()
	if ok {
		_, m.real, ok = types.EmbeddedByGUID(guid, age)
	}
	if !ok || len(m.globals) > 0 || m.variables != 0 {
		m.t.Fatalf("the layout of %s is of no kernel that is known, or the machine has variables already", m.Layout.Family())
	}
	m.guid, m.age = guid, age
}

func (m *Machine) lookup(name string) (types.Symbol, bool) {
	if m.real == nil {
		return types.Symbol{}, false
	}
	return m.real.Lookup(name)
}

// SetGlobal writes a variable of eight bytes.
func (m *Machine) SetGlobal(name string, v uint64) {
	m.t.Helper()
	m.Put64(m.Global(name, 8), v)
}

// Module adds an image to the list of loaded ones; it has no headers.
func (m *Machine) Module(name string, at mem.VA, size uint64) {
	t, err := m.Layout.Type("_KLDR_DATA_TABLE_ENTRY")
	if err != nil {
		m.t.Fatal(err)
	}
	e := m.Variable(int(t.Size))
	m.Set(e, uint64(at), "_KLDR_DATA_TABLE_ENTRY", "DllBase")
	m.Set(e, size, "_KLDR_DATA_TABLE_ENTRY", "SizeOfImage")
	for field, s := range map[string]string{"FullDllName": `\SystemRoot\system32\` + name, "BaseDllName": name} {
		off, _ := m.Field("_KLDR_DATA_TABLE_ENTRY", field)
		m.unicode(e+mem.VA(off), s)
	}
	m.modules = append(m.modules, e)
}

// unicode writes a _UNICODE_STRING and its text.
func (m *Machine) unicode(at mem.VA, s string) {
	var b []byte
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	text := m.Variable(len(b))
	m.Put(text, b...)
	m.Put64(at, uint64(len(b))|uint64(len(b))<<16)
	m.Put64(at+8, uint64(text))
}

// headers writes what the kernel image's first page says of it: PE headers with
// an RSDS record (PE format, IMAGE_NT_HEADERS64 and IMAGE_DEBUG_DIRECTORY).
func (m *Machine) headers() {
	var b [0x400]byte
	le := binary.LittleEndian
	copy(b[:], "MZ")
	le.PutUint32(b[0x3c:], 0x80)
	nt := b[0x80:]
	copy(nt, "PE\x00\x00")
	le.PutUint16(nt[4:], 0x8664)
	le.PutUint32(nt[8:], 0x4ce7951a) // TimeDateStamp
	le.PutUint16(nt[20:], 240)
	opt := nt[24:]
	le.PutUint16(opt, 0x20b)
	le.PutUint64(opt[24:], uint64(base))
	le.PutUint32(opt[56:], imageSize)
	le.PutUint32(opt[60:], 0x400)
	le.PutUint32(opt[108:], 16)
	le.PutUint32(opt[112+8*6:], 0x200)
	le.PutUint32(opt[112+8*6+4:], 28)
	debug := b[0x200:]
	le.PutUint32(debug[12:], 2)
	le.PutUint32(debug[16:], 24+13)
	le.PutUint32(debug[20:], 0x240)
	copy(b[0x240:], "RSDS")
	copy(b[0x244:], m.guid[:])
	le.PutUint32(b[0x254:], m.age)
	copy(b[0x258:], "ntkrnlmp.pdb")
	m.Put(base, b[:]...)
}

// resolver knows the variables of the machine's kernel and no other image.
type resolver struct{ names *types.Names }

// Resolve implements types.Resolver.
func (r resolver) Resolve(_ context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	if id.GUID != imageGUID {
		return nil, nil, &types.NotFoundError{What: "image", Name: id.Name}
	}
	return nil, r.names, nil
}

func (m *Machine) resolver(extra map[string]mem.VA) resolver {
	var names []string
	var rvas []uint32
	for _, list := range []map[string]mem.VA{m.globals, extra} {
		for name, at := range list {
			if at < base || uint64(at-base) > 1<<32-1 {
				m.t.Fatalf("nt!%s at %#x is not within 4 GB behind the image's base %#x", name, uint64(at), uint64(base))
			}
			names, rvas = append(names, name), append(rvas, uint32(at-base))
		}
	}
	return resolver{types.NewNames("machine", names, rvas)}
}
