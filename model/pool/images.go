package pool

import (
	"bytes"
	"context"
	"errors"

	"gokd/model"
	"gokd/model/mem"
)

// TagUser is a loaded image whose memory holds the four characters of a tag.
type TagUser struct {
	Module *model.Module
	At     mem.VA // of the first place
	Places int
}

// maxImage bounds how much of an image is searched, in bytes.
const maxImage = 64 << 20

// TagUsers searches the loaded images for the four bytes of a tag, as "s -a"
// over every module would: a driver names its tag as a constant in its code.
// Images in which they occur are likely, not certain, to be the ones that
// allocate with the tag. Pages that the dump lacks are skipped; missing counts
// them. The error is ctx's.
func TagUsers(ctx context.Context, k *model.Kernel, tag Tag) (users []TagUser, missing uint64, err error) {
	buf := make([]byte, 1<<16)
	for _, m := range k.Modules.All {
		u := TagUser{Module: m}
		size := min(m.Size, maxImage)
		for off := uint64(0); off < size; {
			if ctx.Err() != nil {
				return users, missing, ctx.Err()
			}
			at := m.Base + mem.VA(off)
			n, err := k.Space.ReadVirtual(buf[:min(uint64(len(buf)), size-off)], at)
			for i, from := 0, 0; ; from = i + 1 {
				j := bytes.Index(buf[from:n], tag[:])
				if j < 0 {
					break
				}
				i = from + j
				if u.Places == 0 {
					u.At = at + mem.VA(i)
				}
				u.Places++
			}
			var f *mem.Fault
			switch {
			case err == nil && uint64(n)+off >= size:
				off = size
			case err == nil:
				off += uint64(n) - uint64(len(tag)-1) // a tag may lie across two pieces
			case errors.As(err, &f):
				missing++
				off = uint64((at+mem.VA(n)).Page()+mem.PageSize) - uint64(m.Base)
			default:
				return users, missing, err
			}
		}
		if u.Places > 0 {
			users = append(users, u)
		}
	}
	return users, missing, nil
}
