package dumpfmt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

const (
	stackTop  = 0xfffff88003b2a5c8
	blockBase = 0xfffffa8000001230
)

// triageSample describes a small dump with every part.
func triageSample() dumptest.Triage {
	fill := func(c byte, n int) []byte { return bytes.Repeat([]byte{c}, n) }
	return dumptest.Triage{
		Prcb: fill('p', 0x180), Process: fill('e', 0x140), Thread: fill('t', 0x120),
		StackTop: stackTop, Stack: fill('s', 0x210),
		Debug:  dumptest.DebugData(0x180, 0x140, 0x120),
		Stride: 0x90,
		Drivers: []dumptest.Driver{
			{Name: `\SystemRoot\system32\ntoskrnl.exe`, Base: 0xfffff80002206000, Entry: 0xfffff80002300000, Size: 0x5e9000, CheckSum: 0x55f1a2, Timestamp: 0x4ce7951a},
			{Name: `\SystemRoot\System32\drivers\ntfs.sys`, Base: 0xfffff88001200000, Entry: 0xfffff88001201000, Size: 0x1a3000, CheckSum: 0x1b0f3c, Timestamp: 0x4d79997b},
			{Name: `\SystemRoot\System32\drivers\ünicode.sys`, Base: 0xfffff88005a00000, Entry: 0, Size: 0x9000, CheckSum: 1, Timestamp: 2},
		},
		Unloaded: []dumptest.Unloaded{{Name: "dam.sys", Start: 0xfffff88004200000, End: 0xfffff88004210000}, {Name: "crashdmp.sys", Start: 0xfffff88004300000, End: 0xfffff88004310000}},
		Blocks: []dumptest.Block{
			{VA: blockBase, Data: fill('1', 0x100)},
			{VA: blockBase + 0x80, Data: fill('2', 0x100)}, // overlaps: the first wins
			{VA: 0xfffffffffffffff0, Data: fill('3', 16)},  // ends at the top
			{VA: blockBase + 0x1000, Data: fill('4', 3)},
		},
		Options:   0x100,
		Page:      dumptest.Block{VA: 0xfffff6fb7dbed000, Data: fill('d', 0x40)},
		Secondary: []dumptest.Stream{{Tag: [16]byte{9}, Data: []byte("blob")}},
	}
}

// withField changes a field of the triage header.
func withField(m dumptest.Image, field string, v uint32) dumptest.Image {
	m = m.Clone()
	m.Put(dumptest.TriageField[field], v)
	return m
}

func TestTriage(t *testing.T) {
	t.Parallel()
	want := triageSample()
	for _, stride := range []int{0x90, 0x98, 0xa8} {
		sample := want
		sample.Stride = stride
		d := open(t, sample.Image())
		wantWarning(t, d, "")
		got := d.Triage
		if d.Format != "64-bit triage dump" || d.Physical != nil || d.Virtual == nil || len(d.Secondary) != 1 {
			t.Errorf("stride %#x: format %q, physical %v", stride, d.Format, d.Physical)
		}
		var drivers []dumptest.Driver
		for _, r := range got.Drivers {
			drivers = append(drivers, dumptest.Driver{Name: r.Name, Base: uint64(r.Base), Entry: uint64(r.Entry),
				Size: r.Size, CheckSum: r.CheckSum, Timestamp: r.Timestamp})
		}
		if diff := cmp.Diff(want.Drivers, drivers); diff != "" {
			t.Errorf("stride %#x: drivers (-want +got):\n%s", stride, diff)
		}
		var unloaded []dumptest.Unloaded
		for _, u := range got.Unloaded {
			unloaded = append(unloaded, dumptest.Unloaded{Name: u.Name, Start: uint64(u.Start), End: uint64(u.End)})
		}
		if diff := cmp.Diff(want.Unloaded, unloaded); diff != "" {
			t.Errorf("unloaded drivers (-want +got):\n%s", diff)
		}
		parts := [][]byte{got.Prcb, got.Process, got.Thread, got.Stack, got.DebugData}
		if diff := cmp.Diff([][]byte{want.Prcb, want.Process, want.Thread, want.Stack, want.Debug}, parts); diff != "" {
			t.Errorf("parts (-want +got):\n%s", diff)
		}
		if got.ServicePack != 1 || !got.Overflowed || got.StackTop != stackTop || len(got.Blocks) != 5 {
			t.Errorf("service pack %d, overflowed %v, stack top %s, %d blocks", got.ServicePack, got.Overflowed, got.StackTop, len(got.Blocks))
		}
	}
}

