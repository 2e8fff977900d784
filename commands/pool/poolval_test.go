package pool

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

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
	}, []string{"!pool AT", "!poolval AT"}},
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
	{"page free links", 7601, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k := pageScene(b)
		return k[2].Body, func(*model.Kernel) { b.M.Put(k[2].Body+8, []byte("late")...) }
	}, []string{"!pool AT 2", "!poolval AT"}},
	{"heap good", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) {}
	}, []string{"!pool AT", "!pool AT 1", "!poolval AT", "!poolval AT 3"}},
	{"heap overrun", 19041, func(b *heaptest.Builder) (mem.VA, func(*model.Kernel)) {
		k, _ := heapScene(b)
		return k[1].Body, func(*model.Kernel) { b.M.Put(k[1].Header+mem.VA(k[1].Room)-4, []byte("a text that is too long")...) }
	}, []string{"!pool AT", "!poolval AT"}},
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
			b := heaptest.New(t, types.Embedded(c.build)[0])
			at, harm := c.make(b)
			k := b.Open()
			harm(k)
			s, got := session(t, k, report.Era19041)
			for _, line := range c.lines {
				line = replaceAT(line, at)
				got.WriteString("> " + line + "\n")
				if err := s.Execute(t.Context(), line); err != nil {
					got.WriteString(err.Error() + "\n")
				}
			}
			file := filepath.Join("testdata", "scenes", strings.ReplaceAll(c.name, " ", "-")+".txt")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := gocmp.Diff(string(want), got.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func replaceAT(line string, at mem.VA) string {
	for i := 0; i+2 <= len(line); i++ {
		if line[i:i+2] == "AT" {
			return line[:i] + at.String() + line[i+2:]
		}
	}
	return line
}
