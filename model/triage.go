package model

import (
	"gokd/model/mem"
)

// placeCopies makes the structures that a triage dump copied readable at the
// addresses they came from: the crashing processor's block, then its current
// thread and that thread's process, each named by the one before.
func (k *Kernel) placeCopies() {
	t := k.Source.Crash.Triage
	if t == nil || t.Place == nil {
		return
	}
	thread := mem.VA(0)
	if o := k.prcbOffsets(); len(t.Prcb) >= o.end() {
		thread = mem.VA(le64(t.Prcb[o.current:]))
		if at, ok := k.prcbOf(thread); ok {
			t.Place(at, t.Prcb)
		}
	}
	if thread == 0 || len(t.Thread) == 0 {
		return
	}
	t.Place(thread, t.Thread)
	off, ok := k.Debug.Field(DebugOffsetKThreadApcProcess)
	if !ok || int(off)+8 > len(t.Thread) {
		return
	}
	if process := mem.VA(le64(t.Thread[off:])); process != 0 && len(t.Process) > 0 {
		t.Place(process, t.Process)
	}
}

// prcbOf finds the processor block whose captured copy names a thread as its
// current one.
func (k *Kernel) prcbOf(thread mem.VA) (mem.VA, bool) {
	var unread []mem.VA
	for _, p := range k.readProcessors() {
		switch {
		case p.PRCB == 0:
		case p.Err != nil:
			unread = append(unread, p.PRCB)
		case p.CurrentThread == thread:
			return p.PRCB, true
		}
	}
	// Where only one block is missing, the copy must be that one.
	if len(unread) == 1 {
		return unread[0], true
	}
	return 0, false
}

func le64(b []byte) uint64 {
	var v uint64
	for i := range 8 {
		v |= uint64(b[i]) << (8 * i)
	}
	return v
}
