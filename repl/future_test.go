package repl_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt/snapshot"
	"gokd/model/types"
	"gokd/model/types/pdb/pdbtest"
)

// futureScenario is a machine with something to see for every walker, and
// without an address: those follow from the layout.
const futureScenario = `
name: a build to come
build: 7601
processors: 2
memory: 1GB
dump: kernel
crash:
  code: 0xe2
  processor: 1
  stack: ['i8042prt!I8xProcessCrashDump+0x142', 'i8042prt!I8042KeyboardInterruptService+0x2f3', 'nt!KiInterruptDispatch+0x16c (TrapFrame)']
modules:
  - {image: ntoskrnl.exe}
  - {image: hal.dll}
  - {image: Ntfs.sys}
  - {image: i8042prt.sys}
  - {image: myfault.sys, size: 0x8000, tags: {Leak: MyfaultLeak}}
processes:
  - image: System
    handles: 512
    threads:
      - {name: one, tid: 0x100, priority: 12, wait: {ticks: 900}, stack: ['nt!ExAcquireResourceExclusiveLite+0x14f', 'Ntfs!NtfsCommonWrite+0x2d1'],
         irps: [{locations: 3, flags: 0x884, driver: Ntfs, file: '\a.txt'}]}
      - {name: two, tid: 0x104, priority: 11, wait: {ticks: 800}, stack: ['nt!ExAcquireResourceSharedLite+0x14f', 'Ntfs!NtfsCommonRead+0x1a1']}
      - {name: three, tid: 0x108, wait: {ticks: 700}, stack: ['nt!ExAcquireResourceSharedLite+0x14f', 'Ntfs!NtfsCommonRead+0x1a1']}
      - {name: four, tid: 0x10c, wait: {for: [semaphore, mutex], ticks: 60}}
  - {image: smss.exe, pid: 0xf8, handles: 29}
  - {image: csrss.exe, pid: 0x150, parent: smss.exe, session: 0, handles: 311}
  - {image: notmyfault.exe, pid: 0x8c4, session: 1, handles: 57, threads: [{name: user, tid: 0x8c8, wait: {for: [delay], timeout: 64}}]}
objects:
  - {name: mutex, kind: mutant, owner: two}
resources:
  - {name: first, exclusive_owner: {thread: one}, shared_waiters: [two, three], contention: 7}
  - {name: second, shared_owners: [{thread: two}, {thread: three, count: 2}], exclusive_waiters: [one], contention: 3}
  - {count: 40}
pool:
  tags:
    - {tag: Leak, count: 12, size: 64KB}
    - {tag: Leak, count: 40, size: 0x200}
    - {tag: CM31, count: 20, size: 12288, pool: paged, freed: 377}
`

// futureCommands ask every walker.
var futureCommands = []string{
	".bugcheck", "lm", "!process 0 0", "!process 0 7 System", "!locks -v", "!locks", "!poolused 0 Leak", "!poolused 0 CM31",
	"!poolfind Leak 0", "!poolfind CM31 1", "!thread", "k",
}

