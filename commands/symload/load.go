package symload

import (
	"context"
	"errors"
	"path/filepath"
	"sync"

	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/types"
)

// workers is how many files are fetched at a time.
const workers = 4

// outcome is what loading the symbols of a module gave.
type outcome struct {
	module  *model.Module
	symbols types.Symbols // nil: none
	file    string
	note    string // what is odd about the file
	err     error  // why there is no symbol file; nil where there is one
}

// loaded reports whether the symbols come from a symbol file.
func (o outcome) loaded() bool { return o.err == nil }

// load loads the symbols of modules. Files are fetched several at a time; the
// outcomes are given in order, each as soon as it and those before it are known.
func load(ctx context.Context, s *cmd.Session, mods []*model.Module, done func(outcome) error) error {
	found := make([]chan error, len(mods))
	next := make(chan int)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for i := range found {
		found[i] = make(chan error, 1)
	}
	// The identity of a module is read here: the model is not asked from several
	// goroutines.
	ids := make([]types.ImageID, len(mods))
	for i, m := range mods {
		ids[i] = m.ID()
	}
	for range min(workers, len(mods)) {
		wg.Go(func() {
			for i := range next {
				found[i] <- look(ctx, s, ids[i])
			}
		})
	}
	wg.Go(func() {
		defer close(next)
		for i := range mods {
			select {
			case next <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	for i, m := range mods {
		select {
		case err := <-found[i]:
			if err := done(settle(ctx, s, m, err)); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var errNoIdentity = errors.New("the name, GUID and age of its PDB are not known: its header is not in the dump")

// look has the symbol file of an image at hand, and says why not.
func look(ctx context.Context, s *cmd.Session, id types.ImageID) error {
	if id.Zero() {
		return errNoIdentity
	}
	if s.Symbols == nil {
		return errNoPath
	}
	_, err := s.Symbols.Find(ctx, id)
	return err
}

// settle has the module take what was found.
func settle(ctx context.Context, s *cmd.Session, m *model.Module, why error) outcome {
	o := outcome{module: m, err: why}
	syms, err := m.Symbols(ctx)
	o.symbols = syms
	switch {
	case syms != nil && !substitute(m):
		o.err = nil // also where they come from elsewhere than the path: a snapshot's own
	case o.err == nil && err != nil:
		o.err = err
	case o.err == nil:
		o.err = errors.New("the file has no symbols")
	}
	if origin, ok := m.SymbolOrigin(); ok && o.loaded() {
		o.file = origin.File
	}
	if why == nil && s.Symbols != nil {
		if f, err := s.Symbols.Find(ctx, m.ID()); err == nil {
			o.file, o.note = f.Path, f.Note
		}
	}
	return o
}

// fetchImages has the image files at hand of modules whose headers the dump
// lacks: only these tell which PDB is theirs. It reports whether any came.
func fetchImages(ctx context.Context, s *cmd.Session, mods []*model.Module) (came bool, err error) {
	if s.Images == nil {
		return false, nil
	}
	var ids []types.ImageID
	for _, m := range mods {
		stamp, ok := m.Timestamp()
		if m.ID().Zero() && ok && m.Size > 0 {
			ids = append(ids, types.ImageID{Name: m.Image, Timestamp: stamp, Size: uint32(m.Size)})
		}
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	next := make(chan types.ImageID, len(ids))
	for _, id := range ids {
		next <- id
	}
	close(next)
	for range min(workers, len(ids)) {
		wg.Go(func() {
			for id := range next {
				if _, err := s.Images.Fetch(ctx, id); err == nil {
					mu.Lock()
					came = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return came, ctx.Err()
}

// stem is a module's image name without its ending, as kd lists it.
func stem(m *model.Module) string {
	return m.Image[:len(m.Image)-len(filepath.Ext(m.Image))]
}
