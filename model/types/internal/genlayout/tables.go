package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gokd/model/types"
)

// kernel is one symbol table of the public set.
type kernel struct {
	id      string // GUID-age as the file is named
	version string
	build   int
	update  int // last part of the version
	path    string
}

// family is a set of kernels that share their layouts but for small changes.
type family struct {
	name   string
	builds []int
	pick   string // version of the table the layout is taken from
}

const lateFamily = "7601-late"

// families lists the layouts and the builds they cover. 18326 is a preview of
// 18362 with two tables.
var families = []family{
	{lateFamily, []int{7601}, "6.1.7601.24540"},
	{"9600", []int{9600}, "6.3.9600.21620"},
	{"14393", []int{14393}, "10.0.14393.6343"},
	{"17763", []int{17763}, "10.0.17763.5933"},
	{"18362", []int{18326, 18362}, "10.0.18362.836"},
	{"19041", []int{19041}, "10.0.19041.3570"},
	{"20348", []int{20348}, "10.0.20348.2529"},
	{"22000", []int{22000}, "10.0.22000.2538"},
}

var readmeRow = regexp.MustCompile(`(?m)^\| +(\S+) +\| +([0-9A-Fa-f]{32})(\d+) +\|`)

// readKernels lists the tables of a checkout, in order of their versions.
func readKernels(dir string) ([]kernel, error) {
	readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, row := range readmeRow.FindAllStringSubmatch(string(readme), -1) {
		versions[strings.ToUpper(row[2])+"-"+row[3]] = row[1]
	}
	files, err := filepath.Glob(filepath.Join(dir, "symbols/windows/ntkrnlmp.pdb/*.json*"))
	if err != nil {
		return nil, err
	}
	var kernels []kernel
	for _, file := range files {
		id, _, _ := strings.Cut(filepath.Base(file), ".")
		k := kernel{id: id, version: versions[id], path: file}
		parts := strings.Split(k.version, ".")
		if len(parts) != 4 {
			return nil, fmt.Errorf("%s: no version in the README", file)
		}
		k.build, _ = strconv.Atoi(parts[2])
		k.update, _ = strconv.Atoi(parts[3])
		kernels = append(kernels, k)
	}
	slices.SortFunc(kernels, func(a, b kernel) int {
		return cmp.Or(cmp.Compare(a.build, b.build), cmp.Compare(a.update, b.update), cmp.Compare(a.id, b.id))
	})
	return kernels, nil
}

// generate makes the layout of a family and the globals of its kernels.
func (fam family) generate(kernels []kernel) (*layout, []globalsRow, error) {
	var members []kernel
	for _, k := range kernels {
		if slices.Contains(fam.builds, k.build) {
			members = append(members, k)
		}
	}
	pick := slices.IndexFunc(members, func(k kernel) bool { return k.version == fam.pick })
	if pick < 0 {
		return nil, nil, fmt.Errorf("no table of version %s", fam.pick)
	}
	flats := make([]*flat, len(members))
	var rows []globalsRow
	for i, k := range members {
		t, err := types.OpenISF(k.path)
		if err != nil {
			return nil, nil, err
		}
		if err := t.Err(); err != nil {
			return nil, nil, err
		}
		flats[i] = flatten(t, choose(t.TypeNames()))
		rows = append(rows, newGlobalsRow(k, fam.name, t))
	}
	l := newLayout(fam, members[pick], flats[pick])
	for i, k := range members {
		l.addTable(k, flats[i])
	}
	l.addByHand()
	return l, rows, nil
}
