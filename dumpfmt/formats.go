package dumpfmt

import "gokd/model/mem"

// SniffLen is how many bytes of a file a Format's Sniff gets to see.
const SniffLen = 512

// Formats lists the containers that can be read, most specific first. A new
// format is a file of its own and a line here.
var Formats = []*Format{
	crash64,
}

// Open finds out what a file of the given size is and reads its header. The
// file must stay readable as long as the dump is used; Open does not close it.
//
// Errors: *UnsupportedError for a file that is something else, *FormatError for
// a broken dump (both of class ErrFormat), or an error of the file itself.
func Open(f File, size int64) (*Dump, error) {
	if size <= 0 {
		return nil, &UnsupportedError{Is: "an empty file", Next: "copy the dump again; nothing was written"}
	}
	head := make([]byte, min(SniffLen, size))
	if err := readFull(f, head, 0); err != nil {
		return nil, &FormatError{What: "start of the file", Err: err}
	}
	for _, format := range Formats {
		if !format.Sniff(head) {
			continue
		}
		d, err := format.Open(f, size)
		if err != nil {
			return nil, named(err, format.Name)
		}
		return d, nil
	}
	return nil, refuse(head, size)
}

// named adds the format's name to an error of the package.
func named(err error, name string) error {
	if e, ok := err.(*FormatError); ok && e.Format == "" {
		e.Format = name
	}
	return err
}

var _ mem.Virtual = (*Blocks)(nil)
