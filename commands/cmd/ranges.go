package cmd

import (
	"context"
	"fmt"
	"strings"

	"gokd/model/mem"
)

// Range is a run of memory as commands take it.
type Range struct {
	Start mem.VA
	Bytes uint64 // length; Start+Bytes-1 does not wrap
	Given bool   // a length or an end was given
}

// maxRange is the longest range that kd takes without "L?", in bytes.
const maxRange = 256 << 20

// ParseRange reads a range from the front of a text, as kd takes it
// (documentation of the debuggers, "Address and Address Range Syntax"):
//
//	ADDRESS               def bytes
//	ADDRESS END           up to the unit that END lies in
//	ADDRESS L COUNT       COUNT units; L? allows more than 256 MB, L- counts down
//
// unit is the size of one unit in bytes. rest is what follows.
func ParseRange(ctx context.Context, e Evaluator, text string, unit, def uint64) (r Range, rest string, err error) {
	start, rest, err := e.EvalPrefix(ctx, text)
	if err != nil {
		// The length is no part of what could not be evaluated.
		if i := lengthAt(text); i > 0 {
			if _, _, short := e.EvalPrefix(ctx, text[:i]); short != nil {
				err = short
			}
		}
		return r, rest, err
	}
	r = Range{Start: mem.VA(start), Bytes: def}
	after := strings.TrimLeft(rest, blanks)
	switch {
	case after == "" || strings.ContainsRune(";\"'{/-", rune(after[0])):
		r.clamp()
		return r, after, nil
	case (after[0] == 'L' || after[0] == 'l') && len(after) > 1:
		return r.counted(ctx, e, after[1:], unit)
	}
	end, tail, err := e.EvalPrefix(ctx, after)
	if err != nil {
		return r, after, err
	}
	if end < start {
		return r, after, fmt.Errorf("range %#x to %#x: its end lies below its start", start, end)
	}
	r.Given = true
	r.Bytes = (end-start)/unit*unit + unit
	if r.Bytes < unit || r.Bytes > maxRange {
		return r, after, fmt.Errorf("range %#x to %#x: more than 256 MB; L? COUNT takes longer ones", start, end)
	}
	r.clamp()
	return r, tail, nil
}

// counted reads what follows the L of a range.
func (r Range) counted(ctx context.Context, e Evaluator, text string, unit uint64) (Range, string, error) {
	long := strings.HasPrefix(text, "?")
	text = strings.TrimPrefix(text, "?")
	down := strings.HasPrefix(text, "-")
	text = strings.TrimPrefix(text, "-")
	n, rest, err := e.EvalPrefix(ctx, text)
	if err != nil {
		return r, rest, err
	}
	bytes := n * unit
	switch {
	case n != 0 && bytes/n != unit:
		return r, rest, fmt.Errorf("range of %#x units of %d bytes: more than the address space", n, unit)
	case bytes > maxRange && !long:
		return r, rest, fmt.Errorf("range of %#x bytes: more than 256 MB; L?%x takes it", bytes, n)
	}
	r.Given, r.Bytes = true, bytes
	if down {
		if bytes > uint64(r.Start) {
			return r, rest, fmt.Errorf("range of %#x bytes below %#x: begins before address 0", bytes, uint64(r.Start))
		}
		r.Start -= mem.VA(bytes)
	}
	r.clamp()
	return r, rest, nil
}

// clamp ends a range at the top of the address space.
func (r *Range) clamp() {
	if left := -uint64(r.Start); left != 0 && r.Bytes > left {
		r.Bytes = left
	}
}

// lengthAt finds the L of a length behind an address; -1 where there is none.
func lengthAt(text string) int {
	for i := 1; i+1 < len(text); i++ {
		if text[i]|0x20 == 'l' && strings.IndexByte(blanks, text[i-1]) >= 0 && strings.IndexByte("0123456789?-@(", text[i+1]) >= 0 {
			return i
		}
	}
	return -1
}
