package sympath

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// search is one walk along a path for one file.
type search struct {
	ctx     context.Context
	p       *Path  // whose options and servers count
	st      *state // whose elements are walked
	w       *wanted
	network bool // servers may be asked
	light   bool // only where the file is matters, not what is in it
	quiet   bool // what is found is told, what is not is no news

	element string // being asked, as written
	second  *Found // usable, but a better one may follow
	broken  []error
	remote  error // why a server gave nothing, where that is more than not having it
	lines   []string
}

// event notes a line for whoever watches how symbols are looked for.
func (s *search) event(format string, args ...any) {
	if s.p.Flags()&Debug != 0 {
		s.lines = append(s.lines, fmt.Sprintf(format, args...))
	}
}

// run asks the elements from left to right; the first whole file of the right
// identity counts. A broken one does not hide a good one in a later element.
func (s *search) run() (found *Found, err error) {
	defer func() {
		if found != nil || !s.quiet {
			s.p.tell(s.lines)
		}
	}()
	var caches []string
	for _, e := range s.st.elements {
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
		s.element = e.Text
		var f *Found
		switch e.Kind {
		case ElementFolder:
			f = s.folder(e.stores[0].dir, s.keep(caches))
			if f != nil {
				f = s.copies(f, caches)
			}
		case ElementCache:
			f = s.chain(e, caches)
			for _, c := range e.stores {
				caches = append(caches, c.dir)
			}
		case ElementServer:
			f = s.chain(e, caches)
		}
		if f != nil {
			f.Element = e.Text
			s.done(f)
			return f, nil
		}
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	if s.second != nil {
		s.done(s.second)
		return s.second, nil
	}
	return nil, s.failure()
}

// done tells what was found.
func (s *search) done(f *Found) {
	if s.second != nil && s.second != f {
		_ = s.second.close()
	}
	if s.w.image {
		s.event("DBGHELP: %s - OK", f.Path)
		return
	}
	if s.p.Flags()&Debug == 0 || s.light {
		return
	}
	kind := "public symbols"
	if strings.HasPrefix(f.Symbols.Describe(), "private") { // lm says the same
		kind = "private symbols & lines"
	}
	s.event("DBGHELP: %s - %s\n        %s", strings.TrimSuffix(s.w.id.Name, filepath.Ext(s.w.id.Name)), kind, f.Path)
}

// failure says why nothing was found: a *types.NotFoundError, and with it what
// could not be used.
func (s *search) failure() error {
	if s.w.image {
		if len(s.st.elements) > 0 {
			s.event("DBGHELP: %s not found in %s", s.w.names[0], s.st.spec)
		}
	} else if len(s.w.names) > 0 {
		s.event("DBGHELP: %s - file not found", s.w.names[0])
	}
	if s.remote != nil {
		s.broken = append(s.broken, s.remote)
	}
	if len(s.broken) == 0 || s.w.image {
		return errors.Join(append([]error{s.w.missing(s.st.spec)}, s.broken...)...)
	}
	return errors.Join(s.broken...)
}

// keep gives the folder for what has to be unpacked: the nearest cache to the
// left, else the default downstream store.
func (s *search) keep(caches []string) string {
	if len(caches) > 0 {
		return caches[0]
	}
	return s.p.fallback()
}

// copies puts a found file into the caches to the left.
func (s *search) copies(f *Found, caches []string) *Found {
	for _, dir := range slices.Backward(caches) {
		if !inside(dir, f.Path) {
			f = s.copyTo(dir, f)
		}
	}
	return f
}

// inside reports whether a file lies in a folder.
func inside(dir, file string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && filepath.IsLocal(rel)
}

// chain asks the stores of an element. Under Overwrite what its server has
// replaces what its folders have.
func (s *search) chain(e Element, caches []string) *Found {
	if s.p.Flags()&Overwrite != 0 && s.network && e.Remote() {
		if f := s.ask(e, caches, true); f != nil || s.ctx.Err() != nil {
			return f
		}
	}
	return s.ask(e, caches, false)
}

// ask asks the stores of an element, the nearest first; what a later one has is
// kept in all before it. anew: only servers are asked.
func (s *search) ask(e Element, caches []string, anew bool) *Found {
	names := make([]string, len(e.stores))
	for i, st := range e.stores {
		names[i] = st.String()
	}
	if len(s.w.names) == 0 {
		// Without a name only a table can be found, by its GUID.
		for _, st := range e.stores {
			if st.server == nil {
				if f := s.tables(st.dir); f != nil {
					return f
				}
			}
		}
		return nil
	}
	s.event("SYMSRV:  BYINDEX: 0x%X\n         %s\n         %s\n         %s",
		s.p.count.Add(1), strings.Join(names, "*"), s.w.names[0], s.w.keys[0])
	result := uint32(0x80070003) // ERROR_PATH_NOT_FOUND, as SymSrv tells it
	var near []string
	for _, st := range e.stores {
		if s.ctx.Err() != nil {
			return nil
		}
		var f *Found
		switch {
		case st.server == nil && anew:
		case st.server == nil:
			keep := st.dir
			if len(near) > 0 {
				keep = near[0]
			} else if !e.Remote() && e.Kind == ElementServer {
				keep = s.keep(caches) // a store of others is not written to
			}
			if f = s.store(st.dir, keep, true); f == nil {
				f = s.tables(st.dir)
			}
		case s.network:
			into := s.keep(caches)
			if len(near) > 0 {
				into = near[0]
			}
			if f = s.download(st, into); f == nil {
				result = 0x80190194 // HTTP_STATUS_NOT_FOUND
			}
		}
		if f != nil {
			if f = s.copies(f, append(slices.Clone(caches), near...)); f != nil {
				s.event("SYMSRV:  PATH: %s\nSYMSRV:  RESULT: 0x00000000", f.Path)
			}
			return f
		}
		if st.server == nil {
			near = append(near, st.dir)
		}
	}
	s.event("SYMSRV:  RESULT: 0x%08X", result)
	return nil
}

var errAborted = errors.New("the download was interrupted; .reload tries again")

// download fetches the file from a server into a store and opens it there. A
// download alone may be aborted: then the walk goes on.
func (s *search) download(st store, into string) *Found {
	whole := s.ctx
	if abort := s.p.abortContext(); abort != nil {
		ctx, cancel := context.WithCancel(whole)
		defer cancel()
		defer context.AfterFunc(abort, cancel)()
		s.ctx = ctx
	}
	path, err := s.p.fetcher().fetch(s, st.server, into)
	if aborted := s.ctx.Err() != nil && whole.Err() == nil; aborted {
		err = errAborted
	}
	s.ctx = whole
	switch {
	case err == nil:
		return s.try(path, false)
	case errors.Is(err, errNotThere):
	case s.remote == nil:
		s.remote = err
	}
	return nil
}
