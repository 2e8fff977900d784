package sympath

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gokd/model/types"
	"gokd/model/types/index"
)

// Path is a symbol path. It implements types.Resolver. Its methods may be called
// from several goroutines.
type Path struct {
	opt   Options
	cache *index.Cache
	count atomic.Uint32 // of questions to stores, for events
	flags atomic.Uint32

	mu       sync.Mutex // protects the fields below
	st       *state
	downTo   string // default downstream store as set; empty: the program's own
	events   []string
	fetchers *fetcher
	abort    context.Context // of downloads alone; nil: none

	puts sync.WaitGroup // tables on their way into the index
	busy chan struct{}  // one at a time
}

// state is a path as it was set, with what was found on it.
type state struct {
	spec     string
	elements []Element
	folders  folders

	mu    sync.Mutex
	known map[string]*answer
}

// answer is what was found for an identity; done is closed when it is known.
type answer struct {
	done  chan struct{}
	found *Found
	err   error
	again bool // the asker gave up: whoever waits asks anew
	names []string
}

// New reads a symbol path as kd has it, without a folder of the program's own:
// see Options.
func New(spec string) *Path { return Open(spec, Options{}) }

// Open reads a symbol path as kd has it. Elements that can't be used are
// reported by Notes.
func Open(spec string, opt Options) *Path {
	opt.Limits = opt.Limits.withDefaults()
	p := &Path{opt: opt, cache: opt.index(), busy: make(chan struct{}, 1)}
	p.flags.Store(uint32(DefaultFlags))
	p.st = p.newState(spec)
	return p
}

// newState parses a path; mu is held, or p is not shared yet.
func (p *Path) newState(spec string) *state {
	parser := parsing{fallback: cmp.Or(p.downTo, p.opt.inCache("symbols")), shown: p.downTo}
	return &state{spec: spec, elements: parser.parse(spec), known: map[string]*answer{}}
}

func (p *Path) state() *state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.st
}

// fallback gives the default downstream store; empty: there is none.
func (p *Path) fallback() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.downTo, p.opt.inCache("symbols"))
}

// fetcher gives what asks servers, made at the first need.
func (p *Path) fetcher() *fetcher {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fetchers == nil {
		p.fetchers = newFetcher(p.opt)
	}
	return p.fetchers
}

// Set replaces the path. What was found on the old one is forgotten here, but
// stays usable for whoever has it.
func (p *Path) Set(spec string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.st = p.newState(spec)
}

// Add appends to the path.
func (p *Path) Add(spec string) {
	p.Set(strings.Trim(p.Spec()+";"+spec, ";"))
}

// SetDefaultStore chooses the folder for what servers without one of their own
// have, as .symfix does; empty: the program's own.
func (p *Path) SetDefaultStore(dir string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.downTo = dir
	p.st = p.newState(p.st.spec)
}

// DefaultStore gives that folder; empty where there is none.
func (p *Path) DefaultStore() string { return p.fallback() }

// Spec gives the path as it was set.
func (p *Path) Spec() string { return p.state().spec }

// Expanded gives the path with what its parts stand for.
func (p *Path) Expanded() string { return expand(p.state().elements) }

// Elements gives the parts of the path.
func (p *Path) Elements() []Element { return slices.Clone(p.state().elements) }

// Notes tells which parts of the path are not used or odd, and why.
func (p *Path) Notes() []string { return notes(p.state().elements) }

// Remote reports whether the path names a server that may be asked.
func (p *Path) Remote() bool {
	return !p.opt.Offline && slices.ContainsFunc(p.state().elements, Element.Remote)
}

// Flags gives kd's symbol options.
func (p *Path) Flags() Flags { return Flags(p.flags.Load()) }

// SetFlags sets them. What was found before stays; see Forget.
func (p *Path) SetFlags(f Flags) { p.flags.Store(uint32(f)) }

// Forget lets the symbols of an image, by the name of its PDB or its own, be
// looked for anew; an empty name stands for everything. Folders are listed anew,
// and servers that could not be reached are tried again.
func (p *Path) Forget(name string) {
	if name == "" {
		p.Set(p.Spec())
	} else {
		st := p.state()
		st.mu.Lock()
		for key, a := range st.known {
			if slices.ContainsFunc(a.names, func(n string) bool { return strings.EqualFold(n, name) }) {
				delete(st.known, key)
			}
		}
		st.mu.Unlock()
		st.folders.forget()
	}
	p.Disconnect()
}

// ForgetMisses lets servers be asked again for files that they did not have:
// those of one name, or all.
func (p *Path) ForgetMisses(name string) { p.fetcher().misses.forget(name) }

// Cache gives the index of parsed files.
func (p *Path) Cache() *index.Cache { return p.cache }

