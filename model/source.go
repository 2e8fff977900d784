// Package model is the kernel of a dumped machine as objects: its address
// space, its modules with their symbols, its processors, and typed views of
// its structures.
//
// Load finds these from what a container says of itself. The walkers in the
// folders below enumerate processes, threads, resources and pool over it. The
// package knows no container format and no command.
package model

import (
	"context"

	"gokd/model/mem"
	"gokd/model/types"
)

// Machine types (IMAGE_FILE_MACHINE_* of the PE format).
const (
	MachineX64   = 0x8664
	MachineARM64 = 0xaa64
)

// Source is a dump as the model sees it. Whoever opened the container fills it.
type Source struct {
	Name    string // file name, for messages
	Machine uint16
	Build   uint32 // MinorVersion of the header; 0 where unknown
	Checked bool   // a checked build

	Physical mem.Physical // nil where the container has only virtual blocks
	Virtual  mem.Virtual  // captured blocks, nil where there is physical memory
	DTB      mem.PA       // the page tables of the crashing context

	DebugData     mem.VA // KdDebuggerDataBlock
	LoadedModules mem.VA // PsLoadedModuleList
	ActiveProcs   mem.VA // PsActiveProcessHead
	Processors    uint32

	Symbols types.Resolver // nil: embedded tables only
	Images  ImageFinder    // nil: none

	Crash    Crash
	Warnings []string // of the container

	Header    []HeaderField   // numbers of its headers as they stand in the file; nil where it has none
	Secondary []SecondaryData // what drivers' bug check callbacks added
}

// HeaderField is a number of a container's header, by its public name.
type HeaderField struct {
	Structure, Name string
	Value           uint64
	Bits            uint8 // width: 8, 32 or 64
}

// SecondaryData is a stream of secondary data.
type SecondaryData struct {
	Tag  types.GUID
	Size uint32 // bytes
	Read func() ([]byte, error)
}

// ImageFinder finds image files that match a loaded module.
type ImageFinder interface {
	Find(ctx context.Context, id types.ImageID) (*types.ImageFile, error)
}

// Crash is what the container says of the crash and of the machine.
type Crash struct {
	Code      uint32
	Args      [4]uint64
	Context   []byte // raw CONTEXT of the crashing processor; nil where absent
	Exception []byte // raw EXCEPTION_RECORD64

	SystemTime  uint64 // FILETIME; 0 where absent
	UpTime      uint64 // 100 ns units; 0 where absent
	ProductType uint32
	SuiteMask   uint32
	Live        bool
	DumpType    uint32
	Format      string // name of the container format
	Unverified  string

	Triage *Triage // what a triage dump holds besides blocks
}

// Triage is the module lists and structure copies of a triage dump.
type Triage struct {
	Drivers     []TriageDriver
	Unloaded    []TriageUnloaded
	Prcb        []byte
	Process     []byte
	Thread      []byte
	StackTop    mem.VA
	StackSize   uint64
	ServicePack uint32
	// Place makes a copied structure readable at its address.
	Place func(at mem.VA, data []byte)
}

// TriageDriver is a loaded image in a triage dump's list.
type TriageDriver struct {
	Path      string
	Base      mem.VA
	Entry     mem.VA
	Size      uint32
	CheckSum  uint32
	Timestamp uint32
}

// TriageUnloaded is an unloaded image in a triage dump's list.
type TriageUnloaded struct {
	Name       string
	Start, End mem.VA
}
