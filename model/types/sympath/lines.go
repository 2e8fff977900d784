package sympath

import (
	"sync"

	"gokd/model/types/index"
	"gokd/model/types/pdb"
)

// indexedPDB is the table that an earlier run kept of a PDB. The index holds
// names and types; source lines are read from the file itself, which is opened
// when the first one is asked for.
type indexedPDB struct {
	*index.Table
	path string

	once   sync.Once
	mu     sync.Mutex // protects the fields below
	file   *pdb.File  // nil where it can't be opened any more
	closed bool
}

// SourceLine gives the source file and line of the code at an RVA, and the
// distance in bytes from where the line's code begins. It finds nothing where
// the PDB has gone since, or is not the one that was indexed.
func (x *indexedPDB) SourceLine(rva uint32) (file string, line, delta uint32, ok bool) {
	x.once.Do(x.open)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file == nil {
		return "", 0, 0, false
	}
	return x.file.SourceLine(rva)
}

func (x *indexedPDB) open() {
	f, err := pdb.Open(x.path)
	if err != nil {
		return
	}
	k := x.Key()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed || f.GUID() != k.GUID || f.Age() != k.Age {
		_ = f.Close() // only read from
		return
	}
	x.file = f
}

// close closes the file, if it was opened.
func (x *indexedPDB) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.file
	x.file, x.closed = nil, true
	if f == nil {
		return nil
	}
	return f.Close()
}
