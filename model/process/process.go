// Package process enumerates the processes of a target.
//
// It walks PsActiveProcessHead, the list that links every _EPROCESS by
// ActiveProcessLinks. Processes that have ended are unlinked and not found
// here; the idle process never was on the list.
package process

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"gokd/model"
	"gokd/model/mem"
)

// Process is one process.
type Process struct {
	Address     mem.VA
	PID         uint64
	ParentPID   uint64
	Session     uint32
	HasSession  bool   // false for System and for minimal processes
	Image       string // at most 15 characters, bytes as Latin-1
	Peb         mem.VA
	DirBase     uint64 // _KPROCESS.DirectoryTableBase as stored, flag bits included
	ObjectTable mem.VA
	HandleCount uint64
	DeviceMap   mem.VA
	Gaps        model.Gaps // why a field is unknown
}

// All yields the processes in list order. Trouble in the list is yielded as
// one error after what could be reached from both ends.
func All(ctx context.Context, k *model.Kernel) iter.Seq2[Process, error] {
	return func(yield func(Process, error) bool) {
		head, err := k.Global("PsActiveProcessHead")
		if err != nil {
			yield(Process{}, err)
			return
		}
		for o, err := range k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", model.MaxProcesses) {
			if err != nil {
				yield(Process{}, err)
				return
			}
			if !yield(read(k, o), nil) {
				return
			}
		}
	}
}

// At reads the process at an address. It fails where there is no process
// object.
func At(k *model.Kernel, at mem.VA) (Process, error) {
	o := k.Object("_EPROCESS", at)
	typ, err := o.Field("Pcb.Header.Type").Uint()
	if err != nil {
		return Process{}, err
	}
	if typ&0x7f != processObject {
		return Process{}, fmt.Errorf("%s is not a process object (type %d)", at, typ&0x7f)
	}
	return read(k, o), nil
}

// processObject is DISPATCHER_HEADER.Type of a process (_KOBJECTS).
const processObject = 3

// Find gives the processes whose id is pid, or, for a name, whose image name is
// equal to it, whatever the case.
func Find(ctx context.Context, k *model.Kernel, pid uint64, image string) iter.Seq2[Process, error] {
	return func(yield func(Process, error) bool) {
		for p, err := range All(ctx, k) {
			match := err != nil || image == "" && p.PID == pid || image != "" && strings.EqualFold(p.Image, image)
			if match && !yield(p, err) {
				return
			}
		}
	}
}

// ImageOf gives the image name of the process at an address.
func ImageOf(k *model.Kernel, at mem.VA) (string, error) {
	f := k.Object("_EPROCESS", at).Field("ImageFileName")
	if f.Err() != nil {
		return "", f.Err()
	}
	b, err := f.Bytes(int(min(f.Type().Size, 16)))
	if err != nil {
		return "", err
	}
	return model.Latin1(b), nil
}

// DirBase gives the page tables of a process.
func DirBase(k *model.Kernel, at mem.VA) (mem.PA, error) {
	v, err := k.Object("_EPROCESS", at).Field("Pcb.DirectoryTableBase").Uint()
	return mem.PA(v), err
}

// Space gives the address space of the process at an address.
func Space(k *model.Kernel, at mem.VA) (*mem.Space, error) {
	root, err := DirBase(k, at)
	if err != nil {
		return nil, err
	}
	return k.Space.WithRoot(root), nil
}

func read(k *model.Kernel, o model.Object) Process {
	p := Process{Address: o.Addr()}
	p.PID = p.Gaps.Uint("pid", o.Field("UniqueProcessId"))
	p.ParentPID = p.Gaps.Uint("parent_pid", o.Field("InheritedFromUniqueProcessId"))
	p.Peb = mem.VA(p.Gaps.Uint("peb", o.Field("Peb")))
	p.DirBase = p.Gaps.Uint("dir_base", o.Field("Pcb.DirectoryTableBase"))
	p.ObjectTable = mem.VA(p.Gaps.Uint("object_table", o.Field("ObjectTable")))
	dm, err := DeviceMapOf(o)
	p.DeviceMap = dm
	p.Gaps.Set("device_map", err)
	p.Image, err = ImageOf(k, o.Addr())
	p.Gaps.Set("image", err)
	readSession(k, o, &p)
	p.HandleCount = readHandleCount(k, &p)
	return p
}

// DeviceMapOf gives the device map of an _EPROCESS: a pointer, or from Windows 11
// 24H2 on an _EX_FAST_REF, whose low four bits count references.
func DeviceMapOf(o model.Object) (mem.VA, error) {
	f := o.Field("DeviceMap")
	at, err := f.Pointer()
	if t := f.Type(); err == nil && t != nil && t.Name == "_EX_FAST_REF" {
		at &^= 0xf
	}
	return at, err
}

// From Windows 11 24H2 on tables have the session's structure by another name
// and without members; the number is where it was before (Volatility 3, pull
// request 1399). Numbers of sessions count up from 0: others are none.
const (
	sessionID  = 8
	maxSession = 1 << 16
)

// SessionID reads the number of the session whose structure lies at an address.
func SessionID(k *model.Kernel, space *mem.Space, at mem.VA) (uint32, error) {
	for _, name := range []string{"_MM_SESSION_SPACE", "_PSP_SESSION_SPACE"} {
		if o := k.ObjectIn(space, name, at); o.Has("SessionId") {
			id, err := o.Field("SessionId").Uint()
			return uint32(id), err
		}
	}
	if _, err := k.Types.Type("_MM_SESSION_SPACE"); k.Degraded || err == nil {
		_, err = k.ObjectIn(space, "_MM_SESSION_SPACE", at).Field("SessionId").Uint()
		return 0, err
	}
	id, err := space.Uint32(at + sessionID)
	if err == nil && id >= maxSession {
		err = fmt.Errorf("session at %#x: %#x is no number of a session", uint64(at), id)
	}
	return id, err
}

// readSession follows _EPROCESS.Session to the session's structure, which is
// mapped in the process's own address space on most builds.
func readSession(k *model.Kernel, o model.Object, p *Process) {
	at, err := o.Field("Session").Pointer()
	if !p.Gaps.Set("session", err) || at == 0 {
		return
	}
	space := k.Space
	if p.DirBase != 0 {
		space = k.Space.WithRoot(mem.PA(p.DirBase))
	}
	id, err := SessionID(k, space, at)
	if p.Gaps.Set("session", err) {
		p.Session, p.HasSession = id, true
	}
}

// readHandleCount reads _HANDLE_TABLE.HandleCount (7601), or the counts of its
// free lists, where later builds keep it.
func readHandleCount(k *model.Kernel, p *Process) uint64 {
	if err := p.Gaps["object_table"]; err != nil || p.ObjectTable == 0 {
		p.Gaps.Set("handle_count", err)
		return 0
	}
	table := k.Object("_HANDLE_TABLE", p.ObjectTable)
	if table.Has("HandleCount") {
		return p.Gaps.Uint("handle_count", table.Field("HandleCount"))
	}
	lists := table.Field("FreeLists")
	if err := lists.Err(); err != nil {
		p.Gaps.Set("handle_count", err)
		return 0
	}
	var sum uint64
	for i := range lists.Type().Count {
		sum += p.Gaps.Uint("handle_count", lists.Index(i).Field("HandleCount"))
	}
	return sum
}
