package modeltest

import (
	"bytes"
	"encoding/binary"
)

// Where a full dump of 64 bits keeps what is written here (DUMP_HEADER64 and
// PHYSICAL_MEMORY_DESCRIPTOR of the public headers), and how many runs its first
// page has room for.
const (
	dumpHeaderSize = 0x2000
	dumpRuns       = 0x88
	dumpMostRuns   = 42
)

// Dump gives the machine that OpenPaged opened as the file of a full dump.
func (m *Machine) Dump() []byte {
	m.t.Helper()
	if m.memory == nil || len(m.memory.runs) > dumpMostRuns {
		m.t.Fatal("a machine that was not opened by OpenPaged, or one of too many runs")
	}
	out := bytes.Repeat([]byte("PAGE"), dumpHeaderSize/4)
	le := binary.LittleEndian
	copy(out[4:], "DU64")
	le.PutUint32(out[8:], 15)
	le.PutUint32(out[0xc:], m.Layout.Origin().Build)
	le.PutUint64(out[0x10:], uint64(m.root))
	le.PutUint64(out[0x20:], uint64(modHead))
	le.PutUint64(out[0x28:], uint64(procHead))
	le.PutUint32(out[0x30:], 0x8664)
	le.PutUint32(out[0x34:], uint32(1+len(m.prcbs)))
	le.PutUint32(out[0x38:], 0xe2)
	clear(out[0x40:0x60])
	le.PutUint64(out[0x80:], uint64(debugData))
	clear(out[0x348 : 0x348+0x4d0])
	clear(out[0xf00:0xf98])
	le.PutUint32(out[0xf98:], 1)
	le.PutUint64(out[0xfa8:], 132000000000000000)
	le.PutUint64(out[0x1030:], 36000000000)
	pages := uint64(0)
	for i, r := range m.memory.runs {
		n := uint64(len(r.data)) / 0x1000
		le.PutUint64(out[dumpRuns+16+16*i:], uint64(r.base)/0x1000)
		le.PutUint64(out[dumpRuns+24+16*i:], n)
		pages += n
	}
	le.PutUint64(out[dumpRuns:], uint64(len(m.memory.runs)))
	le.PutUint64(out[dumpRuns+8:], pages)
	for _, r := range m.memory.runs {
		out = append(out, r.data...)
	}
	le.PutUint64(out[0xfa0:], uint64(len(out)))
	return out
}
