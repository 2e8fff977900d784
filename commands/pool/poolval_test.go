package pool

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// scene is a machine with one thing wrong, and where.
type scene struct {
	name  string
	build uint32
	make  func(b *heaptest.Builder) (at mem.VA, harm func(*model.Kernel))
	lines []string // commands; "AT" stands for the address
}

// pageScene makes a page of five blocks, of which the third is free.
func pageScene(b *heaptest.Builder) (blocks []*heaptest.Block) {
	pg := b.Page(heaptest.NonpagedNx)
	for _, a := range []heaptest.Ask{
		{Tag: "Leak", Bytes: 0xf0}, {Tag: "Irp ", Bytes: 0x1e8, Owner: b.M.System}, {Tag: "Gone", Bytes: 0x90}, {Tag: "Thre", Bytes: 0x950}, {Tag: "File", Bytes: 0x2f0},
	} {
		a.Pool = heaptest.NonpagedNx
		blocks = append(blocks, pg.Alloc(a))
	}
	b.Free(blocks[2])
	return blocks
}

// heapScene makes a subsegment of chunks and one of slots.
func heapScene(b *heaptest.Builder) (chunks, slots []*heaptest.Block) {
	h := b.Heap(heaptest.NonpagedNx, 0)
	vs := h.VS(4)
	lfh := h.LFH(0x40, 1)
	for i, a := range []heaptest.Ask{
		{Tag: "Leak", Bytes: 0x300}, {Tag: "Irp ", Bytes: 0x1e8, Owner: b.M.System}, {Tag: "Gone", Bytes: 0x90}, {Tag: "Thre", Bytes: 0x950}, {Tag: "File", Bytes: 0x380},
	} {
		a.Pool = heaptest.NonpagedNx
		chunks = append(chunks, vs.Alloc(a))
		a.Bytes = 0x30
		slots = append(slots, lfh.AllocAt(uint64(2*i), a))
	}
	b.Free(chunks[2])
	return chunks, slots
}

var scenes = []scene{
	{"page good", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[1].Body, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 2", "!pool AT 80000002", "!poolval AT", "!poolval AT 1", "!poolval AT 2"}},
	{"page overrun", 9600, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header+mem.VA(k[1].Size)-4, []byte("a text that is too long")...) }
	}, []string{"!pool AT", "!poolval AT", "!poolfind Thre -small"}},
	{"page previous size", 14393, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header, 0x13) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"page one bit", 17763, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header+2, 0x20^0x40) }
	}, []string{"!poolval AT"}},
	{"page freed twice", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[2].Body, func(*model.Kernel) { b.M.Put(k[2].Header+3, 2) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"page kept", 9600, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		b.Cache(k[0])
		return k[0].Body, func(*model.Kernel) {}
	}, []string{"!pool AT 2"}},
	{"page kept twice", 9600, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		b.Cache(k[0])
		return k[0].Body, func(*model.Kernel) { b.M.Put64(k[0].Body, uint64(k[0].Body)) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"page free links", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[2].Body, func(*model.Kernel) { b.M.Put(k[2].Body+8, []byte("late")...) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"special", 17763, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := b.Special(heaptest.Ask{Pool: heaptest.SpecialNonpaged, Tag: "Sams", Bytes: 0x48}, false)
		return k.Body, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 1", "!poolval AT"}},
	{"special overwritten", 14393, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := b.Special(heaptest.Ask{Pool: heaptest.SpecialPaged, Tag: "Sams", Bytes: 0x48}, true)
		return k.Body, func(*model.Kernel) { b.M.Put(k.Body+0x48, []byte("too long")...) }
	}, []string{"!pool AT", "!poolval AT"}},
	{"large", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Io  ", Bytes: 0x1fb0})
		return k.Body + 0x1fa0, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 1", "!pool AT+8", "!pool AT+10", "!poolval AT"}},
	{"large and its rest", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Io  ", Bytes: 0x1fb0})
		return k.Body + 0x1fa0, func(*model.Kernel) {
			b.M.Put(k.Body+0x1fb0, 0, 0, 1, 2, 'F', 'r', 'a', 'g')
			b.M.Put(k.Body+0x1fc0, 1, 0, 4, 2, 'E', 'v', 'e', 'n')
		}
	}, []string{"!pool AT", "!pool AT+10", "!poolval AT+20"}},
	{"large in heap", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := b.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Proc", Bytes: 0x100000})
		return k.Body + 0x9a4, func(*model.Kernel) {}
	}, []string{"!pool AT"}},
	{"session", 17763, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		pages := []*heaptest.PageOf{b.Session(1).Page(), b.Session(2).Page()}
		for i, tag := range []string{"Gh05", "Gh06"} {
			pages[i].Alloc(heaptest.Ask{Pool: heaptest.Session, Tag: tag, Bytes: 0x80})
			pages[i].Close()
		}
		return pages[0].At, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 80000000"}},
	{"nowhere", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		pageScene(b)
		return 0xfffffa80f0000000, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool 0", "!pool", "!pool AT 4", "!poolval AT", "!poolval AT 4", "!pool 7ff00000000"}},
	{"heap good", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 1", "!poolval AT", "!poolval AT 3"}},
	{"heap overrun", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header+mem.VA(k[1].Room)-4, []byte("a text that is too long")...) }
	}, []string{"!pool AT", "!poolval AT", "!poolfind Thre -small"}},
	{"heap kept", 22000, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		b.Cache(k[0])
		return k[0].Body, func(*model.Kernel) {}
	}, []string{"!pool AT 2"}},
	{"heap freed twice", 22000, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		h := b.Heap(heaptest.NonpagedNx, 0)
		vs := h.VS(4)
		k := vs.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Leak", Bytes: 0x300})
		vs.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Irp ", Bytes: 0x1e8})
		b.Cache(k)
		return k.Body, func(*model.Kernel) { b.Chunk(vs, k.Header-0x10, k.Room+0x10, 0, false) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"heap elsewhere", 20348, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[4].Header+3, 0) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"heap header", 22000, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header+2, 0xff, 3) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"slot", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		_, k := heapScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header, make([]byte, 8)...) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"heap key", 18362, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(kernel *model.Kernel) {
			globals, err := kernel.GlobalPointer("ExPoolState") // its first member
			if err != nil {
				panic(err)
			}
			b.M.Put(globals+3, 0x55)
		}
	}, []string{"!pool AT"}},
}

