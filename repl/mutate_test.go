package repl_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"gokd/dumpfmt/snapshot"
	"gokd/model"
	"gokd/model/mem"
	"gokd/repl"
)

// endless is far more than any batch on a small dump takes: what reaches it
// does not end.
const endless = 2 * time.Minute

// mutant is a file that holds a base dump with some bytes changed. It is
// patched in place and put right again, since writing megabytes for every try
// would take most of the time.
type mutant struct {
	base  []byte
	sites []int64 // file offsets of 64-bit words that hold kernel addresses
	name  string
	file  *os.File
}

// buildDump gives the dump of an embedded scenario.
func buildDump(t testing.TB, scenario string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "testdata", "snapshots", scenario+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	im, err := snapshot.Build(text, snapshot.Options{Format: snapshot.Kernel})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := im.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func newMutant(t testing.TB, base []byte) *mutant {
	t.Helper()
	m := &mutant{base: base, name: filepath.Join(t.TempDir(), "mutant.dmp")}
	for off := headerBytes; off+8 <= len(base); off += 8 {
		if v := binary.LittleEndian.Uint64(base[off:]); v>>47 == 0x1ffff && v != ^uint64(0) {
			m.sites = append(m.sites, int64(off))
		}
	}
	var err error
	if m.file, err = os.Create(m.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.file.Close() })
	if _, err := m.file.Write(base); err != nil {
		t.Fatal(err)
	}
	return m
}

// headerBytes is the size of DUMP_HEADER64.
const headerBytes = 0x2000

// mutation is one change. Its meaning depends on the kind; every value means
// something, so that no input of the fuzzer is wasted.
type mutation struct {
	kind mutationKind
	a, b uint32
	c    int16
}

type mutationKind uint8

const (
	setWord    mutationKind = iota // the 64-bit word at offset a becomes b, sign-extended by c
	setByte                        // the byte at offset a becomes b
	smash                          // pointer number a becomes pointer number b, moved by c
	oddPointer                     // pointer number a becomes an odd value number b, moved by c
	selfLink                       // pointer number a points at the place of pointer b, if known
	zeroPage                       // the page that holds offset a becomes zeros
	copyPage                       // the page that holds offset a becomes that of offset b
	cutShort                       // the file ends at a
	mutationKinds
)

const mutationSize = 11

// oddValues are what confuses readers of addresses and sizes.
var oddValues = []uint64{
	0, 1, 7, 0x7fffffff, 0x80000000, 0xffffffff, 1 << 32, 0x7fffffffffff, 0x800000000000,
	0xffff7fffffffffff, 0xffff800000000000, 0xfffff78000000000, 0xfffffffffffff000,
	0xfffffffffffffff8, ^uint64(0), 0x8000000000000000, 0x4141414141414141,
}

func (x mutation) bytes() []byte {
	b := []byte{byte(x.kind)}
	b = binary.LittleEndian.AppendUint32(b, x.a)
	b = binary.LittleEndian.AppendUint32(b, x.b)
	return binary.LittleEndian.AppendUint16(b, uint16(x.c))
}

func decodeMutations(b []byte) (list []mutation) {
	le := binary.LittleEndian
	for ; len(b) >= mutationSize && len(list) < 64; b = b[mutationSize:] {
		list = append(list, mutation{
			kind: mutationKind(b[0]) % mutationKinds,
			a:    le.Uint32(b[1:]), b: le.Uint32(b[5:]), c: int16(le.Uint16(b[9:])),
		})
	}
	return list
}

// patch is bytes at a file offset.
type patch struct {
	off  int64
	data []byte
}

func word(off int64, v uint64) patch {
	return patch{off, binary.LittleEndian.AppendUint64(nil, v)}
}

