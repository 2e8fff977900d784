package memory

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// quads gives the bytes of 8-byte values.
func quads(list ...uint64) []byte {
	var out []byte
	for _, v := range list {
		out = binary.LittleEndian.AppendUint64(out, v)
	}
	return out
}

// TestList: the layout is that of a posted session; lists that end, run into
// themselves, break off and go on.
func TestList(t *testing.T) {
	t.Parallel()
	m := newMachine()
	const head, member = 0xffffcd06883eb378, 0xffffcd06838830b0
	m.text(head, quads(member, member, 0xffffcd06883eb388, 0xffffcd06883eb388))
	m.text(member, quads(head, head, 0, 0))
	const loop = 0xffffcd0600001000 // 1 -> 2 -> 3 -> 2
	m.text(loop, quads(loop+0x40, loop, 1, 1, 0, 0, 0, 0, loop+0x80, loop, 2, 2, 0, 0, 0, 0, loop+0x40, loop+0x40, 3, 3,
		0, 0, 0, 0, 0x10001, 0, 4, 4, 0, 0, 0, 0, 0, 0, 5, 5))
	k := m.kernel()
	const first = "ffffcd06`883eb378  ffffcd06`838830b0 ffffcd06`838830b0\nffffcd06`883eb388  ffffcd06`883eb388 ffffcd06`883eb388\n"
	const second = "ffffcd06`838830b0  ffffcd06`883eb378 ffffcd06`883eb378\nffffcd06`838830c0  00000000`00000000 00000000`00000000\n"
	const loops = "ffffcd06`00001000  ffffcd06`00001040\nffffcd06`00001040  ffffcd06`00001080\nffffcd06`00001080  ffffcd06`00001040\n"
	for line, want := range map[string]string{
		"dl ffffcd06883eb378":      first + second,
		"dlb 0xffffcd06`883eb378":  first + second,
		"!dflink ffffcd06883eb378": first + second,
		"!dblink ffffcd06883eb378": first + second,
		"dl ffffcd06883eb378 1":    first + "The list goes on at ffffcd06838830b0; a count after the address shows more.\n",
		"dl ffffcd06883eb378 1 1":  "ffffcd06`883eb378  ffffcd06`838830b0\nThe list goes on at ffffcd06838830b0; a count after the address shows more.\n",
		"dl ffffcd0600001000 20 1": loops + "The list runs into itself at ffffcd0600001040 and never comes back to ffffcd0600001000: it is damaged.\n",
		"dl ffffcd06000010c0 20 1": "ffffcd06`000010c0  00000000`00010001\n00000000`00010001  ????????`????????\nThe list breaks off: its next member is not known: 0x10001: page not present (PXE 0x0).\n",
		"!dflink ffffcd06000010c0 20 ffff": "ffffcd06`000010c0  00000000`00010001 00000000`00000000\nffffcd06`000010d0  00000000`00000004 00000000`00000004\n" +
			"00000000`00010000  ????????`???????? ????????`????????\n00000000`00010010  ????????`???????? ????????`????????\nThe list breaks off: its next member is not known: 0x10000: page not present (PXE 0x0).\n",
		"dl ffffcd0600001100 20 1": "ffffcd06`00001100  00000000`00000000\n",
		"dl ffffcd0600001100 0":    "dl: 0x0 members: want 1 to 0x100000\nusage: dl Address [Count [Size]]\n",
		"dl 1000 1 81":             "dl: 0x81 pointers of each member: want 1 to 0x80\nusage: dl Address [Count [Size]]\n",
		"dl 1 2 3 4":               "dl: unexpected \"4\"\nusage: dl Address [Count [Size]]\n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(want, answer(t, k, line)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestStrings: counted strings, pointers to strings, what is not there, and
// characters that a terminal must not see.
func TestStrings(t *testing.T) {
	t.Parallel()
	m := newMachine()
	const at = 0xfffffa8000001000
	m.text(at, append(append(quads(0x0010_0010, at+0x100, 0x0008_0008, at+0x100, 0x0004_0020, at+0x100, 0, 0,
		0x0010_0010, 0x5000, at+0x100, 0, 0x5000, at+0x180), make([]byte, 0x100-14*8)...),
		append(encode("spotless\x00", 2), append(make([]byte, 0x80-18), "\x1b[31mred\x9b\x00"...)...)...))
	m.text(at+0xff0+0x1000, []byte("to the end of it"))
	m.text(at+0x10000, append(encode("\u202ea\u4f60\U0001f600", 2), 0, 0xd8, 'b', 0, 0, 0))
	k := m.kernel()
	for line, want := range map[string]string{
		"dS fffffa8000001000":          "fffffa80`00001100  \"spotless\"\n",
		"dS /c3 fffffa8000001000":      "fffffa80`00001100  \"spo\"\nfffffa80`00001106  \"tle\"\nfffffa80`0000110c  \"ss\"\n",
		"ds fffffa8000001010":          "fffffa80`00001100  \"s.p.o.t.\"\n",
		"ds fffffa8000001020":          "fffffa80`00001100  \"s.p.o.t.l.e.s.s.................\"\nIts length of 32 bytes is larger than its buffer of 4: this is no string, or a damaged one.\n",
		"dS fffffa8000001030":          "The string at fffffa8000001030 is empty; its buffer of 0 bytes is at 0000000000000000.\n",
		"dS fffffa8000001040":          "00000000`00005000  \"????????\"\n",
		"dS 5000":                      "dS: the structure at 0x5000: 0x5000: page not present (PXE 0x0)\n",
		"dS fffffa8000001000 L2":       "dS: one virtual address is wanted\nusage: dS [/cN] Address\n",
		"dpu fffffa8000001050 L3":      "fffffa80`00001050  fffffa80`00001100 \"spotless\"\nfffffa80`00001058  00000000`00000000\nfffffa80`00001060  00000000`00005000\n",
		"dpa fffffa8000001068 L1":      "fffffa80`00001068  fffffa80`00001180 \".[31mred.\"\n",
		"dpp fffffa8000001050 L1":      "fffffa80`00001050  fffffa80`00001100 0074006f`00700073\n",
		"dqp fffffa8000001060 L1":      "fffffa80`00001060  00000000`00005000\n",
		"da fffffa8000001180":          "fffffa80`00001180  \".[31mred.\"\n",
		"da fffffa8000002ff0 L12":      "fffffa80`00002ff0  \"to the end of it??\"\n",
		"du fffffa8000011000":          "fffffa80`00011000  \".a\u4f60\U0001f600.b\"\n",
		"da fffffa8000001100 L?200000": "da: a string of 0x200000 characters: at most 0x100000 are shown\nusage: da [Range]\n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(want, answer(t, k, line)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestPhysical: the layout is that of posted sessions; a hole ends the answer.
func TestPhysical(t *testing.T) {
	t.Parallel()
	m := newMachine()
	copy(m.frames[m.at(0x10fb3000)][0x7b0:], hexBytes(t, "78 56 34 12"))
	copy(m.frames[m.at(0x12093000)][:], quads(0x1293063, 0x1294063))
	copy(m.frames[m.at(0x2dff000)][0x90:], "text")
	m.put(m.at(0x1fffff000)+0xff8, 7)
	k := m.kernel()
	for line, want := range map[string]string{
		"!db 10fb3000 + 7B0 L10": "#10fb37b0 78 56 34 12 00 00 00 00-00 00 00 00 00 00 00 00 xV4.............\n",
		"!db 2dff090 L1":         "# 2dff090 74 t...............\n",
		"!dq 12093000 L2":        "#12093000 00000000`01293063 00000000`01294063\n",
		"!dd [uc] 12093000 L2":   "#12093000 01293063 00000000\n",
		"!dc 2dff090 L1":         "# 2dff090 74786574 text............\n",
		"!dw 2dff090 L2":         "# 2dff090 6574 7478\n",
		"!da 2dff090":            "# 2dff090 \"text\"\n",
		"!dp 1fffffff8 L1":       "#1fffffff8 00000000`00000007\n",
		"!dq 1fffffff8 L3":       "#1fffffff8 00000000`00000007 ????????`????????\nPhysical memory read at 200000008 failed\nphysical 0x200000008: page not in dump\n",
		"!dq 166b7240":           "Physical memory read at 166b7240 failed\nphysical 0x166b7240: page not in dump\n",
		"!db 12093000 L2;!db L1;!d L1": "#12093000 63 30 c0..............\n" +
			"#12093002 29 )...............\n#12093003 01 ................\n",
		"db /p 2dff090 L4":     "00000000`02dff090  74 65 78 74                                      text\n",
		"dd /p[c] 166b7240 L1": "00000000`166b7240  ????????\n",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(want, answer(t, k, line)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// TestCompare: bytes that differ, that are alike, that are not there.
func TestCompare(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.text(0x12f980, []byte("In memory"))
	m.text(0x22fff8, []byte("In memory"))
	k := m.kernel()
	for line, want := range map[string]string{
		"c 12f980 L4 12f984":     "00000000`0012f980  49 - 00000000`0012f984  65\n00000000`0012f981  6e - 00000000`0012f985  6d\n00000000`0012f982  20 - 00000000`0012f986  6f\n00000000`0012f983  6d - 00000000`0012f987  72\n",
		"c 12f980 12f987 22fff8": "All 8 bytes are alike.\n",
		"c 12f980 L9 22fff8":     "0 of 9 bytes differ; 1 were not compared: they are not in the dump on both sides.\n",
		"c 12f980 22fff8":        "c: an address is missing\nusage: c Range Address\n",
		"c 12f980":               "c: a range is needed: ADDRESS L COUNT or ADDRESS END\nusage: c Range Address\n",
	} {
		if d := cmp.Diff(want, answer(t, k, line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
}

// blocks is virtual memory of one block that begins inside a page.
type blocks struct {
	at mem.VA
	b  []byte
}

func (x blocks) ReadVirtual(p []byte, at mem.VA) (int, error) {
	if at < x.at || at-x.at >= mem.VA(len(x.b)) {
		return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
	}
	n := copy(p, x.b[at-x.at:])
	if n < len(p) {
		return n, &mem.Fault{Kind: mem.NotCaptured, VA: at + mem.VA(n)}
	}
	return n, nil
}

// TestBlocks: captured blocks begin and end inside a row.
func TestBlocks(t *testing.T) {
	t.Parallel()
	v := blocks{0xfffffa8000001004, []byte("abcdefgh")}
	k := &model.Kernel{Space: mem.NewFlat(v), Modules: &model.Modules{}, Source: model.Source{Machine: model.MachineX64, Virtual: v}}
	want := "fffffa80`00001000  ?? ?? ?? ?? 61 62 63 64-65 66 67 68 ?? ?? ?? ??  ????abcdefgh????\n"
	if d := cmp.Diff(want, answer(t, k, "db fffffa8000001000 L10")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	s, b := sessionOf(t, k, report.Era19041)
	if err := s.Execute(t.Context(), "db; dc fffffa8000001004 L1"); err == nil {
		t.Error("a dump without an address and without registers worked")
	}
	want = "db: an address is needed: nothing was shown yet, and the instruction pointer is not known\nusage: db [Range]\n" +
		"fffffa80`00001004  64636261                             abcd\n"
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
