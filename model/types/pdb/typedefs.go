package pdb

import (
	"iter"
	"maps"
	"slices"
)

// Typedefs gives the names that typedefs gave to types, sorted. Type finds them;
// TypeNames does not list them.
func (f *File) Typedefs() iter.Seq[string] {
	f.typedef("") // reads them
	f.mu.Lock()
	names := slices.Sorted(maps.Keys(f.typedefs))
	f.mu.Unlock()
	return slices.Values(names)
}
