package repl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
)

// anonymousLimit is the anonymous memory that the program may use, in bytes.
const anonymousLimit = 256 << 20

// limitedProgram gives the command that runs the program in a process of its
// own, which may have no more writable private memory than the limit: what
// asks for more is refused, and the Go runtime ends the process with code 2.
// The memory map of the dump does not count. It skips where even a run without
// a dump does not fit, as in binaries built with the race detector.
func limitedProgram(t *testing.T) func(args ...string) *exec.Cmd {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skipf("no shell to set a limit with: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), endless)
	t.Cleanup(cancel)
	program := func(args ...string) *exec.Cmd {
		script := fmt.Sprintf(`ulimit -d %d && exec "$0" "$@"`, anonymousLimit>>10) // the shell counts in KiB
		c := exec.CommandContext(ctx, sh, append([]string{"-c", script, os.Args[0]}, args...)...)
		c.Env = append(os.Environ(), asProgram+"=1")
		return c
	}
	if out, err := program("-version").CombinedOutput(); err != nil {
		t.Skipf("the program does not start under a limit of memory: %v: %.200s", err, out)
	}
	return program
}

// TestMemory_damaged runs every command over the damaged dumps in a process that
// has no more memory than promised.
func TestMemory_damaged(t *testing.T) {
	dumps := shared.Glob(t, "dumps/damaged", "*.dmp.xz")
	program := limitedProgram(t)
	for _, packed := range dumps {
		name, _, _ := strings.Cut(filepath.Base(packed), ".")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var truth record
			shared.JSON(t, shared.Path(t, "dumps/damaged", name+".truth.json.xz"), &truth)
			script := writeScript(t, slices.Concat(hostileBatch(truth), stateBatch, scriptBatch))
			dump := shared.Dump(t, packed)
			for _, flag := range []string{"-q", "-json"} {
				withinLimit(t, program("-z", dump, "-keepgoing", "-cf", script, flag))
			}
		})
	}
}

func withinLimit(t *testing.T, c *exec.Cmd) {
	t.Helper()
	out := &watch{}
	var diag bytes.Buffer
	c.Stdout, c.Stderr = out, &diag
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) || out.found != "" {
		t.Errorf("under a limit of %d bytes: %v\n%.2000s%.2000s", anonymousLimit, err, out.found, diag.String())
	}
}

// TestMemory_crafted does the same over lists as long as they may be.
func TestMemory_crafted(t *testing.T) {
	t.Parallel()
	program := limitedProgram(t)
	const resources, stride = 1 << 18, 0x80
	c := craft(t, resources*stride+2<<20)
	first := c.alloc(resources*stride + 0x1000)
	c.link(c.global("ExpSystemResourcesList"), first, stride, resources)
	c.write(t)
	withinLimit(t, program("-q", "-z", c.name, "-c", "!locks; !locks -d; q"))
}
