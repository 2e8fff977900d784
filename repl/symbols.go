package repl

import (
	"context"
	"fmt"
	"strings"
)

// listSymbols is "gokd symbols DUMP": what the dump needs, to be fetched
// elsewhere. Each line is a file with its identity and its path on a symbol
// server (the layout of such paths is documented with Microsoft's symstore).
func listSymbols(ctx context.Context, p Program, args []string) error {
	opt := options{}
	names, err := parseArgs(flagSet(&opt), args)
	if err != nil {
		return err
	}
	names = append(opt.dumps, names...)
	if len(names) != 1 {
		return fmt.Errorf("%w: gokd symbols takes one dump", errUsage)
	}
	t, err := p.Open(ctx, names[0], opt.paths)
	if err != nil {
		return err
	}
	defer t.Close()
	for _, m := range t.Kernel.Modules.All {
		id := m.ID()
		if !id.Zero() {
			pdb := fileName(id.PDB)
			fmt.Fprintf(p.Stdout, "%-12s %s %-2d %s/%s%X/%s\n", m.Name, id.GUID, id.Age, pdb, id.GUID, id.Age, pdb)
		}
		if id.Timestamp != 0 && id.Size != 0 {
			fmt.Fprintf(p.Stdout, "%-12s %08X %x %s/%08X%x/%s\n", m.Name, id.Timestamp, id.Size, m.Image, id.Timestamp, id.Size, m.Image)
		}
	}
	return nil
}

func fileName(path string) string {
	return path[strings.LastIndexAny(path, `\/`)+1:]
}
