// Genlayout writes the files that package types embeds: the layouts of kernel
// structures, one file per family of x64 kernels, and the addresses of kernel
// globals by image GUID.
//
// Its input is public:
//
//	git clone https://github.com/JPCERTCC/Windows-Symbol-Tables T
//	git clone https://github.com/volatilityfoundation/volatility V
//	go run ./model/types/internal/genlayout -tables T -vtypes V -out model/types
//
// The first gives a symbol table for each of 213 kernels and, in its README,
// their file versions (BSD-3-Clause, see model/types/LICENSE.tables). The second
// gives structure layouts of a Windows 7 SP1 kernel from before its layout
// changed, in volatility/plugins/overlays/windows/win7_sp1_x64_vtypes.py; only
// the facts (names, offsets, sizes) are taken.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	tables := flag.String("tables", "", "checkout of JPCERTCC/Windows-Symbol-Tables")
	vtypes := flag.String("vtypes", "", "checkout of volatilityfoundation/volatility")
	out := flag.String("out", "model/types", "folder of package types")
	flag.Parse()
	if err := run(*tables, *vtypes, *out); err != nil {
		fmt.Fprintln(os.Stderr, "genlayout:", err)
		os.Exit(1)
	}
}

func run(tables, vtypes, out string) error {
	kernels, err := readKernels(tables)
	if err != nil {
		return err
	}
	var rows []globalsRow
	var late *flat // the later Windows 7 layout, which completes the earlier one
	for _, fam := range families {
		l, famRows, err := fam.generate(kernels)
		if err != nil {
			return fmt.Errorf("family %s: %w", fam.name, err)
		}
		if fam.name == lateFamily {
			late = l.flat
		}
		if err := l.write(filepath.Join(out, "layouts")); err != nil {
			return err
		}
		rows = append(rows, famRows...)
	}
	early, err := earlySeven(vtypes, late)
	if err != nil {
		return fmt.Errorf("family %s: %w", earlyFamily, err)
	}
	if err := early.write(filepath.Join(out, "layouts")); err != nil {
		return err
	}
	return writeGlobals(filepath.Join(out, "globals.txt"), rows)
}
