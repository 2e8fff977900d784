package pool

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/pool"
)

var poolindex = &cmd.Command{
	Name: ".poolindex", Group: cmd.GroupPool,
	Summary: "show or keep the indexes of the pools",
	Args: []cmd.Arg{
		{Name: "what", Kind: cmd.KindWord, Optional: true, Doc: "on, off, save, load, or clear"},
	},
	Needs: cmd.NeedKernel,
	Help: `The first search of a pool reads all of it and leaves an index: which block lies
where, with its tag and size, 16 bytes each. Later searches are answered from it.
.poolindex shows which pools have one.

An index is kept while the dump is open, and nowhere else unless asked for:
  on     from now on write indexes to a folder of the user's cache folder (or
         $GOKD_CACHE) after a search, and read them there before the next
  off    no more of that, which is how each session starts
  save   write what there is now
  load   read what an earlier session wrote for this dump
  clear  forget the indexes and remove all files of the folder
Nothing is ever written beside the dump. A file is of one dump and one pool: it
names the dump's identity and is checked when it is read, and each block again
when it is shown; a file that does not pass is set aside and the pool is read
anew.`,
	Example: ".poolindex\n.poolindex off",
	SeeAlso: []string{"!poolfind", "!poolused", ".symcache"},
	Run:     runPoolindex,
}

// cellBytes is what an index keeps of one block.
const cellBytes = 16

// indexedKinds are the pools that an index is kept of.
var indexedKinds = []pool.Kind{pool.Nonpaged, pool.Paged, pool.Session}

// indexState is what .poolindex keeps for the session.
type indexState struct {
	on    bool
	saved map[*pool.Index]bool // that are in a file, as they are
	tried map[pool.Kind]bool   // whose file was asked for, of this target
}

// indexRecord is the index of one pool.
type indexRecord struct {
	Pool    string `json:"pool"`
	Held    bool   `json:"held"`
	Blocks  int    `json:"blocks"`
	Bytes   int    `json:"bytes"` // of memory
	Loaded  bool   `json:"loaded"`
	Partial bool   `json:"partial"` // the dump lacks parts of the pool
	kind    pool.Kind
}

// Type names the record.
func (*indexRecord) Type() string { return "pool_index" }

// WriteText writes a line.
func (r *indexRecord) WriteText(p *report.Printer) {
	switch {
	case !r.Held:
		p.Printf("  %-9s none; a search makes it\n", kdPools[r.kind]+":")
		return
	case r.Loaded:
		p.Printf("  %-9s %d blocks, %d KB, read from a file", kdPools[r.kind]+":", r.Blocks, kilobytes(int64(r.Bytes)))
	default:
		p.Printf("  %-9s %d blocks, %d KB", kdPools[r.kind]+":", r.Blocks, kilobytes(int64(r.Bytes)))
	}
	if r.Partial {
		p.Printf("; parts of the pool are not in the dump or damaged")
	}
	p.Printf("\n")
}

// kilobytes rounds up.
func kilobytes(n int64) int64 { return (n + 1023) / 1024 }

// folderRecord is the folder of files, and what was done.
type folderRecord struct {
	On      bool     `json:"on"`
	Folder  *string  `json:"folder"` // null where there is none
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
	Saved   []string `json:"saved"`  // pools
	Loaded  []string `json:"loaded"` // pools
	Cleared *int     `json:"cleared"`
}

// Type names the record.
func (*folderRecord) Type() string { return "pool_index_folder" }

// WriteText writes what was done and how the folder stands.
func (r *folderRecord) WriteText(p *report.Printer) {
	if len(r.Saved) > 0 {
		p.Printf("Written: %s pool\n", strings.Join(r.Saved, ", "))
	}
	if len(r.Loaded) > 0 {
		p.Printf("Read: %s pool\n", strings.Join(r.Loaded, ", "))
	}
	if r.Cleared != nil {
		p.Printf("Forgotten; %s removed\n", many(uint64(*r.Cleared), "file"))
	}
	switch {
	case r.Folder == nil:
		p.Printf("Files: none can be kept, there is no cache folder\n")
	case r.On:
		p.Printf("Files: kept in %s, %s of %d KB\n", *r.Folder, many(uint64(r.Files), "file"), kilobytes(r.Bytes))
	default:
		p.Printf("Files: off; .poolindex on keeps them in %s, %s of %d KB are there\n", *r.Folder, many(uint64(r.Files), "file"), kilobytes(r.Bytes))
	}
}

func runPoolindex(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	what := strings.ToLower(in.Text("what"))
	st, err := open(s)
	if err != nil {
		return err
	}
	files := st.indexFolder(s)
	r := &folderRecord{Saved: []string{}, Loaded: []string{}}
	switch what {
	case "":
	case "on":
		if files.dir == "" {
			return errNoFolder
		}
		if _, _, err := st.codec(); err != nil {
			return err
		}
		st.indexes.on = true
		r.Loaded, err = st.loadIndexes(ctx, files)
		if err == nil {
			r.Saved, err = st.saveIndexes(ctx, files)
		}
	case "off":
		st.indexes.on = false
	case "save":
		if st.held() == 0 {
			return errors.New("no index is held: a search, such as !poolfind, makes one")
		}
		r.Saved, err = st.saveIndexes(ctx, files)
	case "load":
		if files.dir == "" {
			return errNoFolder
		}
		st.indexes.tried = nil
		if r.Loaded, err = st.loadIndexes(ctx, files); err == nil && len(r.Loaded) == 0 {
			err = fmt.Errorf("no index to load: %s has none of this dump for a pool that was not read yet", files.dir)
		}
	case "clear":
		var n int
		n, err = files.clear()
		r.Cleared = &n
		for _, kind := range indexedKinds {
			st.pool.Drop(kind)
		}
		st.indexes.saved, st.indexes.tried = nil, nil
	default:
		return cmd.Misuse(fmt.Errorf("%q: want on, off, save, load or clear", in.Text("what")))
	}
	if err != nil {
		return err
	}
	return st.showIndexes(r, files, out)
}

