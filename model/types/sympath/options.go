package sympath

import (
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"gokd/model/types/index"
)

// MicrosoftServer is the public symbol server that "srv*" alone stands for.
const MicrosoftServer = "https://msdl.microsoft.com/download/symbols"

// Options are what a path needs to know besides its text. The zero value finds
// files and asks servers that a path names together with a folder to keep their
// files in, but keeps no index and has no folder of its own.
type Options struct {
	// CacheDir is the program's folder for what can be had again: downloads
	// (symbols), indexes of parsed files (symbols-index), and what servers did not
	// have (symbol-misses). It is made when needed. Empty: nothing is kept.
	CacheDir string
	Version  string // of the program, for servers
	// CAFile holds further root certificates (PEM) for https. One that can't be
	// read makes https fail.
	CAFile string
	// Proxy chooses a proxy, as http.ProxyFromEnvironment does; nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// Offline: servers are not asked.
	Offline bool
	// Progress is told how far a download is, in bytes; total is 0 where unknown.
	// It may be called from several goroutines.
	Progress func(what string, done, total uint64)

	Limits Limits
}

// Limits bound downloads; zero values mean the defaults.
type Limits struct {
	Bytes    int64         // of a file, packed or not; 4 GiB
	Stall    time.Duration // without a byte, until a try is given up; 30 s
	Tries    int           // of a request that failed for a passing reason; 4
	Backoff  time.Duration // before the second try, doubled for each further one; 500 ms
	Remember time.Duration // how long a server is not asked again for what it did not have; a day
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&l.Stall, 30*time.Second)
	set(&l.Backoff, 500*time.Millisecond)
	set(&l.Remember, 24*time.Hour)
	if l.Bytes <= 0 {
		l.Bytes = 4 << 30
	}
	if l.Tries <= 0 {
		l.Tries = 4
	}
	return l
}

// inCache gives a place in the program's folder; empty where it has none.
func (o Options) inCache(name string) string {
	if o.CacheDir == "" {
		return ""
	}
	return filepath.Join(o.CacheDir, name)
}

// index gives the cache of parsed files; without a folder it keeps nothing.
func (o Options) index() *index.Cache {
	return index.OpenCache(o.inCache("symbols-index"), index.DefaultBytes)
}

// Flags are kd's symbol options (SYMOPT_...), as far as they change what a path
// finds; the bits are public in Microsoft's documentation of symbol options.
type Flags uint32

// The options that are honoured here; the others are kept for show.
const (
	// LoadAnything takes a PDB of the right name whose GUID or age is another's,
	// where the path has no better.
	LoadAnything    Flags = 0x40
	IgnoreNTSymPath Flags = 0x1000 // of the environment; for whoever makes the path
	Overwrite       Flags = 0x100000
	FlatDirectory   Flags = 0x400000   // folders are not searched below
	FavorCompressed Flags = 0x800000   // servers are asked for packed files first
	NoAutodetect    Flags = 0x2000000  // folders are not searched as stores
	Debug           Flags = 0x80000000 // noisy

	// DefaultFlags are kd's.
	DefaultFlags Flags = 0xb0227
)
