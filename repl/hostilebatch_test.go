package repl_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"gokd/dumpfmt/dumptest/shared"
)

// stateBatch asks for types, symbols, memory, stacks and code, in every way that
// follows pointers of the target.
var stateBatch = []string{
	"k", "kn", "kv", "kP", "kd", "r", "rM ff", ".frame /c 2", ".frame ffff", ".frame = @rsp @rsp @rip",
	"dt nt!_EPROCESS @$proc -r1", "dt nt!_KTHREAD @$thread -r2", "dt nt!_EPROCESS ffffffffffffff00 -r2", "dt nt!_EP*",
	"dt -l ActiveProcessLinks.Flink nt!_EPROCESS @$proc", "dt nt!_EPROCESS -l ActiveProcessLinks.Flink @$proc UniqueProcessId ImageFileName",
	"dt nt!_LDR_DATA_TABLE_ENTRY -l InLoadOrderLinks.Flink poi(nt!PsLoadedModuleList)",
	"x nt!Ke*", "ln @rip", "ln 0", "lm v", "lmvm nt", "lm 1m",
	"!lmi nt", "!lmi 0", "!dh -a nt", "!dh ffffffffffffff00",
	"!list -t nt!_LIST_ENTRY.Flink nt!PsActiveProcessHead", `!list -x "dt nt!_LIST_ENTRY @$extret" nt!PsLoadedModuleList`,
	`!list "-t nt!_EPROCESS.ActiveProcessLinks.Flink -e -x \"da @$extret\" @$proc"`,
	"dl nt!PsActiveProcessHead", "dlb nt!PsLoadedModuleList 2000", "!dflink nt!PsActiveProcessHead",
	"db @rsp", "dq @rsp", "dps @rsp L80", "dpp @rsp", "dpa @rsp", "dpu @rsp", "da @$proc", "du nt", "ds @$proc", "dS nt!PsActiveProcessHead",
	"db ffffffffffffffff", "dd 7ffffffffff8 L40", "dyb @rsp", "dD @rsp", "c @rsp L40 @rsp",
	"s nt L100000 4d 5a", "s -[l8]sa nt L100000", "s -[l8]su nt L10000", "s -q fffff80000000000 L?10000000 0", "s -sa 0 L?7fffffffffff", "s -v nt L10000 nt",
	"!pte nt", "!pte 0", "!pte ffffffffffffffff", "!vtop 0 nt", "!vtop ffffffffffffffff 0", "!vtop 1 ffff800000000000",
	"!ptov @$proc", "!ptov 1000", "!ptov ffffffffffffffff", "!address", "!address nt", "!address ffffffffffffffff",
	"!db 0 L100", "!dd ffffffffffffffff", "!dq 1000 L2000",
	"u nt", "u @rip", "u ffffffffffffffff", "ub @rip", "ub 0", "uf @rip", "uf /c nt!KeBugCheckEx", "uf nt!KeWaitForSingleObject", "up 1000",
	".thread ffffffffffffff00", ".thread nt", "k", ".thread", ".process /i 0", ".process /r /p @$proc", ".process nt", "k", ".process",
	".cxr @rsp", "k", ".cxr nt", "kv", ".cxr 0", ".cxr", ".trap @rsp", "kv", ".trap nt", "k", ".trap",
	".exr -1", ".exr @rsp", ".ecxr", "k", ".cxr", ".context 1ad000", ".context", ".enumtag", ".dumpdebug",
	"?? @$proc", "?? ((nt!_EPROCESS*)@$proc)->ImageFileName", "?? @$thread->Tcb", "?? *(nt!_EPROCESS*)0xffffffffffffff00",
	"? @$ra", "? @$exentry", "? $iment(nt)", "? poi(poi(nt!PsActiveProcessHead))", ".formats poi(nt!PsActiveProcessHead)",
}