// Resolve implements types.Resolver. The store is nil where the file has no
// types. An answer is kept, also that there is none; one that a cancelled ctx
// cut short is not.
func (p *Path) Resolve(ctx context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	f, err := p.Find(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	return f.Store, f.Symbols, nil
}

// Find is Resolve with where the symbols come from.
func (p *Path) Find(ctx context.Context, id types.ImageID) (Found, error) {
	if err := ctx.Err(); err != nil {
		return Found{}, err
	}
	w, err := wantSymbols(id)
	if err != nil {
		return Found{}, err
	}
	st := p.state()
	key := fmt.Sprintf("%s/%s-%d", strings.ToLower(strings.Join(w.names, "/")), id.GUID, id.Age)
	for {
		st.mu.Lock()
		a := st.known[key]
		mine := a == nil
		if mine {
			a = &answer{done: make(chan struct{}), names: append(slices.Clone(w.names), id.Name)}
			st.known[key] = a
		}
		st.mu.Unlock()
		if mine {
			p.answer(ctx, st, key, a, w)
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return Found{}, ctx.Err()
		}
		switch {
		case a.again && !mine:
			continue
		case a.err != nil:
			return Found{}, a.err
		}
		return *a.found, nil
	}
}

// Locate tells where Find would find the symbols, without asking servers and
// without reading more of a file than its identity. It gives no symbols.
func (p *Path) Locate(ctx context.Context, id types.ImageID) (Found, error) {
	w, err := wantSymbols(id)
	if err != nil {
		return Found{}, err
	}
	s := &search{ctx: ctx, p: p, st: p.state(), w: w, light: true, quiet: true}
	f, err := s.run()
	if err != nil {
		return Found{}, err
	}
	f.Store, f.Symbols = nil, nil
	return *f, f.close()
}

// answer walks the path for one identity.
func (p *Path) answer(ctx context.Context, st *state, key string, a *answer, w *wanted) {
	defer close(a.done)
	s := &search{ctx: ctx, p: p, st: st, w: w, network: !p.opt.Offline}
	a.found, a.err = s.run()
	switch {
	case a.err != nil && ctx.Err() != nil:
		a.again = true
		st.mu.Lock()
		if st.known[key] == a {
			delete(st.known, key)
		}
		st.mu.Unlock()
	case a.err == nil:
		p.put(a.found)
	}
}

// put takes a table that was parsed into the index, in the background.
func (p *Path) put(f *Found) {
	if !f.index || p.cache.Dir() == "" {
		return
	}
	p.puts.Go(func() {
		p.busy <- struct{}{}
		defer func() { <-p.busy }()
		// A full disk costs the next run some time, no more.
		_ = p.cache.Put(f.key, f.Store, f.Symbols)
	})
}

// AbortDownloads has downloads end, and the search go on without them, when ctx
// is done, until end is called. It is for the time while a target is opened,
// which shall be opened all the same.
func (p *Path) AbortDownloads(ctx context.Context) (end func()) {
	set := func(ctx context.Context) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.abort = ctx
	}
	set(ctx)
	return func() { set(nil) }
}

func (p *Path) abortContext() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.abort
}

// Wait waits until what was parsed is in the index, or ctx is done.
func (p *Path) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		p.puts.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeBound is how long Close waits for the index.
const closeBound = 10 * time.Second

// Close waits a bounded time for the index and closes all files. Nothing that the
// path gave may be used afterwards.
func (p *Path) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeBound)
	defer cancel()
	if p.Wait(ctx) != nil {
		return nil // the files are in use; the end of the process closes them
	}
	p.Disconnect()
	st := p.state()
	st.mu.Lock()
	defer st.mu.Unlock()
	var errs []error
	for _, a := range st.known {
		// An answer that is being looked for is nobody's yet. Files of a path that
		// was replaced are closed when nothing uses them any more.
		select {
		case <-a.done:
			if a.found != nil {
				errs = append(errs, a.found.close())
			}
		default:
		}
	}
	clear(st.known)
	return errors.Join(errs...)
}

// Disconnect ends the connections to servers and lets those be tried again that
// could not be reached.
func (p *Path) Disconnect() {
	p.mu.Lock()
	f := p.fetchers
	p.mu.Unlock()
	if f != nil {
		f.close()
		f.tryAgain()
	}
}

// maxEvents bounds the lines that wait for Events.
const maxEvents = 1 << 14

func (p *Path) tell(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) < maxEvents {
		p.events = append(p.events, lines...)
	}
}

// Events gives the lines that tell how files were looked for since the last
// call, under the flag Debug. Those of one search stand together.
func (p *Path) Events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.events
	p.events = nil
	return lines
}

var _ types.Resolver = (*Path)(nil)
