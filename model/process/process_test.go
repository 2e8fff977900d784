package process_test

import (
	"context"
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/process"
	"gokd/model/types"
)

func TestAll_families(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		m := modeltest.New(t, l)
		at := m.Process(0x344, 4, "winlogon.exe")
		table := m.Alloc(0x100)
		m.Set(at, uint64(table), "_EPROCESS", "ObjectTable")
		m.Set(at, 0xf2451002, "_EPROCESS", "Pcb", "DirectoryTableBase")
		m.Set(at, 0xc904737000, "_EPROCESS", "Peb")
		if m.Has("_HANDLE_TABLE", "HandleCount") {
			m.Set(table, 282, "_HANDLE_TABLE", "HandleCount")
		} else {
			lists, _ := m.Field("_HANDLE_TABLE", "FreeLists")
			m.Set(table+mem.VA(lists), 282, "_HANDLE_TABLE_FREE_LIST", "HandleCount")
		}
		minimal := m.Process(0x58, 4, "Registry") // no tables, no block, no session
		k := m.Open()
		seen := 0
		for p, err := range process.All(context.Background(), k) {
			if err != nil {
				t.Fatalf("%s: %v", l.Family(), err)
			}
			seen++
			switch p.Address {
			case at:
				if p.PID != 0x344 || p.ParentPID != 4 || p.Image != "winlogon.exe" || p.HandleCount != 282 || p.DirBase != 0xf2451002 || p.Peb != 0xc904737000 {
					t.Errorf("%s: %+v", l.Family(), p)
				}
			case minimal:
				if p.HasSession || p.HandleCount != 0 || p.Image != "Registry" {
					t.Errorf("%s: %+v", l.Family(), p)
				}
			}
			if len(p.Gaps) > 0 {
				t.Errorf("%s: process %s: gaps %v", l.Family(), p.Image, p.Gaps)
			}
		}
		if seen != 3 {
			t.Errorf("%s: %d processes, want 3", l.Family(), seen)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(22000)[0])
	at := m.Process(0x344, 4, "CPUSTRES.EXE")
	k := m.Open()
	for _, tt := range []struct {
		pid   uint64
		image string
		want  int
	}{{0x344, "", 1}, {0x345, "", 0}, {0, "cpustres.exe", 1}, {0, "none.exe", 0}} {
		n := 0
		for p, err := range process.Find(context.Background(), k, tt.pid, tt.image) {
			if err != nil || p.Address != at {
				t.Errorf("%+v: %v, %v", tt, p.Address, err)
			}
			n++
		}
		if n != tt.want {
			t.Errorf("%+v: %d found", tt, n)
		}
	}
	if _, err := process.At(k, at+0x10); err == nil {
		t.Error("the middle of a process passes for one")
	}
}
