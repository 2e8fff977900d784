package types

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed layouts/*.json
var layoutFiles embed.FS

// layoutFile is an embedded layout as internal/genlayout writes it. A type is a
// list of strings: first "struct SIZE" or "union SIZE", then one string per
// field, "OFFSET[:BIT+BITS] NAME TYPE"; a type is "*" pointer to, "[n]" array
// of, or a name. An enumeration is its size, then "VALUE NAME".
type layoutFile struct {
	Family      string              `json:"family"`
	Build       uint32              `json:"build"`
	FileVersion string              `json:"file_version"`
	ID          string              `json:"id"` // GUID-age of the image, empty where not recorded
	PDB         string              `json:"pdb"`
	Origin      string              `json:"origin"`
	Evidence    string              `json:"evidence"`
	ByHand      map[string]string   `json:"by_hand"` // evidence for types that are not of the origin
	Tables      []string            `json:"tables"`  // "GUID-age version" of every image of the family
	Types       map[string][]string `json:"types"`
	Enums       map[string][]string `json:"enums"`
	Variants    []layoutVariant     `json:"variants"`
}

// layoutVariant is how one type differs in some images of the family: "gone";
// or "enum" and all lines; or kind and size where they change, "-name" per
// field that goes, and the fields that come.
type layoutVariant struct {
	Type    string   `json:"type"`
	Tables  []int    `json:"tables"` // indices into layoutFile.Tables
	Changes []string `json:"changes"`
}

// Layout is an embedded set of structure layouts. It implements Store.
type Layout struct {
	family *family
	row    *kernelRow // of the image it is exact for, nil for the family's view
	match  Match
	types  func() (*builder, error)
}

// family is one embedded file; it is read when one of its types is asked for.
type family struct {
	name  string // of the file, without its ending
	build uint32
	file  func() (*layoutFile, error)
	view  func() (*builder, error)
}

// families lists the embedded layouts by build; the early Windows 7 one first,
// because its kernels were in use for eight years and the later for three.
var families = sync.OnceValue(func() []*family {
	entries, err := fs.ReadDir(layoutFiles, "layouts")
	if err != nil {
		return nil
	}
	var list []*family
	for _, e := range entries {
		f := &family{name: strings.TrimSuffix(e.Name(), ".json")}
		number, _, _ := strings.Cut(f.name, "-")
		build, err := strconv.ParseUint(number, 10, 32)
		if err != nil {
			continue // a test holds the file names to this form
		}
		f.build = uint32(build)
		f.file = sync.OnceValues(f.read)
		f.view = sync.OnceValues(func() (*builder, error) { return f.decode(-1) })
		list = append(list, f)
	}
	slices.SortStableFunc(list, func(a, b *family) int { return int(a.build) - int(b.build) })
	return list
})

func (f *family) read() (*layoutFile, error) {
	text, err := layoutFiles.ReadFile("layouts/" + f.name + ".json")
	if err != nil {
		return nil, err
	}
	file := new(layoutFile)
	if err := json.Unmarshal(text, file); err != nil {
		return nil, fmt.Errorf("embedded layout %s: %w", f.name, err)
	}
	return file, nil
}

// Embedded gives the layouts to try for a kernel of that build whose GUID is
// not known here, best first: those of the build's family, or else the nearest
// older and the nearest newer one. They match as MatchNearest at best; whoever
// uses one must prove it against the target first. Fields that lie elsewhere
// in some known update of the family are left out.
//
// Windows 10 19042 to 19045 are 19041, 18363 is 18362: their kernels differ in
// name only, and the nearest older family is theirs.
func Embedded(build uint32) []*Layout {
	var same, older, newer []*Layout
	for _, f := range families() {
		l := &Layout{family: f, match: MatchNearest, types: f.view}
		switch {
		case f.build == build:
			same = append(same, l)
		case f.build < build:
			if len(older) > 0 && older[0].family.build != f.build {
				older = nil
			}
			older = append(older, l)
		case len(newer) == 0 || newer[0].family.build == f.build:
			newer = append(newer, l)
		}
	}
	if len(older) > 1 {
		slices.Reverse(older) // the later update is the nearer one
	}
	if len(same) > 0 {
		return same
	}
	return slices.Concat(older, newer)
}

// EmbeddedByGUID gives the layout and the globals of one of the kernels whose
// public symbol tables went into the embedded files.
func EmbeddedByGUID(g GUID, age uint32) (*Layout, *Globals, bool) {
	row, ok := kernelByGUID(g, age)
	if !ok {
		return nil, nil, false
	}
	for _, f := range families() {
		if f.name != row.family {
			continue
		}
		l := &Layout{family: f, row: row, match: MatchExact}
		l.types = sync.OnceValues(func() (*builder, error) {
			file, err := f.file()
			if err != nil {
				return nil, err
			}
			return f.decode(slices.Index(file.Tables, row.id+" "+row.version))
		})
		return l, newGlobals(row), true
	}
	return nil, nil, false
}

// Layouts gives every embedded layout, oldest first, as Embedded would.
func Layouts() []*Layout {
	var all []*Layout
	for _, f := range families() {
		all = append(all, &Layout{family: f, match: MatchNearest, types: f.view})
	}
	return all
}

// As gives the same layout with another match, for after it has proved itself
// or for tests.
func (l *Layout) As(match Match) *Layout {
	other := *l
	other.match = match
	return &other
}

// Type implements Store. An anonymous member's type has the path to it as its
// name, "_IRP.Tail.Overlay". What only pointers lead to may be incomplete: a
// name without size and fields.
func (l *Layout) Type(name string) (*Type, error) {
	b, err := l.types()
	if err != nil {
		return nil, err
	}
	if t, ok := b.lookup(name); ok {
		return t, nil
	}
	return nil, &NotFoundError{What: "type", Name: name, In: l.Origin().Source}
}

// TypeNames gives the names of all structures, unions and enumerations, sorted.
func (l *Layout) TypeNames() []string {
	b, err := l.types()
	if err != nil {
		return nil
	}
	return b.names()
}

// Origin implements Store.
func (l *Layout) Origin() Origin {
	o := Origin{Build: l.family.build, Match: l.match}
	if l.row != nil {
		o.Build = l.row.build
	}
	o.Source = fmt.Sprintf("embedded layout %s (%s)", l.family.name, l.FileVersion())
	return o
}

// Family names the embedded file: a build, with "-early" or "-late" for the two
// layouts of Windows 7 SP1.
func (l *Layout) Family() string { return l.family.name }

// FileVersion gives the version of the kernel image the layout is of.
func (l *Layout) FileVersion() string {
	if l.row != nil {
		return l.row.version
	}
	if file, err := l.family.file(); err == nil {
		return file.FileVersion
	}
	return ""
}

// ID gives GUID and age of the image the layout is of; false where no source
// records them.
func (l *Layout) ID() (GUID, uint32, bool) {
	id := ""
	if l.row != nil {
		id = l.row.id
	} else if file, err := l.family.file(); err == nil {
		id = file.ID
	}
	g, age, err := parseID(id)
	return g, age, err == nil
}

// Evidence tells where the layout comes from, and for types that were added by
// hand what speaks for each.
func (l *Layout) Evidence() (origin, evidence string, byHand map[string]string) {
	file, err := l.family.file()
	if err != nil {
		return "", "", nil
	}
	return file.Origin, file.Evidence, maps.Clone(file.ByHand)
}

// AcceptSizes gives the sizes that a structure has in the known images of the
// layout's family, sorted: a debugger block that names any of them does not
// contradict the layout. Of an exact layout it is the one size.
func (l *Layout) AcceptSizes(name string) []uint32 {
	t, err := l.Type(name)
	if err != nil {
		return nil
	}
	sizes := []uint32{t.Size}
	file, err := l.family.file()
	if l.row != nil || err != nil {
		return sizes
	}
	for _, v := range file.Variants {
		if _, size, err := parseHeader(v.Changes[0]); v.Type == name && err == nil {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	return slices.Compact(sizes)
}

var (
	_ Store  = (*Layout)(nil)
	_ Lister = (*Layout)(nil)
)
