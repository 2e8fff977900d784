package types

import (
	"bytes"
	"os"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
)

// BenchmarkISF_openKernel opens a kernel's table and asks for one type, which
// decodes all of them.
func BenchmarkISF_openKernel(b *testing.B) {
	file := shared.Path(b, "isf", "windows", "ntkrnlmp.pdb", "606FF669409B00F7FC8C61A9C1670129-1.json.xz")
	packed, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	text, err := unpack(bytes.NewReader(packed), 0)
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"xz": packed, "json": []byte(text)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				t, err := readISF(bytes.NewReader(data), file, int64(len(data)))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := t.Type("_EPROCESS"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("names", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t, err := readISF(bytes.NewReader([]byte(text)), file, int64(len(text)))
			if err != nil {
				b.Fatal(err)
			}
			if t.Len() == 0 {
				b.Fatal("no names")
			}
		}
	})
}

// BenchmarkEmbedded opens the embedded layout and globals of one kernel.
func BenchmarkEmbedded(b *testing.B) {
	id := Kernels()[0]
	b.ReportAllocs()
	for b.Loop() {
		l, _, ok := EmbeddedByGUID(id.GUID, id.Age)
		if !ok {
			b.Fatal("not found")
		}
		if _, err := l.Type("_EPROCESS"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNames_nearest(b *testing.B) {
	names := make([]string, 40000)
	rvas := make([]uint32, len(names))
	for i := range names {
		names[i], rvas[i] = string(rune('a'+i%26))+string(rune(i+0x100)), uint32(i*64)
	}
	t := NewNames("bench", names, rvas)
	b.ReportAllocs()
	var rva uint32
	for b.Loop() {
		rva += 0x9e3779b1
		if _, _, ok := t.Nearest(rva % (40000 * 64)); !ok {
			b.Fatal("none")
		}
	}
}
