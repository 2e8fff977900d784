//go:build unix

package repl_test

import (
	"fmt"
	"testing"
)

// TestTerminal_interruptLoops: Ctrl-C ends loops that never end by themselves,
// whatever runs them.
func TestTerminal_interruptLoops(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q", "-keepgoing")
	c.prompt()
	c.say("r $t0 = 0n7", "kd>")
	for i, command := range []string{
		".while (1) {.echo runs; .echo on}", ".for (.echo runs;;) {}", ".echo runs; z(1)",
		`!for_each_thread ".echo runs; .while (1) {}"`, ".foreach /s (t \"a b\") {.echo runs; .do {} (1)}", ".catch {.echo runs; .while (1) {}}",
	} {
		c.send(command + "\r")
		c.see("\nruns")
		c.send("\x03")
		c.see("interrupted")
		c.prompt()
		// The session is as it was, and the screen holds no old answer.
		c.say(fmt.Sprintf(".for (r $t1 = 0; @$t1 < 0n45; r $t1 = @$t1 + 1) {.echo}; ? @$t0 + 0n%d", i), fmt.Sprintf("expression: %d =", 7+i))
	}
	c.send("q\r")
	c.end(0)
}

// TestTerminal_completeTypes: Tab completes types, their fields, registers, and
// commands in blocks.
func TestTerminal_completeTypes(t *testing.T) {
	t.Parallel()
	c := start(t, size, "", "-q")
	c.prompt()
	c.send("dt nt!_eproces\t @$pro\t ImageFileN\t\r")
	c.see("+0x2e0 ImageFileName")
	c.prompt()
	c.send(".if (1) {? @$t1\t + 0n4711}\r")
	c.see("expression: 4711 =")
	c.prompt()
	c.send("q\r")
	c.end(0)
}
