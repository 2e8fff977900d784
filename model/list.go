package model

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"gokd/model/mem"
)

// WalkError says where a walk ended before its end and why.
type WalkError struct {
	What  string // the structure walked
	At    mem.VA // the link that could not be followed
	Shown int    // items yielded before
	Err   error
}

func (e *WalkError) Error() string {
	return fmt.Sprintf("%s list broken at %#x: %v; %d shown", e.What, uint64(e.At), e.Err, e.Shown)
}

// Unwrap gives the reason.
func (e *WalkError) Unwrap() error { return e.Err }

// Reasons for which a list walk ends early.
var (
	ErrBackLink = errors.New("the link back does not match")
	ErrLimit    = errors.New("longer than any real list")
	ErrLoop     = errors.New("the list comes back to a member")
)

// Limits of list walks, far above what a real machine holds.
const (
	MaxProcesses = 1 << 17
	MaxThreads   = 1 << 19
	MaxResources = 1 << 21
	MaxModules   = 1 << 12
)

// List walks a doubly linked list (_LIST_ENTRY) from its head and yields the
// structures that hold the links. A link back that does not match shows every
// loop that misses the head and every broken link; the list is then walked
// backwards from the head, so that members behind the break are yielded too,
// last one first, and a *WalkError tells the gap.
func (k *Kernel) List(ctx context.Context, head mem.VA, typ, link string, limit int) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		probe := k.Object(typ, 0).Field(link)
		if err := probe.Err(); err != nil {
			yield(Object{}, err)
			return
		}
		off := probe.Addr()
		w := &listWalk{k: k, ctx: ctx, head: head, limit: limit, seen: map[mem.VA]struct{}{}}
		emit := func(at mem.VA) bool { return yield(k.Object(typ, at-off), nil) }
		stop, broken := w.forward(emit)
		if stop || broken == nil {
			return
		}
		if !w.backward(emit) {
			return
		}
		broken.What, broken.Shown = typ, len(w.seen)
		yield(Object{}, broken)
	}
}

type listWalk struct {
	k     *Kernel
	ctx   context.Context
	head  mem.VA
	limit int
	seen  map[mem.VA]struct{}
}

func (w *listWalk) has(at mem.VA) bool {
	_, ok := w.seen[at]
	return ok
}

// forward follows Flink. stop tells that the consumer has enough.
func (w *listWalk) forward(emit func(mem.VA) bool) (stop bool, broken *WalkError) {
	prev := w.head
	at, err := w.k.Space.Pointer(w.head)
	for err == nil && at != w.head {
		var back mem.VA
		back, err = w.k.Space.Pointer(at + 8)
		switch {
		case err != nil:
		case w.ctx.Err() != nil:
			err = w.ctx.Err()
		case w.has(at):
			err = ErrLoop
		case back != prev:
			err = fmt.Errorf("%w: it names %#x, not %#x", ErrBackLink, uint64(back), uint64(prev))
		case len(w.seen) >= w.limit:
			err = ErrLimit
		}
		if err != nil {
			break
		}
		w.seen[at] = struct{}{}
		if !emit(at) {
			return true, nil
		}
		prev = at
		at, err = w.k.Space.Pointer(at)
	}
	if err != nil {
		if len(w.seen) == 0 && at == 0 {
			at = w.head
		}
		return false, &WalkError{At: at, Err: err}
	}
	return false, nil
}

// backward follows Blink from the head over members that the way forward did
// not reach. It reports false when the consumer has enough.
func (w *listWalk) backward(emit func(mem.VA) bool) bool {
	next := w.head
	at, err := w.k.Space.Pointer(w.head + 8)
	for err == nil && at != w.head && !w.has(at) && len(w.seen) < w.limit && w.ctx.Err() == nil {
		var fwd mem.VA
		// The link forward of the member before the gap is the one that lies, so
		// a mismatch ends the way only if the member is not readable as a list
		// entry at all.
		if fwd, err = w.k.Space.Pointer(at); err != nil {
			break
		}
		if back, berr := w.k.Space.Pointer(at + 8); berr != nil || (fwd != next && !w.linked(at, back)) {
			break
		}
		w.seen[at] = struct{}{}
		if !emit(at) {
			return false
		}
		next = at
		at, err = w.k.Space.Pointer(at + 8)
	}
	return true
}

// linked reports whether the member before at points forward to it, which
// vouches for at when its own link forward does not.
func (w *listWalk) linked(at, before mem.VA) bool {
	fwd, err := w.k.Space.Pointer(before)
	return err == nil && fwd == at
}
