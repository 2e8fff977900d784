package symbol

import (
	"context"
	"fmt"
	"iter"

	"gokd/model"
	"gokd/model/mem"
)

// MmUnloadedDrivers points at an array of 50 entries of 0x28 bytes:
// UNICODE_STRING Name at 0, StartAddress 0x10, EndAddress 0x18, CurrentTime
// 0x20; MmLastUnloadedDriver is the index that is written next (Volatility 3,
// windows.unloadedmodules; the same on every x64 build).
const (
	unloadedEntries   = 50
	unloadedEntrySize = 0x28
	unloadedStart     = 0x10
	unloadedEnd       = 0x18
	maxUnloadedName   = 512 // UTF-16 units
)

// unloaded yields the images that were unloaded, the last one first, as kd
// lists them. An error says that the list ends there.
func unloaded(ctx context.Context, k *model.Kernel) iter.Seq2[model.TriageUnloaded, error] {
	return func(yield func(model.TriageUnloaded, error) bool) {
		if t := k.Source.Crash.Triage; t != nil {
			for _, u := range t.Unloaded {
				if !yield(u, nil) {
					return
				}
			}
			return
		}
		table, err := k.GlobalPointer("MmUnloadedDrivers")
		if err != nil || table == 0 {
			return // of no interest without the list
		}
		next, err := k.Global32("MmLastUnloadedDriver")
		if err != nil {
			yield(model.TriageUnloaded{}, fmt.Errorf("unloaded modules: %w", err))
			return
		}
		for i := range uint32(unloadedEntries) {
			if ctx.Err() != nil {
				return
			}
			n := (next%unloadedEntries + unloadedEntries - 1 - i) % unloadedEntries
			u, err := readUnloaded(k, table+mem.VA(n*unloadedEntrySize))
			if err != nil {
				yield(u, fmt.Errorf("unloaded modules: entry %d at %#x: %w", n, uint64(table)+uint64(n*unloadedEntrySize), err))
				return
			}
			if u.Start == 0 && u.End == 0 && u.Name == "" {
				continue
			}
			if !yield(u, nil) {
				return
			}
		}
	}
}

func readUnloaded(k *model.Kernel, at mem.VA) (u model.TriageUnloaded, err error) {
	if u.Start, err = k.Space.Pointer(at + unloadedStart); err != nil {
		return u, err
	}
	if u.End, err = k.Space.Pointer(at + unloadedEnd); err != nil {
		return u, err
	}
	if u.Start == 0 && u.End == 0 {
		return u, nil
	}
	name, err := k.UnicodeString(at, maxUnloadedName)
	if err != nil {
		name = "(name not in the dump)"
	}
	u.Name = name
	return u, nil
}
