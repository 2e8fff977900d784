package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/model/mem"
)

// TestSearch compares with answers of kd that were posted.
func TestSearch(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.text(0xffff8287ad34f9a4, hexBytes(t, "06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00 00 00"))
	m.text(0xffff8287b5ee29e4, hexBytes(t, "06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00 00 00"))
	m.text(0xfffff8800496e3aa, append(hexBytes(t, "4c 65 61 6b 3b c1 0f 42-c1 41 8d 49 fd 8b d0 ff"), 0x15, 0xcc))
	m.text(0xfffff8032d81c0f8, hexBytes(t, "0000000080 81ffff 49 8b c0 48 c1 e0 19 48"))
	m.text(0x76f63bad, encode("lichking", 2))
	m.text(0x1452740, encode("XXXXXXXXXXXX", 2))
	m.text(0x76d3004d, []byte("!This program cannot be run in DOS mode.\r\r\n$"))
	k := m.kernel()
	for _, c := range []struct{ name, line, want string }{
		{"bytes in a large range", "s ffff828000000000 L? 100000000000 06 a1 ff ff 00 00 00 00 64 86 00 00 00 00 00 00 00 00",
			"ffff8287`ad34f9a4  06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00  ........d.......\n" +
				"ffff8287`b5ee29e4  06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00  ........d.......\n"},
		{"a string", `s -a fffff88004960000 L20000 "Leak"`, "fffff880`0496e3aa  4c 65 61 6b 3b c1 0f 42-c1 41 8d 49 fd 8b d0 ff  Leak;..B.A.I....\n"},
		{"values of eight bytes", "s -q fffff803`2d600000 l?400000 FFFF818000000000", "fffff803`2d81c0f8  ffff8180`00000000 4819e0c1`48c08b49\n"},
		{"a string of UTF-16", `s -u 76f63bad l200 "lichking"`, "00000000`76f63bad  006c 0069 0063 0068 006b 0069 006e 0067  l.i.c.h.k.i.n.g.\n"},
		{"one hit after another", "s -u 01452740 L100 XXXXXXXXXXX", "00000000`01452740  0058 0058 0058 0058 0058 0058 0058 0058  X.X.X.X.X.X.X.X.\n" +
			"00000000`01452742  0058 0058 0058 0058 0058 0058 0058 0058  X.X.X.X.X.X.X.X.\n"},
		{"addresses only", "s -[1]b ffff828000000000 L?100000000000 64 86", "0xffff8287`ad34f9ac\n0xffff8287`b5ee29ec\n"},
		{"glued", "s-[1]b ffff828000000000 L?100000000000 64 86", "0xffff8287`ad34f9ac\n0xffff8287`b5ee29ec\n"},
		{"all strings", "s -sa 76d30000 L1000", "00000000`76d3004d  \"!This program cannot be run in D\"\n00000000`76d3006d  \"OS mode.\"\n"},
		{"strings of a least length", "s -[l 20]sa 76d30000 L1000;s -[l29]sa 76d30000 L1000", "00000000`76d3004d  \"!This program cannot be run in D\"\n00000000`76d3006d  \"OS mode.\"\n" +
			"Nothing found in the 4096 bytes of the range that are in the dump.\n"},
		{"strings of UTF-16", "s -su 76f63b01 L200", "00000000`76f63bad  \"lichking\"\n"},
		{"strings at the other distance", "s -su 76f63b00 L200", "Nothing found in the 512 bytes of the range that are in the dump.\n"},
		{"values at their own distance", "s -d fffff8800496e3a0 L20 420fc13b", "Nothing found in the 32 bytes of the range that are in the dump.\n"},
		{"values elsewhere", "s -d fffff8800496e3aa L20 420fc13b", "fffff880`0496e3ae  420fc13b 498d41c1 ffd08bfd 0000cc15  ;..B.A.I........\n"},
		{"a value with its sign", "s -d ffff8287ad34f9a4 L4 ffffa106", "ffff8287`ad34f9a4  ffffa106 00000000 00008664 00000000  ........d.......\n"},
		{"again among the hits", "s -[sn 1]b ffff828000000000 L?100000000000 06 a1;s -[r]b 0 L1 06 a1 ff", "ffff8287`ad34f9a4  06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00  ........d.......\n" +
			"ffff8287`b5ee29e4  06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00  ........d.......\nOverflow error: not all hits were saved\n" +
			"ffff8287`ad34f9a4  06 a1 ff ff 00 00 00 00-64 86 00 00 00 00 00 00  ........d.......\n"},
		{"nothing there", "s 1000 L1000 1", "Nothing was searched: no memory of the range is in the dump.\n"},
		{"no range", "s 76d30000 4d", "range 0x76d30000 to 0x4d: its end lies below its start\n"},
		{"only a pattern", `s "x"`, "s: a range is needed: ADDRESS L COUNT, ADDRESS L? COUNT or ADDRESS END\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"only an address", "s -sa 76d30000", "s: a range is needed: ADDRESS L COUNT, ADDRESS L? COUNT or ADDRESS END\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"no pattern", "s 76d30000 L10", "s: a pattern is missing: values, or a string in quotes\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"too large a value", "s 76d30000 L10 100", "s: 0x100 does not fit 1 bytes: -w, -d and -q search for larger values\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"an unknown type", "s -z 76d30000 L10 1", "s: -z is no type of search: want b, w, d, q, a, u, sa or su\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"an unknown flag", "s -[x]b 76d30000 L10 1", "s: unknown flag \"x\": want s, r, w, 1, l LENGTH or n HITS\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"an open bracket", "s -[w 76d30000 L10 1", "s: the flags have no closing bracket\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"an open quote", `s -a 76d30000 L10 "x`, "s: missing closing quote in \"\\\"x\"\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"both flags", "s -[sr]b 76d30000 L10 1", "s: the flags s and r can't be combined\nusage: s [-[Flags]Type] Range Pattern\n"},
		{"objects", "s -v 76d30000 L10 1", "s: -v searches for the C++ objects of a program: a kernel has none\nusage: s [-[Flags]Type] Range Pattern\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, answer(t, k, c.line)); d != "" {
				t.Errorf("%s (-want +got):\n%s", c.line, d)
			}
		})
	}
}

