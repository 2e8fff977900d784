package pool

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"gokd/model/mem"
)

// Identity tells dumps apart: a hash of what the container's header says, of the
// kernel's identity, of the extents of memory, of the pool's own tables and of
// some pages of memory. It is computed once; two dumps of one machine differ in
// it, a copy of a dump does not.
func (p *Pool) Identity() [32]byte {
	p.walks.idOnce.Do(func() { p.walks.id = p.identify() })
	return p.walks.id
}

// samplePages is how many pages of memory are part of the identity.
const samplePages = 256

func (p *Pool) identify() (id [32]byte) {
	h := sha256.New()
	src := p.k.Source
	fmt.Fprintf(h, "pool identity 1\n%d %+v %#x %d %#x %#x %#x %d\n", p.k.Build, p.k.ID, uint64(p.k.Base), src.Machine,
		uint64(src.DTB), uint64(src.DebugData), uint64(src.LoadedModules), src.Processors)
	c := src.Crash
	fmt.Fprintf(h, "%#x %#x %d %d %d %s\n", c.Code, c.Args, c.SystemTime, c.UpTime, c.DumpType, c.Format)
	for _, f := range src.Header {
		fmt.Fprintf(h, "%s.%s %#x\n", f.Structure, f.Name, f.Value)
	}
	p.identifyTables(h)
	p.identifyMemory(h)
	h.Sum(id[:0])
	return id
}

// identifyTables adds what the pool's own tables say.
func (p *Pool) identifyTables(h hash.Hash) {
	ctx := context.Background()
	for u, err := range p.Usages(ctx) {
		fmt.Fprintf(h, "%x %+v %+v %v\n", u.Tag, u.Nonpaged, u.Paged, err)
	}
	t, err := p.bigPages(ctx)
	if err != nil {
		fmt.Fprintf(h, "%v\n", err)
		return
	}
	var b []byte
	for _, x := range t.blocks {
		b = binary.LittleEndian.AppendUint64(b[:0], uint64(x.Body))
		b = binary.LittleEndian.AppendUint64(b, x.Size)
		b = append(b, x.Tag[:]...)
		b = binary.LittleEndian.AppendUint16(b, x.Type)
		h.Write(b) // a hash never fails
	}
}

// identifyMemory adds the extents of memory, and pages at even distances.
func (p *Pool) identifyMemory(h hash.Hash) {
	phys := p.k.Space.Physical()
	if phys == nil {
		return
	}
	var pages uint64
	var b [16]byte
	for r := range phys.Runs() {
		binary.LittleEndian.PutUint64(b[:], uint64(r.Base))
		binary.LittleEndian.PutUint64(b[8:], r.Size)
		h.Write(b[:])
		pages += r.Size / pageSize
	}
	step := max(pages/samplePages, 1)
	next, seen := step/2, uint64(0)
	var page [pageSize]byte
	for r := range phys.Runs() {
		n := r.Size / pageSize
		for ; next < seen+n; next += step {
			if _, err := phys.ReadPhysical(page[:], r.Base+mem.PA((next-seen)*pageSize)); err == nil {
				h.Write(page[:])
			}
		}
		seen += n
	}
}
