package sympath

import (
	"context"
	"errors"
	"sync"

	"gokd/model/types"
)

// Images is a path of image files, for code and unwind data that a dump lacks.
// Its elements are those of a symbol path; where there is one, its elements are
// asked after them, as kd does: stores keep images too. Its methods may be
// called from several goroutines.
type Images struct {
	engine *Path // options, servers and events
	shared bool  // engine is a symbol path, to be asked too

	mu sync.Mutex // protects the fields below
	st *state
}

// NewImages reads an image path that stands for itself.
func NewImages(spec string) *Images { return OpenImages(spec, nil) }

// OpenImages reads an image path that is followed by a symbol path, from which it
// also has its options. nil: by none.
func OpenImages(spec string, symbols *Path) *Images {
	p := &Images{engine: symbols, shared: symbols != nil}
	if symbols == nil {
		p.engine = New("")
	}
	p.Set(spec)
	return p
}

// Set replaces the path.
func (p *Images) Set(spec string) {
	p.engine.mu.Lock()
	st := p.engine.newState(spec)
	p.engine.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.st = st
}

func (p *Images) state() *state {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.st
}

// Spec gives the path as it was set.
func (p *Images) Spec() string { return p.state().spec }

// Expanded gives the path with what its parts stand for.
func (p *Images) Expanded() string { return expand(p.state().elements) }

// Elements gives the parts of the path.
func (p *Images) Elements() []Element { return append([]Element(nil), p.state().elements...) }

// Notes tells which parts of the path are not used or odd, and why.
func (p *Images) Notes() []string { return notes(p.state().elements) }

// Forget has all folders listed anew.
func (p *Images) Forget() { p.Set(p.Spec()) }

// Find opens the image file with that name whose header has the identity's
// Timestamp and Size; the caller closes it. A *types.NotFoundError where there is
// none. A file of another build is passed over. Servers are not asked: a debugger
// that opens a dump looks for the images of all modules, and needs few. What
// Fetch has brought is found in the store that it was put into.
func (p *Images) Find(ctx context.Context, id types.ImageID) (*types.ImageFile, error) {
	f, err := p.find(ctx, id, false)
	return f.Image, err
}

// Locate tells where Find finds an image.
func (p *Images) Locate(ctx context.Context, id types.ImageID) (Found, error) {
	f, err := p.find(ctx, id, false)
	if err == nil {
		err = f.Image.Close()
	}
	f.Image = nil
	return f, err
}

// Fetch finds an image like Find, and asks servers. It gives where the file is.
func (p *Images) Fetch(ctx context.Context, id types.ImageID) (Found, error) {
	f, err := p.find(ctx, id, !p.engine.opt.Offline)
	if err == nil {
		err = f.Image.Close()
	}
	f.Image = nil
	return f, err
}

func (p *Images) find(ctx context.Context, id types.ImageID, network bool) (Found, error) {
	if err := ctx.Err(); err != nil {
		return Found{}, err
	}
	w, err := wantImage(id)
	if err != nil {
		return Found{}, err
	}
	states := []*state{p.state()}
	if p.shared {
		states = append(states, p.engine.state())
	}
	var failures []error
	for _, st := range states {
		if len(st.elements) == 0 && len(failures) > 0 {
			continue
		}
		s := &search{ctx: ctx, p: p.engine, st: st, w: w, network: network, quiet: !network}
		f, err := s.run()
		if err == nil {
			return *f, nil
		}
		failures = append(failures, err)
	}
	return Found{}, errors.Join(failures...)
}