// TestSearch_missing: what could not be searched is told, and -[w] leaves out
// what can't be written.
func TestSearch_missing(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapped(0xfffffa8000000000, bytes.Repeat([]byte("needle--"), 1024)) // two pages
	m.entries(0xfffffa8000002000, append(m.path(0xfffffa8000000000), 0x77777063)...)
	m.entries(0xfffffa8000200000, append(m.path(0xfffffa8000000000)[:2], 0x66666063)...)
	k := m.kernel()
	want := "Pages of the range that are not in the dump, and were not searched: 1.\nGaps in the range, of which the dump has neither pages nor page tables: 1.\n"
	got := answer(t, k, "s -[1]a fffffa8000001ff8 L?400000 needle;s -a fffffa8000002000 L?400000 needle")
	want = "0xfffffa80`00001ff8\n" + want + "Nothing was searched: no memory of the range is in the dump.\n" + want
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	slot := m.path(0xfffffa8000000000)[2]&pteFrame + 8
	m.put(mem.PA(slot), m.get(mem.PA(slot))&^uint64(pteWrite))
	want = "Nothing was searched: no memory of the range is in the dump and can be written.\n"
	if d := cmp.Diff(want, answer(t, m.kernel(), "s -[1w]a fffffa8000001000 L1000 needle")); d != "" {
		t.Errorf("read-only (-want +got):\n%s", d)
	}
}

// path gives the entries of the upper levels that map an address.
func (m *machine) path(va uint64) []uint64 {
	var out []uint64
	table := m.root
	for level := 3; level > 0; level-- {
		e := m.get(table + 8*index(va, level))
		out, table = append(out, e), mem.PA(e&pteFrame)
	}
	return out
}

func (m *machine) get(pa mem.PA) uint64 {
	b := m.frames[pa&^0xfff][pa&0xfff:]
	return uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 | uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
}

// hitsOf gives where the scanner finds a pattern.
func hitsOf(ctx context.Context, src source, q query) (hits []uint64, err error) {
	c := newScanner(ctx, src, q)
	c.hit = func(at uint64) error { hits = append(hits, at); return nil }
	c.text = func(at uint64, chars []byte) error {
		hits = append(hits, at, uint64(len(chars)))
		return nil
	}
	return hits, c.search()
}

