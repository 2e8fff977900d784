package undname_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/types/undname"
)

var update = flag.Bool("update", false, "rewrite testdata/names.txt")

const golden = "testdata/names.txt"

// expectation is a line of the golden file: the name, its declaration, and its
// name only; a dash where it can't be read.
type expectation struct{ name, full, only string }

func expectations(t testing.TB) []expectation {
	t.Helper()
	b, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var list []expectation
	for line := range strings.SplitSeq(strings.TrimSpace(string(b)), "\n") {
		f := append(strings.Split(line, "\t"), "", "")
		list = append(list, expectation{f[0], f[1], f[2]})
	}
	return list
}

func demangle(name string, flags undname.Flags) string {
	s, err := undname.Demangle(name, flags)
	if err != nil {
		return "-"
	}
	return s
}

// TestDemangle holds names of real programs and of every part of the scheme to
// what was read and checked against llvm-undname when it was written down.
func TestDemangle(t *testing.T) {
	t.Parallel()
	list := expectations(t)
	var b strings.Builder
	for _, e := range list {
		got := expectation{e.name, demangle(e.name, 0), demangle(e.name, undname.NameOnly)}
		b.WriteString(got.name + "\t" + got.full + "\t" + got.only + "\n")
		if d := cmp.Diff(e, got, cmp.AllowUnexported(expectation{})); d != "" && !*update {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if len(list) < 300 {
		t.Errorf("only %d names", len(list))
	}
}

// TestAsShown: names as kd showed them in public transcripts and documentation.
func TestAsShown(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"?SmStart@?$SMKM_STORE_MGR@USM_TRAITS@@@@SAJPEAU1@@Z":                                               "SMKM_STORE_MGR<SM_TRAITS>::SmStart",
		"?StDmPageRemove@?$ST_STORE@USM_TRAITS@@@@SAJPEAU_ST_DATA_MGR@1@PEAU_ST_WORK_ITEM@1@@Z":             "ST_STORE<SM_TRAITS>::StDmPageRemove",
		"??_C@_02NJNOFBBI@?$CFx@FNODOBFM@":                                                                  "`string'",
		"??_7Engine@@6B@":                                                                                   "Engine::`vftable'",
		"??1?$vector@HV?$allocator@H@std@@@std@@QEAA@XZ":                                                    "std::vector<int,std::allocator<int> >::~vector<int,std::allocator<int> >",
		"?Stop@Engine@?A0x1234abcd@@QEAAXXZ":                                                                "`anonymous namespace'::Engine::Stop",
		"?Name@?1??PcwpInitRegistrationInformationSynchCounterSet@@9@9":                                     "`PcwpInitRegistrationInformationSynchCounterSet'::`2'::Name",
		"??$CallFunction@$00@JavascriptFunction@Js@@SAPEAXPEAVRecyclableObject@1@P6APEAX0UCallInfo@1@ZZ2@Z": "Js::JavascriptFunction::CallFunction<1>",
	} {
		if got, err := undname.Demangle(name, undname.NameOnly); got != want || err != nil {
			t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
		}
	}
}

// TestAgainstLLVM compares declarations with llvm-undname: those of the golden
// file, and where they are shared, those of kernels.
func TestAgainstLLVM(t *testing.T) {
	t.Parallel()
	tool, err := exec.LookPath("llvm-undname-19")
	if err != nil {
		tool, err = exec.LookPath("llvm-undname")
	}
	switch {
	case err != nil && os.Getenv("GOKD_REQUIRE_LLVM") == "1":
		t.Fatal("llvm-undname is not installed")
	case err != nil:
		t.Skip("llvm-undname is not installed")
	}
	var names []string
	for _, e := range expectations(t) {
		names = append(names, e.name)
	}
	t.Run("golden", func(t *testing.T) { judge(t, tool, names, 250) })
	t.Run("kernels", func(t *testing.T) {
		tables, _ := filepath.Glob(filepath.Join(shared.Path(t, "isf/windows/ntkrnlmp.pdb"), "*.json.xz"))
		judge(t, tool, namesOf(t, tables[:min(len(tables), 1)]), 200)
	})
}

// namesOf gives the decorated names of ISF tables, string constants left out.
func namesOf(t *testing.T, tables []string) []string {
	t.Helper()
	var names []string
	for _, file := range tables {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := xz.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		var table struct {
			Symbols map[string]json.RawMessage `json:"symbols"`
		}
		if err := json.NewDecoder(r).Decode(&table); err != nil {
			t.Fatal(err)
		}
		f.Close()
		for name := range table.Symbols {
			if undname.Decorated(name) && !strings.HasPrefix(name, "??_C@") {
				names = append(names, name)
			}
		}
	}
	return names
}

// differs lists the names of which we say something else on purpose: an array's
// qualifier is kept, an initializer names its variable without a type, and the
// type of an operator that converts is said once.
func differs(name string) bool {
	return name == "?foo@@3Y02$$CBHA" || strings.HasPrefix(name, "??__E?") || strings.HasPrefix(name, "??B") ||
		strings.HasPrefix(name, "??$?B") || strings.HasPrefix(name, "??_C@")
}

// spelling removes what the two spell differently: blanks, quotes, the linkage
// of C, and "dtor".
func spelling(s string) string {
	s = strings.NewReplacer(`extern "C" `, "", "deleting dtor", "deletingdestructor", "vbase dtor", "vbasedestructor").Replace(s)
	return strings.NewReplacer(" ", "", "`", "'", "\n", "").Replace(s)
}

func judge(t *testing.T, tool string, names []string, least int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool)
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, _ := cmd.CombinedOutput() // fails where one name can't be read
	compared := 0
	for block := range strings.SplitSeq(string(out), "\n\n") {
		name, want, ok := strings.Cut(strings.TrimSpace(block), "\n")
		if !ok || strings.HasPrefix(want, "error:") || differs(name) || !undname.Decorated(name) {
			continue
		}
		compared++
		got, err := undname.Demangle(name, 0)
		if err != nil || spelling(got) != spelling(want) {
			t.Errorf("%s:\n got %q (%v)\nwant %q", name, got, err, want)
		}
	}
	if compared < least {
		t.Errorf("only %d names compared", compared)
	}
}