func futureImage(t testing.TB, v *snapshot.Variant) *snapshot.Image {
	t.Helper()
	im, err := snapshot.Build([]byte(futureScenario), snapshot.Options{Format: snapshot.Kernel, Variant: v})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// futureDump writes a dump, and its symbols as ISF tables in a folder of their own.
func futureDump(t testing.TB, im *snapshot.Image) (dump, symbols string) {
	t.Helper()
	dir := t.TempDir()
	dump, symbols = filepath.Join(dir, "future.dmp"), filepath.Join(dir, "symbols")
	var b bytes.Buffer
	if _, err := im.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dump, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := im.SymbolFiles()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		file := filepath.Join(symbols, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dump, symbols
}

// ask runs commands over a dump and gives what each printed, without what must
// differ between two builds.
func ask(t *testing.T, dump, symbols string, commands []string) map[string]string {
	t.Helper()
	answers := map[string]string{}
	for _, c := range commands {
		r := run(t, "", "-z", dump, "-y", symbols, "-c", ".kdonly 1;.echo ======;"+c+";q")
		_, text, found := strings.Cut(r.Out, "======\n")
		if !found || r.Code != 0 {
			t.Fatalf("%s: exit %d\n%s%s", c, r.Code, r.Out, r.Err)
		}
		answers[c] = anonymous(text)
		if c == "lm" { // by address, which differ
			lines := strings.Split(answers[c], "\n")
			slices.Sort(lines)
			answers[c] = strings.Join(lines, "\n")
		}
	}
	return answers
}

// futurePDBs writes the symbols as program databases, in a folder as symbol
// servers keep them.
func futurePDBs(t testing.TB, im *snapshot.Image) (symbols string) {
	t.Helper()
	symbols = t.TempDir()
	for _, id := range im.Images() {
		store, names, err := im.Resolver().Resolve(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		spec := pdbtest.Spec{GUID: id.GUID, Age: id.Age, Symbols: slices.Collect(names.All())}
		if store != nil {
			spec.Types = inOrder(t, store)
		}
		data, err := pdbtest.Build(spec)
		if err != nil {
			t.Fatalf("%s: %v", id.PDB, err)
		}
		dir := filepath.Join(symbols, id.PDB, fmt.Sprintf("%s%X", id.GUID, id.Age))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, id.PDB), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return symbols
}

// inOrder lists the types of a store, each after those that it holds by value.
func inOrder(t testing.TB, store types.Store) []*types.Type {
	t.Helper()
	var list []*types.Type
	seen := map[*types.Type]bool{}
	var add func(*types.Type)
	add = func(typ *types.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		if typ.Kind == types.KindArray {
			add(typ.Elem)
		}
		for _, f := range typ.Fields {
			add(f.Type)
		}
		switch typ.Kind {
		case types.KindStruct, types.KindUnion, types.KindEnum:
			list = append(list, typ)
		}
	}
	for _, name := range store.(types.Lister).TypeNames() {
		typ, err := store.Type(name)
		if err != nil {
			t.Fatal(err)
		}
		add(typ)
	}
	return list
}

var (
	anyAddress = regexp.MustCompile("(0x)?\\b[0-9a-f]{8}`?[0-9a-f]{8}\\b|0x[0-9a-f]{16}\\b|DirBase: [0-9a-f]+|\\(0006,[0-9a-f]{4}\\)")
	anyTable   = regexp.MustCompile(`\((isf|pdb) symbols\) +\S+\.(json|pdb)`)
	manyBlanks = regexp.MustCompile(` {2,}`)
)

// anonymous leaves out addresses, sizes of IRPs and names of symbol files.
func anonymous(text string) string {
	text = anyTable.ReplaceAllString(anyAddress.ReplaceAllString(text, "ADDRESS"), "(symbols)")
	return manyBlanks.ReplaceAllString(text, " ")
}

// smallBlocks is where !poolfind goes on from large allocations to small ones,
// which it can do for pools of pages only; the types tell which the build has.
const smallBlocks = "\nSearching"

// TestFuture opens machines of builds that no table of this program knows, with
// their symbols at hand: every walker finds what it finds on the machine that
// the scenario was written for.
func TestFuture(t *testing.T) {
	t.Parallel()
	known, symbols := futureDump(t, futureImage(t, nil))
	want := ask(t, known, symbols, futureCommands)
	if text := want["!poolfind Leak 0"]; !strings.Contains(text, smallBlocks) || strings.Count(text, "tag Leak, size 0x200,") != 40 {
		t.Fatalf("!poolfind finds other blocks than the scenario's:\n%s", text)
	}
	for i, family := range []string{"7601-early", "7601-late", "9600", "17763", "22000"} {
		for _, encoded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s encoded %v", family, encoded), func(t *testing.T) {
				t.Parallel()
				build := uint32(26200 + 1800*i)
				im := futureImage(t, &snapshot.Variant{
					Build: build, Types: newFuture(t, family, build, uint64(i)+1), Seed: uint64(i) + 1, EncodedDebugData: encoded,
				})
				dump, tables := futureDump(t, im)
				for _, symbols := range []string{tables, futurePDBs(t, im)} {
					got := ask(t, dump, symbols, futureCommands)
					for _, c := range futureCommands {
						w := want[c]
						if strings.HasPrefix(c, "!poolfind") && family == "22000" { // segment heaps
							w, _, _ = strings.Cut(w, smallBlocks)
						}
						if diff := cmp.Diff(w, got[c]); diff != "" {
							t.Errorf("%s (-known +future):\n%s", c, diff)
						}
					}
				}
			})
		}
	}
}

// TestFuture_noSymbols opens such a machine without symbols: every command that
// would need them says which, and what needs none is right.
func TestFuture_noSymbols(t *testing.T) {
	t.Parallel()
	for _, encoded := range []bool{false, true} {
		im := futureImage(t, &snapshot.Variant{Build: 28000, Types: newFuture(t, "22000", 28000, 5), Seed: 5, EncodedDebugData: encoded})
		id := im.Images()[0]
		dump, _ := futureDump(t, im)
		needs := fmt.Sprintf("not possible here: no layout of build 28000 fits this kernel; symbols are needed: %s, GUID %s, age %d\n", id.PDB, id.GUID, id.Age)
		for _, c := range []string{"!process 0 0", "!thread", "!locks", "!poolused", "!poolfind Leak"} {
			r := run(t, "", "-z", dump, "-c", ".echo ======;"+c+";q")
			_, out, _ := strings.Cut(r.Out, "======\n")
			name, _, _ := strings.Cut(c, " ")
			if diff := cmp.Diff(name+": "+needs, out); diff != "" || r.Code == 0 {
				t.Errorf("%s, encoded %v: exit %d, (-want +got):\n%s", c, encoded, r.Code, diff)
			}
		}
		r := run(t, "", "-z", dump, "-c", ".echo ======;lm;.bugcheck;q")
		_, out, _ := strings.Cut(r.Out, "======\n")
		unloaded := "\nUnloaded modules:\nADDRESS ADDRESS dump_dumpfve.sys\nADDRESS ADDRESS dump_storport.sys\nADDRESS ADDRESS crashdmp.sys\n"
		if encoded {
			unloaded = ""
		}
		want := "start end module name\nADDRESS ADDRESS nt (export symbols) \n" + unloaded +
			"module list: no entry of the list is of a known form; the symbols of this kernel tell its form\n" +
			"Bugcheck code 000000E2\nArguments ADDRESS ADDRESS ADDRESS ADDRESS\n"
		if diff := cmp.Diff(want, anonymous(out)); diff != "" {
			t.Errorf("lm, encoded %v: (-want +got):\n%s", encoded, diff)
		}
	}
}
