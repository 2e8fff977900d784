package heap

import (
	"context"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// maxSessions bounds the sessions that are looked into: each takes an address
// space of its own.
const maxSessions = 512

// readSessions finds the heaps of logon sessions: _MM_SESSION_SPACE.HeapState
// names the session's state, whose PagedHeap and SpecialPoolHeap are heaps like
// those of the nodes. All of it is mapped in the session's processes only.
func (h *Heaps) readSessions(ctx context.Context) {
	head, err := h.k.Global("PsActiveProcessHead")
	if err != nil {
		h.trouble(fmt.Errorf("heaps of sessions are not read: %w", err))
		return
	}
	seen := map[uint32]bool{}
	for o, err := range h.k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", model.MaxProcesses) {
		if err != nil {
			h.trouble(fmt.Errorf("heaps of further sessions may be missing: %w", err))
			return
		}
		at, err := o.Field("Session").Pointer()
		dtb, err2 := o.Field("Pcb.DirectoryTableBase").Uint()
		if err != nil || err2 != nil || at == 0 || dtb&^0xfff == 0 {
			continue
		}
		space := h.k.Space.WithRoot(mem.PA(dtb))
		id, err := h.k.ObjectIn(space, "_MM_SESSION_SPACE", at).Field("SessionId").Uint()
		if err != nil || seen[uint32(id)] {
			continue
		}
		if len(seen) == maxSessions {
			h.trouble(fmt.Errorf("heaps of more than %d sessions are not read", maxSessions))
			return
		}
		seen[uint32(id)] = true
		if !h.lay.hasSession {
			h.trouble(fmt.Errorf("heaps of sessions are not read: the types do not tell where they lie"))
			return
		}
		h.readSession(uint32(id), at, space)
	}
}

// readSession reads the heaps of one session.
func (h *Heaps) readSession(id uint32, at mem.VA, space *mem.Space) {
	fail := func(err error) { h.trouble(fmt.Errorf("heaps of session %d: %w", id, err)) }
	state, err := h.k.ObjectIn(space, "_MM_SESSION_SPACE", at).Field("HeapState").Pointer()
	if err != nil {
		fail(err)
		return
	}
	if state == 0 {
		return // a session without pool of its own, such as session 0 while it starts
	}
	globals, err := space.Pointer(state + mem.VA(h.lay.sessionGlobals))
	if err != nil {
		fail(fmt.Errorf("_EX_HEAP_SESSION_STATE: %w", err))
		return
	}
	if globals != 0 {
		heapKey, lfhKey, err := h.keysAt(space, globals)
		if err == nil && (heapKey != h.HeapKey || lfhKey != h.LfhKey) {
			err = fmt.Errorf("_EX_HEAP_SESSION_STATE at %#x names keys of its own", uint64(state))
		}
		if err != nil {
			fail(err)
			return
		}
	}
	for i, off := range [2]uint32{h.lay.sessionHeap, h.lay.sessionSpecial} {
		role := [2]Role{Session, Special}[i]
		h.addHeaps("_EX_HEAP_SESSION_STATE", state+mem.VA(off), 1, func(uint32) Heap {
			return Heap{Role: role, Session: id, Private: true, IsPaged: true, Space: space}
		})
	}
}
