package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// run executes !locks on a machine and gives the text or the JSON.
func run(t *testing.T, m *modeltest.Machine, era report.Era, asJSON bool, line string) string {
	t.Helper()
	table, err := cmd.NewTable(Commands()...)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	s := &cmd.Session{Kernel: m.Open(), Commands: table, Out: cmd.NewOutput(&out, era, false)}
	if asJSON {
		s.Out = cmd.NewJSONOutput(&out, &errs, era)
	}
	if err := s.Execute(context.Background(), line); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	return out.String()
}

// machine has n free resources, then one that a stack value owns and whose
// thread waits for it, then free ones again.
func machine(t *testing.T, before, after int) (m *modeltest.Machine, res, owner mem.VA) {
	m = modeltest.New(t, types.Embedded(7601)[0])
	owner = m.Thread(m.System, 0x10)
	for range before {
		m.Resource()
	}
	res = m.Resource()
	for range after {
		m.Resource()
	}
	sem, table := m.Alloc(0x40), m.Alloc(0x40)
	m.Set(res, 1, "_ERESOURCE", "ActiveCount")
	m.Set(res, 0x80, "_ERESOURCE", "Flag")
	m.Set(res, 1, "_ERESOURCE", "NumberOfSharedWaiters")
	m.Set(res, uint64(m.OnStack(owner, 0x300))|3, "_ERESOURCE", "OwnerEntry", "OwnerThread")
	m.Set(res, 2, "_ERESOURCE", "OwnerEntry", "OwnerCount")
	m.Set(res, uint64(table), "_ERESOURCE", "OwnerTable")
	m.Set(table, 3, "_OWNER_ENTRY", "TableSize")
	m.Set(table+0x10, uint64(owner), "_OWNER_ENTRY", "OwnerThread")
	m.Set(table+0x10, 1, "_OWNER_ENTRY", "OwnerCount")
	off, _ := m.Field("_ERESOURCE", "SharedWaiters")
	m.Put64(res+mem.VA(off), uint64(sem))
	m.Wait(owner, 27, sem, 5)
	return m, res, owner
}

// TestLocks_text holds the layout, dots and trailing blanks included: one dot
// to start with and one for every 32nd resource passed over.
func TestLocks_text(t *testing.T) {
	t.Parallel()
	m, res, owner := machine(t, 64, 31)
	value := mem.VA(uint64(m.OnStack(owner, 0x300)) | 3)
	want := "**** DUMP OF ALL RESOURCE OBJECTS ****\n" +
		"KD: Scanning for held locks...\n" +
		"\n" +
		"Resource @ 0x" + res.String() + "    Exclusively owned\n" +
		"    NumberOfSharedWaiters = 1\n" +
		"     Threads: " + value.String() + "-02<*> *** Unknown owner, possibly FileSystem\n" +
		"              " + owner.String() + "-01    \n" +
		"KD: Scanning for held locks.\n" +
		"96 total locks, 1 locks currently held\n"
	got := run(t, m, report.Era19041, false, "!locks")
	kd, own, _ := strings.Cut(got, "held\n")
	if diff := cmp.Diff(want, kd+"held\n"); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, words := range []string{"points into the kernel stack of thread " + owner.String(), "has deadlocked on itself"} {
		if !strings.Contains(own, words) {
			t.Errorf("%q is not said in:\n%s", words, own)
		}
	}
}

// TestLocks_one: with an address there is no banner and no scan, and only the
// old debugger counts how many are held.
func TestLocks_one(t *testing.T) {
	t.Parallel()
	for era, last := range map[report.Era]string{
		report.Era62:    "1 total locks, 1 locks currently held\n",
		report.Era19041: "1 total locks\n",
		report.Era26100: "1 total locks\n",
	} {
		m, _, _ := machine(t, 0, 0)
		got := run(t, m, era, false, "!locks")
		if !strings.HasPrefix(got, "**** DUMP") {
			t.Errorf("%v: no banner:\n%s", era, got)
		}
		m2, res, _ := machine(t, 0, 0)
		s := oneSession(t, m2, era)
		if !strings.HasPrefix(s(res), "\nResource @ 0x") || !strings.Contains(s(res), last) || strings.Contains(s(res), "Scanning") {
			t.Errorf("%v:\n%s", era, s(res))
		}
	}
}

// oneSession gives a function that runs the command for an address, without an
// evaluator of expressions.
func oneSession(t *testing.T, m *modeltest.Machine, era report.Era) func(mem.VA) string {
	t.Helper()
	k := m.Open()
	return func(at mem.VA) string {
		var out bytes.Buffer
		o := cmd.NewOutput(&out, era, false)
		o.Printer.KDOnly = true
		l := &locksRun{s: &cmd.Session{Kernel: k, Out: o}, out: o}
		if err := l.one(context.Background(), at); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
}

// TestLocks_json: what is promised of the records, and their order.
func TestLocks_json(t *testing.T) {
	t.Parallel()
	m, res, owner := machine(t, 3, 3)
	var kinds []string
	for line := range strings.Lines(run(t, m, report.Era19041, true, "!locks")) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		kinds = append(kinds, r["record"].(string))
		switch r["record"] {
		case "resource":
			o := r["owners"].([]any)[0].(map[string]any)
			if r["address"] != "0x"+res.String() || o["stack_of"] != "0x"+owner.String() || o["thread"] != nil || o["tagged"] != true {
				t.Errorf("%s", line)
			}
		case "deadlock":
			if r["kind"] != "self" || r["certain"] != true {
				t.Errorf("%s", line)
			}
		case "lock_summary":
			if r["total"] != 7.0 || r["held"] != 1.0 {
				t.Errorf("%s", line)
			}
		}
	}
	if diff := cmp.Diff([]string{"resource", "note", "deadlock", "lock_summary", "end"}, kinds); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}
