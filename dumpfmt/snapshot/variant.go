package snapshot

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"

	"gokd/model/mem"
	"gokd/model/types"
)

// Variant makes the machine one of a build that no profile describes: its
// address space is that of the profile, everything that symbol tables tell is
// its own. What such a build's structures do not have is not written.
type Variant struct {
	Build uint32
	// Types tell where fields lie. They must list their names, for the symbol
	// tables that go with the dump.
	Types types.Store
	// Seed changes the order of the kernel's variables, and so their addresses.
	Seed uint64
	// EncodedDebugData encodes the debugger data block as Windows 8 and later do
	// while no debugger is attached.
	EncodedDebugData bool
}

// useVariant replaces what the profile says.
func (m *machine) useVariant() {
	v := m.variant
	if v == nil {
		return
	}
	prof := *m.prof
	if v.Build != 0 {
		prof.build = v.Build
	}
	m.prof = &prof
	if v.Types != nil {
		m.layout = newLayouts(v.Types)
		m.layout.lenient = true
	}
}

// variables lists the kernel's variables in this machine's order.
func (m *machine) variables() []variable {
	v := m.variant
	if v == nil {
		return kernelVariables
	}
	if m.vars != nil {
		return m.vars
	}
	list := slices.Clone(kernelVariables)
	for i, v := range list {
		if v.typ != "" && !m.layout.hasType(v.typ) {
			list[i] = variable{name: v.name, size: 0x40} // the debugger data block names it all the same
		}
	}
	if v.EncodedDebugData {
		list = append(list, variable{name: "KiWaitNever", size: 8}, variable{name: "KiWaitAlways", size: 8})
	}
	if v.Seed != 0 {
		rng := rand.New(rand.NewPCG(v.Seed, 1))
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	m.vars = list
	return list
}

// hasType reports whether the build has a structure.
func (l *layouts) hasType(name string) bool {
	_, err := l.store.Type(name)
	return err == nil
}

// has reports whether the build has a member.
func (l *layouts) has(typ, path string) bool {
	_, err := l.place(typ, path)
	return err == nil
}

// forgives reports whether an error only says that this build's structures lack
// what the profile's have.
func (l *layouts) forgives(err error) bool {
	var missing *types.NotFoundError
	return l.lenient && errors.As(err, &missing)
}

// Keys of the encoding, as random as the kernel's own.
const (
	waitNever  = 0x00d8e3c1f5a7b62d
	waitAlways = 0x9f0c3be512d7a864
)

// encodeDebugData makes the block unreadable without three variables, which
// only symbols find: the inverse of what Volatility's win8_kdbg overlay does.
func (m *machine) encodeDebugData() {
	if m.variant == nil || !m.variant.EncodedDebugData {
		return
	}
	flag := m.global("KdpDataBlockEncoded")
	m.put64(m.global("KiWaitNever"), waitNever)
	m.put64(m.global("KiWaitAlways"), waitAlways)
	m.put32(flag, 1)
	block := make([]byte, m.prof.kdbgSize&^7)
	at := m.global("KdDebuggerDataBlock")
	m.read(at, block)
	for i := 0; i < len(block); i += 8 {
		v := bits.ReverseBytes64(binary.LittleEndian.Uint64(block[i:])^waitAlways) ^ uint64(flag)
		v = bits.RotateLeft64(v, -int(waitNever&0xff)) ^ waitNever
		binary.LittleEndian.PutUint64(block[i:], v)
	}
	m.write(at, block)
}

// controlType gives the name of what lies above InitialStack of a kernel stack.
func (m *machine) controlType() string {
	const old = "_KERNEL_STACK_CONTROL"
	if m.layout.lenient && !m.layout.hasType(old) {
		return "_KSTACK_CONTROL"
	}
	return old
}

// handleCount writes how many handles a table has: in it, or from 9600 on in its
// list of free entries.
func (m *machine) handleCount(table mem.VA, count uint64) {
	path := "HandleCount"
	if !m.layout.has("_HANDLE_TABLE", path) {
		path = "FreeLists[0].HandleCount"
	}
	m.object("_HANDLE_TABLE", table).put(path, count)
}
