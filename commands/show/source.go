package show

import (
	"context"
	"fmt"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// Source is a place in source code.
type Source struct {
	File string `json:"file"` // as the compiler was given it
	Line uint32 `json:"line"`
	// Delta is the number of bytes between the first instruction of the line and
	// the address that was asked for.
	Delta uint32 `json:"delta"`
}

// String gives the place as kd writes it behind a name: " [file @ line]"; empty
// for nil.
func (s *Source) String() string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf(" [%s @ %d]", s.File, s.Line)
}

// lineTable is implemented by symbols that know source lines: those of private
// program databases.
type lineTable interface {
	SourceLine(rva uint32) (file string, line, delta uint32, ok bool)
}

// maxProbes bounds how many names HasLines asks for. Where a database has
// lines, most of its private functions have some.
const maxProbes = 1000

// HasLines tells whether symbols know source lines at all: a published database
// has the tables for them, and nothing in them.
func HasLines(s types.Symbols) bool {
	t, ok := s.(lineTable)
	if !ok {
		return false
	}
	left := maxProbes
	for sym := range s.All() {
		if !sym.Private {
			continue
		}
		if _, _, _, ok := t.SourceLine(sym.RVA); ok {
			return true
		}
		if left--; left == 0 {
			break
		}
	}
	return false
}

// Sources gives a function that finds the source of an address; nil where
// source lines are switched off. What it finds is nil where the address has none.
func Sources(ctx context.Context, s *cmd.Session) func(mem.VA) *Source {
	if s.Kernel == nil || !s.SourceLines {
		return nil
	}
	k := s.Kernel
	return func(at mem.VA) *Source {
		m, ok := k.Modules.At(at)
		if !ok {
			return nil
		}
		symbols, err := m.Symbols(ctx)
		if err != nil {
			return nil
		}
		return sourceOf(symbols, uint64(at-m.Base))
	}
}

// sourceOf asks symbols for the line of an address.
func sourceOf(symbols types.Symbols, rva uint64) *Source {
	t, ok := symbols.(lineTable)
	if !ok || rva>>32 != 0 {
		return nil
	}
	file, line, delta, ok := t.SourceLine(uint32(rva))
	if !ok {
		return nil
	}
	return &Source{file, line, delta}
}

// sharedUserData is where every process has KUSER_SHARED_DATA; the debuggers
// name it though it belongs to no module.
const sharedUserData = 0x7ffe0000

// CodeName gives a function that names addresses in instructions, as the
// disassembler asks for them; empty for those without a name.
func CodeName(ctx context.Context, k *model.Kernel) func(at uint64) string {
	return func(at uint64) string {
		if at-sharedUserData < mem.PageSize {
			return fmt.Sprintf("SharedUserData+%#x", at-sharedUserData)
		}
		return k.NameOf(ctx, mem.VA(at)).String()
	}
}