// TestScan_agrees: over random memory with holes the scanner finds what a
// comparison at every address finds, over page borders too.
func TestScan_agrees(t *testing.T) {
	t.Parallel()
	const base, pages = 0xfffffa8000000000, 12
	r := rand.New(rand.NewPCG(1, 2))
	for round := range 60 {
		m := newMachine()
		content := make([]byte, pages*mem.PageSize)
		for i := range content {
			content[i] = "ab"[r.IntN(2)]
		}
		m.mapped(base, content)
		known := make([]bool, len(content))
		for p := range pages {
			there := r.IntN(4) > 0
			for i := range mem.PageSize {
				known[p*mem.PageSize+i] = there
			}
			if !there {
				m.put(mem.PA(m.path(base)[2]&pteFrame)+8*mem.PA(p), 0)
			}
		}
		src := source{space: m.kernel().Space}
		unit := []int{1, 2, 4, 8}[round%4]
		q := query{unit: unit, pattern: content[r.IntN(100):][:unit*(1+r.IntN(3))], start: base + uint64(r.IntN(3*mem.PageSize)), length: uint64(1 + r.IntN(8*mem.PageSize))}
		if round%5 == 0 { // a pattern that lies over a border
			q.pattern = content[4*mem.PageSize-9:][:18]
		}
		var want []uint64
		for at := q.start; at+uint64(len(q.pattern)) <= q.start+q.length; at += uint64(unit) {
			i := int(at - base)
			if bytes.Equal(content[i:i+len(q.pattern)], q.pattern) && !slices.Contains(known[i:i+len(q.pattern)], false) {
				want = append(want, at)
			}
		}
		got, err := hitsOf(t.Context(), src, q)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("round %d, unit %d, %q (-want +got):\n%s", round, unit, q.pattern, d)
		}
	}
}

// TestScan_ends: the context and the sink end a search.
func TestScan_ends(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapped(0xfffffa8000000000, make([]byte, 4*mem.PageSize))
	src := source{space: m.kernel().Space}
	q := query{unit: 1, pattern: []byte{0}, start: 0xfffffa8000000000, length: 4 * mem.PageSize}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	c := newScanner(ctx, src, q)
	c.hit = func(uint64) error {
		if n++; n == 10 {
			cancel()
		}
		return nil
	}
	if err := c.search(); !errors.Is(err, context.Canceled) || n != 10 {
		t.Errorf("%d hits, %v", n, err)
	}
	failed := errors.New("full")
	c = newScanner(t.Context(), src, q)
	c.hit = func(uint64) error { return failed }
	if err := c.search(); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

// TestScan_longString: a string longer than what is kept is shown in parts.
func TestScan_longString(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.mapped(0xfffffa8000000000, append(bytes.Repeat([]byte("x"), maxRun+2), 0, 'y', 'y', 0))
	q := query{unit: 1, minimum: 3, start: 0xfffffa8000000000, length: 4 * mem.PageSize}
	got, err := hitsOf(t.Context(), source{space: m.kernel().Space}, q)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]uint64{0xfffffa8000000000, maxRun, 0xfffffa8000000000 + maxRun, 2}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestScan_strings: strings are found over page borders, as one would find them
// in one piece.
func TestScan_strings(t *testing.T) {
	t.Parallel()
	const base = 0xfffffa8000000000
	r := rand.New(rand.NewPCG(5, 6))
	for unit := 1; unit <= 2; unit++ {
		for range 40 {
			content := make([]byte, 4*mem.PageSize)
			for i := 0; i < len(content); i += unit {
				if content[i] = 'a'; r.IntN(6) == 0 {
					content[i] = 0x81
				}
			}
			m := newMachine()
			m.mapped(base, content)
			q := query{unit: unit, minimum: 1 + r.IntN(9), start: base + uint64(unit*r.IntN(50)), length: uint64(mem.PageSize + r.IntN(2*mem.PageSize))}
			q.length -= q.length % uint64(unit)
			var want []uint64
			from, n := uint64(0), 0
			for at := q.start; at <= q.start+q.length; at += uint64(unit) {
				if at < q.start+q.length && content[at-base] == 'a' {
					if n++; n == 1 {
						from = at
					}
					continue
				}
				if n >= q.minimum {
					want = append(want, from, uint64(n))
				}
				n = 0
			}
			got, err := hitsOf(t.Context(), source{space: m.kernel().Space}, q)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Fatalf("unit %d, minimum %d (-want +got):\n%s", unit, q.minimum, d)
			}
		}
	}
}