// patches turns mutations into patches; size is where the file ends.
func (m *mutant) patches(list []mutation) (out []patch, size int64) {
	size = int64(len(m.base))
	site := func(n uint32) int64 { return m.sites[int(n)%len(m.sites)] }
	at := func(off int64) uint64 { return binary.LittleEndian.Uint64(m.base[off:]) }
	page := func(n uint32) int64 { return int64(n) % size &^ 0xfff }
	for _, x := range list {
		off := int64(x.a) % (size - 8)
		switch x.kind {
		case setWord:
			out = append(out, word(off, uint64(int64(x.c))<<32|uint64(x.b)))
		case setByte:
			out = append(out, patch{off, []byte{byte(x.b)}})
		case smash:
			out = append(out, word(site(x.a), at(site(x.b))+uint64(int64(x.c))))
		case oddPointer:
			out = append(out, word(site(x.a), oddValues[int(x.b)%len(oddValues)]+uint64(int64(x.c))))
		case selfLink:
			// What points at pointer b is, in a list, the link before it.
			out = append(out, word(site(x.a), at(site(x.a))), word(site(x.b), at(site(x.a))))
		case zeroPage:
			out = append(out, patch{page(x.a), make([]byte, min(0x1000, size-page(x.a)))})
		case copyPage:
			from, to := page(x.b), page(x.a)
			out = append(out, patch{to, m.base[from:][:min(0x1000, size-from, size-to)]})
		case cutShort:
			size = min(size, int64(x.a)%int64(len(m.base)))
		}
	}
	return out, size
}

// with runs f while the file has the patches and ends at size.
func (m *mutant) with(t testing.TB, list []patch, size int64, f func()) {
	t.Helper()
	var err error
	for _, p := range list {
		_, werr := m.file.WriteAt(p.data, p.off)
		err = errors.Join(err, werr)
	}
	if size < int64(len(m.base)) {
		err = errors.Join(err, m.file.Truncate(size))
	}
	if err == nil {
		f()
	}
	for _, p := range list {
		_, werr := m.file.WriteAt(m.base[p.off:][:len(p.data)], p.off)
		err = errors.Join(err, werr)
	}
	if size < int64(len(m.base)) {
		_, werr := m.file.WriteAt(m.base[size:], size)
		err = errors.Join(err, werr)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mutantBatch asks for everything that walks the target.
var mutantBatch = []string{
	"vertarget", ".bugcheck", "lm", "lmv", "~1s", "!process 0 7", "!process", "!process 4 3", "!locks", "!locks -v -p",
	"!locks -d", "!locks fffffa8011efede8", "!thread", "!thread fffff88007fab7f3 e", "!thread -t 638", "!thread fffffa80169538a0",
	"!poolused", "!poolused 5", "!poolfind *", "!poolfind * 1", "!poolfind Leak 0", "!pool fffffa8011efede8", "!pool fffffa80169538a0 2",
	"? nt!KeWaitForSingleObject", "? KeBugCheckEx + 1", "? poi(fffff80002206000)", ".time",
}

// watch is a writer that looks for signs of a bug in what is printed.
type watch struct {
	tail  []byte
	total int64
	found string
}

// maxOutput is more than any batch prints on a small dump.
const maxOutput = 256 << 20

var errTooMuch = errors.New("the output does not end")

func (w *watch) Write(p []byte) (int, error) {
	for _, sign := range []string{"internal error", "goroutine ", "runtime error"} {
		if all := append(w.tail, p...); w.found == "" && bytes.Contains(all, []byte(sign)) {
			w.found = string(all[max(0, bytes.Index(all, []byte(sign))-200):min(len(all), bytes.Index(all, []byte(sign))+4000)])
		}
	}
	for i, c := range p {
		if w.found == "" && (c < 0x20 && c != '\n' && c != '\t' || c == 0x7f) {
			w.found = fmt.Sprintf("a raw %#x in %q", c, p[max(0, i-100):min(len(p), i+100)])
		}
	}
	w.tail = append([]byte(nil), p[max(0, len(p)-64):]...)
	if w.total += int64(len(p)); w.total > maxOutput {
		return 0, errTooMuch
	}
	return len(p), nil
}

// runBatch runs a script on a dump and checks what must hold whatever the dump.
// What is printed also goes to answer. It gives the exit code.
func runBatch(t testing.TB, dump, script string, answer io.Writer, args ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), endless)
	defer cancel()
	out := &watch{}
	code := repl.Main(ctx, repl.Program{
		Args:  append([]string{"-z", dump, "-keepgoing", "-cf", script}, args...),
		Stdin: bytes.NewReader(nil), Stdout: io.MultiWriter(out, answer), Stderr: out,
		Getenv: func(string) string { return "" }, Location: time.UTC,
	})
	switch {
	case out.found != "":
		t.Errorf("a bug shows:\n%s", out.found)
	case ctx.Err() != nil:
		t.Errorf("the batch did not end within %v; %d bytes printed", endless, out.total)
	case out.total > maxOutput:
		t.Error(errTooMuch)
	case code != repl.ExitFine && code != repl.ExitFailed && code != repl.ExitOpen:
		t.Errorf("exit code %d", code)
	}
	return code
}

