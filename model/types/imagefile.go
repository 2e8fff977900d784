package types

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// ImageFile is a PE file that reads as if it were loaded: each section at its
// address, zeros where it has more memory than data.
type ImageFile struct {
	Image *Image
	Path  string // empty for NewImageFile

	r     io.ReaderAt
	size  int64
	parts []filePart // sorted by rva, none empty
	close func() error
}

// filePart is a piece of the image that comes from the file.
type filePart struct {
	rva, size uint32 // in memory
	offset    int64
}

// OpenImageFile opens a PE file.
func OpenImageFile(path string) (*ImageFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: not a regular file", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	image, err := NewImageFile(f, info.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("image file %s: %w", path, err), f.Close())
	}
	image.Path, image.close = path, f.Close
	return image, nil
}

// NewImageFile reads a PE file of size bytes from r.
func NewImageFile(r io.ReaderAt, size int64) (*ImageFile, error) {
	f := &ImageFile{r: r, size: size}
	// The headers lie at the same offsets in the file and in memory, whatever
	// their size, so they can be read before any section is known.
	f.parts = []filePart{{size: uint32(min(size, maxNTHeader+pageSize))}}
	im, err := parseHeaders(newPages(f))
	if err != nil {
		return nil, fmt.Errorf("image headers: %w", err)
	}
	f.Image = im
	f.layOut()
	if err := im.parseDebug(newPages(f)); err != nil {
		im.Warnings = append(im.Warnings, fmt.Errorf("debug directory: %w", err))
	}
	return f, nil
}

// layOut notes which bytes of the file back which part of the image.
func (f *ImageFile) layOut() {
	f.parts = f.parts[:0]
	add := func(rva, size uint32, offset int64) {
		if rva >= f.Image.Size || offset >= f.size {
			return
		}
		have := min(uint64(size), uint64(f.Image.Size-rva), uint64(f.size-offset))
		if have > 0 {
			f.parts = append(f.parts, filePart{rva: rva, size: uint32(have), offset: offset})
		}
	}
	add(0, f.Image.HeaderSize, 0)
	for _, s := range f.Image.Sections {
		size := s.RawSize
		if s.VirtualSize != 0 {
			size = min(size, s.VirtualSize)
		}
		// The loader rounds the place in the file down to a disk sector.
		add(s.RVA, size, int64(s.RawOffset&^0x1ff))
	}
	slices.SortStableFunc(f.parts, func(a, b filePart) int { return cmp.Compare(a.rva, b.rva) })
}

// ReadRVA implements RVAReader. Reading past the end of the image is io.EOF.
func (f *ImageFile) ReadRVA(p []byte, rva uint32) (int, error) {
	end := uint64(maxNTHeader + pageSize) // while the headers are being read
	if f.Image != nil {
		end = uint64(f.Image.Size)
	}
	want := p
	if uint64(rva) >= end {
		return 0, io.EOF
	}
	p = p[:min(uint64(len(p)), end-uint64(rva))]
	clear(p)
	for _, part := range f.parts {
		low := max(uint64(part.rva), uint64(rva))
		high := min(uint64(part.rva)+uint64(part.size), uint64(rva)+uint64(len(p)))
		if low >= high {
			continue
		}
		into := p[low-uint64(rva) : high-uint64(rva)]
		n, err := f.r.ReadAt(into, part.offset+int64(low-uint64(part.rva)))
		if n < len(into) {
			return int(low-uint64(rva)) + n, fmt.Errorf("image at RVA %#x: %w", low+uint64(n), cmp.Or(err, io.ErrUnexpectedEOF))
		}
	}
	if len(p) < len(want) {
		return len(p), io.EOF
	}
	return len(p), nil
}

// Close closes what OpenImageFile opened.
func (f *ImageFile) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

var _ RVAReader = (*ImageFile)(nil)
