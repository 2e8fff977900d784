package vm

import (
	"context"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// PageFile is one paging file. Sizes are in pages.
type PageFile struct {
	At                           mem.VA // its _MMPAGING_FILE
	Name                         string // empty for one without a name, such as the memory compression store's
	Size, Minimum, Maximum, Free uint64
	Gaps                         model.Gaps
}

// maxPageFiles is the number of paging files that Windows has room for.
const maxPageFiles = 16

// PageFiles lists the paging files. The error says why the list is not known or
// what it lacks.
func PageFiles(k *model.Kernel) ([]PageFile, error) {
	r := newRoots(k)
	n, table, err := r.pageFiles()
	if err != nil {
		return nil, err
	}
	if n > maxPageFiles {
		return nil, fmt.Errorf("paging files: the kernel counts %d, more than the %d there can be", n, maxPageFiles)
	}
	var list []PageFile
	for i := range mem.VA(n) {
		at, err := k.Space.Pointer(table + 8*i)
		if err != nil {
			return list, fmt.Errorf("paging file %d: %w", i, err)
		}
		list = append(list, readPageFile(k, at))
	}
	return list, nil
}

// pageFiles finds how many there are and the array of their addresses.
func (r *roots) pageFiles() (n uint64, table mem.VA, err error) {
	if o, ok := r.objects[inPartition]; ok {
		n, err = o.Field("Vp.NumberOfPagingFiles").Uint()
		f := o.Field("Vp.PagingFile")
		if err == nil {
			err = f.Err()
		}
		return n, f.Addr(), err
	}
	table, err = r.k.Global("MmPagingFile")
	if err != nil {
		if r.resolvable[inPartition] {
			err = r.errs[inPartition]
		}
		return 0, 0, err
	}
	count, err := r.k.Global32("MmNumberOfPagingFiles")
	return uint64(count), table, err
}

func readPageFile(k *model.Kernel, at mem.VA) PageFile {
	f := PageFile{At: at}
	o := k.Object("_MMPAGING_FILE", at)
	f.Size = f.Gaps.Uint("size", o.Field("Size"))
	f.Minimum = f.Gaps.Uint("minimum", o.Field("MinimumSize"))
	f.Maximum = f.Gaps.Uint("maximum", o.Field("MaximumSize"))
	f.Free = f.Gaps.Uint("free", o.Field("FreeSpace"))
	name := o.Field("PageFileName")
	if f.Gaps.Set("name", name.Err()) {
		var err error
		f.Name, err = k.UnicodeString(name.Addr(), 512)
		f.Gaps.Set("name", err)
	}
	return f
}

// Write is one entry of the log of writes to paging files: the state of the
// machine when the write ended.
type Write struct {
	Status                                         uint32 // NTSTATUS
	Priority, IRPPriority                          uint8
	Time                                           uint64 // 100 ns since 1601; 0 where it is not kept
	Available, Modified, ModifiedPagefile, NoWrite uint64 // pages
	Bytes                                          uint32 // of the write's MDL
	Gaps                                           model.Gaps
}

// PageFileWrites gives the last writes to paging files, oldest first: at most
// 32, which is what _MI_VISIBLE_PARTITION.PageFileTraces has room for.
// Entries that were never used are left out.
func PageFileWrites(ctx context.Context, k *model.Kernel) ([]Write, error) {
	r := newRoots(k)
	var first mem.VA
	var index, count uint64
	if o, ok := r.objects[inPartition]; ok {
		f := o.Field("Vp.PageFileTraces")
		n, err := o.Field("Vp.PageFileTraceIndex").Uint()
		if f.Err() != nil {
			err = f.Err()
		}
		if err != nil {
			return nil, err
		}
		first, index, count = f.Addr(), n, uint64(f.Type().Count)
	} else {
		at, err := k.Global("MiPageFileTraces")
		if err != nil {
			if r.resolvable[inPartition] {
				err = r.errs[inPartition]
			}
			return nil, err
		}
		n, err := k.Global32("MiPageFileTraceIndex")
		if err != nil {
			return nil, err
		}
		first, index, count = at, uint64(n), maxTraces
	}
	typ, err := k.Types.Type("_MI_PAGEFILE_TRACES")
	if err != nil {
		return nil, fmt.Errorf("the log of page file writes: %w: %w", model.ErrNoLayout, err)
	}
	count = min(count, maxTraces)
	var list []Write
	for i := range count {
		if ctx.Err() != nil {
			return list, ctx.Err()
		}
		// The index counts the entries that were written; the next one is the
		// oldest.
		slot := (index + 1 + i) % count
		w := readWrite(k, first+mem.VA(slot*uint64(typ.Size)))
		if w.Time != 0 || w.Modified != 0 || w.Available != 0 || len(w.Gaps) > 0 {
			list = append(list, w)
		}
	}
	return list, nil
}

// maxTraces is how many entries the log has.
const maxTraces = 32

func readWrite(k *model.Kernel, at mem.VA) Write {
	var w Write
	o := k.Object("_MI_PAGEFILE_TRACES", at)
	w.Status = uint32(w.Gaps.Uint("status", o.Field("Status")))
	w.Priority = uint8(w.Gaps.Uint("priority", o.Field("Priority")))
	w.IRPPriority = uint8(w.Gaps.Uint("irp_priority", o.Field("IrpPriority")))
	w.Time = w.Gaps.Uint("time", o.Field("CurrentTime.QuadPart"))
	w.Available = w.Gaps.Uint("available", o.Field("AvailablePages"))
	w.Modified = w.Gaps.Uint("modified", o.Field("ModifiedPagesTotal"))
	w.ModifiedPagefile = w.Gaps.Uint("modified_pagefile", o.Field("ModifiedPagefilePages"))
	w.NoWrite = w.Gaps.Uint("modified_no_write", o.Field("ModifiedNoWritePages"))
	w.Bytes = uint32(w.Gaps.Uint("bytes", o.Field("MdlHack.Mdl.ByteCount")))
	return w
}
