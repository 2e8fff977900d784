package repl_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const ntLine = "start             end                 module name\nfffff800`02206000 fffff800`027d7000   nt         (snapshot symbols)     \n"

// TestRun holds whole runs without a terminal to their output and exit code.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := script("good.kd", "lm m nt\n.echo end\n")
	bad := script("bad.kd", ".echo one\nzork\n.echo two\n")
	caught := script("caught.kd", ".catch {\nzork\n.echo not here\n}\n.echo two\n")
	const zork = "Couldn't resolve 'zork': no such command (.help lists the commands)\n"
	for _, tt := range []struct {
		name, stdin string
		args        []string
		want        result
	}{
		{"-c", "", []string{"-q", "-c", "lm m nt;q"}, result{0, ntLine, ""}},
		{"-c that fails", ".echo unread\n", []string{"-q", "-c", "zork;.echo b"}, result{1, zork, ""}},
		{"-c that fails before q", ".echo unread\n", []string{"-q", "-c", "zork;q"}, result{1, zork, ""}},
		{"-c that keeps going", "", []string{"-q", "-keepgoing", "-c", "zork;.echo b;q"}, result{1, zork + "b\n", ""}},
		{"-c, then input", ".echo b\n", []string{"-q", "-c", ".echo a"}, result{0, "a\nb\n", ""}},
		{"-cf", ".echo in\n", []string{"-q", "-cf", good}, result{0, ntLine + "end\nin\n", ""}},
		{"-cf, then -c", "", []string{"-q", "-c", ".echo c", "-cf", good}, result{0, ntLine + "end\nc\n", ""}},
		{"-cf that fails", ".echo unread\n", []string{"-q", "-cf", bad}, result{1, "one\n" + zork, "gokd: " + bad + ":2: a command failed\n"}},
		{"-cf that keeps going", "", []string{"-q", "-keepgoing", "-cf", bad}, result{1, "one\n" + zork + "two\n", "gokd: " + bad + ":2: a command failed\n"}},
		{"-cf that catches", "", []string{"-q", "-cf", caught}, result{0, zork + "two\n", ""}},
		{"-cf that is missing", "", []string{"-q", "-cf", dir + "/none"}, result{1, "", "gokd: command file: open " + dir + "/none: no such file or directory\n"}},
		{"$$><", "", []string{"-q", "-c", "$$><" + good + ";.echo b;q"}, result{0, ntLine + "end\nb\n", ""}},
		{"$$>< that fails", "", []string{"-q", "-c", "$$>< " + bad + ";.echo b;q"}, result{1, "one\n" + zork + bad + ":2: the script failed here\n", ""}},
		{"$<", "", []string{"-q", "-c", "$<" + good}, result{0, "2: kd> lm m nt\n" + ntLine + "2: kd> .echo end\nend\n", ""}},
		{"a pipe", "lm m nt\r\n\n* comment\n.echo b", []string{"-q"}, result{0, ntLine + "b\n", ""}},
		{"a pipe with q", "q\n.echo b\n", []string{"-q"}, result{0, "", ""}},
		{"a pipe that fails", ".echo a\nzork\n.echo b\n", []string{"-q"}, result{1, "a\n" + zork, "gokd: stdin:2: a command failed\n"}},
		{"flags behind the dump", "", []string{"self-deadlock.yaml", "-q", "-c", ".compat;q", "-compat", "6.2"}, result{0, "layout of debugger 6.2\n", ""}},
		{"-version", "", []string{"-version"}, result{0, "gokd test\n", ""}},
		{"an unknown flag", "", []string{"-zork"}, result{2, "", "gokd: flag provided but not defined: -zork\ngokd -h shows the flags\n"}},
		{"two dumps", "", []string{"a", "b"}, result{2, "", "gokd: one dump at a time, not 2: a, b\ngokd -h shows the flags\n"}},
		{"a bad era", "", []string{"-compat", "7"}, result{2, "", "gokd: invalid value \"7\" for flag -compat: era \"7\": want one of 6.2, 10.0.19041, 10.0.26100\ngokd -h shows the flags\n"}},
		{"no such dump", "", []string{dir + "/none.dmp"}, result{3, "", "gokd: can't open [" + dir + "/none.dmp]: no such file or directory\n      check the path; gokd without a file opens its embedded snapshot\n"}},
		{"a quote in the name", "", []string{dir + "/none.dmp\""}, result{3, "", "gokd: can't open [" + dir + "/none.dmp\"]: no such file or directory\n      the name holds a quotation mark; leave it out\n"}},
		{"no such scenario", "", []string{"none.yaml"}, result{3, "", "gokd: can't open [none.yaml]: no such file or directory\n      check the path; gokd without a file opens its embedded snapshot\n"}},
		{"a folder", "", []string{dir}, result{3, "", "gokd: can't open [" + dir + "]: this is a directory: name the dump file in it\n"}},
		{"a bad log", "", []string{"-q", "-logo", dir + "/no/log", "-c", "q"}, result{1, "", "gokd: log: open " + dir + "/no/log: no such file or directory\n"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tt.want, run(t, tt.stdin, tt.args...)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestRun_help(t *testing.T) {
	t.Parallel()
	r := run(t, "", "-h")
	for _, flag := range []string{"-z ", "-y ", "-i ", "-c ", "-cf ", "-logo ", "-loga ", "-json", "-q ", "-keepgoing", "-compat ", "-no-color", "-version", "-h "} {
		if !strings.Contains(r.Out, "\n  "+flag) {
			t.Errorf("-h does not explain %s", flag)
		}
	}
	if r.Code != 0 || r.Err != "" {
		t.Errorf("code %d, diagnostics %q", r.Code, r.Err)
	}
}

// TestRun_banner: what a session begins with.
func TestRun_banner(t *testing.T) {
	t.Parallel()
	want := `gokd test, a debugger of Windows kernel dumps


Loading Dump File [embedded self-deadlock.yaml]
Kernel Complete Dump File: Full address space is available

Symbol search path is: (none: embedded layouts and export tables)
Executable search path is: 
Windows 7 Kernel Version 7601 (Service Pack 1) MP (4 procs) Free x64
`
	r := run(t, "")
	if !strings.HasPrefix(r.Out, want) {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, r.Out))
	}
	if !strings.Contains(r.Out, "\nLayouts: synthetic: ") || r.Code != 0 || r.Err != "" {
		t.Errorf("code %d, diagnostics %q, output\n%s", r.Code, r.Err, r.Out)
	}
}

// TestRun_json: one JSON object a line, one end record per command.
func TestRun_json(t *testing.T) {
	t.Parallel()
	r := run(t, "lm m nt\nzork\n* nothing\n.bugcheck\nq\n", "-json", "-keepgoing")
	type line struct {
		Command, Record string
		OK              bool
	}
	var got []line
	for _, l := range strings.Split(strings.TrimSpace(r.Out), "\n") {
		var v line
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		got = append(got, v)
	}
	want := []line{
		{"", "target", false},
		{"lm", "module", false}, {"lm", "end", true},
		{"zork", "end", false},
		{".bugcheck", "bugcheck", false}, {".bugcheck", "end", true},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if r.Code != 1 || !strings.Contains(r.Err, "Couldn't resolve 'zork'") {
		t.Errorf("code %d, diagnostics %q", r.Code, r.Err)
	}
}

func TestRun_log(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	for _, args := range [][]string{{"-logo", file}, {"-loga", file}} {
		if r := run(t, ".echo a\n", append(args, "-q")...); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	text, err := os.ReadFile(file)
	if d := cmp.Diff(strings.Repeat("2: kd> .echo a\na\n", 2), string(text)); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
}

// broken is a standard input that fails.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("cable pulled") }

func TestRun_brokenInput(t *testing.T) {
	t.Parallel()
	want := result{1, "", "gokd: stdin: cable pulled\n"}
	if d := cmp.Diff(want, runFrom(t, broken{}, "-q")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSymbols(t *testing.T) {
	t.Parallel()
	r := run(t, "", "symbols", "self-deadlock.yaml")
	var nt string
	for line := range strings.SplitSeq(r.Out, "\n") {
		if strings.HasPrefix(line, "nt ") && strings.Contains(line, ".pdb") {
			nt = line
		}
	}
	fields := strings.Fields(nt)
	if r.Code != 0 || len(fields) != 4 || fields[3] != "ntkrnlmp.pdb/"+fields[1]+fields[2]+"/ntkrnlmp.pdb" {
		t.Errorf("%q in %+v", nt, r)
	}
	r = run(t, "", "symbols", "-json", "self-deadlock.yaml")
	first, _, _ := strings.Cut(r.Out, "\n")
	var v struct{ Record, Module, Kind, GUID, Path string }
	if err := json.Unmarshal([]byte(first), &v); err != nil || v.Record != "symbol_file" || v.Module != "nt" || v.Kind != "pdb" || len(v.GUID) != 32 {
		t.Errorf("%v: %s", err, first)
	}
	if r := run(t, "", "symbols"); r.Code != 2 {
		t.Errorf("without a dump: %+v", r)
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if r := run(t, "", "snapshot", "list"); r.Code != 0 || !strings.Contains(r.Out, "self-deadlock ") {
		t.Errorf("list: %+v", r)
	}
	dump, symbols := filepath.Join(dir, "x.dmp"), filepath.Join(dir, "symbols")
	if r := run(t, "", "snapshot", "build", "self-deadlock", "-o", dump, "-format", "kernel", "-symbols", symbols); r.Code != 0 {
		t.Fatalf("build: %+v", r)
	}
	// The file is the same machine, by its symbol tables too.
	r := run(t, "", "-q", "-y", symbols, dump, "-c", "lm m nt; ? nt!KeBugCheckEx;q")
	if r.Code != 0 || !strings.Contains(r.Out, "(isf symbols)") || !strings.Contains(r.Out, "Evaluate expression") {
		t.Errorf("%+v", r)
	}
	for _, args := range [][]string{
		{}, {"zork"}, {"list", "x"}, {"build"}, {"build", "self-deadlock"},
		{"build", "self-deadlock", "-o", dump, "-format", "tar"}, {"build", "self-deadlock", "-o", dump, "-size", "1x"},
	} {
		if r := run(t, "", append([]string{"snapshot"}, args...)...); r.Code != 2 {
			t.Errorf("snapshot %v: %+v", args, r)
		}
	}
	if r := run(t, "", "snapshot", "build", "none", "-o", dump); r.Code != 3 {
		t.Errorf("no scenario: %+v", r)
	}
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("build: 1\nzork: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", bad); r.Code != 3 || !strings.Contains(r.Err, "zork") {
		t.Errorf("a bad scenario: %+v", r)
	}
}

// TestCheck replays a log: as logged, with lost blanks, without our own lines,
// and with a lie.
func TestCheck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	if r := run(t, "lm m nt\n!locks\nzork\nversion\n? nt+1\n", "-q", "-keepgoing", "-logo", log, "-c", ".time"); r.Code != 1 {
		t.Fatalf("%+v", r)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	var classic, narrow []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "Owner ") && !strings.HasPrefix(line, "Thread ") && !strings.HasPrefix(line, "  ") || strings.HasPrefix(line, "    ") {
			classic = append(classic, line)
		}
		narrow = append(narrow, strings.Join(strings.Fields(line), " "))
	}
	for _, tt := range []struct {
		name, text string
		code       int
		want       string
	}{
		{"as it was", text, 0, "commands run: 5, different answers: 0\n"},
		{"blanks lost", strings.Join(narrow, "\n"), 0, "commands run: 5, different answers: 0\n"},
		{"kd's lines only", strings.Join(classic, "\n"), 0, "commands run: 5, different answers: 0\n"},
		{"another count", strings.Replace(text, "Contention Count = 20", "Contention Count = 21", 1), 1, "- Contention Count = 21\n  + Contention Count = 20\ncommands run: 5, different answers: 1\n"},
	} {
		file := filepath.Join(dir, tt.name)
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := run(t, "", "check", file)
		if r.Code != tt.code || !strings.HasSuffix(r.Out, tt.want) || r.Err != "" {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	for name, code := range map[string]int{dir + "/none": 2, "main_test.go": 2} {
		if r := run(t, "", "check", name); r.Code != code {
			t.Errorf("check %s: %+v", name, r)
		}
	}
}
