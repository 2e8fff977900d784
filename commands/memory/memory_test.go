package memory

import (
	"bytes"
	"encoding/binary"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// frames is physical memory: the captured pages by address.
type frames map[mem.PA]*[mem.PageSize]byte

func (f frames) ReadPhysical(p []byte, at mem.PA) (n int, err error) {
	for n < len(p) {
		pa := at + mem.PA(n)
		page, ok := f[pa&^0xfff]
		if !ok {
			return n, &mem.Fault{Kind: mem.NotCaptured, PA: pa}
		}
		n += copy(p[n:], page[pa&0xfff:])
	}
	return n, nil
}

func (f frames) Runs() iter.Seq[mem.Run] {
	return func(yield func(mem.Run) bool) {
		var all []mem.PA
		for at := range f {
			all = append(all, at)
		}
		slices.Sort(all)
		for _, at := range all {
			if !yield(mem.Run{Base: at, Size: mem.PageSize}) {
				return
			}
		}
	}
}

// machine is a machine of page tables written by hand.
type machine struct {
	frames frames
	next   mem.PA
	root   mem.PA
}

func newMachine() *machine {
	m := &machine{frames: frames{}, next: 0x1ad000, root: 0x1ad000}
	m.page()
	return m
}

func (m *machine) page() mem.PA {
	for m.frames[m.next] != nil {
		m.next += mem.PageSize
	}
	return m.at(m.next)
}

// at captures a page.
func (m *machine) at(pa mem.PA) mem.PA {
	if m.frames[pa] == nil {
		m.frames[pa] = new([mem.PageSize]byte)
	}
	return pa
}

func (m *machine) put(pa mem.PA, v uint64) {
	m.at(pa &^ 0xfff)
	binary.LittleEndian.PutUint64(m.frames[pa&^0xfff][pa&0xfff:], v)
}

// index is the number of the entry that maps an address at a level, 3 the root.
func index(va uint64, level int) mem.PA { return mem.PA(va >> (12 + 9*level) & 511) }

// entries writes the entries that map an address, root first, each where the one
// before leads.
func (m *machine) entries(va uint64, values ...uint64) {
	table := m.root
	for i, v := range values {
		m.put(table+8*index(va, 3-i), v)
		table = mem.PA(v & pteFrame)
	}
}

// mapped maps pages of content at an address, as far as it goes.
func (m *machine) mapped(va uint64, content []byte) {
	for off := 0; off < len(content); off += mem.PageSize {
		table := m.root
		for level := 3; level > 0; level-- {
			slot := table + 8*index(va+uint64(off), level)
			e := binary.LittleEndian.Uint64(m.frames[slot&^0xfff][slot&0xfff:])
			if e == 0 {
				e = uint64(m.page()) | 0x63
				m.put(slot, e)
			}
			table = mem.PA(e & pteFrame)
		}
		pa := m.page()
		copy(m.frames[pa][:], content[off:])
		m.put(table+8*index(va+uint64(off), 0), uint64(pa)|0x8000000000000063)
	}
}

// text maps one page that holds a text at an address in it.
func (m *machine) text(va uint64, b []byte) {
	page := make([]byte, mem.PageSize)
	copy(page[va%mem.PageSize:], b)
	m.mapped(va&^0xfff, page)
}

func (m *machine) kernel() *model.Kernel {
	s := mem.NewX64(m.frames, m.root)
	return &model.Kernel{
		Space: s, Modules: &model.Modules{},
		Source: model.Source{Machine: model.MachineX64, Physical: m.frames, DTB: m.root},
	}
}

// sessionOf gives a session with the group's commands, and what it prints.
func sessionOf(t testing.TB, k *model.Kernel, era report.Era) (*cmd.Session, *bytes.Buffer) {
	t.Helper()
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	s := &cmd.Session{Kernel: k, Commands: table, Out: cmd.NewOutput(&b, era, false), KeepGoing: true}
	s.Eval = masm.ForSession(s)
	return s, &b
}

// answer gives what commands print.
func answer(t testing.TB, k *model.Kernel, line string) string {
	t.Helper()
	s, b := sessionOf(t, k, report.Era19041)
	_ = s.Execute(t.Context(), line) // failures are part of the text
	return b.String()
}

// hexBytes gives the bytes of hex digits; blanks count for nothing.
func hexBytes(t testing.TB, text string) []byte {
	t.Helper()
	text = strings.NewReplacer(" ", "", "-", "").Replace(text)
	out := make([]byte, len(text)/2)
	for i := range out {
		for _, c := range text[2*i : 2*i+2] {
			out[i] = out[i]<<4 | byte(strings.IndexRune("0123456789abcdef", c))
		}
	}
	return out
}

// words gives the bytes of 4-byte values.
func words(list ...uint32) []byte {
	var out []byte
	for _, v := range list {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	return out
}

// TestDump compares with answers of kd that were posted or documented.
func TestDump(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.text(0x12f980, words(0x6d206e49, 0x726f6d65, 0x00120079, 0x0012f9f4, 0x0012f9f8, 0x77e57119, 0x77e8e618, 0xffffffff,
		0x77e727e0, 0x77f6f13e, 0x77f747e0, 0xffffffff))
	m.text(0xffffb780b7eee664, words(0xffa00000, 0x00000018, 0, 0xc52d7008))
	m.text(0xfffff8800496e3aa, []byte("Lea1"))
	m.text(0x403098, words(0, 0x437f0000, 0, 0x437f0000))
	m.text(0x7fef38e4240, []byte("orphanedirreproducibleconfidences\x00"))
	m.text(0x1ef8c001da0, encode("C:\\Users\\userx\\Desktop\\desktop.ini\x00", 2))
	m.text(0x28203000, []byte("end of a page"))
	k := m.kernel()
	for _, c := range []struct{ name, line, want string }{
		{"bytes that are not there", "db ffffffff00000090", `ffffffff` + "`" + `00000090  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000a0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000b0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000c0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000d0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000e0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `000000f0  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
ffffffff` + "`" + `00000100  ?? ?? ?? ?? ?? ?? ?? ??-?? ?? ?? ?? ?? ?? ?? ??  ????????????????
`},
		{"values and characters", "dc 12f980 Lc", "00000000`0012f980  6d206e49 726f6d65 00120079 0012f9f4  In memory.......\n" +
			"00000000`0012f990  0012f9f8 77e57119 77e8e618 ffffffff  .....q.w...w....\n" +
			"00000000`0012f9a0  77e727e0 77f6f13e 77f747e0 ffffffff  .'.w>..w.G.w....\n"},
		{"one value and its characters", "dc fffff880`0496e3aa l1", "fffff880`0496e3aa  3161654c                             Lea1\n"},
		{"values", "dd ffffb780`b7eee664 l4", "ffffb780`b7eee664  ffa00000 00000018 00000000 c52d7008\n"},
		{"floats", "df 403098 l4", "00000000`00403098                 0              255                0              255\n"},
		{"a string over two lines", "da 7fef38e4240", "000007fe`f38e4240  \"orphanedirreproducibleconfidence\"\n000007fe`f38e4260  \"s\"\n"},
		{"a string of UTF-16", "du 000001ef8c001da0", "000001ef`8c001da0  \"C:\\Users\\userx\\Desktop\\desktop.i\"\n000001ef`8c001de0  \"ni\"\n"},
		{"part of a row", "db fffff880`0496e3aa L3", "fffff880`0496e3aa  4c 65 61                                         Lea\n"},
		{"nine bytes", "db fffff880`0496e3aa L9", "fffff880`0496e3aa  4c 65 61 31 00 00 00 00-00                       Lea1.....\n"},
		{"into a hole", "dd 12fff8 L4", "00000000`0012fff8  00000000 00000000 ???????? ????????\n"},
		{"a value cut by a hole", "dq 12fffc L2", "00000000`0012fffc  ????????`???????? ????????`????????\n"},
		{"up to an end", "dw 12f980 12f985", "00000000`0012f980  6e49 6d20 6d65\n"},
		{"backwards", "dd 12f988 L-2", "00000000`0012f980  6d206e49 726f6d65\n"},
		{"at the top", "db fffffffffffffff8", "ffffffff`fffffff8  ?? ?? ?? ?? ?? ?? ?? ??                          ????????\n"},
		{"columns", "dd /c2 12f980 L3;db /c4 12f980 L5", "00000000`0012f980  6d206e49 726f6d65\n00000000`0012f988  00120079\n" +
			"00000000`0012f980  49 6e 20 6d  In m\n00000000`0012f984  65           e\n"},
		{"glued to a number's sign", "dd(12f980) L1", "00000000`0012f980  6d206e49\n"},
		{"goes on", "dd 12f980 L1;dd L1;d L2;db L1", "00000000`0012f980  6d206e49\n00000000`0012f984  726f6d65\n" +
			"00000000`0012f988  00120079 0012f9f4\n00000000`0012f990  f8                                               .\n"},
		{"goes on behind a string", "da 7fef38e4240;db L2", "000007fe`f38e4240  \"orphanedirreproducibleconfidence\"\n000007fe`f38e4260  \"s\"\n" +
			"000007fe`f38e4262  00 00                                            ..\n"},
		{"words and characters", "dW 12f980 L8", "00000000`0012f980  6e49 6d20 6d65 726f 0079 0012 f9f4 0012  In memory.......\n"},
		{"bits of bytes", "dyb 12f980 L5", "                   76543210 76543210 76543210 76543210\n                   -------- -------- -------- --------\n" +
			"00000000`0012f980  01001001 01101110 00100000 01101101  49 6e 20 6d\n00000000`0012f984  01100101                             65\n"},
		{"bits of values", "dyd 12f980 L1", "                    3          2          1          0\n                   10987654 32109876 54321098 76543210\n" +
			"                   -------- -------- -------- --------\n00000000`0012f980  01101101 00100000 01101110 01001001  6d206e49\n"},
		{"case counts", "dD 403098 L2;dd 403098 L2", "00000000`00403098       1.39611588448e+17      1.39611588448e+17\n00000000`00403098  00000000 437f0000\n"},
		{"a misspelt option", "dd /x 12f980", "dd: unknown option /x: want /c COLUMNS or /p\nusage: dd [Range]\n"},
		{"more than is there", "dd 12f980 L1 foo", "dd: unexpected \"foo\" after the range\nusage: dd [Range]\n"},
		{"too many columns", "dd /c 0 12f980", "dd: /c: 0 columns: want 1 to 1024\nusage: dd [Range]\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(c.want, answer(t, k, c.line)); d != "" {
				t.Errorf("%s (-want +got):\n%s", c.line, d)
			}
		})
	}
}