// showIndexes shows what is held, and the folder.
func (st *state) showIndexes(r *folderRecord, files indexFiles, out report.Sink) error {
	if err := out.Emit(report.Text("Indexes of the pools:\n")); err != nil {
		return err
	}
	for _, kind := range indexedKinds {
		rec := &indexRecord{Pool: kind.String(), kind: kind}
		if x := st.pool.Kept(kind); x != nil {
			sum := x.Summary()
			rec.Held, rec.Blocks, rec.Bytes, rec.Loaded = true, x.Len(), x.Len()*cellBytes, x.Loaded()
			rec.Partial = sum.Skipped() > 0 || !sum.Coverage.Complete()
		}
		if err := out.Emit(rec); err != nil {
			return err
		}
	}
	r.On = st.indexes.on
	if files.dir != "" {
		r.Folder = &files.dir
	}
	for _, f := range files.list() {
		r.Files++
		r.Bytes += f.size
	}
	return out.Emit(r)
}

// held is how many pools have an index.
func (st *state) held() (n int) {
	for _, kind := range indexedKinds {
		if st.pool.Kept(kind) != nil {
			n++
		}
	}
	return n
}

// indexFolder is the folder of the session's program.
func (st *state) indexFolder(s *cmd.Session) indexFiles {
	if s.CacheDir == "" {
		return indexFiles{}
	}
	return indexFiles{filepath.Join(s.CacheDir, "pool-index")}
}

// beforeSearch reads the indexes that the folder has, where the user wants that.
// What can't be used is told and is no failure: the pool is read.
func (st *state) beforeSearch(ctx context.Context, s *cmd.Session, out report.Sink) error {
	if !st.indexes.on {
		return nil
	}
	if _, err := st.loadIndexes(ctx, st.indexFolder(s)); err != nil && ctx.Err() == nil {
		return out.Emit(report.Notef("%v", err))
	}
	return nil
}

// afterSearch writes the indexes that a search left, where the user wants that.
func (st *state) afterSearch(ctx context.Context, s *cmd.Session, out report.Sink) error {
	if !st.indexes.on || ctx.Err() != nil {
		return nil
	}
	if _, err := st.saveIndexes(ctx, st.indexFolder(s)); err != nil && ctx.Err() == nil {
		return out.Emit(report.Notef("The index could not be written: %v", err))
	}
	return nil
}

// indexCodec is what turns an index into a file and back; the pools offer it
// where they know how to tell dumps apart.
type indexCodec interface {
	Identity() [32]byte
	LoadIndex(kind pool.Kind, r io.ReaderAt, size int64) (*pool.Index, error)
}

// errNoFiles says that an index can't be kept in a file.
var errNoFiles = errors.New("indexes can't be kept in files here: they serve this session alone")

// codec gives the pools' codec and the dump's identity, for the names of files.
func (st *state) codec() (c indexCodec, id string, err error) {
	c, ok := any(st.pool).(indexCodec)
	if !ok {
		return nil, "", errNoFiles
	}
	sum := c.Identity()
	return c, hex.EncodeToString(sum[:16]), nil
}

// loadIndexes reads the files of this dump for pools that have no index yet, each
// once. It gives the pools that were read.
func (st *state) loadIndexes(ctx context.Context, files indexFiles) (loaded []string, err error) {
	loaded = []string{}
	c, id, err := st.codec()
	if err != nil {
		return loaded, err
	}
	for _, kind := range indexedKinds {
		if ctx.Err() != nil {
			return loaded, ctx.Err()
		}
		if st.indexes.tried[kind] || st.pool.Kept(kind) != nil {
			continue
		}
		if st.indexes.tried == nil {
			st.indexes.tried = map[pool.Kind]bool{}
		}
		st.indexes.tried[kind] = true
		missing, lerr := files.load(id, kind, func(r io.ReaderAt, size int64) error {
			x, err := c.LoadIndex(kind, r, size)
			if err == nil {
				st.remember(x)
			}
			return err
		})
		switch {
		case lerr != nil:
			err = errors.Join(err, lerr)
		case !missing:
			loaded = append(loaded, kind.String())
		}
	}
	return loaded, err
}

// saveIndexes writes the indexes that are in no file yet. It gives the pools
// that were written.
func (st *state) saveIndexes(ctx context.Context, files indexFiles) (saved []string, err error) {
	saved = []string{}
	_, id, err := st.codec()
	if err != nil {
		return saved, err
	}
	for _, kind := range indexedKinds {
		x := st.pool.Kept(kind)
		if x == nil || st.indexes.saved[x] {
			continue
		}
		_, werr := files.save(id, kind, func(w io.Writer) error {
			to, ok := any(x).(io.WriterTo)
			if !ok {
				return errNoFiles
			}
			_, err := to.WriteTo(interruptible{ctx, w})
			return err
		})
		if werr != nil {
			err = errors.Join(err, werr)
			continue
		}
		st.remember(x)
		saved = append(saved, kind.String())
	}
	return saved, err
}

// remember notes that an index is in a file.
func (st *state) remember(x *pool.Index) {
	if st.indexes.saved == nil {
		st.indexes.saved = map[*pool.Index]bool{}
	}
	st.indexes.saved[x] = true
}

// interruptible is a writer that ends with a context.
type interruptible struct {
	ctx context.Context
	w   io.Writer
}

// Write fails once the context is cancelled.
func (w interruptible) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(b)
}
