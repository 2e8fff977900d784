package model

import (
	"fmt"

	"gokd/model/mem"
	"gokd/model/types"
)

// Kernel is a loaded target.
type Kernel struct {
	Source Source
	Space  *mem.Space
	Build  uint32
	Base   mem.VA        // of the kernel image; 0 where it was not found
	ID     types.ImageID // of the kernel image

	Types types.Store // nil where nothing tells the layout of a structure
	// Degraded: no layout proved itself. Types then holds only what the debugger
	// data block says of threads, stacks and processor blocks.
	Degraded bool
	Debug    *DebugData // nil where the block can't be read
	Modules  *Modules

	Processors []Processor
	Time       TimeFacts

	Warnings []string // what was tolerated while loading

	symbols types.Symbols // of the kernel image, from a table that matches it
	globals types.Symbols // embedded addresses for its GUID

	undecorated *undecorator // nil: undecorates anew each time
}

// lookup makes a possibly absent symbol table safe to ask.
type lookup struct{ s types.Symbols }

func (l lookup) Lookup(name string) (uint32, bool) {
	if l.s == nil {
		return 0, false
	}
	sym, ok := l.s.Lookup(name)
	return sym.RVA, ok
}

// GlobalError says that the address of a kernel variable is not known.
type GlobalError struct {
	Name string
	ID   types.ImageID
}

func (e *GlobalError) Error() string {
	if e.ID.Zero() {
		return fmt.Sprintf("nt!%s: its address is not known: the kernel's identity is not in the dump", e.Name)
	}
	return fmt.Sprintf("nt!%s: its address is not known: it needs the symbols of this kernel (%s, %s, age %d)",
		e.Name, e.ID.PDB, e.ID.GUID, e.ID.Age)
}

// Global gives the address of a kernel variable: from symbols, else from the
// debugger data block, else from the embedded addresses for exactly this
// kernel. Never from a neighbouring build.
func (k *Kernel) Global(name string) (mem.VA, error) {
	if rva, ok := (lookup{k.symbols}).Lookup(name); ok && k.Base != 0 {
		return k.Base + mem.VA(rva), nil
	}
	if at, ok := k.Debug.Global(name); ok {
		return at, nil
	}
	if rva, ok := (lookup{k.globals}).Lookup(name); ok && k.Base != 0 {
		return k.Base + mem.VA(rva), nil
	}
	switch name { // the header repeats these two
	case "PsLoadedModuleList":
		if k.Source.LoadedModules != 0 {
			return k.Source.LoadedModules, nil
		}
	case "PsActiveProcessHead":
		if k.Source.ActiveProcs != 0 {
			return k.Source.ActiveProcs, nil
		}
	}
	return 0, &GlobalError{Name: name, ID: k.ID}
}

// GlobalPointer reads the pointer-sized variable of that name.
func (k *Kernel) GlobalPointer(name string) (mem.VA, error) {
	at, err := k.Global(name)
	if err != nil {
		return 0, err
	}
	v, err := k.Space.Pointer(at)
	if err != nil {
		return 0, fmt.Errorf("nt!%s: %w", name, err)
	}
	return v, nil
}

// Global32 reads the 32-bit variable of that name.
func (k *Kernel) Global32(name string) (uint32, error) {
	at, err := k.Global(name)
	if err != nil {
		return 0, err
	}
	v, err := k.Space.Uint32(at)
	if err != nil {
		return 0, fmt.Errorf("nt!%s: %w", name, err)
	}
	return v, nil
}

// Origin says where the layouts come from.
func (k *Kernel) Origin() types.Origin {
	if k.Types == nil {
		return types.Origin{Build: k.Build}
	}
	return k.Types.Origin()
}

// NeedsSymbols says what is needed where no layout fits this kernel.
func (k *Kernel) NeedsSymbols() string {
	if k.ID.Zero() {
		return fmt.Sprintf("no layout of build %d fits this kernel, and its identity is not in the dump; symbols of the image with time stamp %08X and size %#x are needed",
			k.Build, k.ID.Timestamp, k.ID.Size)
	}
	return fmt.Sprintf("no layout of build %d fits this kernel; symbols are needed: %s, GUID %s, age %d", k.Build, k.ID.PDB, k.ID.GUID, k.ID.Age)
}

// Triage reports whether the target is a triage dump: blocks without page
// tables.
func (k *Kernel) Triage() bool { return k.Source.Physical == nil }

// maxWarnings bounds Warnings: a machine that is damaged everywhere says so once.
const maxWarnings = 128

func (k *Kernel) warn(format string, args ...any) {
	switch n := len(k.Warnings); {
	case n < maxWarnings:
		k.Warnings = append(k.Warnings, fmt.Sprintf(format, args...))
	case n == maxWarnings:
		k.Warnings = append(k.Warnings, "further warnings are left out")
	}
}

// UnicodeString reads the _UNICODE_STRING at an address: at most 32,767 UTF-16
// units, or max units where that is less. Unpaired surrogates are kept as
// U+FFFD.
func (k *Kernel) UnicodeString(at mem.VA, max int) (string, error) {
	return ReadUnicodeString(k.Space, at, max)
}

// Processor is one processor of the machine.
type Processor struct {
	Number        int
	PRCB          mem.VA
	CurrentThread mem.VA
	NextThread    mem.VA
	IdleThread    mem.VA
	Context       *Registers // as saved when the dump was made; nil where it was not
	Err           error      // why something of it could not be read
}

// TimeFacts are the clocks of the machine when the dump was made.
type TimeFacts struct {
	Ticks     uint64 // since boot
	Increment uint32 // length of a tick in 100 ns units; 0 where unknown
	Err       error  // why a clock is unknown
}

// Milliseconds turns ticks into milliseconds, truncated as kd does.
func (t TimeFacts) Milliseconds(ticks uint64) uint64 {
	return ticks * uint64(t.Increment) / 10000
}
