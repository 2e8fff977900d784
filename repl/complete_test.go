package repl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands"
	"gokd/commands/cmd"
	"gokd/commands/masm"
	"gokd/commands/report"
)

// snapshotSession gives a session over the embedded snapshot.
func snapshotSession(t testing.TB) *cmd.Session {
	t.Helper()
	table, err := commands.Table()
	if err != nil {
		t.Fatal(err)
	}
	p := Program{Scenarios: os.DirFS("../testdata/snapshots"), Getenv: func(string) string { return "" }}
	s := &cmd.Session{Commands: table, Out: cmd.NewOutput(&strings.Builder{}, report.Era19041, false)}
	s.Eval = masm.ForSession(s)
	target, err := p.openInto(t.Context(), s, options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return s
}

func texts(list []suggestion) []string {
	var out []string
	for _, s := range list {
		out = append(out, s.text)
	}
	return out
}

func TestComplete(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	dir := t.TempDir() + string(filepath.Separator)
	for _, name := range []string{"one.kd", "other.kd", "two.kd", "a b.kd", ".hidden"} {
		if err := os.WriteFile(dir+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(dir+"only", 0o700); err != nil {
		t.Fatal(err)
	}
	sep := string(filepath.Separator)
	for line, want := range map[string][]string{
		"":                                    nil,
		".logo":                               {".logopen"},
		".LOG":                                {".logappend", ".logclose", ".logopen"},
		"logo":                                {".logopen"},
		"!lo":                                 {"!locks", "!lookaside"},
		"lm; .tim":                            {".time"},
		".hh bugc":                            {".bugcheck"},
		"!locks -v":                           {"-v"},
		"? sis":                               {"sis!"},
		"? SR":                                {"srv2!", "srvnet!"},
		"? nt!KeBugCheckE":                    {"nt!KeBugCheckEx"},
		"? 1+nt!KeBugCheckE":                  {"nt!KeBugCheckEx"},
		"? zork!a":                            nil,
		"!thread nt!ExpWorker":                {"nt!ExpWorkerThread", "nt!ExpWorkerThreadBalanceManager"},
		"lm m nt":                             {"nt", "Ntfs"},
		".logopen " + dir + "o":               {dir + "one.kd", dir + "only" + sep, dir + "other.kd"},
		"$$><" + dir + "t":                    {"$$><" + dir + "two.kd"},
		"$$>< " + dir + "t":                   {dir + "two.kd"},
		".logopen " + dir:                     {dir + "one.kd", dir + "only" + sep, dir + "other.kd", dir + "two.kd"},
		".echo nt":                            nil,
		"dt nt!_EPR":                          {"nt!_EPROCESS"},
		"dt _epr":                             {"_EPROCESS"},
		"dt -r1 nt!_EPROCESS Im":              {"ImageFileName", "ImageNotifyDone", "ImagePathHash"},
		"dt nt!_EPROCESS @$proc im":           {"ImageFileName", "ImageNotifyDone", "ImagePathHash"},
		"dt nt!_KTHREAD Header.Wai":           {"Header.WaitListHead"},
		"dt nt!_KTHREAD ApcState.Process.Hea": {"ApcState.Process.Header"},
		"dt -l Flink nt!_LIST_EN":             {"nt!_LIST_ENTRY"},
		"dt nt!_EPROCESS nt!PsActiveProcessH": {"nt!PsActiveProcessHead"},
		"dt nt!_EPROCESS @$pr":                {"@$prcb", "@$proc"},
		"dt nt!PsActiveProcessH":              {"nt!PsActiveProcessHead"},
		"dt nt!_ZORK Im":                      nil,
		"dt zork!_E":                          nil,
		"?? ((nt!_EPROC":                      {"nt!_EPROCESS"},
		"!list -t nt!_list_entr":              {"nt!_LIST_ENTRY"},
		"u nt!KeBugCheckE":                    {"nt!KeBugCheckEx"},
		"db nt!kebugchecke":                   {"nt!KeBugCheckEx"},
		"ln KeBugCheckE":                      {"KeBugCheckEx"},
		"k = nt!KeBugCheckE":                  {"nt!KeBugCheckEx"},
		"? poi(nt!KeBugCheckE":                {"nt!KeBugCheckEx"},
		"? @rsp-nt!KeBugCheckE":               {"@rsp-nt!KeBugCheckEx"},
		"?nt!KeBugCheckE":                     {"?nt!KeBugCheckEx"},
		".printf \"%y\", nt!KeBugCheckE":      {"nt!KeBugCheckEx"},
		"lmvm sis":                            {"sis"},
		"lmvm sr":                             {"srv2", "srvnet"},
		".reload /f si":                       {"sis"},
		"!dh si":                              {"sis"},
		"? @ra":                               {"@rax"},
		"? @$ra":                              {"@$ra"},
		"? poi(@RA":                           {"@rax"},
		"r ra":                                {"rax"},
		"r $t1":                               {"$t1", "$t10", "$t11", "$t12", "$t13", "$t14", "$t15", "$t16", "$t17", "$t18", "$t19"},
		"r $t0=nt!KeBugCheckE":                {"nt!KeBugCheckEx"},
		"dd@rb":                               {"dd@rbp", "dd@rbx"},
		".if (1) { !lo":                       {"!locks", "!lookaside"},
		".if (1) {!lo":                        {"!locks", "!lookaside"},
		".if (1) { lm } .els":                 {".else", ".elsif"},
		".foreach (t {lm}) { !lm":             {"!lmi"},
		".echo ${t} loc":                      nil,
		"!for_each_module !lm":                {"!lmi"},
		"!for_each_module \"!lm":              {"!lmi"},
		"!for_each_thread lm m si":            {"sis"},
		"!for_each_module \"lm; !lm":          {"!lmi"},
		"zork nt":                             nil,
		"lm ":                                 nil,
	} {
		got := texts(complete(s, line))
		if strings.HasPrefix(line, "!thread") { // whatever the snapshot has of these
			if len(got) == 0 || got[0] != want[0] {
				t.Errorf("%q offers %q", line, got)
			}
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", line, d)
		}
	}
}

// TestComplete_loadsNothing: a key must not wait for a symbol table.
func TestComplete_loadsNothing(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	if got := complete(s, "? sis!Sip"); got != nil {
		t.Errorf("offers %q", texts(got))
	}
	m, _ := s.Kernel.Modules.ByName("sis")
	if _, asked := m.LoadedSymbols(); asked {
		t.Error("symbols were loaded")
	}
	if err := s.Execute(t.Context(), "? sis!SipDereferenceCSFile"); err != nil {
		t.Fatal(err)
	}
	if got := texts(complete(s, "? sis!SipDereferenceCS")); !slices.Contains(got, "sis!SipDereferenceCSFile") {
		t.Errorf("offers %q", got)
	}
}

func TestComplete_bounded(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	if got := complete(s, "? nt!"); len(got) != maxSuggestions {
		t.Errorf("%d suggestions, want %d", len(got), maxSuggestions)
	}
	s.Kernel = nil
	for _, line := range []string{"? nt", "lm m nt", "!thread nt!K", "dt _E", "dt nt!_E", "dt nt!_EPROCESS Im"} {
		if got := complete(s, line); got != nil {
			t.Errorf("%q offers %q without a dump", line, texts(got))
		}
	}
}

func FuzzComplete(f *testing.F) {
	s := snapshotSession(f)
	for _, line := range []string{"!locks -", "? nt!", "$$><", "lm m", ";", "!thread /", "dt nt!_EPROCESS Im", "dt -l X Y Z", ".if (1) {${x} !lo", "r @$t", "!for_each_module \"k;", "-", "\x00é"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "/") || strings.Contains(line, "..") {
			return // no walks over this machine
		}
		if got := complete(s, line); len(got) > maxSuggestions {
			t.Fatalf("%d suggestions", len(got))
		}
	})
}

func BenchmarkComplete(b *testing.B) {
	s := snapshotSession(b)
	b.ReportAllocs()
	b.SetBytes(int64(len("? nt!Ke")))
	for b.Loop() {
		complete(s, "? nt!Ke")
	}
}

// TestComplete_registers: every register that is offered is one.
func TestComplete_registers(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	for _, name := range registers {
		if _, err := s.Eval.Eval(t.Context(), "@"+name); errors.Is(err, cmd.ErrPseudo) || err != nil && strings.Contains(err.Error(), "Bad register") {
			t.Errorf("@%s: %v", name, err)
		}
	}
}

// TestComplete_fold finds names whatever their case, in a list made once.
func TestComplete_fold(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	names := sorted{"a", "_B", "_b", "_Ba", "KE", "Ke", "ke", "KeA", "keB", "L"}
	slices.SortFunc(names, compareFold)
	for prefix, want := range map[string][]string{
		"ke": {"KE", "Ke", "ke", "KeA", "keB"}, "KEB": {"keB"}, "_b": {"_B", "_b", "_Ba"}, "x": nil, "": names,
	} {
		if d := cmp.Diff(want, names.prefix(prefix)); d != "" {
			t.Errorf("%q (-want +got):\n%s", prefix, d)
		}
	}
	calls := 0
	for range 3 { // made once for a table, not at every key
		foldedNames(s, symbolList, s.Kernel, 0, func() []string { calls++; return names })
	}
	if calls != 1 {
		t.Errorf("%d lists made, want 1", calls)
	}
	types := sorted{"_T"} // of the same table
	if got := foldedNames(s, typeList, s.Kernel, 0, func() []string { return types }); !slices.Equal(got, types) {
		t.Errorf("types %q, want %q", got, types)
	}
	if got := foldedNames(s, symbolList, &calls, maxNames+1, func() []string { return names }); got != nil {
		t.Errorf("more names than can be kept: %q", got)
	}
}
