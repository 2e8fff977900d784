package cab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// sample gives bytes that pack in every way: text, runs, noise, code with calls.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	words := strings.Fields("mov eax push call ret nt!KeWaitForSingleObject _ERESOURCE 0000 ffff pool tag")
	var out []byte
	for len(out) < n {
		switch r.IntN(5) {
		case 0:
			out = append(out, bytes.Repeat([]byte{byte(r.IntN(256))}, r.IntN(600))...)
		case 1:
			for range r.IntN(300) {
				out = append(out, byte(r.IntN(256)))
			}
		case 2:
			for range r.IntN(40) {
				out = binary.LittleEndian.AppendUint32(append(out, 0xe8), uint32(r.IntN(0x20000))-0x8000)
			}
		case 3:
			if len(out) > 100 {
				from := r.IntN(len(out) - 50)
				out = append(out, out[from:from+r.IntN(min(5000, len(out)-from))]...)
			}
		default:
			for range r.IntN(60) {
				out = append(append(out, words[r.IntN(len(words))]...), ' ')
			}
		}
	}
	return out[:n]
}

func open(t testing.TB, data []byte) *Reader {
	t.Helper()
	c, err := Open(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func extract(t testing.TB, c *Reader, name string) []byte {
	t.Helper()
	r, err := c.Extract(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v after %d bytes", name, err, len(b))
	}
	return b
}

// methods are all that cabinets are packed with here.
var methods = map[string]uint16{
	"stored": 0, "MSZIP": 1,
	"LZX 15": 15<<8 | 3, "LZX 16": 16<<8 | 3, "LZX 17": 17<<8 | 3, "LZX 18": 18<<8 | 3,
	"LZX 19": 19<<8 | 3, "LZX 20": 20<<8 | 3, "LZX 21": 21<<8 | 3,
}

func TestExtract(t *testing.T) {
	t.Parallel()
	for name, method := range methods {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 9, 32767, 32768, 32769, 700001} {
				a, b := sample(size), sample(size/3)
				data := makeCabinet(t, method, size%7, made{"A.pdb", a}, made{`dir\b.sys`, b})
				c := open(t, data)
				var got []string
				for _, f := range c.Files() {
					got = append(got, f.Name)
				}
				if diff := cmp.Diff([]string{"A.pdb", `dir\b.sys`}, got); diff != "" {
					t.Errorf("names (-want +got):\n%s", diff)
				}
				if !bytes.Equal(a, extract(t, c, "a.PDB")) || !bytes.Equal(a, extract(t, c, "")) || !bytes.Equal(b, extract(t, c, `dir\b.sys`)) {
					t.Errorf("%d bytes come out otherwise", size)
				}
			}
		})
	}
}

