package model

import (
	"errors"
	"strings"
	"testing"

	"gokd/model/mem"
	"gokd/model/types"
)

func TestObject(t *testing.T) {
	t.Parallel()
	const at = mem.VA(0xffffa00000000040)
	p := pages{}
	k := fake(t, p)
	p.put(at, make([]byte, 0x900)...)
	p.put(at+0x184, 5)    // _KTHREAD.State
	p.put(at+0xc3, 0xfe)  // Priority, signed
	p.put(at+0x74, 1<<4)  // Alertable is bit 4
	p.put64(at+0x478, 4)  // _ETHREAD.Cid.UniqueProcess
	p.put64(at+0xd0, 0x0) // WaitBlockList
	o := k.Object("_ETHREAD", at)
	if v, err := o.Field("Tcb.State").Uint(); v != 5 || err != nil {
		t.Errorf("State = %d, %v", v, err)
	}
	if v, err := o.Field("Tcb.Priority").Int(); v != -2 || err != nil {
		t.Errorf("Priority = %d, %v", v, err)
	}
	if v, err := o.Field("Tcb.Alertable").Uint(); v != 1 || err != nil {
		t.Errorf("Alertable = %d, %v", v, err)
	}
	if v, err := o.Field("Cid").Field("UniqueProcess").Pointer(); v != 4 || err != nil {
		t.Errorf("UniqueProcess = %v, %v", v, err)
	}
	if c := o.Field("Tcb").Field("ApcState").Container("_KTHREAD", "ApcState"); c.Addr() != at || c.Err() != nil {
		t.Errorf("Container = %v, %v", c.Addr(), c.Err())
	}
	if !o.Field("Tcb").Has("WaitBlockCount") || o.Has("WaitBlockCount") {
		t.Error("Has does not tell the structures apart")
	}
}

func TestObject_errors(t *testing.T) {
	t.Parallel()
	const at = mem.VA(0xffffa00000000040)
	p := pages{}
	k := fake(t, p)
	p.put(at, make([]byte, 0x400)...)
	_, err := k.Object("_ETHREAD", at).Field("Tcb.WaitBlockList").Deref().Field("Object").Uint()
	if err == nil || !strings.Contains(err.Error(), "_ETHREAD.Tcb.WaitBlockList->") {
		t.Errorf("null pointer: %v", err)
	}
	_, err = k.Object("_ETHREAD", at+0x100000).Field("Cid.UniqueThread").Uint()
	if !errors.Is(err, mem.ErrNotCaptured) || !strings.Contains(err.Error(), "_ETHREAD.Cid.UniqueThread: 0xffffa0000") {
		t.Errorf("hole: %v", err)
	}
	var missing *types.NotFoundError
	_, err = k.Object("_ETHREAD", at).Field("NoSuch").Field("More").Uint()
	if !errors.As(err, &missing) || missing.Name != "NoSuch" {
		t.Errorf("unknown field: %v", err)
	}
	k.Types = nil
	if _, err = k.Object("_ETHREAD", at).Uint(); !errors.Is(err, ErrNoLayout) {
		t.Errorf("no layout: %v", err)
	}
}

func TestReadUnicodeString(t *testing.T) {
	t.Parallel()
	const at, text = mem.VA(0xffffa00000000000), mem.VA(0xffffa00000002000)
	tests := []struct {
		name         string
		length, room byte
		want         string
		err          error
	}{
		{"plain", 4, 6, "ab", nil},
		{"empty", 0, 0, "", nil},
		{"longer than its buffer", 8, 6, "", errStringSize},
		{"odd length", 5, 6, "ab", nil},
	}
	for _, tt := range tests {
		p := pages{}
		p.put(at, tt.length, 0, tt.room, 0, 0, 0, 0, 0)
		p.put64(at+8, uint64(text))
		p.put(text, 'a', 0, 'b', 0, 'c', 0)
		got, err := ReadUnicodeString(mem.NewFlat(p), at, 100)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
