package pdb

import (
	"bytes"
	"fmt"
	"iter"
)

// Module is an object file, or a part of an import library, that went into the
// image.
type Module struct {
	Name   string // path of the object file
	Object string // path of the library or object file
	number int
	stream uint32
	syms   uint32 // bytes of symbols, after which lines follow
	old    uint32 // bytes of lines in the format before C13
	lines  uint32 // bytes of C13 lines
}

const (
	moduleHeader = 64 // bytes before the names
	maxModules   = 1 << 16
	maxPath      = 1 << 13
)

// Modules yields the modules; it stops at one whose record is damaged.
func (f *File) Modules() iter.Seq[Module] {
	return func(yield func(Module) bool) {
		f.eachModule(func(m *Module) bool { return yield(*m) })
	}
}

// eachModule visits the modules until visit says false.
func (f *File) eachModule(visit func(*Module) bool) error {
	if f.dbi == nil {
		return nil
	}
	d := f.dbi
	at := d.modules.off
	seen := map[uint32]bool{}
	for n := 0; at < d.modules.end && n < maxModules; n++ {
		if uint64(at)+moduleHeader > uint64(d.modules.end) {
			return fmt.Errorf("module %d at %#x: %w", n, at, errShort)
		}
		b, err := d.s.view(at, moduleHeader)
		if err != nil {
			return err
		}
		m := &Module{number: n, stream: uint32(le16(b[34:])), syms: le32(b[36:]), old: le32(b[40:]), lines: le32(b[44:])}
		at += moduleHeader
		for _, name := range []*string{&m.Name, &m.Object} {
			if *name, err = d.s.text(at, d.modules.end); err != nil {
				return fmt.Errorf("module %d: %w", n, err)
			}
			at += uint32(len(*name)) + 1
		}
		at = (at + 3) &^ 3
		// A module has a stream of its own, or none: the symbols of one must not
		// count for thousands.
		if seen[m.stream] {
			m.stream = noStream
		}
		seen[m.stream] = true
		if !visit(m) {
			return nil
		}
	}
	return nil
}

// text reads a string up to its zero byte.
func (s *stream) text(at, end uint32) (string, error) {
	end = min(end, s.size)
	for n := uint32(256); at < end; n *= 8 {
		b, err := s.view(at, min(n, end-at))
		if err != nil {
			return "", err
		}
		if i := bytes.IndexByte(b, 0); i >= 0 {
			return string(b[:i]), nil
		}
		if n >= min(maxPath, end-at) {
			break
		}
	}
	return "", fmt.Errorf("name at %#x of stream %d: without an end", at, s.num)
}

// symbolsC13 starts the stream of a module that a compiler of this century made.
const symbolsC13 = 4

// moduleSymbols visits the symbols of a module that stand for themselves:
// functions, and variables that are not inside one.
func (f *File) moduleSymbols(m *Module, visit func(symbol) bool) error {
	s, ok := f.m.stream(m.stream)
	if !ok || m.syms < 4 {
		return nil
	}
	if m.syms > s.size {
		return fmt.Errorf("module %d: %#x bytes of symbols in a stream of %#x", m.number, m.syms, s.size)
	}
	head, err := s.view(0, 4)
	if err != nil {
		return err
	}
	if sig := le32(head); sig != symbolsC13 {
		return fmt.Errorf("module %d: symbols in format %d, want %d", m.number, sig, symbolsC13)
	}
	r := s.scan(4, m.syms)
	for {
		rec, ok := r.next()
		if !ok {
			return r.err
		}
		switch rec.kind {
		case sGData32, sLData32, sThunk32:
		default:
			if !isProc(rec.kind) {
				continue
			}
		}
		sym, ok := parseSymbol(rec.kind, rec.data)
		if !ok {
			continue
		}
		if !visit(sym) {
			return nil
		}
		if sym.end > r.off && sym.end < m.syms {
			r.skipTo(sym.end)
		}
	}
}

// skipTo goes to the end of a function, past what is inside it, if there is
// such an end.
func (r *records) skipTo(end uint32) {
	back := r.off
	r.off = end
	if head := r.need(4); head != nil {
		if kind := le16(head[2:]); kind == sEnd || kind == sProcIDEnd {
			return
		}
	}
	r.off, r.err = back, nil
	r.window, r.at = r.window[:0], back
}

// Functions yields the functions of all modules, with what the linker made.
// Databases without private symbols have none.
func (f *File) Functions() iter.Seq[Function] {
	return func(yield func(Function) bool) {
		more := true
		f.eachModule(func(m *Module) bool {
			f.moduleSymbols(m, func(s symbol) bool {
				if s.kind == sGData32 || s.kind == sLData32 {
					return true
				}
				more = yield(Function{
					Name: string(s.name), Place: f.place(s.seg, s.off), Size: s.size,
					Type: f.functionType(s.typ, byID(s.kind)), Static: static(s.kind),
					Thunk: s.kind == sThunk32, Module: m.number,
				})
				return more
			})
			return more
		})
	}
}
