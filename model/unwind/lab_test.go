package unwind

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"gokd/model"
	"gokd/model/mem"
)

// lab is memory with images in it whose bytes the tests write out by hand: code,
// function table, unwind data and stacks.
type lab struct {
	pages map[mem.VA]*[4096]byte
	fns   []fnEntry
}

type fnEntry struct{ begin, end, unwind uint32 }

// Where the lab's things are.
const (
	labImage  = mem.VA(0xfffff80001000000) // "ntoskrnl.exe"
	labSecond = mem.VA(0xfffff80002000000) // "other.sys": no headers, no unwind data
	labSize   = 0x20000
	labText   = 0x1000 // RVA of code, executable
	labPdata  = 0xa000
	labXdata  = 0xc000
	labStack  = mem.VA(0xfffff88003000000) // limit
	labBase   = labStack + 0x6000
	labInit   = labBase - 0x250
	labOther  = mem.VA(0xfffff88005000000) // another stack
)

func newLab() *lab {
	l := &lab{pages: map[mem.VA]*[4096]byte{}}
	for at := labStack; at < labBase; at += 4096 {
		l.pages[at] = new([4096]byte)
	}
	l.header(labImage)
	return l
}

// header writes a PE header with an executable section, one that is not, and
// the function table's directory (Microsoft's PE format).
func (l *lab) header(base mem.VA) {
	l.put(base, []byte("MZ"))
	l.put32(base+0x3c, 0x80)
	l.put(base+0x80, []byte("PE\x00\x00\x64\x86\x02\x00")) // x64, two sections
	l.put32(base+0x88, 0x5f5e1000)                         // timestamp
	l.put(base+0x94, []byte{0xf0, 0, 0x22, 0})             // size of the optional header
	opt := base + 0x98
	l.put(opt, []byte{0x0b, 0x02})
	l.put32(opt+56, labSize)
	l.put32(opt+60, 0x400)
	l.put32(opt+108, 16) // directories
	l.put32(opt+112+3*8, labPdata)
	sec := opt + 0xf0
	l.put(sec, []byte(".text\x00\x00\x00\x00\x80\x00\x00\x00\x10\x00\x00\x00\x80\x00\x00"))
	l.put32(sec+36, 0x60000020)
	l.put(sec+40, []byte(".rdata\x00\x00\x00\x70\x01\x00\x00\xa0\x00\x00\x00\x70\x01\x00"))
	l.put32(sec+76, 0x40000040)
}

func (l *lab) put(at mem.VA, b []byte) {
	for _, c := range b {
		page := at &^ 4095
		if l.pages[page] == nil {
			l.pages[page] = new([4096]byte)
		}
		l.pages[page][at%4096] = c
		at++
	}
}

func (l *lab) put32(at mem.VA, v uint32) { l.put(at, binary.LittleEndian.AppendUint32(nil, v)) }

// words writes 64-bit values from an address on.
func (l *lab) words(at mem.VA, v ...uint64) {
	for i, w := range v {
		l.put(at+mem.VA(8*i), binary.LittleEndian.AppendUint64(nil, w))
	}
}

// fn adds a function: its code at an offset of the text, and its unwind data,
// whose RVA is returned.
func (l *lab) fn(off uint32, code, info []byte) uint32 {
	rva := uint32(labXdata + len(l.fns)*0x100)
	l.entry(off, code, rva)
	l.put(labImage+mem.VA(rva), info)
	return rva
}

// entry adds a function whose unwind data is told by an RVA.
func (l *lab) entry(off uint32, code []byte, unwind uint32) {
	l.put(labImage+labText+mem.VA(off), code)
	l.fns = append(l.fns, fnEntry{labText + off, labText + off + uint32(len(code)), unwind})
	slices.SortFunc(l.fns, func(a, b fnEntry) int { return int(a.begin) - int(b.begin) })
	for i, f := range l.fns {
		at := labImage + labPdata + mem.VA(12*i)
		l.put32(at, f.begin)
		l.put32(at+4, f.end)
		l.put32(at+8, f.unwind)
	}
	l.put32(labImage+0x98+112+3*8+4, uint32(12*len(l.fns)))
}

// entryAt gives the RVA of the table entry of the function at an offset.
func (l *lab) entryAt(off uint32) uint32 {
	i := slices.IndexFunc(l.fns, func(f fnEntry) bool { return f.begin == labText+off })
	return uint32(labPdata + 12*i)
}

func (l *lab) ReadVirtual(p []byte, at mem.VA) (n int, err error) {
	for n < len(p) {
		va := at + mem.VA(n)
		page := l.pages[va&^4095]
		if page == nil {
			return n, &mem.Fault{Kind: mem.NotCaptured, VA: va}
		}
		n += copy(p[n:], page[va%4096:])
	}
	return n, nil
}

func (l *lab) kernel(t testing.TB) *model.Kernel {
	t.Helper()
	k, err := model.Load(context.Background(), model.Source{
		Machine: model.MachineX64, Virtual: l,
		Crash: model.Crash{Triage: &model.Triage{Drivers: []model.TriageDriver{
			{Path: `\SystemRoot\system32\ntoskrnl.exe`, Base: labImage, Size: labSize, Timestamp: 1},
			{Path: `\SystemRoot\system32\drivers\other.sys`, Base: labSecond, Size: labSize, Timestamp: 1},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Modules.All) != 2 {
		t.Fatalf("%d modules", len(k.Modules.All))
	}
	return k
}

// at gives the address of code.
func at(off uint32) uint64 { return uint64(labImage) + labText + uint64(off) }

func segment() Segment {
	return Segment{Thread: 0xfffffa8000000000, Limit: labStack, Base: labBase, Initial: labInit}
}