func TestTriage_memory(t *testing.T) {
	t.Parallel()
	d := open(t, triageSample().Image())
	for _, test := range []struct {
		at   mem.VA
		n    int
		want string
		hole mem.VA
	}{
		{blockBase, 4, "1111", 0},
		{blockBase + 0xfe, 4, "1122", 0},
		{blockBase + 0x17e, 4, "22", blockBase + 0x180},
		{blockBase - 1, 2, "", blockBase - 1},
		{stackTop, 3, "sss", 0},
		{stackTop + 0x20f, 2, "s", stackTop + 0x210},
		{dumptest.DebugBlock + 0x10, 4, "KDBG", 0},
		{0xfffff6fb7dbed03f, 1, "d", 0},
		{0xfffffffffffffffc, 4, "3333", 0},
		{0xfffffffffffffffc, 5, "3333", 0},
		{0, 1, "", 0},
	} {
		p := make([]byte, test.n)
		n, err := d.Virtual.ReadVirtual(p, test.at)
		if string(p[:n]) != test.want {
			t.Errorf("%s: %q, want %q", test.at, p[:n], test.want)
		}
		var fault *mem.Fault
		if n < test.n && (!errors.As(err, &fault) || fault.Kind != mem.NotCaptured || fault.VA != test.hole) || n == test.n && err != nil {
			t.Errorf("%s: %v, want a fault at %s", test.at, err, test.hole)
		}
	}
	// A caller that learns where the PRCB belongs can add it.
	d.Triage.Memory.Add(0xfffff780ffff0000, d.Triage.Prcb)
	p := make([]byte, 2)
	if _, err := d.Virtual.ReadVirtual(p, 0xfffff780ffff017e); err != nil || string(p) != "pp" {
		t.Errorf("an added copy: %q, %v", p, err)
	}
}

// A bad part is a warning; the others stay.
func TestTriage_damage(t *testing.T) {
	t.Parallel()
	whole := triageSample().Image()
	size := uint32(len(whole))
	type parts struct{ Drivers, Unloaded, Prcb, Process, Thread, Stack, Debug, Blocks int }
	all := parts{3, 2, 0x180, 0x140, 0x120, 0x210, 0x340, 5}
	but := func(f func(*parts)) parts { p := all; f(&p); return p }
	const filler = 0x45474150
	for _, test := range []struct {
		name, field string
		value       uint32
		warning     string
		want        parts
	}{
		{"no mark", "valid", 0x2000, "no TRGD", all},
		{"mark absent", "valid", 0, "", all},
		{"mark filled", "valid", filler, "", all},
		{"size filled, mark there", "size", filler, "", all},
		{"size too big", "size", size + 0x123, "cut short", all},
		{"stack filled", "stack", filler, "", but(func(p *parts) { p.Stack = 0 })},
		{"stack outside", "stack", size, "call stack at file offset 0x2028", but(func(p *parts) { p.Stack = 0 })},
		{"stack size huge", "stack size", 0x7ffffff0, "call stack at file offset", but(func(p *parts) { p.Stack = -1 })},
		{"driver count huge", "driver count", 0x7fffffff, "driver count at file offset 0x2034: 2147483647, there is room for 3", all},
		{"driver count zero", "driver count", 0, "", but(func(p *parts) { p.Drivers = 0 })},
		{"driver count one more", "driver count", 4, "driver count", all},
		{"driver list filled", "drivers", filler, "", but(func(p *parts) { p.Drivers = 0 })},
		{"driver list in the header", "drivers", 8, "driver list at file offset 0x2030", but(func(p *parts) { p.Drivers = 0 })},
		{"strings filled", "strings", filler, "", all},
		{"unloaded outside", "unloaded", size - 4, "", but(func(p *parts) { p.Unloaded = 0 })},
		{"unloaded elsewhere", "unloaded", 0x3e0, "unloaded drivers: count", but(func(p *parts) { p.Unloaded = 0 })},
		{"debug data absent", "debug", 0, "", but(func(p *parts) { p.Debug = 0 })},
		{"debug data without size", "debug size", 0, "", all},
		{"debug data elsewhere", "debug", 0x2000, "no KDBG tag", all},
		{"block count huge", "block count", 0xffffffff, "data block count", but(func(p *parts) { p.Blocks = -1 })},
		{"block count zero", "block count", 0, "", but(func(p *parts) { p.Blocks = 1 })},
		{"blocks outside", "blocks", size + 1, "data blocks at file offset 0x2078", but(func(p *parts) { p.Blocks = 1 })},
		{"prcb outside", "prcb", 0xffffffff, "processor block", but(func(p *parts) { p.Prcb = 0 })},
		{"thread absent", "thread", filler, "", but(func(p *parts) { p.Thread = 0 })},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d := open(t, withField(whole, test.field, test.value))
			wantWarning(t, d, test.warning)
			g := d.Triage
			got := parts{len(g.Drivers), len(g.Unloaded), len(g.Prcb), len(g.Process), len(g.Thread), len(g.Stack), len(g.DebugData), len(g.Blocks)}
			if test.want.Stack < 0 { // whatever follows in the file
				got.Stack = -1
			}
			if test.want.Blocks < 0 {
				got.Blocks = -1
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("sizes of the parts (-want +got):\n%s", diff)
			}
			for at, b := range g.Memory.All() {
				if len(b) == 0 {
					t.Errorf("no bytes at %s", at)
				}
			}
		})
	}
}

