package model_test

import (
	"strings"
	"testing"

	"gokd/model"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/types"
)

// TestLoad_damaged: one thing that is wrong with a machine does not cost the
// layout that all the rest speaks for.
func TestLoad_damaged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(m *modeltest.Machine, thread mem.VA)
	}{
		{"nothing", func(*modeltest.Machine, mem.VA) {}},
		{"System has another id", func(m *modeltest.Machine, _ mem.VA) { m.Set(m.System, 8, "_EPROCESS", "UniqueProcessId") }},
		{"System has another name", func(m *modeltest.Machine, _ mem.VA) {
			off, _ := m.Field("_EPROCESS", "ImageFileName")
			m.Put(m.System+mem.VA(off), 'x')
		}},
		{"a thread is overwritten", func(m *modeltest.Machine, thread mem.VA) { m.Put64(thread, 0xdeadbeefdeadbeef) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, l := range types.Layouts() {
				m := modeltest.New(t, l)
				m.Thread(m.System, 8)
				thread := m.Thread(m.System, 12)
				tt.damage(m, thread)
				k := m.Open() // fails where no layout was taken
				if k.Build != l.Origin().Build {
					t.Errorf("%s: build %d", l.Family(), k.Build)
				}
			}
		})
	}
}

// TestLoad_refuted: where most objects are none, no layout is taken.
func TestLoad_refuted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		damage func(m *modeltest.Machine, threads []mem.VA)
	}{
		{"id and name of System", func(m *modeltest.Machine, _ []mem.VA) {
			off, _ := m.Field("_EPROCESS", "ImageFileName")
			m.Put(m.System+mem.VA(off), 'x')
			m.Set(m.System, 8, "_EPROCESS", "UniqueProcessId")
		}},
		{"all threads of System", func(m *modeltest.Machine, threads []mem.VA) {
			for _, at := range threads {
				m.Put64(at, 0xdeadbeefdeadbeef)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := modeltest.New(t, types.Embedded(19041)[0])
			threads := []mem.VA{m.Thread(m.System, 8), m.Thread(m.System, 12), m.Thread(m.System, 16)}
			src := m.Open().Source
			tt.damage(m, threads)
			k, err := model.Load(t.Context(), src)
			if err != nil {
				t.Fatal(err)
			}
			if k.Types != nil && !k.Degraded {
				t.Errorf("the layout %s was taken", k.Origin().Source)
			}
		})
	}
}

// TestLoad_processors: a number of processors that can't be is replaced by what
// KiProcessorBlock shows; the machine has one.
func TestLoad_processors(t *testing.T) {
	t.Parallel()
	src := modeltest.New(t, types.Embedded(19041)[0]).Open().Source
	for said, warns := range map[uint32]bool{0: false, 1: false, 2: true, 2048: true, 2049: true, 0xffffffff: true} {
		src.Processors = said
		k, err := model.Load(t.Context(), src)
		if err != nil {
			t.Fatal(err)
		}
		warned := strings.Contains(strings.Join(k.Warnings, "\n"), "processors: ")
		if len(k.Processors) != 1 || k.Source.Processors != 1 || warned != warns || k.Degraded || k.Types == nil {
			t.Errorf("%d in the header: %d processors, warnings %q", said, len(k.Processors), k.Warnings)
		}
	}
}
