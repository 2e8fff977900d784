package repl_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/snapshot"
	"gokd/model"
	"gokd/model/mem"
	"gokd/repl"
)

// crafted is a dump of the embedded scenario with memory to spare, in which an
// attacker builds what a kernel never would.
type crafted struct {
	*finder
	data []byte
	name string
	free mem.PA // the next page that nothing uses
	end  mem.PA
	next mem.VA // where pages are mapped next
}

// craftedBase is where crafted pages are mapped: nothing of the scenario is
// near.
const craftedBase mem.VA = 0xffffd00000000000

// craft makes a full dump with spare physical memory of so many bytes.
func craft(t testing.TB, spare uint64) *crafted {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "testdata", "snapshots", "self-deadlock.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	im, err := snapshot.Build(text, snapshot.Options{Format: snapshot.Full})
	if err != nil {
		t.Fatal(err)
	}
	var end mem.PA // of the memory that the scenario uses
	d, err := dumpfmt.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	for r := range d.Physical.Runs() {
		end = max(end, r.Base+mem.PA(r.Size))
	}
	if spare > 0 {
		if im, err = snapshot.Build(text, snapshot.Options{Format: snapshot.Full, Size: uint64(end) + spare}); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := im.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	c := &crafted{
		data: b.Bytes(), name: filepath.Join(t.TempDir(), "crafted.dmp"),
		free: end, end: end + mem.PA(spare), next: craftedBase,
	}
	c.write(t)
	c.finder = newFinder(t, c.name)
	return c
}

// write stores the dump as it stands.
func (c *crafted) write(t testing.TB) {
	t.Helper()
	if err := os.WriteFile(c.name, c.data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// at gives the bytes of physical memory from an address on, to the end of its
// page.
func (c *crafted) at(pa mem.PA) []byte {
	c.t.Helper()
	off, ok := c.p.FileOffset(pa)
	if !ok {
		c.t.Fatalf("physical %s is not in the dump", pa)
	}
	return c.data[off:][:mem.PageSize-uint64(pa)%mem.PageSize]
}

// page takes a page of spare memory.
func (c *crafted) page() mem.PA {
	c.t.Helper()
	if c.free >= c.end {
		c.t.Fatal("no memory to spare")
	}
	c.free += mem.PageSize
	return c.free - mem.PageSize
}

// entry gives a page-table entry that is valid and writable.
func entry(pa mem.PA) uint64 { return uint64(pa) | 3 }

// translate goes down the page tables, making those that are missing, and
// gives the place of the last entry.
func (c *crafted) pte(va mem.VA) []byte {
	c.t.Helper()
	table := c.k.Space.Root()
	for shift := 39; shift > 12; shift -= 9 {
		e := c.at(table + mem.PA(uint64(va)>>shift&511*8))
		v := binary.LittleEndian.Uint64(e)
		if v&1 == 0 {
			v = entry(c.page())
			binary.LittleEndian.PutUint64(e, v)
		}
		table = mem.PA(v & 0x000ffffffffff000)
	}
	return c.at(table + mem.PA(uint64(va)>>12&511*8))
}

// alloc maps spare memory and gives its address.
func (c *crafted) alloc(size int) mem.VA {
	c.t.Helper()
	start := c.next
	for ; size > 0; size -= mem.PageSize {
		binary.LittleEndian.PutUint64(c.pte(c.next), entry(c.page()))
		c.next += mem.PageSize
	}
	return start
}

// put writes a 64-bit word at a virtual address that must not cross a page.
func (c *crafted) put(va mem.VA, v uint64) { c.copyTo(va, binary.LittleEndian.AppendUint64(nil, v)) }

func (c *crafted) copyTo(va mem.VA, b []byte) {
	c.t.Helper()
	for len(b) > 0 {
		pte := binary.LittleEndian.Uint64(c.pte(va))
		n := copy(c.at(mem.PA(pte&0x000ffffffffff000)+mem.PA(uint64(va)%mem.PageSize)), b)
		b, va = b[n:], va+mem.VA(n)
	}
}

// link writes a consistent list of links: head, then one every stride bytes.
func (c *crafted) link(head, first mem.VA, stride, count int) {
	c.t.Helper()
	at := func(i int) mem.VA {
		if i < 0 || i == count {
			return head
		}
		return first + mem.VA(i*stride)
	}
	for i := -1; i < count; i++ {
		before, after := at(i-1), at(i+1)
		if i < 0 {
			before = at(count - 1)
		}
		c.put(at(i), uint64(after))
		c.put(at(i)+8, uint64(before))
	}
}

// ask runs commands over the crafted dump.
func (c *crafted) ask(commands ...string) string {
	c.t.Helper()
	c.write(c.t)
	script := writeScript(c.t, commands)
	var out strings.Builder
	if code := runBatch(c.t, c.name, script, &out); code == repl.ExitOpen {
		c.t.Errorf("the dump does not open: %s", out.String())
	}
	return out.String()
}

func (c *crafted) wants(out string, parts ...string) {
	c.t.Helper()
	for _, p := range parts {
		if !strings.Contains(out, p) {
			c.t.Errorf("the output does not say %q: ...%s", p, out[max(0, len(out)-600):])
		}
	}
}

// TestCrafted_modules: more loader entries than any machine has, all of one
// image with a long path that never ends.
func TestCrafted_modules(t *testing.T) {
	t.Parallel()
	c := craft(t, 2<<20)
	const count = model.MaxModules + 100
	nt, _ := c.k.Modules.ByName("nt")
	path := c.alloc(0x1000)
	c.copyTo(path, bytes.Repeat([]byte{'A', 0, 0x1b, 0}, 0x400))
	first := c.alloc(count * 0x80)
	for i := range count {
		at := first + mem.VA(i*0x80)
		c.put(at+0x30, uint64(nt.Base))
		c.put(at+0x40, nt.Size)
		c.put(at+0x48, 0xffffffff) // Length and MaximumLength of FullDllName
		c.put(at+0x50, uint64(path))
		c.put(at+0x58, 0x10000004) // of BaseDllName
		c.put(at+0x60, uint64(path))
	}
	c.link(c.global("PsLoadedModuleList"), first, 0x80, count)
	out := c.ask("lm", "lmv", "!process 0 7")
	c.wants(out, fmt.Sprintf("module list broken at %#x: ", uint64(first+model.MaxModules*0x80)),
		fmt.Sprintf("longer than any real list; %d shown", model.MaxModules))
	if bad, ok := firstControl(out, "\n\t", false); ok {
		t.Errorf("a raw %q in the text", bad)
	}
}

// TestCrafted_exports: many images over one export table as large as can be.
// Only so many are read.
func TestCrafted_exports(t *testing.T) {
	t.Parallel()
	c := craft(t, 4<<20)
	const count, names, size = 40, 1 << 16, 0x200000
	nt, _ := c.k.Modules.ByName("nt")
	header, err := c.k.Space.Bytes(nt.Base, 0x400)
	if err != nil {
		t.Fatal(err)
	}
	image := c.alloc(size)
	c.copyTo(image, header)
	le := binary.LittleEndian
	optional := image + mem.VA(le.Uint32(header[0x3c:])) + 24
	const directory, functions, pointers, ordinals, text = 0x10000, 0x20000, 0x60000, 0xa0000, 0xc0000
	c.put(optional+112, directory|0x28<<32)
	c.put(image+directory+16, 1|names<<32) // one function, so many names
	c.put(image+directory+24, names|functions<<32)
	c.put(image+directory+32, pointers|ordinals<<32)
	c.put(image+functions, 0x1000)
	letters := make([]byte, 16*names)
	for i, seed := 0, uint32(1); i < len(letters); i++ {
		seed = seed*1664525 + 1013904223
		if letters[i] = 'a' + byte(seed>>24)%26; i%128 == 127 {
			letters[i] = 0
		}
	}
	c.copyTo(image+text, letters)
	b := make([]byte, 4*names)
	for i := range names {
		le.PutUint32(b[4*i:], uint32(text+16*i)) // eight names end as one
	}
	c.copyTo(image+pointers, b)
	first := c.alloc(count * 0x80)
	for i := range count {
		at := first + mem.VA(i*0x80)
		c.put(at+0x30, uint64(image)) // all at one address
		c.put(at+0x40, size)
	}
	c.link(c.global("PsLoadedModuleList"), first, 0x80, count)
	out := c.ask("? nosuchname_x", "lm")
	if n := strings.Count(out, "(export symbols)"); n == 0 || n > count/2 {
		t.Errorf("%d of %d export tables were read", n, count)
	}
}

// TestCrafted_strangers: the lists of threads of all processes lead into one
// long ring from behind.
func TestCrafted_strangers(t *testing.T) {
	t.Parallel()
	c := craft(t, 4<<20)
	const processes, threads, size = 200, 5000, 0x500
	links, head := c.field("_EPROCESS", 0, "ActiveProcessLinks"), c.global("PsActiveProcessHead")
	ring := c.alloc(threads * 0x40)
	c.link(ring, ring+0x40, 0x40, threads-1)
	first := c.alloc(processes*size + 0x1000)
	system := c.pointer(head) // stays the first, or no layout would fit
	c.link(head, first+links, size, processes)
	c.put(head, uint64(system))
	c.put(system+8, uint64(head))
	c.put(system, uint64(first+links))
	c.put(first+links+8, uint64(system))
	for i := range processes {
		for _, list := range []string{"ThreadListHead", "Pcb.ThreadListHead"} {
			at := c.field("_EPROCESS", first+mem.VA(i*size), list)
			c.put(at, 8) // broken forward
			c.put(at+8, uint64(ring))
		}
	}
	out := c.ask("!process 0 2", "!thread -t 9999", "!thread deadbeefdeadbeef", "!locks")
	c.wants(out, "it leads to threads of other processes")
	if n := strings.Count(out, "\nPROCESS "); n != processes+1 {
		t.Errorf("%d processes shown, want %d", n, processes+1)
	}
}

// TestCrafted_tables: page tables that map themselves over and over.
func TestCrafted_tables(t *testing.T) {
	t.Parallel()
	c := craft(t, 0)
	commands := []string{"!poolfind *", "!poolfind * 1", "!process 0 0", "!locks"}
	before := c.ask(commands...)
	fill := func(table mem.PA, from int) {
		for i := from; i < 512; i++ {
			e := c.at(table + mem.PA(8*i))
			if binary.LittleEndian.Uint64(e) == 0 {
				binary.LittleEndian.PutUint64(e, entry(table))
			}
		}
	}
	root := c.k.Space.Root()
	for _, pool := range []mem.VA{0xfffffa8000000000, 0xfffff8a000000000} {
		e := c.at(root + mem.PA(uint64(pool)>>39&511*8))
		fill(mem.PA(binary.LittleEndian.Uint64(e)&0x000ffffffffff000), 0)
	}
	fill(root, 256)
	after := c.ask(commands...)
	for line := range strings.Lines(before) {
		if strings.Contains(line, ": tag ") && !strings.Contains(after, line) {
			t.Fatalf("lost: %s", line)
		}
	}
	if c.k.Space.Paged() && strings.Count(before, ": tag ") == 0 {
		t.Error("nothing was found before")
	}
}

// TestCrafted_header changes facts of the header that all else builds on.
func TestCrafted_header(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		off   int
		value uint64
		size  int
		code  int
		says  string
	}{
		{"machine x86", 0x30, 0x14c, 4, repl.ExitOpen, "32-bit x86"},
		{"machine unknown", 0x30, 0xffffffff, 4, repl.ExitOpen, "is no known type"},
		{"no page tables", 0x10, 0x4145000, 8, repl.ExitFailed, "kernel image was not found"},
		{"page tables nowhere", 0x10, 0xfffffffffffff000, 8, repl.ExitFailed, "kernel image was not found"},
		{"no processors", 0x34, 0, 4, repl.ExitFine, "MP (4 procs)"},
		{"too many processors", 0x34, 0xffffffff, 4, repl.ExitFine, "the header names 4294967295, nt!KiProcessorBlock 4: using 4"},
		{"more processors than there are", 0x34, 2000, 4, repl.ExitFine, "the header names 2000, nt!KiProcessorBlock 4: using 4"},
		{"no debugger data block", 0x80, 0xffffffffffffffff, 8, repl.ExitFailed, "debugger data block"},
		{"dump type", 0xf98, 0xffffffff, 4, repl.ExitOpen, "is no known type"},
		{"no runs", 0x88, 0, 4, repl.ExitOpen, "run count at file offset 0x88"},
		{"runs out of memory", 0x98, 0x7fffffffffffffff, 8, repl.ExitOpen, "no physical memory"},
		{"no pages", 0x90, 0xffffffffffffffff, 8, repl.ExitFine, "page count at file offset 0x90"},
		{"no time", 0xfa8, 0xffffffffffffffff, 8, repl.ExitFine, "Debug session time: not available"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := craft(t, 0)
			copy(c.data[tt.off:], binary.LittleEndian.AppendUint64(nil, tt.value)[:tt.size])
			c.write(t)
			r := run(t, "", "-z", c.name, "-keepgoing", "-c", "vertarget; !process 0 0; !thread; q")
			if r.Code != tt.code || !strings.Contains(r.Out+r.Err, tt.says) || strings.Contains(r.Out, "internal error") {
				t.Errorf("exit code %d, want %d and %q: %s%s", r.Code, tt.code, tt.says, r.Out, r.Err)
			}
		})
	}
}