var update = flag.Bool("update", false, "write testdata/scenes anew")

// TestScenes holds what the commands say of each scene against files, exactly.
// -update writes them anew.
func TestScenes(t *testing.T) {
	t.Parallel()
	for _, c := range scenes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, got, at := c.open(t)
			for _, line := range c.lines {
				line = place(line, at)
				got.WriteString("> " + line + "\n")
				_ = s.Execute(t.Context(), line) // the session prints the error
			}
			golden(t, c.name+".txt", got.String())
		})
	}
}

// TestScenes_json holds the records of the first command of some scenes.
func TestScenes_json(t *testing.T) {
	t.Parallel()
	want := map[string]bool{"page overrun": true, "page freed twice": true, "heap good": true, "heap overrun": true, "slot": true, "special": true, "session": true, "large": true}
	for _, c := range scenes {
		if !want[c.name] {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, _, at := c.open(t)
			line := place(c.lines[0], at)
			var got bytes.Buffer
			sink := report.NewJSON(&got)
			sink.Begin("!pool", "")
			defer s.Out.Hook(func(r report.Record) {
				if err := sink.Emit(r); err != nil {
					t.Error(err)
				}
			})()
			if err := s.Execute(t.Context(), line); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".json", got.String())
		})
	}
}

// open makes the scene.
func (c scene) open(t *testing.T) (*cmd.Session, *bytes.Buffer, mem.VA) {
	t.Helper()
	b := heaptest.New(t, types.Embedded(c.build)[0])
	at, harm := c.make(b)
	k := b.Open()
	harm(k)
	s, got := session(t, k, report.Era19041)
	return s, got, at
}

// place puts the address of a scene into a command.
func place(line string, at mem.VA) string {
	for i, plus := range []string{"AT+8", "AT+10", "AT+20"} {
		line = strings.Replace(line, plus, (at + []mem.VA{8, 0x10, 0x20}[i]).String(), 1)
	}
	return strings.Replace(line, "AT", at.String(), 1)
}

// golden holds a text against its file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "scenes", strings.ReplaceAll(name, " ", "-"))
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
