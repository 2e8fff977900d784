package snapshot_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gokd/dumpfmt/snapshot"
)

// badScenarios are mistakes that people make, and the errors for them.
var badScenarios = []struct {
	name, text, want string
}{
	{"unknown field", "name: x\ncolour: red\n", "line 2: field colour is no part of a scenario"},
	{"unknown field inside", "processes:\n  - image: a.exe\n    threads:\n      - {naem: a}\n", "line 4: field naem is no part of a scenario"},
	{"no YAML", "name: [", "did not find expected node content"},
	{"two documents", "name: a\n---\nname: b\n", "a second document"},
	{"word for a number", "processors: many\n", "line 1: \"many\": want a number"},
	{"negative", "memory: -1\n", "line 1: \"-1\": want a number"},
	{"list for a word", "name: [a]\n", "line 1: want a word or a number here"},
	{"build", "build: 9600\n", "line 1: build 9600: only build 7601 is possible"},
	{"no processors", "processors: 0\n", "line 1: processors: at least one"},
	{"too many processors", "processors: 4096\n", "4096 processors, at most 32"},
	{"little memory", "memory: 1MB\n", "line 1: memory of 1048576 bytes"},
	{"time", "time: yesterday\n", "line 1: time \"yesterday\""},
	{"tick", "clock: {length: 1}\n", "line 1: clock"},
	{"format", "dump: triage\n", "line 1: dump format \"triage\""},
	{"crash processor", "crash: {processor: 9}\n", "line 1: crash on processor 9: there are 4"},
	{"module twice", "modules:\n  - {image: a.sys}\n  - {image: A.sys}\n", "line 3: module A is there twice"},
	{"module path", "modules: [{image: 'c:\\a.sys'}]\n", "line 1: modules: image"},
	{"module base", "modules: [{image: a.sys, base: 0x1000}]\n", "line 1: a.sys: base 0x1000"},
	{"modules overlap", "modules:\n  - {image: a.sys, base: fffff88003000000}\n  - {image: b.sys, base: fffff88003001000}\n", "line 3: b.sys at 0xfffff88003001000"},
	{"small module", "modules: [{image: a.sys, size: 0x1000}]\n", "line 1: a.sys: the image needs"},
	{"function outside", "modules: [{image: a.sys, base: fffff88003000000, functions: {F: fffff88004000000000}}]\n", "want a number"},
	{"function below", "modules: [{image: a.sys, base: fffff88003000000, functions: {F: fffff88002000000}}]\n", "line 1: a!F at 0xfffff88002000000 does not lie in its image"},
	{"tag", "modules: [{image: a.sys, tags: {Toolong: F}}]\n", "line 1: a.sys: tag \"Toolong\""},
	{"process twice", "processes:\n  - {image: a.exe, name: p}\n  - {image: b.exe, name: p}\n", "line 3: the name \"p\" is given twice"},
	{"long image", "processes: [{image: sixteen-letters.exe}]\n", "line 1: process image"},
	{"pid", "processes: [{image: a.exe, pid: 5}]\n", "line 1: pid 5"},
	{"parent", "processes: [{image: a.exe, parent: nobody}]\n", "line 1: parent \"nobody\" is no process"},
	{"state", "processes: [{image: a.exe, threads: [{state: asleep}]}]\n", "line 1: state \"asleep\""},
	{"two on one processor", "processes: [{image: a.exe, threads: [{state: running}, {state: running}]}]\n", "processor 0 runs another thread"},
	{"thread name twice", "processes:\n  - image: a.exe\n    threads:\n      - {name: t}\n      - {name: t}\n", "line 5: the name \"t\" is given twice"},
	{"name for several", "processes: [{image: a.exe, threads: [{name: t, count: 2}]}]\n", "line 1: several threads at once"},
	{"wait for nothing", "processes: [{image: a.exe, threads: [{wait: {for: [godot]}}]}]\n", "line 1: \"godot\" is no object"},
	{"wait reason", "processes: [{image: a.exe, threads: [{wait: {reason: Boredom}}]}]\n", "line 1: wait reason \"Boredom\""},
	{"wait mode", "processes: [{image: a.exe, threads: [{wait: {mode: hyper}}]}]\n", "line 1: wait mode \"hyper\""},
	{"waiter is no thread", "resources:\n  - name: r\n    exclusive_owner: {pointer: 0x3}\n    shared_waiters: [nobody]\n", "line 4: waiter \"nobody\" is no thread"},
	{"owner is no thread", "resources:\n  - {name: r, exclusive_owner: {thread: nobody}}\n", "line 2: owner \"nobody\" is no thread"},
	{"waiters of a free resource", "processes: [{image: a.exe, threads: [{name: t}]}]\nresources:\n  - {name: r, shared_waiters: [t]}\n", "line 3: nobody waits"},
	{"waits twice", "processes: [{image: a.exe, threads: [{name: t}, {name: u}]}]\nresources:\n  - {exclusive_owner: {thread: u}, shared_waiters: [t]}\n  - {exclusive_owner: {thread: u}, shared_waiters: [t]}\n", "line 4: waiter \"t\" waits for something else"},
	{"running waiter", "processes: [{image: a.exe, threads: [{name: t, state: running}]}]\nresources:\n  - {exclusive_owner: {pointer: 0x3}, shared_waiters: [t]}\n", "line 3: waiter \"t\" does not wait"},
	{"resource outside the pool", "resources:\n  - {address: fffff88000001000}\n", "line 2: 0xfffff88000001000 lies outside the nonpaged pool"},
	{"resources overlap", "resources:\n  - {address: fffffa8000d00100}\n  - {address: fffffa8000d00110}\n", "line 3: 0xfffffa8000d00110: the pool there is taken"},
	{"resource over a page", "resources:\n  - {address: fffffa8000d00ff0}\n", "line 2: 0xfffffa8000d00ff0: 0x68 bytes and their header do not fit the page"},
	{"object kind", "objects: [{name: o, kind: teapot}]\n", "line 1: object kind \"teapot\""},
	{"stack without a module", "processes: [{image: a.exe, threads: [{stack: [nowhere!F+0x30]}]}]\n", "line 1: there is no module nowhere"},
	{"unknown piece", "processes: [{image: a.exe, threads: [{stack: [piece]}]}]\n", "line 1: \"piece\" is no piece of a stack"},
	{"garbled row", "processes: [{image: a.exe, threads: [{stack: ['nt!F+0x30 (what)']}]}]\n", "line 1: \"nt!F+0x30 (what)\": want module!function"},
	{"exact rows without a base", "processes:\n  - image: a.exe\n    threads:\n      - stack: |\n          fffff880`0300ad80 00000000`00000000 nt!KxStartSystemThread+0x16\n", "line 5: a stack with addresses needs stack_base"},
	{"exact rows out of order", exactStack("fffff880`0300ad80 fffff800`02b00016 nt!A+0x20\nfffff880`0300ad40 00000000`00000000 nt!B+0x16\n"), "0xfffff8800300ad40 does not lie above 0xfffff8800300ad80"},
	{"exact rows that contradict", exactStack("fffff880`0300ac00 fffff800`02b00016 nt!A+0x20\nfffff880`0300ac40 fffff800`02b00116 nt!B+0x16\nfffff880`0300aca0 fffff800`02b00216 nt!B+0x16\nfffff880`0300ad80 00000000`00000000 nt!C+0x16\n"), "nt!B lies at"},
	{"deep stack", "processes: [{image: a.exe, threads: [{stack: [" + strings.Repeat("nt!KeDeep+0x60, ", 199) + "nt!KeDeep+0x60]}]}]\n", "does not fit its 0x6000 bytes"},
	{"irps", "processes: [{image: a.exe, threads: [{irps: [{locations: 77}]}]}]\n", "line 1: an IRP has at most 32"},
	{"attached", "processes: [{image: a.exe, threads: [{attached: nobody}]}]\n", "line 1: attached: \"nobody\" is no process"},
	{"pool tag", "pool: {tags: [{tag: Toolong}]}\n", "line 1: tag \"Toolong\""},
	{"pool kind", "pool: {tags: [{tag: A, pool: swimming}]}\n", "line 1: pool \"swimming\""},
	{"small blocks left out", "pool: {tags: [{tag: A, count: 5, captured: 1}]}\n", "line 1: tag A: only whole pages"},
	{"leak larger than the machine", "memory: 64MB\npool: {tags: [{tag: A, count: 100, size: 1MB, captured: 0}]}\n", "line 2: blocks of 0x6400000 bytes"},
	{"many resources", "resources: [{count: 4000000000}]\n", "resources, at most 20000"},
	{"many threads", "processes: [{image: a.exe, threads: [{count: 18446744073709551615}]}]\n", "threads, at most 2000"},
	{"many blocks", "pool: {tags: [{tag: A, count: 90000, size: 1MB, captured: 0}, {tag: B, count: 90000, size: 1MB, captured: 0}]}\n", "pool blocks, at most 100000"},
	{"huge block", "pool: {tags: [{tag: A, size: 18446744073709551615, captured: 0}]}\n", "line 1: tag A: a block of 0xffffffffffffffff bytes"},
	{"much pool", "pool: {tags: [{tag: A, count: 90000, size: 4000}]}\n", "it needs more than 64 MiB of memory"},
}

func exactStack(lines string) string {
	text := "processes:\n  - image: System\n    threads:\n      - stack_base: fffff8800300b000\n        stack: |\n"
	for line := range strings.Lines(lines) {
		text += "          " + line
	}
	return text
}

func TestBuild_errors(t *testing.T) {
	t.Parallel()
	for _, c := range badScenarios {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := snapshot.Build([]byte(c.text), snapshot.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
			if err != nil && !errors.Is(err, snapshot.ErrScenario) {
				t.Errorf("%v is no ErrScenario", err)
			}
		})
	}
	long := fmt.Sprintf("name: x\n# %s\n", strings.Repeat("y", 1<<20))
	if _, err := snapshot.Build([]byte(long), snapshot.Options{}); err == nil {
		t.Error("a scenario of 1 MiB is accepted")
	}
}
