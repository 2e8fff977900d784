package symload

import (
	"context"
	"strings"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/types/index"
)

// cacheRecord sums up the index cache.
type cacheRecord struct {
	Folder   *string `json:"folder"`
	Tables   int     `json:"tables"`
	Bytes    int64   `json:"bytes"`
	MaxBytes int64   `json:"max_bytes"`
	Store    *string `json:"downloads"`
	Cleared  *int    `json:"cleared"`
}

// Type names the record.
func (*cacheRecord) Type() string { return "symbol_cache" }

// WriteText writes where the cache is and how large.
func (r *cacheRecord) WriteText(p *report.Printer) {
	if r.Folder == nil {
		p.Printf("Index of symbols: none is kept\n")
	} else {
		p.Printf("Index of symbols: %s\n", *r.Folder)
		if r.Cleared != nil {
			p.Printf("  %d tables removed\n", *r.Cleared)
		}
		p.Printf("  %d tables, %d KB of at most %d KB\n", r.Tables, (r.Bytes+1023)/1024, r.MaxBytes/1024)
	}
	if r.Store != nil {
		p.Printf("Downloads: %s\n", *r.Store)
	}
}

// cacheEntry is a table in the index cache.
type cacheEntry struct {
	Name  string    `json:"name"`
	GUID  string    `json:"guid"`
	Age   uint32    `json:"age"`
	Kind  string    `json:"kind"`
	File  string    `json:"source"`
	Bytes int64     `json:"bytes"`
	Used  time.Time `json:"used"`
}

// Type names the record.
func (*cacheEntry) Type() string { return "symbol_cache_entry" }

// WriteText writes a line.
func (r *cacheEntry) WriteText(p *report.Printer) {
	p.Printf("  %8d KB  %-4s %s %x  %s\n", (r.Bytes+1023)/1024, r.Kind, r.GUID, r.Age, r.File)
}

var symcache = &cmd.Command{
	Name: ".symcache", Group: cmd.GroupSymbols,
	Summary: "show or clear the index of symbol files",
	Help: `Names and types of a symbol file that was read once are kept in an index, so that
the next session reads nothing. A file that has changed is read anew; tables not
used for the longest time make room for new ones. .symcache shows the folder and
its size, .symcache -v each table, the last used first, .symcache clear removes
all of them. Downloaded files, which are no index, stay; kd can use that folder,
too. Both are in the user's cache folder, or in $GOKD_CACHE.`,
	Example: ".symcache",
	SeeAlso: []string{".sympath", ".reload"},
	Args: []cmd.Arg{
		{Name: "verbose", Kind: cmd.KindSwitch, Switch: "-v", Optional: true, Doc: "list the tables"},
		{Name: "clear", Kind: cmd.KindWord, Optional: true, Doc: "clear: remove all tables"},
	},
	Run: runSymcache,
}

func runSymcache(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	p, err := symbolPath(s)
	if err != nil {
		return err
	}
	r := &cacheRecord{MaxBytes: index.DefaultBytes}
	if dir := p.DefaultStore(); dir != "" {
		r.Store = &dir
	}
	cache := p.Cache()
	if in.Has("clear") {
		if !strings.EqualFold(in.Text("clear"), "clear") {
			return errMisused("want clear")
		}
		// What is on its way into the cache would come after the clearing.
		if err := p.Wait(ctx); err != nil {
			return err
		}
		n, err := cache.Clear()
		if err != nil {
			return err
		}
		r.Cleared = &n
	}
	if r.Tables, r.Bytes, err = cache.Stat(); err != nil {
		return err
	}
	if dir := cache.Dir(); dir != "" {
		r.Folder = &dir
	}
	if err := out.Emit(r); err != nil || !in.Has("verbose") {
		return err
	}
	list, err := cache.List()
	if err != nil {
		return err
	}
	for _, e := range list {
		k := e.Key
		if k.Source == "" {
			k.Source = e.File + " (can't be read; it is not used)"
		}
		if err := out.Emit(&cacheEntry{k.Name, k.GUID.String(), k.Age, k.Kind, k.Source, e.Bytes, e.Used.UTC()}); err != nil {
			return err
		}
	}
	return nil
}
