package modeltest

import (
	"encoding/binary"

	"gokd/model/mem"
)

// debugData writes the debugger data block: the addresses and the offsets that
// a kernel of the layout would have. Offsets in the block are those of the
// public KDDEBUGGER_DATA64.
func (m *Machine) debugData() {
	b := make([]byte, 0x380)
	le := binary.LittleEndian
	copy(b[0x10:], "KDBG")
	le.PutUint32(b[0x14:], 0x380)
	for off, at := range map[int]mem.VA{0x18: base, 0x48: modHead, 0x50: procHead, 0x60: resHead, 0x218: blockList} {
		le.PutUint64(b[off:], uint64(at))
	}
	for _, o := range []struct {
		at   int
		typ  string
		path []string
	}{
		{0x29a, "_KTHREAD", []string{"Teb"}}, {0x29c, "_KTHREAD", []string{"KernelStack"}},
		{0x29e, "_KTHREAD", []string{"InitialStack"}}, {0x340, "_KTHREAD", []string{"StackLimit"}}, {0x344, "_KTHREAD", []string{"StackBase"}}, {0x2a0, "_KTHREAD", []string{"ApcState", "Process"}},
		{0x2a2, "_KTHREAD", []string{"State"}}, {0x2aa, "_EPROCESS", []string{"Peb"}},
		{0x2ac, "_EPROCESS", []string{"InheritedFromUniqueProcessId"}},
		{0x2b4, "_KPRCB", []string{"CurrentThread"}}, {0x338, "_KPRCB", []string{"Context"}},
		{0x34c, "_ETHREAD", []string{"IrpList"}}, {0x35c, "_KTHREAD", []string{"WaitReason"}},
	} {
		off, _ := m.Field(o.typ, o.path...)
		le.PutUint16(b[o.at:], uint16(off))
	}
	for name, off := range blockNames {
		if at, ok := m.globals[name]; ok {
			le.PutUint64(b[off:], uint64(at))
		}
	}
	for at, typ := range map[int]string{0x2b0: "_KPRCB", 0x2c0: "_ETHREAD"} {
		t, err := m.Layout.Type(typ)
		if err != nil {
			m.t.Fatal(err)
		}
		le.PutUint16(b[at:], uint16(t.Size))
	}
	if m.Unknown {
		le.PutUint16(b[0x2c0:], 0xfff0)
	}
	m.Put(debugData, b...)
	for i, at := range append([]mem.VA{prcb}, m.prcbs...) {
		m.Put64(blockList+mem.VA(8*i), uint64(at))
		idle := m.Thread(m.System, 0)
		m.threads[m.System] = m.threads[m.System][:len(m.threads[m.System])-1]
		m.Set(at, uint64(idle), "_KPRCB", "CurrentThread")
		m.Set(at, uint64(idle), "_KPRCB", "IdleThread")
	}
}

// blockNames are the variables of the pool that the block names.
var blockNames = map[string]int{
	"MmNonPagedPoolStart": 0x110, "MmNonPagedPoolEnd": 0x118, "MmPagedPoolStart": 0x120, "MmPagedPoolEnd": 0x128,
	"PoolTrackTable": 0x1b8, "NonPagedPoolDescriptor": 0x1c0, "MmSpecialPoolTag": 0x238,
}
