package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// layout is one embedded file; package types reads it in embed.go.
type layout struct {
	flat *flat

	Family      string            `json:"family"`
	Build       int               `json:"build"`
	FileVersion string            `json:"file_version"`
	ID          string            `json:"id,omitempty"`
	PDB         string            `json:"pdb"`
	Origin      string            `json:"origin"`
	Evidence    string            `json:"evidence"`
	ByHand      map[string]string `json:"by_hand,omitempty"`
	Tables      []string          `json:"tables,omitempty"`
	Variants    []*variant        `json:"variants,omitempty"`
}

// variant is how a type differs in some tables of the family.
type variant struct {
	Type    string   `json:"type"`
	Tables  []int    `json:"tables"`
	Changes []string `json:"changes"`
}

func newLayout(fam family, k kernel, f *flat) *layout {
	return &layout{
		flat: f, Family: fam.name, Build: k.build, FileVersion: k.version, ID: k.id, PDB: "ntkrnlmp.pdb",
		Origin:   "JPCERTCC/Windows-Symbol-Tables (BSD-3-Clause), symbols/windows/ntkrnlmp.pdb/" + k.id + ".json.xz",
		Evidence: "read from the symbol table of that image; variants from the tables of the family's other images",
		ByHand:   map[string]string{},
	}
}

// addTable notes what is different in another table of the family.
func (l *layout) addTable(k kernel, f *flat) {
	n := len(l.Tables)
	l.Tables = append(l.Tables, k.id+" "+k.version)
	diff := func(base, other map[string][]string, changes func(base, other []string) []string) {
		names := slices.Sorted(maps.Keys(base))
		for name := range other {
			if base[name] == nil {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			if !slices.Equal(base[name], other[name]) {
				l.addVariant(name, n, changes(base[name], other[name]))
			}
		}
	}
	diff(l.flat.types, f.types, typeChanges)
	diff(l.flat.enums, f.enums, func(_, other []string) []string { return append([]string{"enum"}, other...) })
}

func (l *layout) addVariant(name string, table int, changes []string) {
	for _, v := range l.Variants {
		if v.Type == name && slices.Equal(v.Changes, changes) {
			v.Tables = append(v.Tables, table)
			return
		}
	}
	l.Variants = append(l.Variants, &variant{Type: name, Tables: []int{table}, Changes: changes})
}

// typeChanges says how to make other of base: "gone", or kind and size where
// they differ, "-name" for each field to remove, then the fields to add.
func typeChanges(base, other []string) []string {
	if other == nil {
		return []string{"gone"}
	}
	var header []string
	if base == nil || base[0] != other[0] {
		header = other[:1]
	}
	var gone, added []string
	for _, line := range base[min(1, len(base)):] {
		if !slices.Contains(other, line) {
			gone = append(gone, "-"+strings.Fields(line)[1])
		}
	}
	for _, line := range other[1:] {
		if !slices.Contains(base, line) {
			added = append(added, line)
		}
	}
	return slices.Concat(header, gone, added)
}

// write writes the file with one type per line, so that a change of a layout is
// a change of a line.
func (l *layout) write(dir string) error {
	slices.SortFunc(l.Variants, func(a, b *variant) int {
		if a.Type != b.Type {
			return strings.Compare(a.Type, b.Type)
		}
		return slices.Compare(a.Tables, b.Tables)
	})
	var out bytes.Buffer
	out.WriteString("{\n")
	for _, m := range []struct {
		key   string
		value any
	}{
		{"family", l.Family}, {"build", l.Build}, {"file_version", l.FileVersion}, {"id", l.ID}, {"pdb", l.PDB},
		{"origin", l.Origin}, {"evidence", l.Evidence},
	} {
		fmt.Fprintf(&out, "%q: %s,\n", m.key, compact(m.value))
	}
	writeMap(&out, "by_hand", l.ByHand)
	writeList(&out, "tables", l.Tables)
	writeMap(&out, "types", l.flat.types)
	writeMap(&out, "enums", l.flat.enums)
	writeList(&out, "variants", l.Variants)
	text := strings.TrimSuffix(out.String(), ",\n") + "\n}\n"
	if !json.Valid([]byte(text)) {
		return fmt.Errorf("layout %s: no valid JSON", l.Family)
	}
	return os.WriteFile(filepath.Join(dir, l.Family+".json"), []byte(text), 0o644)
}

func writeMap[V any](out *bytes.Buffer, key string, m map[string]V) {
	fmt.Fprintf(out, "%q: {", key)
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(out, "\n%s: %s", strconv.Quote(name), compact(m[name]))
	}
	out.WriteString("\n},\n")
}

func writeList[V any](out *bytes.Buffer, key string, list []V) {
	fmt.Fprintf(out, "%q: [", key)
	for i, v := range list {
		if i > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(out, "\n%s", compact(v))
	}
	out.WriteString("\n],\n")
}

func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // strings and numbers always encode
	}
	return strings.TrimSpace(b.String())
}
