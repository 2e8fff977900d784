package model

import (
	"context"
	"errors"
	"io"

	"gokd/model/mem"
	"gokd/model/types"
)

// loadImages lets image files of the image path answer for headers, code and
// unwind data that the dump lacks. Only sections that can't be written are
// used: the file's initial data would pass for the machine's.
func (k *Kernel) loadImages(ctx context.Context) {
	if k.Source.Images == nil {
		return
	}
	for _, m := range k.Modules.All {
		if ctx.Err() != nil {
			return
		}
		stamp, ok := m.Timestamp()
		if !ok {
			continue
		}
		f, err := k.Source.Images.Find(ctx, types.ImageID{Name: m.Image, Timestamp: stamp, Size: uint32(m.Size)})
		if err != nil {
			var missing *types.NotFoundError
			if !errors.As(err, &missing) {
				k.warn("image file of %s: %v", m.Name, err)
			}
			continue
		}
		k.Space.AddOverlay(m.Base, m.Size, &imageFile{f, m.Base})
		m.forget()
	}
}

// forget drops what was learned of an image before its file was at hand.
func (m *Module) forget() {
	if m.imageErr != nil {
		m.image, m.imageErr = types.ParseImage(m.k.imageReader(m.Base))
	}
}

// imageFile is an image file as memory at the address it was loaded at.
type imageFile struct {
	f    *types.ImageFile
	base mem.VA
}

// ReadVirtual reads headers and read-only sections.
func (i *imageFile) ReadVirtual(p []byte, at mem.VA) (int, error) {
	rva := uint32(at - i.base)
	n := i.readOnly(rva, len(p))
	n, err := i.f.ReadRVA(p[:n], rva)
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if n < len(p) {
		return n, &mem.Fault{Kind: mem.NotCaptured, VA: at + mem.VA(n), Why: "not in the dump, nor in a read-only section of the image file"}
	}
	return n, nil
}

// sectionWritable is IMAGE_SCN_MEM_WRITE.
const sectionWritable = 0x80000000

// readOnly tells how many of n bytes from an RVA on lie in the headers or in
// sections that can't be written.
func (i *imageFile) readOnly(rva uint32, n int) int {
	end := uint64(rva) + uint64(n)
	for at := uint64(rva); at < end; {
		if at < uint64(i.f.Image.HeaderSize) {
			at = uint64(i.f.Image.HeaderSize)
			continue
		}
		s, ok := i.f.Image.SectionAt(uint32(at))
		if !ok || s.Characteristics&sectionWritable != 0 {
			return int(at - uint64(rva))
		}
		at = uint64(s.RVA) + uint64(max(s.VirtualSize, s.RawSize))
	}
	return n
}