// TestHostile: names that nest, repeat or go on for ever end soon.
func TestHostile(t *testing.T) {
	t.Parallel()
	double := "?x@@3" // each parameter repeats all before it
	for range 12 {
		double += "P6AX"
	}
	for what, name := range map[string]string{
		"deep pointers":   "?x@@3" + strings.Repeat("PEA", 4000) + "HEA",
		"deep templates":  "?x@@3" + strings.Repeat("U?$a@", 3000) + "H" + strings.Repeat("@@", 3000) + "A",
		"deep scopes":     "?x@" + strings.Repeat("?1??x@", 2000) + "@9@9",
		"many parameters": "?f@@YAX" + strings.Repeat("PEAV?$aaaaaaaaaaaaaaaaaaaa@V?$b@H@@@@", 1) + strings.Repeat("0", 16000) + "@Z",
		"doubling":        double,
		"long":            "?" + strings.Repeat("a", 20000) + "@@YAXXZ",
		"dimensions":      "?x@@3Y" + strings.Repeat("0", 10) + "HA",
		"doubled names":   "??$a@" + strings.Repeat("V?$a@", 90) + "H" + strings.Repeat("@V1@@", 90) + "@@YAXXZ",
	} {
		for _, flags := range []undname.Flags{0, undname.NameOnly} {
			got, err := undname.Demangle(name, flags)
			if len(got) > 32<<10 || err != nil && !errors.Is(err, undname.ErrName) {
				t.Errorf("%s: %d characters, %v", what, len(got), err)
			}
		}
	}
}

// TestPrefixes: every beginning of every name gives a name or an error.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	for _, e := range expectations(t) {
		for i := range e.name {
			demangle(e.name[:i], 0)
			demangle(e.name[:i], undname.NameOnly)
		}
	}
}

func FuzzDemangle(f *testing.F) {
	for _, e := range expectations(f) {
		f.Add(e.name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, flags := range []undname.Flags{0, undname.NameOnly} {
			got, err := undname.Demangle(name, flags)
			switch {
			case err != nil && (got != "" || !errors.Is(err, undname.ErrName)):
				t.Fatalf("%q: %q, %v", name, got, err)
			case err == nil && (got == "" || len(got) > 32<<10):
				t.Fatalf("%q: %d characters", name, len(got))
			}
		}
	})
}

func benchmark(b *testing.B, flags undname.Flags) {
	list := expectations(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		for _, e := range list {
			demangle(e.name, flags)
		}
		n += len(list)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "names/s")
}

func BenchmarkDemangle(b *testing.B)          { benchmark(b, 0) }
func BenchmarkDemangle_nameOnly(b *testing.B) { benchmark(b, undname.NameOnly) }