// scriptBatch makes names and strings of the target part of other commands.
var scriptBatch = []string{
	"!for_each_module .echo @#ModuleName @#Base @#ImageName @#LoadedImageName", "!for_each_module !lmi @#Base", "!for_each_module !dh @#Base",
	`!for_each_module .printf "%ma %mu %y\n", @#Base, @#Base, @#Base`, "!for_each_module x @#ModuleName!Ke*", "!for_each_module ln @#Base",
	"!for_each_module uf @#Base", "!for_each_process", `!for_each_process "dt nt!_EPROCESS @#Process ImageFileName"`,
	`!for_each_process ".process /p @#Process; !process @#Process 1"`, `!for_each_thread "k"`, `!for_each_thread ".thread @#Thread; kn 8; r"`, ".thread", ".process",
	".foreach (t {lm}) {.echo t}", ".foreach (t {!process 0 0}) {.echo ${t}}",
	`.printf "%ma|%mu|%msa|%msu\n", @$proc, nt, @$proc, nt`, `.printf "%y %p %N %s %S %c%c%C\n", @rip, @rip, @rip, @$proc, @$proc, 1b, 7, 9b`,
	`.printf "\033]0;x\007\x1b%1000000d %*.*f\n", 1, 2, 3, 4`,
	"as /ma nm @$proc+2e0", "as /mu nu nt", "as /msu ns @$proc", "as /msa nsa nt", "al", ".block {.echo nm nu ns nsa}", "ad *",
	"aS /c out lm", ".block {.echo ${out}}", "ad *",
	".reload", ".reload /f nt", ".reload /f nosuch.sys", "lm", ".reload /u nt", ".reload", "k",
}

// jsonLines checks that each line is a JSON value in UTF-8.
type jsonLines struct {
	t    testing.TB
	rest []byte
}

func (j *jsonLines) Write(p []byte) (int, error) {
	j.rest = append(j.rest, p...)
	for {
		line, rest, ok := bytes.Cut(j.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		if !json.Valid(line) || !utf8.Valid(line) {
			j.t.Errorf("no JSON: %.300q", line)
		}
		j.rest = rest
	}
}

// safeText checks that text is fit for a terminal.
type safeText struct {
	t   testing.TB
	all strings.Builder
}

func (s *safeText) Write(p []byte) (int, error) { return s.all.Write(p) }

func (s *safeText) check() {
	s.t.Helper()
	text := s.all.String()
	if bad, ok := firstControl(text, "\n\t", false); ok {
		at := strings.IndexRune(text, bad)
		s.t.Errorf("a raw %q in %q", bad, text[max(0, at-200):min(len(text), at+200)])
	}
	if !utf8.ValidString(text) {
		s.t.Error("text that is no UTF-8")
	}
}

// hostileRun runs commands over a dump as text and as JSON.
func hostileRun(t testing.TB, dump, symbols string, commands []string) (text string) {
	t.Helper()
	script := writeScript(t, commands)
	plain := &safeText{t: t}
	runBatch(t, dump, script, plain, "-y", symbols)
	plain.check()
	runBatch(t, dump, script, &jsonLines{t: t}, "-y", symbols, "-json")
	return plain.all.String()
}

// TestHostile_states runs the commands on types, symbols, memory, stacks and
// code, and those that run others, over every damaged dump.
func TestHostile_states(t *testing.T) {
	for _, packed := range shared.Glob(t, "dumps/damaged", "*.dmp.xz") {
		name, _, _ := strings.Cut(filepath.Base(packed), ".")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := slices.Concat(stateBatch, scriptBatch)
			text := hostileRun(t, shared.Dump(t, packed), shared.Path(t, "dumps/symbols/win7seed"), all)
			if n := strings.Count(text, "Evaluate expression: "); n == 0 {
				t.Error("no expression has a value")
			}
		})
	}
}

// TestHostile_names: what drivers and processes are called never becomes a
// command, a path or a sequence of the terminal.
func TestHostile_names(t *testing.T) {
	t.Parallel()
	dump := shared.Dump(t, shared.Path(t, "dumps/damaged/evil-names.kernel.dmp.xz"))
	text := hostileRun(t, dump, "", []string{
		"!for_each_module .echo <@#ModuleName> <@#ImageName> <@#LoadedImageName> <@#SymbolFileName>", "? 0n4711",
	})
	modules := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "<") {
			modules++
		}
	}
	var truth record
	shared.JSON(t, shared.Path(t, "dumps/damaged/evil-names.truth.json.xz"), &truth)
	if want := len(list(truth["modules"])); modules != want {
		t.Errorf("%d lines for %d modules:\n%s", modules, want, text)
	}
	if !strings.Contains(text, fmt.Sprintf("Evaluate expression: %d", 4711)) {
		t.Errorf("the session does not go on: %s", text)
	}
}

var (
	_ io.Writer = (*jsonLines)(nil)
	_ io.Writer = (*safeText)(nil)
)
