package repl

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model"
)

// needed is a file that the dump's analysis can use: a PDB or an image.
type needed struct {
	Module    string  `json:"module"`
	Kind      string  `json:"kind"` // pdb or image
	Name      string  `json:"name"`
	GUID      *string `json:"guid,omitempty"`
	Age       *uint32 `json:"age,omitempty"`
	Timestamp *uint32 `json:"timestamp,omitempty"`
	Size      *uint32 `json:"size,omitempty"`
	// Path is the file's place on a symbol server (documented with Microsoft's
	// symstore).
	Path string `json:"path"`
}

// Type names the record.
func (*needed) Type() string { return "symbol_file" }

// WriteText writes a line: module, identity, server path.
func (n *needed) WriteText(p *report.Printer) {
	if n.GUID != nil {
		p.Printf("%-12s %s %-3d %s\n", n.Module, *n.GUID, *n.Age, n.Path)
		return
	}
	p.Printf("%-12s %08X %-27x %s\n", n.Module, *n.Timestamp, *n.Size, n.Path)
}

// listSymbols is "gokd symbols DUMP": what the dump needs, to be fetched
// elsewhere.
func listSymbols(ctx context.Context, p Program, args []string) error {
	opt := options{era: report.Era19041}
	names, err := parseArgs(flagSet(&opt), args)
	if err != nil {
		return err
	}
	if names = append(opt.dumps, names...); len(names) != 1 {
		return fmt.Errorf("%w: gokd symbols takes one dump", errUsage)
	}
	t, err := p.Open(ctx, names[0], opt.paths)
	if err != nil {
		return err
	}
	defer t.Close()
	out := bufio.NewWriter(p.Stdout)
	var sink report.Sink = report.NewPrinter(out, opt.era, false)
	if opt.json {
		j := report.NewJSON(out)
		j.Begin("symbols", "")
		sink = j
	}
	for _, m := range t.Kernel.Modules.All {
		for _, n := range neededBy(m) {
			if err := sink.Emit(n); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

// neededBy lists the files of a module whose identity is known.
func neededBy(m *model.Module) (list []*needed) {
	id := m.ID()
	if !id.Zero() {
		pdb, guid := fileName(id.PDB), id.GUID.String()
		list = append(list, &needed{
			Module: m.Name, Kind: "pdb", Name: pdb, GUID: &guid, Age: &id.Age,
			Path: fmt.Sprintf("%s/%s%X/%s", pdb, guid, id.Age, pdb),
		})
	}
	if id.Timestamp != 0 && id.Size != 0 {
		image := fileName(m.Image)
		list = append(list, &needed{
			Module: m.Name, Kind: "image", Name: image, Timestamp: &id.Timestamp, Size: &id.Size,
			Path: fmt.Sprintf("%s/%08X%x/%s", image, id.Timestamp, id.Size, image),
		})
	}
	return list
}

func fileName(path string) string {
	return path[strings.LastIndexAny(path, `\/`)+1:]
}
