package sympath

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/model/types"
)

// Images is a path of folders with image files, for code and unwind data
// that a dump lacks.
//
// An image is looked for in each folder, in order: plainly by its name, then as
// symbol stores keep it, NAME/TIMESTAMPSIZE/NAME with eight upper-case digits
// of the header's TimeDateStamp and SizeOfImage in lower case without padding,
// then below the first two letters of the name, as stores with an index2.txt do
// (the layout is public in Microsoft's symstore documentation).
type Images struct {
	dirs    []string
	notes   []string
	folders folders
}

// NewImages reads an image path: parts separated by semicolons.
func NewImages(spec string) *Images {
	p := new(Images)
	p.dirs, p.notes = parsePath(spec)
	return p
}

// Folders gives the folders that are searched, in order.
func (p *Images) Folders() []string { return slices.Clone(p.dirs) }

// Notes tells which parts of the path are not used, and why.
func (p *Images) Notes() []string { return slices.Clone(p.notes) }

// Find opens the image file with that name whose header has the identity's
// Timestamp and Size; the caller closes it. A *types.NotFoundError where there is
// none. A file of another build is passed over.
func (p *Images) Find(ctx context.Context, id types.ImageID) (*types.ImageFile, error) {
	name, err := types.CleanName(id.Name)
	if err != nil {
		return nil, fmt.Errorf("image file: %w", err)
	}
	var broken []error
	for _, dir := range p.dirs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, file := range p.candidates(dir, name, id) {
			image, err := types.OpenImageFile(file)
			if err != nil {
				broken = append(broken, err)
				continue
			}
			if image.Image.Timestamp == id.Timestamp && image.Image.Size == id.Size {
				return image, nil
			}
			broken = append(broken, fmt.Errorf("image file %s: timestamp %#x, size %#x; want %#x, %#x",
				file, image.Image.Timestamp, image.Image.Size, id.Timestamp, id.Size), image.Close())
		}
	}
	missing := &types.NotFoundError{What: "image file", Name: name, In: "image path " + strings.Join(p.dirs, ";")}
	return nil, errors.Join(append([]error{missing}, broken...)...)
}

func (p *Images) candidates(dir, name string, id types.ImageID) []string {
	key := fmt.Sprintf("%08X%x", id.Timestamp, id.Size)
	ways := [][]string{{name}, {name, key, name}}
	if len(name) >= 2 {
		ways = append(ways, []string{name[:2], name, key, name})
	}
	var found []string
	for _, way := range ways {
		// A folder of the image's name is the store's, not the file.
		if file, ok := p.folders.find(dir, way...); ok && isFile(file) {
			found = append(found, file)
		}
	}
	return found
}
