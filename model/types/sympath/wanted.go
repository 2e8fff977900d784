package sympath

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"gokd/model/types"
)

// wanted is a file to be found: the PDB or symbol table of an image by GUID and
// age, or the image by time stamp and size.
type wanted struct {
	image bool
	id    types.ImageID
	names []string // cleaned; the first is the one in stores
	keys  []string // folders of the file in stores; the first is what servers are asked for
	sub   string   // folder of such images in a tree of symbols: "sys"
}

// wantSymbols tells what the symbols of an image are called. The name of a PDB
// is that of the image's debug record, and the image's with that ending, for a
// record whose name can't be trusted: GUID and age in the file decide whether it
// is the right one. Each name loses its folders: a dump must not choose where
// files are looked for.
func wantSymbols(id types.ImageID) (*wanted, error) {
	if id.Zero() {
		return nil, fmt.Errorf("symbols of %s: no GUID to look for", clip(id.Name))
	}
	names, err := tableNames(id)
	if err != nil {
		return nil, err
	}
	w := &wanted{id: id, names: names, sub: subfolder(id.Name)}
	w.keys = []string{fmt.Sprintf("%s%X", id.GUID, id.Age)}
	return w, nil
}

// wantImage tells what an image file is called. Its folder in stores has eight
// upper-case digits of the header's TimeDateStamp and SizeOfImage in lower case
// without padding.
func wantImage(id types.ImageID) (*wanted, error) {
	name, err := types.CleanName(id.Name)
	if err != nil {
		return nil, fmt.Errorf("image file: %w", err)
	}
	return &wanted{
		image: true, id: id, names: []string{name}, sub: subfolder(name),
		keys: []string{fmt.Sprintf("%08X%x", id.Timestamp, id.Size)},
	}, nil
}

// subfolder gives the folder for images of a kind: "sys" for drivers.
func subfolder(image string) string {
	switch ext := strings.ToLower(filepath.Ext(image)); ext {
	case ".sys", ".exe", ".dll":
		return ext[1:]
	}
	return "sys"
}

// tableNames gives the names under which a symbol file may lie.
func tableNames(id types.ImageID) ([]string, error) {
	var names []string
	var refused error
	base := strings.TrimSuffix(id.Name, filepath.Ext(id.Name))
	for _, name := range []string{id.PDB, base + ".pdb"} {
		if name == "" || name == ".pdb" {
			continue
		}
		clean, err := types.CleanName(name)
		if err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		if !slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, clean) }) {
			names = append(names, clean)
		}
	}
	if len(names) == 0 && refused != nil {
		return nil, fmt.Errorf("symbols of %s: %w", clip(id.Name), refused)
	}
	return names, nil
}

// what names the file for messages.
func (w *wanted) what() string {
	switch {
	case w.image:
		return fmt.Sprintf("%s/%s", w.names[0], w.keys[0])
	case len(w.names) == 0:
		return fmt.Sprintf("%s-%d", w.id.GUID, w.id.Age)
	}
	return fmt.Sprintf("%s/%s-%d", w.names[0], w.id.GUID, w.id.Age)
}

// missing says that a path does not have the file.
func (w *wanted) missing(path string) error {
	if w.image {
		return &types.NotFoundError{What: "image file", Name: w.what(), In: "image path " + path}
	}
	return &types.NotFoundError{What: "symbol file", Name: w.what(), In: "symbol path " + path}
}

// packedName is a file's name when it is packed: ntkrnlmp.pd_.
func packedName(name string) string { return name[:len(name)-1] + "_" }

// ServerPath gives the place of a PDB on a symbol server, with slashes; empty
// where the name can't be one.
func ServerPath(id types.ImageID) string {
	w, err := wantSymbols(id)
	if err != nil || len(w.names) == 0 {
		return ""
	}
	return w.names[0] + "/" + w.keys[0] + "/" + w.names[0]
}

// ImageServerPath gives the place of an image on a symbol server, like
// ServerPath.
func ImageServerPath(id types.ImageID) string {
	w, err := wantImage(id)
	if err != nil {
		return ""
	}
	return w.names[0] + "/" + w.keys[0] + "/" + w.names[0]
}