// TestExtract_others compares with files that another program packed.
func TestExtract_others(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"gcab-mszip.cab", "gcab-stored.cab"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		c := open(t, data)
		got := map[string]string{}
		for _, f := range c.Files() {
			got[f.Name] = string(extract(t, c, f.Name))
		}
		want := map[string]string{"small.txt": "symbols\n", "zeros.bin": strings.Repeat("\x00", 70000)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestMade has cabextract unpack what these tests make, where it is installed:
// otherwise the writer and the reader could share an error.
func TestMade(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("cabextract")
	if err != nil {
		t.Skip("cabextract is not installed")
	}
	want := sample(700001)
	for name, method := range methods {
		dir := t.TempDir()
		file := filepath.Join(dir, "made.cab")
		if err := os.WriteFile(file, makeCabinet(t, method, 0, made{"made.bin", want}), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), program, "-q", "-d", dir, file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(dir, "made.bin")); err != nil || !bytes.Equal(want, got) {
			t.Errorf("%s: comes out otherwise, %v", name, err)
		}
	}
}

func TestRead_slowly(t *testing.T) {
	t.Parallel()
	want := sample(70000)
	c := open(t, makeCabinet(t, 1, 0, made{"a", want}))
	r, err := c.Extract("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := iotest.TestReader(r, want); err != nil {
		t.Error(err)
	}
}

func TestOpen_refused(t *testing.T) {
	t.Parallel()
	good := makeCabinet(t, 1, 0, made{"a", sample(40000)})
	edit := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	files := int(binary.LittleEndian.Uint32(good[16:]))
	data := int(binary.LittleEndian.Uint32(good[36:]))
	tests := []struct {
		name, err   string
		data        []byte
		unsupported bool
	}{
		{"empty", "cabinet: CFHEADER at file offset 0x0: unexpected EOF", nil, false},
		{"signature", `cabinet: CFHEADER at file offset 0x24: signature "MSCG", want "MSCF"`, edit(3, 'G'), false},
		{"files beyond the end", "cabinet: CFHEADER at file offset 0x2c: files at 0xffffff in a cabinet of", edit(16, 0xff, 0xff, 0xff), false},
		{"too many files", "unexpected EOF", edit(28, 0xff, 0xff)[:files+100], false},
		{"folder", "cabinet: CFFILE a at file offset 0x0: folder 7 of 1", edit(files+8, 7), false},
		{"next cabinet", "the file continues in another cabinet", edit(files+8, 0xfe, 0xff), true},
		{"Quantum", "packed with Quantum", edit(42, 2, 16), true},
		{"method", "packing method 9", edit(42, 9), true},
		{"window", "LZX: a window of 2^25 bytes, want 2^15 to 2^21", edit(42, 3, 25), false},
		{"checksum", "cabinet: CFDATA at file offset 0x3e: checksum ", edit(data+100, good[data+100]+1), false},
		{"block of nothing", "the block continues in another cabinet", edit(data+6, 0, 0), true},
		{"block too large", "a block has at most 38912 for 32768", edit(data+6, 1, 0x80), false},
		{"no CK", "an MSZIP block without its signature CK", edit(data, 0, 0, 0, 0, good[data+4], good[data+5], 0, 0x80, 'X'), false},
		{"too few blocks", "bytes of the file are missing: unexpected EOF", edit(40, 1), false},
		{"cut", "unexpected EOF", good[:len(good)-1], false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := Open(bytes.NewReader(tt.data), int64(len(tt.data)))
			if err == nil {
				var r io.Reader
				if r, err = c.Extract(c.Files()[0].Name); err == nil {
					_, err = io.Copy(io.Discard, r)
				}
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want one with %q", err, tt.err)
			}
			if errors.Is(err, ErrUnsupported) != tt.unsupported || errors.Is(err, ErrFormat) == tt.unsupported {
				t.Errorf("error %v: of the wrong class", err)
			}
		})
	}
	if _, err := open(t, good).Extract("b"); err == nil {
		t.Error("a file that is not there is found")
	}
}

// FuzzOpen opens anything and unpacks what it claims to hold.
func FuzzOpen(f *testing.F) {
	for _, method := range methods {
		f.Add(makeCabinet(f, method, 0, made{"a", sample(3000)}, made{"b", sample(33000)}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Open(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("error without a class: %v", err)
			}
			return
		}
		for i, f := range c.Files() {
			if i > 4 {
				return
			}
			r, err := c.Extract(f.Name)
			if err != nil {
				continue
			}
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if err == nil && n < 1<<20 && n > int64(f.Size) && n != int64(c.Files()[0].Size) {
				t.Fatalf("%q: %d bytes of %d", f.Name, n, f.Size)
			}
		}
	})
}

// FuzzLZX unpacks anything as LZX: the sums of a cabinet would keep most of it
// out.
func FuzzLZX(f *testing.F) {
	for _, bits := range []int{15, 21} {
		for _, p := range packLZX(sample(33000), bits, lzxPlan) {
			f.Add(p, uint8(bits), uint16(32767))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, bits uint8, size uint16) {
		z, err := newLZX(uint(bits))
		if err != nil {
			return
		}
		for range 2 {
			out, err := z.unpack(data, 1+int(size)%frame)
			if err == nil && len(out) != 1+int(size)%frame {
				t.Fatalf("%d bytes for %d", len(out), 1+int(size)%frame)
			}
			if err != nil {
				return
			}
		}
	})
}

func BenchmarkExtract(b *testing.B) {
	want := sample(4 << 20)
	for _, name := range []string{"MSZIP", "LZX 21"} {
		data := makeCabinet(b, methods[name], 0, made{"a", want})
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(want)))
			for b.Loop() {
				r, err := open(b, data).Extract("a")
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