// FuzzParse: no text makes a parser of the group panic, and what is accepted
// keeps its limits.
func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"1000 L10 1 2 3", "-a 0 L?ffffffffffffffff \"x\"", "-[s1wl5n 3]u 0 10 abc", "-sa 0 L1", "-[r]q 1 2 @rsp", "/c8 /p[uc] 1000 2000",
		"L20", "L?", "-[", "-[l", "\"", "/", "/c", "/p", "fffffffffffffff0 L10", "0 l-1", "1000 3 4", "-d 1 L4 ffffffff `",
	} {
		f.Add(line)
	}
	m, _ := small()
	k := m.kernel()
	f.Fuzz(func(t *testing.T, line string) {
		s := &cmd.Session{Kernel: k, Out: cmd.NewOutput(&bytes.Buffer{}, report.Era19041, false)}
		s.Eval = masm.ForSession(s)
		q, err := parseSearch(t.Context(), s.Eval, line)
		if err == nil && (q.length == 0 || len(q.pattern) > maxPattern || q.keep > maxKeep || q.start+(q.length-1) < q.start) {
			t.Errorf("%q: %+v", line, q)
		}
		for _, format := range formats {
			r, err := parseDump(t.Context(), s, format, line)
			if err == nil && (r.columns < 1 || r.columns > maxColumns || r.bytes > 0 && r.start+(r.bytes-1) < r.start) {
				t.Errorf("%s %q: %+v", format.name, line, r)
			}
		}
		if w, err := parseList(t.Context(), s.Eval, line); err == nil && (w.count > maxList || w.size > maxElement) {
			t.Errorf("dl %q: %+v", line, w)
		}
		if _, err := parseLink(t.Context(), s.Eval, line); err != nil && err.Error() == "" {
			t.Error("an error without words")
		}
	})
}

// FuzzRun: hostile memory behind the commands ends in text.
func FuzzRun(f *testing.F) {
	f.Add(words(0x1000, 0xfffffa80, 0x1000, 0xfffffa80, 7, 9), "dl")
	for _, c := range []string{"dlb", "dS", "ds", "da", "du", "dpp", "dpa", "dqu", "dps", "!dflink", "!dblink", "dD", "dyb", "!pte", "s -sa", "s -su"} {
		f.Add([]byte{0x10, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0x80, 0xfa, 0xff, 0xff}, c)
	}
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		if len(content) > mem.PageSize || len(name) > 40 {
			t.Skip("longer than a page of memory or a name")
		}
		m := newMachine()
		m.mapped(0xfffffa8000001000, content)
		m.put(m.root+8*0x1ed, uint64(m.root)|0x63)
		s, b := sessionOf(t, m.kernel(), report.Era19041)
		_ = s.Execute(t.Context(), name+" fffffa8000001000 L20") // a failure is an answer
		_ = s.Execute(t.Context(), name+" fffffa8000001000")
		if bytes.Contains(b.Bytes(), []byte("internal error")) {
			t.Errorf("%s", b)
		}
		for _, c := range b.Bytes() {
			if c < 0x20 && c != '\n' && c != '\t' {
				t.Fatalf("control character %#x in %q", c, b)
			}
		}
	})
}

// dense is memory in one piece, as a file's map gives it.
type dense struct {
	frames
	b []byte
}

func (d *dense) ReadPhysical(p []byte, at mem.PA) (int, error) {
	if uint64(at) >= uint64(len(d.b)) {
		return d.frames.ReadPhysical(p, at)
	}
	return copy(p, d.b[at:]), nil
}

func (d *dense) SlicePhysical(at mem.PA, n int) ([]byte, bool) {
	if uint64(at) > uint64(len(d.b)) || uint64(n) > uint64(len(d.b))-uint64(at) {
		return nil, false
	}
	return d.b[at : at+mem.PA(n) : at+mem.PA(n)], true
}

// BenchmarkSearch searches 64 MB in small pages.
func BenchmarkSearch(b *testing.B) {
	const base, size = 0xffffa00000000000, 64 << 20
	m := newMachine()
	m.next, m.root = 1<<32, 1<<32
	m.page()
	d := &dense{frames: m.frames, b: make([]byte, size)}
	r := rand.New(rand.NewPCG(3, 4))
	for i := range d.b {
		d.b[i] = byte(r.Uint32())
	}
	upper := []uint64{uint64(m.page()) | 0x63, uint64(m.page()) | 0x63, 0}
	for at := uint64(0); at < size; at += mem.PageSize {
		if at%(2<<20) == 0 {
			upper[2] = uint64(m.page()) | 0x63
		}
		m.entries(base+at, append(slices.Clone(upper), at|0x63)...)
	}
	for name, q := range map[string]query{
		"bytes": {unit: 1, pattern: []byte("nowhere at all")}, "one byte less": {unit: 1, pattern: []byte{0x4c, 0x65, 0x61, 0x6b}},
		"values": {unit: 8, pattern: []byte{0, 0, 0, 0, 0x80, 0xf8, 0xff, 0xff}}, "strings": {unit: 1, minimum: 16},
	} {
		q.start, q.length = base, size
		src := source{space: mem.NewX64(d, m.root)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				if hits, err := hitsOf(b.Context(), src, q); err != nil || len(hits) > 4096 {
					b.Fatal(fmt.Sprint(len(hits), err))
				}
			}
		})
	}
}
