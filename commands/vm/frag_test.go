package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/pool"
	"gokd/model/pool/heaptest"
	"gokd/model/types"
)

// TestFrag shows a pool of two pages of which every number can be told by hand.
func TestFrag(t *testing.T) {
	t.Parallel()
	m := newMachine(t, family(t, "7601-late"))
	one := m.Page(heaptest.Nonpaged)
	one.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "Aaaa", Bytes: 0x2f0})
	one.Free("Old1", 0x20)
	one.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "Bbbb", Bytes: 0xbf0, Protected: true})
	one.Free("Old2", 0xe0)
	two := m.Page(heaptest.Nonpaged)
	two.Free("Old3", 0x800)
	two.Free("Old4", 0x7c0)
	two.Alloc(heaptest.Ask{Pool: heaptest.Nonpaged, Tag: "Aaaa", Bytes: 0x30})
	s, out := open(t, m.open(), report.Era19041)
	const want = `
NonPaged pool
  Blocks in use:                 3 (        3904 bytes)
  On lookaside lists:            0 (           0 bytes)
  Free pieces:                   4 (        4288 bytes) in 2 runs
  Pages in use:                  2, of which  52.3% is free
  Held by one block:             1 pages
  Wholly free:                   0 pages
  Largest free run:           4256 bytes at RUN

  Free piece up to      Pieces          Bytes  Share
                32           1             32   0.7%
                64           0              0   0.0%
               128           0              0   0.0%
               256           1            224   5.2%
               512           0              0   0.0%
              1024           0              0   0.0%
              2048           2           4032  94.0%
              4096           0              0   0.0%
            larger           0              0   0.0%

  Tag      Blocks          Bytes      Pages  Free in those  Share     Single
  Aaaa          2            832          2           4288  52.3%          1
  Bbbb          1           3072          1            256   6.2%          0
`
	run1 := one.At + 0x1000 - 0xe0
	got := run(t, s, out, "!frag 3")
	if diff := gocmp.Diff(strings.Replace(want, "RUN", report.Addr(run1).String(), 1), got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	const empty = `
Paged pool
  Blocks in use:                 0 (           0 bytes)
  On lookaside lists:            0 (           0 bytes)
  Free pieces:                   0 (           0 bytes) in 0 runs
  Pages in use:                  0, of which   0.0% is free
  Held by one block:             0 pages
  Wholly free:                   0 pages
`
	if diff := gocmp.Diff(empty, run(t, s, out, "!frag 5")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestFrag_truth counts the blocks of a realistic mix on every family as the
// builder counts them.
func TestFrag_truth(t *testing.T) {
	t.Parallel()
	for _, l := range types.Layouts() {
		t.Run(l.Family(), func(t *testing.T) {
			t.Parallel()
			m := newMachine(t, l)
			m.Fill(7, 60)
			k := m.open()
			rec := &report.Recorder{}
			s, _ := open(t, k, report.Era19041)
			c, _ := s.Commands.Lookup("!frag")
			if err := c.Run(context.Background(), s, cmd.Args{}, rec); err != nil {
				t.Fatal(err)
			}
			// Free pieces of one place may be told apart or joined; bytes in use and
			// on lists may not.
			want := map[string][2]uint64{}
			for _, b := range m.Blocks() {
				kind := "nonpaged"
				if b.Pool.Paged() {
					kind = "paged"
				}
				n := want[kind]
				switch {
				case b.Large() || b.Place != heaptest.InPage && b.State == heaptest.Cached:
				case b.State == heaptest.Allocated:
					n[0]++
				case b.State == heaptest.Cached:
					n[1]++
				}
				want[kind] = n
			}
			got := map[string][2]uint64{}
			for _, r := range rec.Records {
				if r, ok := r.(*scatterRecord); ok {
					n := [2]uint64{r.Blocks, r.Cached}
					if m.SegmentHeaps() {
						n[1] = 0
					}
					got[r.Pool] = n
					if r.Floor || r.FreeBytes == 0 || r.Largest > r.FreeBytes || r.FreeInUsed > r.FreeBytes || r.Runs > r.Pieces {
						t.Errorf("%+v", r)
					}
				}
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// BenchmarkFrag goes over an index that is there already.
func BenchmarkFrag(b *testing.B) {
	m := heaptest.New(b, types.Embedded(7601)[0])
	m.Fill(7, 2000)
	p, err := pool.Open(m.Open())
	if err != nil {
		b.Fatal(err)
	}
	x, err := p.Index(context.Background(), pool.Nonpaged, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(x.Summary().Coverage.Walked))
	b.ReportAllocs()
	for b.Loop() {
		newScatter("NonPaged", "nonpaged").walk(context.Background(), x)
	}
}

// TestJSON: the records of !vm hold what the text leaves out, and say why.
func TestJSON(t *testing.T) {
	t.Parallel()
	m := newMachine(t, family(t, "7601-late"))
	m.pageFiles(m.pageFile(`\??\C:\pagefile.sys`, 4096, 4000, 4096, 8192))
	withSessions(m)
	k := m.open()
	var b bytes.Buffer
	s, _ := open(t, k, report.Era19041)
	s.Out = cmd.NewJSONOutput(&b, io.Discard, report.Era19041)
	if err := s.Execute(context.Background(), "!vm 4"); err != nil {
		t.Fatal(err)
	}
	var records []string
	for line := range strings.Lines(b.String()) {
		var r struct {
			Record   string             `json:"record"`
			Pages    map[string]*uint64 `json:"pages"`
			Failures map[string]*uint64 `json:"failures"`
			Files    []struct{ Name string }
			Missing  map[string]string `json:"missing"`
			PID      *uint64           `json:"pid"`
			Shared   *uint64           `json:"shared_commit"`
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		records = append(records, r.Record)
		switch r.Record {
		case "vm":
			for name, v := range r.Pages {
				if (v == nil) != (r.Missing[name] != "") {
					t.Errorf("%s: %v, missing %q", name, v, r.Missing[name])
				}
			}
			if v := r.Pages["available"]; v == nil || *v != 666710 {
				t.Errorf("available: %v", v)
			}
			if r.Missing["locked_io"] != "where this build keeps it is not known" || r.Missing["boot_commit"] != "this build of Windows does not keep it" {
				t.Errorf("missing: %v", r.Missing)
			}
			if !strings.Contains(line, `"page_files":[{"address":"0x`) || !strings.Contains(line, `"size":4096,"free":4000,"minimum":4096,"maximum":8192}]`) {
				t.Errorf("%s", line)
			}
		case "vm_process":
			if r.Shared != nil || r.Missing["shared_commit"] == "" {
				t.Errorf("%s", line)
			}
		}
	}
	want := []string{"vm", "vm_process", "vm_process", "vm_process", "vm_session", "vm_session", "vm_session_total", "end"}
	if diff := gocmp.Diff(want, records); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestTriage: a triage dump is refused with a word that tells what is needed.
func TestTriage(t *testing.T) {
	t.Parallel()
	k := modeltest.OpenDump(t, shared.Path(t, "dumps/real/triage_x64.dmp"))
	s, out := open(t, k, report.Era19041)
	for _, tt := range []struct{ line, want string }{
		{"!vm", "!vm: a triage dump holds no memory of the memory manager: a kernel or full dump is needed\n"},
		{"!vm 20", "!vm: a triage dump holds no memory of the memory manager: a kernel or full dump is needed\n"},
		{"!lookaside", "!lookaside: a triage dump holds no lookaside lists: a kernel or full dump is needed\n"},
		{"!memusage", "!memusage: a triage dump holds no PFN database: a kernel or full dump is needed\n"},
		{"!sysptes", "!sysptes: a triage dump holds no bitmaps of page table entries: a kernel or full dump is needed\n"},
		{"!frag", "!frag: a triage dump holds no pool to walk: a kernel or full dump is needed\n"},
		{"!session", "!session: no session is known: the memory of sessions is not in this dump: session data is not present in mini and kernel-only dumps\n"},
	} {
		if diff := gocmp.Diff(tt.want, run(t, s, out, tt.line)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, diff)
		}
	}
}

// FuzzCommands runs every command over a machine whose variables and structures
// hold other bytes.
func FuzzCommands(f *testing.F) {
	for seed := range byte(6) {
		f.Add(uint8(seed), []byte{seed, 0xff, 0x80, 0x7f, 0, 1, seed * 37, 0xfe})
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		layouts := types.Layouts()
		m := newMachine(t, layouts[int(which)%len(layouts)])
		withSessions(m)
		m.pageFiles(m.pageFile(`\??\C:\pagefile.sys`, 4096, 4000, 4096, 8192))
		list := m.M.Global("CcTwilightLookasideList", 0x80)
		twilight.put(m, list, m.M.Global("ExSystemLookasideListHead", 16), 0)
		m.Alloc(heaptest.Ask{Pool: heaptest.NonpagedNx, Tag: "Vmte", Bytes: 0x50})
		k := m.open()
		var at []mem.VA
		for _, name := range []string{"MiSystemPartition", "MiState", "MmPagingFile", "MmNumberOfPagingFiles", "MmAllocatedNonPagedPool", "ExSystemLookasideListHead", "CcTwilightLookasideList"} {
			if g, err := k.Global(name); err == nil {
				at = append(at, g)
			}
		}
		if v, err := k.GlobalPointer("MiVisibleState"); err == nil {
			at = append(at, v)
		}
		for i, c := range data {
			if i >= 64 {
				break
			}
			// Each byte goes to another structure, eight times over: numbers get large.
			to := at[(int(c)+i)%len(at)] + mem.VA(i*8%0x70)
			if _, err := k.Space.Uint64(to); err == nil {
				m.M.Put(to, c, byte(i), c, c, 0xff, c, c, c)
			}
		}
		s, _ := open(t, k, report.Era19041)
		for _, line := range []string{"!vm 3f", "!vm 20", "!lookaside", "!lookaside -all", "!session", "!session -s 1", "!frag 1", "!memusage", "!sysptes 1"} {
			_ = s.Execute(context.Background(), line) // no panic, and an end
		}
	})
}
