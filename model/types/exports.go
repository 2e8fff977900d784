package types

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of an export table. Ordinals have 16 bits; ntoskrnl.exe exports about
// 3,000 names.
const (
	maxExports    = 1 << 16
	maxExportName = 512 // bytes
	// maxExportText bounds the bytes of all names together: many entries may
	// name one long string.
	maxExportText = 8 << 20
)

// ErrNoExports says that an image has no export table, as most drivers.
var ErrNoExports = errors.New("no export table")

// Exports is an image's export table: the names it offers to other images. It
// implements Symbols. Between two exported functions lie others, so the
// distance from Nearest may be to a different function.
type Exports struct {
	*Names
	// Skipped counts names that could not be read or lead out of the image;
	// Forwarded those that stand for another image's function.
	Skipped, Forwarded int
}

// exportDirectory is IMAGE_EXPORT_DIRECTORY of the public PE format: 40 bytes.
type exportDirectory struct {
	functions, names               uint32 // counts
	functionsAt, namesAt, ordinals uint32 // RVAs
}

// ParseExports reads the export table of an image as mapped in memory, whose
// headers ParseImage has read. A table that is partly missing gives the names
// that can be read; an error says that none can, ErrNoExports that there are none.
// A table of which no name can be read is returned with its error, empty.
func ParseExports(r RVAReader, im *Image) (*Exports, error) {
	dir, ok := im.Directory(DirExport)
	if !ok {
		return nil, ErrNoExports
	}
	c := newPages(r)
	b, err := c.bytes(dir.RVA, 40)
	if err != nil {
		return nil, fmt.Errorf("export directory at RVA %#x: %w", dir.RVA, err)
	}
	le := binary.LittleEndian
	table := exportDirectory{
		functions: le.Uint32(b[20:]), names: le.Uint32(b[24:]),
		functionsAt: le.Uint32(b[28:]), namesAt: le.Uint32(b[32:]), ordinals: le.Uint32(b[36:]),
	}
	if table.functions > maxExports || table.names > maxExports {
		return nil, fmt.Errorf("export directory at RVA %#x: %d functions, %d names: at most %d",
			dir.RVA, table.functions, table.names, maxExports)
	}
	e := &Exports{}
	var names []string
	var rvas []uint32
	text := 0
	for i := range table.names {
		name, rva, err := table.export(c, i)
		if text += len(name); text > maxExportText {
			e.Skipped += int(table.names - i)
			break
		}
		switch {
		case err != nil || rva >= im.Size || name == "":
			e.Skipped++
		case rva-dir.RVA < dir.Size:
			e.Forwarded++ // the address is of a string "IMAGE.NAME" inside the table
		case rva != 0:
			names, rvas = append(names, name), append(rvas, rva)
		}
	}
	e.Names = NewNames("export", names, rvas)
	if len(names) == 0 && e.Skipped > 0 {
		return e, fmt.Errorf("export directory at RVA %#x: none of %d names can be read", dir.RVA, e.Skipped)
	}
	return e, nil
}

// Cost is a measure of what the table took to read and takes to keep, in bytes
// of memory: many images may lie over the same large table.
func (e *Exports) Cost() int { return e.Memory() + 24*(e.Skipped+e.Forwarded) }

// export reads the name with index i and the address of its function.
func (t *exportDirectory) export(c *pages, i uint32) (string, uint32, error) {
	at, err := c.uint32(t.namesAt, i)
	if err != nil {
		return "", 0, err
	}
	b, err := c.element(t.ordinals, i, 2)
	if err != nil {
		return "", 0, err
	}
	index := uint32(binary.LittleEndian.Uint16(b))
	if index >= t.functions {
		return "", 0, fmt.Errorf("function %d of %d", index, t.functions)
	}
	rva, err := c.uint32(t.functionsAt, index)
	if err != nil {
		return "", 0, err
	}
	name, err := c.text(at, maxExportName)
	return name, rva, err
}

// element reads element i of an array of elements of that many bytes.
func (c *pages) element(array, i, size uint32) ([]byte, error) {
	at := uint64(array) + uint64(i)*uint64(size)
	if at >= 1<<32 {
		return nil, fmt.Errorf("element %d of the array at RVA %#x: beyond the image", i, array)
	}
	return c.bytes(uint32(at), size)
}

func (c *pages) uint32(array, i uint32) (uint32, error) {
	b, err := c.element(array, i, 4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

var _ Symbols = (*Exports)(nil)