func writeScript(t testing.TB, lines []string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "batch.kd")
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	b.WriteString("q\n")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// finder translates names of the target into file offsets of the base dump.
type finder struct {
	t testing.TB
	k *model.Kernel
	p mem.Offsetter
}

func newFinder(t testing.TB, dump string) *finder {
	t.Helper()
	target, err := repl.Program{Getenv: func(string) string { return "" }}.Open(t.Context(), dump, repl.Paths{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	p, ok := target.Dump.Physical.(mem.Offsetter)
	if !ok {
		t.Fatalf("%T does not tell file offsets", target.Dump.Physical)
	}
	return &finder{t, target.Kernel, p}
}

func (f *finder) va(at mem.VA) int64 {
	f.t.Helper()
	tr, err := f.k.Space.Translate(at)
	if err != nil {
		f.t.Fatal(err)
	}
	off, ok := f.p.FileOffset(tr.PA)
	if !ok {
		f.t.Fatalf("%s is not in the file", at)
	}
	return off
}

func (f *finder) global(name string) mem.VA {
	f.t.Helper()
	at, err := f.k.Global(name)
	if err != nil {
		f.t.Fatal(err)
	}
	return at
}

func (f *finder) field(typ string, at mem.VA, path string) mem.VA {
	f.t.Helper()
	o := f.k.Object(typ, at).Field(path)
	if o.Err() != nil {
		f.t.Fatal(o.Err())
	}
	return o.Addr()
}

func (f *finder) pointer(at mem.VA) mem.VA {
	f.t.Helper()
	v, err := f.k.Space.Pointer(at)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// mutantParts is into how many scripts FuzzMutatedDump cuts the commands on
// types, memory, stacks and code: all of them over every seed, with the race
// detector, would take a quarter of an hour.
const mutantParts = 8

// mutantScripts writes scripts with the commands that walk the target and, each,
// a part of the others, in their order.
func mutantScripts(t testing.TB) (scripts []string) {
	rest := slices.Concat(stateBatch, scriptBatch)
	for part := range slices.Chunk(rest, (len(rest)+mutantParts-1)/mutantParts) {
		scripts = append(scripts, writeScript(t, slices.Concat(mutantBatch, part)))
	}
	return scripts
}

// FuzzMutatedDump changes a whole dump at random places, aimed at its pointers,
// and runs every command that walks the target over what is left: inputs of odd
// length as JSON, the others as text. The sum of an input's bytes picks the part
// of the other commands.
func FuzzMutatedDump(f *testing.F) {
	// Seeds run side by side, each with a file of its own.
	idle := make(chan *mutant, runtime.GOMAXPROCS(0))
	base := buildDump(f, "self-deadlock")
	m := newMutant(f, base)
	idle <- m
	for len(idle) < cap(idle) {
		idle <- newMutant(f, base)
	}
	for i, seed := range mutationSeeds(f, m) {
		var b []byte
		for _, x := range seed {
			b = append(b, x.bytes()...)
		}
		if len(b)%2 != i%2 {
			b = append(b, 0) // too short for a mutation
		}
		f.Add(b)
	}
	scripts := mutantScripts(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		t.Parallel() // without effect while fuzzing
		m := <-idle
		defer func() { idle <- m }()
		list, size := m.patches(decodeMutations(data))
		args := []string{"-json"}[:len(data)%2]
		sum := 0
		for _, b := range data {
			sum += int(b)
		}
		m.with(t, list, size, func() { runBatch(t, m.name, scripts[sum%len(scripts)], io.Discard, args...) })
	})
}

// set is the mutation that stores a value at a file offset, as far as 48 bits
// can say it.
func set(off int64, v uint64) mutation {
	return mutation{kind: setWord, a: uint32(off), b: uint32(v), c: int16(v >> 32)}
}

// mutationSeeds are changes of what every walk relies on.
func mutationSeeds(t testing.TB, m *mutant) (seeds [][]mutation) {
	t.Helper()
	f := newFinder(t, m.name)
	add := func(list ...mutation) { seeds = append(seeds, list) }
	for _, off := range []int64{0x10, 0x20, 0x28, 0x30, 0x34, 0x80, 0x88, 0x90, 0xf98, headerBytes + 0x20, headerBytes + 0x28, headerBytes + 0x30} {
		add(set(off, 0))
		add(set(off, 0xffffffff))
	}
	heads := []mem.VA{f.global("PsActiveProcessHead"), f.global("PsLoadedModuleList"), f.global("ExpSystemResourcesList")}
	system := f.pointer(heads[0]) - f.field("_EPROCESS", 0, "ActiveProcessLinks")
	heads = append(heads, f.field("_EPROCESS", system, "ThreadListHead"), f.field("_EPROCESS", system, "Pcb.ThreadListHead"))
	for _, head := range heads {
		first := f.pointer(head)
		for _, at := range []mem.VA{head, head + 8, first, first + 8} {
			add(set(f.va(at), 0))
			add(set(f.va(at), uint64(at)))
		}
		add(set(f.va(first), uint64(first)), set(f.va(first+8), uint64(first)))
	}
	const thread, resource = 0xfffffa80169538a0, 0xfffffa8011efede8 // of the scenario
	for _, path := range []string{"WaitBlockList", "KernelStack", "InitialStack", "StackBase", "StackLimit", "Process", "State"} {
		at := f.va(f.field("_KTHREAD", thread, path))
		add(set(at, 0xffff))
		add(set(at, thread))
	}
	block := f.pointer(f.field("_KTHREAD", thread, "WaitBlockList"))
	add(set(f.va(f.field("_KWAIT_BLOCK", block, "NextWaitBlock")), uint64(block)+0x30))
	for _, path := range []string{"OwnerTable", "OwnerEntry", "SharedWaiters", "NumberOfSharedWaiters", "Flag"} {
		at := f.va(f.field("_ERESOURCE", resource, path))
		add(set(at, 0xffffffff))
		add(set(at, resource))
	}
	table := f.pointer(f.field("_ERESOURCE", resource, "OwnerTable"))
	add(set(f.va(f.field("_OWNER_ENTRY", table, "TableSize")), 0xffffffff))
	for n := range uint32(8) {
		at := uint32(len(m.base)) / 8 * n
		add(mutation{kind: cutShort, a: at})
		add(mutation{kind: zeroPage, a: at})
		add(mutation{kind: copyPage, a: at, b: uint32(len(m.base)) - at})
		add(mutation{kind: smash, a: at, b: 3 * at, c: int16(n)}, mutation{kind: oddPointer, a: at / 3, b: n}, mutation{kind: selfLink, a: at, b: at / 5})
	}
	return append(seeds, imageSeeds(f)...)
}

// imageSeeds are changes of the debugger data block, of headers and of function
// tables.
func imageSeeds(f *finder) (seeds [][]mutation) {
	f.t.Helper()
	add := func(list ...mutation) { seeds = append(seeds, list) }
	const resource = 0xfffffa8011efede8
	for off := mem.VA(0); off < 0x340; off += 0x40 { // the debugger data block, word by word
		for _, v := range []uint64{0, resource} {
			var list []mutation
			for w := mem.VA(0); w < 0x40; w += 8 {
				list = append(list, set(f.va(f.k.Source.DebugData+off+w), v))
			}
			add(list...)
		}
	}
	for _, name := range []string{"nt", "sis", "Ntfs"} {
		module, ok := f.k.Modules.ByName(name)
		if !ok {
			f.t.Fatalf("no module %s", name)
		}
		add(set(f.va(module.Loader+0x48), 0xffffffff), set(f.va(module.Loader+0x58), 0xffff0001)) // lengths of its names
		for off := mem.VA(0x3c); off < 0x280; off += 0x20 {                                       // headers, directories, sections
			var list []mutation
			for w := mem.VA(0); w < 0x20; w += 4 {
				list = append(list, set(f.va(module.Base+off+w), 0xffffffff))
			}
			add(list...)
		}
		at, n, err := module.FunctionTable()
		if err != nil || n == 0 {
			f.t.Fatal(err)
		}
		add(set(f.va(at+8), 1), set(f.va(at+12+8), 0xffffffff)) // unwind data of another entry, and of none
	}
	return seeds
}

var _ io.Writer = (*watch)(nil)
