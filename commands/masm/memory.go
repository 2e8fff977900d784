package masm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"gokd/model/mem"
)

// readPhysical is read of physical memory.
func (p *parser) readPhysical(at mem.PA, size, place int) (uint64, error) {
	target, ok := p.target.(Physical)
	if !ok {
		return 0, resolveError(p.lex.text, place, "no dump is open to read physical memory from")
	}
	var b [8]byte
	if _, err := target.ReadPhysical(b[:size], at); err != nil {
		return 0, &MemoryError{p.lex.text, place, mem.VA(at), err}
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// read gives the little-endian number of size bytes at an address.
func (p *parser) read(at mem.VA, size, place int) (uint64, error) {
	if p.target == nil {
		return 0, resolveError(p.lex.text, place, "no dump is open to read memory from")
	}
	var b [8]byte
	if _, err := p.target.ReadVirtual(b[:size], at); err != nil {
		return 0, &MemoryError{p.lex.text, place, at, err}
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

// MemoryError says which read of an expression failed.
type MemoryError struct {
	Expr string
	At   int // byte offset of the address in the expression
	VA   mem.VA
	Err  error
}

// Expression implements cmd.ExpressionError.
func (e *MemoryError) Expression() string { return e.Expr }

func (e *MemoryError) Error() string {
	indent := strings.Repeat(" ", len([]rune(e.Expr[:e.At])))
	return fmt.Sprintf("Memory access error at '%s'\n    %s\n    %s^ %v", e.Expr[e.At:], e.Expr, indent, e.Err)
}

// Unwrap gives the reason.
func (e *MemoryError) Unwrap() error { return e.Err }

// maxValid limits the range that $vvalid tests, in bytes.
const maxValid = 1 << 30

func (p *parser) validRange(at mem.VA, n uint64) (uint64, error) {
	if p.target == nil || n > maxValid || n > 0 && uint64(at)+n-1 < uint64(at) {
		return 0, nil
	}
	var b [1]byte
	for left := n; left > 0; {
		if p.ctx.Err() != nil {
			return 0, p.ctx.Err()
		}
		if _, err := p.target.ReadVirtual(b[:], at); err != nil {
			return 0, nil
		}
		step := min(left, mem.PageSize-uint64(at)%mem.PageSize)
		at += mem.VA(step)
		left -= step
	}
	return 1, nil
}
