// Package memory is the group of commands that show, compare and search memory
// and tell how addresses are mapped.
//
// It reads virtual memory through the address space of the session's scope and
// physical memory from the container. What is missing is shown as kd shows it,
// by question marks in place of digits; nothing is read beyond what is asked
// for. The layouts are those of the debuggers' documentation ("d, da, db, dc,
// dd, dD, df, dp, dq, du, dw", "dds, dps, dqs", "dda, ddp, ...", "dl", "ds, dS",
// "s", "c", "!pte", "!vtop", "!ptov", "!db, !dc, ...") and of posted sessions.
package memory

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// Commands lists the group's commands in the order of the manual.
func Commands() []*cmd.Command {
	list := []*cmd.Command{dumpAgain}
	for _, f := range formats {
		list = append(list, dumpCommand(f))
	}
	list = append(list, stringStructs...)
	list = append(list, listCommands...)
	list = append(list, flinkCommand, blinkCommand, compareCommand, searchCommand, searchGlued)
	list = append(list, pteCommand, vtopCommand, ptovCommand, addressCommand)
	for _, f := range physicalFormats {
		list = append(list, physicalCommand(f))
	}
	return append(list, physicalAgain)
}

// restArg declares the arguments of a command that has kd's own grammar.
func restArg(name, doc string, optional bool) []cmd.Arg {
	return []cmd.Arg{{Name: name, Kind: cmd.KindRest, Optional: optional, Doc: doc, Complete: cmd.CompleteSymbol}}
}

// state is what the group keeps between commands: where the next dump without
// an address begins, and in which format.
type state struct {
	last  *format // of virtual memory, for d
	next  uint64
	begun bool // next is set

	lastPhysical  *format // for !d
	nextPhysical  uint64
	begunPhysical bool
}

type stateKey struct{}

func stateOf(s *cmd.Session) *state {
	st, _ := cmd.Cached(s, stateKey{}, func() (*state, error) { return &state{}, nil })
	return st
}

// source is what a command reads: the scope's virtual memory, or physical.
type source struct {
	kernel *model.Kernel
	space  *mem.Space
	phys   mem.Physical // not nil: physical memory is read
}

// errNoPhysical says why physical addresses mean nothing in a dump.
var errNoPhysical = errors.New("this dump holds blocks of virtual memory, no physical memory")

// errARM64 says why virtual addresses mean nothing yet in such a dump.
var errARM64 = errors.New("the page tables of ARM64 machines are not read; /p shows physical memory")

func virtual(s *cmd.Session) (source, error) {
	if s.Kernel.Source.Machine == model.MachineARM64 && s.Space().Paged() {
		return source{}, errARM64
	}
	return source{kernel: s.Kernel, space: s.Space()}, nil
}

func physical(s *cmd.Session) (source, error) {
	p := s.Space().Physical()
	if p == nil {
		return source{}, errNoPhysical
	}
	return source{kernel: s.Kernel, space: s.Space(), phys: p}, nil
}

// read reads memory; n < len(p) implies an error.
func (r source) read(p []byte, at uint64) (int, error) {
	if r.phys != nil {
		return r.phys.ReadPhysical(p, mem.PA(at))
	}
	return r.space.ReadVirtual(p, mem.VA(at))
}

// fill reads what can be read of a piece of memory and marks it in have, which
// is as long as p. The error is that of the first hole.
func (r source) fill(p []byte, have []bool, at uint64) (first error) {
	clear(have)
	for n := 0; n < len(p); {
		m, err := r.read(p[n:], at+uint64(n))
		for i := range m {
			have[n+i] = true
		}
		n += m
		if err == nil {
			return first
		}
		if first == nil {
			first = err
		}
		// Pages are there or not as a whole; captured blocks begin anywhere.
		step := 1
		if r.phys != nil || r.space.Paged() {
			step = mem.PageSize - int((at+uint64(n))%mem.PageSize)
		}
		n += step
	}
	return first
}

// name gives the name of an address for text; empty outside every module.
func (r source) name(ctx context.Context, at uint64) string {
	return r.kernel.NameOf(ctx, mem.VA(at)).String()
}

// wrong is the error of a command that was typed wrongly. What an expression
// comes to is none: its error is shown as kd words it.
func wrong(format string, args ...any) error { return cmd.Misuse(fmt.Errorf(format, args...)) }

// digits spells a value of a number of bytes as kd does: lower-case hex digits,
// a back-tick in the middle of eight bytes.
func digits(v uint64, size int) string {
	if size == 8 {
		return report.Addr(v).Tick()
	}
	const hex = "0123456789abcdef"
	var b [8]byte // rows by the million go through here
	n := 2 * size
	for i := range n {
		b[n-1-i] = hex[v>>(4*i)&15]
	}
	return string(b[:n])
}

// unknown spells a value that can't be read.
func unknown(size int) string {
	return "????????`????????"[:map[int]int{1: 2, 2: 4, 4: 8, 8: 17}[size]]
}

// printable gives the character that stands for a byte in a column of text.
func printable(b byte) byte {
	if b < 0x20 || b > 0x7e {
		return '.'
	}
	return b
}