// Names that are cut, missing or too long are names still.
func TestTriage_driverNames(t *testing.T) {
	t.Parallel()
	sample := triageSample()
	sample.Blocks, sample.Secondary = nil, nil
	m := append(sample.Image(), make([]byte, 14)...)
	list := int(binary.LittleEndian.Uint32(m[dumptest.TriageField["drivers"]:]))
	m.Put(list, uint32(0))                // the first has none
	m.Put(list+0x90, uint32(len(m)-4-10)) // the second's lies at the end
	m.Put(len(m)-14, uint32(0x40000000))  // and claims more than there is
	m.Put(len(m)-10, dumptest.Units("a.sys"))
	d := open(t, m)
	wantWarning(t, d, "1 of 3 drivers have no readable name")
	var names []string
	for _, r := range d.Triage.Drivers {
		names = append(names, r.Name)
	}
	if diff := cmp.Diff([]string{"", "a.sys", `\SystemRoot\System32\drivers\ünicode.sys`}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// A count whose upper half was left filled.
func TestTriage_paddedCount(t *testing.T) {
	t.Parallel()
	m := triageSample().Image()
	m.Put(int(binary.LittleEndian.Uint32(m[dumptest.TriageField["unloaded"]:]))+4, "PAGE")
	d := open(t, m)
	wantWarning(t, d, "")
	if len(d.Triage.Unloaded) != 2 {
		t.Errorf("%d unloaded drivers, want 2", len(d.Triage.Unloaded))
	}
}

// Blocks that all claim the whole file must not multiply it without end.
func TestTriage_blocksClaimTooMuch(t *testing.T) {
	t.Parallel()
	sample := triageSample()
	sample.Page, sample.Blocks = dumptest.Block{}, make([]dumptest.Block, 50)
	m := sample.Image()
	table := int(binary.LittleEndian.Uint32(m[dumptest.TriageField["blocks"]:]))
	for i := range sample.Blocks {
		m.Put(table+16*i, 0xfffffa8000000000+uint64(i)<<32)
		m.Put(table+16*i+8, uint32(0x2000))
		m.Put(table+16*i+12, uint32(len(m)-0x2000))
	}
	d := open(t, m)
	wantWarning(t, d, "claim more than 4 times")
	if n := len(d.Triage.Blocks); n < 4 || n > 20 {
		t.Errorf("%d blocks, want a few", n)
	}
}

// A dump of another writer: nothing but a header and blocks.
func TestTriage_bare(t *testing.T) {
	t.Parallel()
	m := dumptest.Triage{Blocks: []dumptest.Block{{VA: blockBase, Data: []byte("x")}}}.Image()
	for at := 0x2000; at < 0x2078; at += 4 {
		m.Put(at, "PAGE")
	}
	d := open(t, m)
	wantWarning(t, d, "size of dump")
	want := &dumpfmt.Triage{Blocks: []dumpfmt.Block{{VA: blockBase, Size: 1, Offset: 0x2098}}, Memory: d.Triage.Memory}
	if diff := cmp.Diff(want, d.Triage, cmp.Comparer(func(a, b *dumpfmt.Blocks) bool { return a == b })); diff != "" {
		t.Errorf("a bare dump (-want +got):\n%s", diff)
	}
	if s := want.Blocks[0].String(); !strings.Contains(s, "0x2098") {
		t.Errorf("Block.String: %q", s)
	}
}
