package types

import (
	_ "embed"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// globalsText is the table of kernel globals as internal/genlayout writes it:
// comments, a line of column names, then one line per kernel.
//
//go:embed globals.txt
var globalsText string

// kernelRow is one kernel of the embedded table.
type kernelRow struct {
	id, version, family string
	build               uint32
	sizeEProcess        uint32
	cells               string // the addresses, still as text
}

// globalsHeader gives the names of the columns of addresses and the text of the rows.
var globalsHeader = sync.OnceValues(func() (columns []string, rows string) {
	rows = globalsText
	for {
		line, rest, ok := strings.Cut(rows, "\n")
		if !ok {
			return nil, ""
		}
		rows = rest
		if !strings.HasPrefix(line, "#") {
			return strings.Fields(line)[4:], rest
		}
	}
})

// kernelByGUID finds a kernel's row by its text; the table is never parsed whole.
func kernelByGUID(g GUID, age uint32) (*kernelRow, bool) {
	id := fmt.Sprintf("%s-%d", g, age)
	_, rows := globalsHeader()
	at := 0
	if !strings.HasPrefix(rows, id+" ") {
		if at = strings.Index(rows, "\n"+id+" ") + 1; at == 0 {
			return nil, false
		}
	}
	line, _, _ := strings.Cut(rows[at:], "\n")
	return parseKernelRow(line)
}

// Kernels gives the identities of the kernels that EmbeddedByGUID knows, in
// order of their GUIDs, as ImageID with name, PDB, GUID and age.
func Kernels() []ImageID {
	_, rows := globalsHeader()
	var ids []ImageID
	for line := range strings.Lines(rows) {
		if row, ok := parseKernelRow(line); ok {
			g, age, _ := parseID(row.id)
			ids = append(ids, ImageID{Name: "ntoskrnl.exe", PDB: "ntkrnlmp.pdb", GUID: g, Age: age})
		}
	}
	return ids
}

func parseKernelRow(line string) (*kernelRow, bool) {
	parts := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 5)
	if len(parts) != 5 {
		return nil, false
	}
	row := &kernelRow{id: parts[0], version: parts[1], family: parts[2], cells: parts[4]}
	numbers := strings.Split(row.version, ".")
	if len(numbers) != 4 {
		return nil, false
	}
	build, err := strconv.ParseUint(numbers[2], 10, 32)
	if err != nil {
		return nil, false
	}
	size, err := strconv.ParseUint(parts[3], 16, 32)
	row.build, row.sizeEProcess = uint32(build), uint32(size)
	return row, err == nil
}

// parseID reads GUID-age.
func parseID(id string) (GUID, uint32, error) {
	text, number, ok := strings.Cut(id, "-")
	if !ok {
		return GUID{}, 0, fmt.Errorf("%q: want GUID-age", clip(id))
	}
	g, err := ParseGUID(text)
	if err != nil {
		return GUID{}, 0, err
	}
	age, err := strconv.ParseUint(number, 10, 32)
	return g, uint32(age), err
}

// Globals are addresses of some variables and functions of one kernel. It
// implements Symbols, with a Nearest that never guesses: an address gets a name
// only where it lies inside what the name stands for.
type Globals struct {
	names   *Names
	extents map[string]uint32 // bytes of each function
	row     *kernelRow
}

// pointerSize is the extent of a variable: what it is said to hold is at its start.
const pointerSize = 8

func newGlobals(row *kernelRow) *Globals {
	columns, _ := globalsHeader()
	g := &Globals{extents: map[string]uint32{}, row: row}
	var names []string
	var rvas []uint32
	for i, cell := range strings.Fields(row.cells) {
		if i == len(columns) {
			break
		}
		number, length, isCode := strings.Cut(cell, "+")
		rva, err := strconv.ParseUint(number, 16, 32)
		if err != nil {
			continue // "-": the kernel lacks the name
		}
		if isCode {
			n, _ := strconv.ParseUint(length, 16, 32)
			g.extents[columns[i]] = uint32(n)
		}
		names, rvas = append(names, columns[i]), append(rvas, uint32(rva))
	}
	g.names = NewNames("embedded", names, rvas)
	return g
}

// Version gives the file version of the kernel, "10.0.19041.3570".
func (g *Globals) Version() string { return g.row.version }

// SizeEProcess gives sizeof(_EPROCESS) in that kernel, in bytes.
func (g *Globals) SizeEProcess() uint32 { return g.row.sizeEProcess }

// Names gives all names the kernel has, sorted.
func (g *Globals) Names() []string { return slices.Clone(g.names.names) }

// Lookup implements Symbols.
func (g *Globals) Lookup(name string) (Symbol, bool) { return g.names.Lookup(name) }

// Nearest implements Symbols for addresses inside the named variables and
// functions; there is no answer between them.
func (g *Globals) Nearest(rva uint32) (Symbol, uint32, bool) {
	sym, delta, ok := g.names.Nearest(rva)
	extent, isCode := g.extents[sym.Name]
	if !isCode {
		extent = pointerSize
	}
	if !ok || delta >= extent {
		return Symbol{}, 0, false
	}
	return sym, delta, true
}

// Prefix implements Symbols.
func (g *Globals) Prefix(prefix string, max int) []string { return g.names.Prefix(prefix, max) }

// All implements Symbols.
func (g *Globals) All() iter.Seq[Symbol] { return g.names.All() }

// Len implements Symbols.
func (g *Globals) Len() int { return g.names.Len() }

// Describe implements Symbols.
func (g *Globals) Describe() string { return "embedded" }

var _ Symbols = (*Globals)(nil)
