package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"gokd/model/mem"
	"gokd/model/types"
)

// Load makes a kernel of a dump, in stages; each later stage uses what the
// earlier ones found and does without what they did not. It fails only where
// there is no memory at all; what is missing else stands in Warnings.
func Load(ctx context.Context, src Source) (*Kernel, error) {
	k := &Kernel{Source: src, Build: src.Build, Modules: &Modules{}, undecorated: &undecorator{}}
	k.Warnings = append(k.Warnings, src.Warnings...)

	// Stage 1: an address space, from the page tables that the header names or
	// from captured blocks.
	switch {
	case src.Physical != nil:
		k.Space = mem.NewX64(src.Physical, src.DTB)
	case src.Virtual != nil:
		k.Space = mem.NewFlat(src.Virtual)
	default:
		return nil, fmt.Errorf("%s: the dump holds no memory", src.Name)
	}

	// Without the hardware's page-table format nothing else can be found.
	if src.Machine != MachineX64 {
		k.loadTriageOnly(ctx)
		return k, nil
	}

	// Stage 2: the kernel image and its debugger data block.
	k.findKernel(ctx)
	k.checkProcessors()

	// Stage 3: structures at fixed places of a triage dump become readable at
	// the addresses they were copied from.
	k.placeCopies()

	// Stage 4: layouts, proved against the dump where they are not exact.
	k.loadLayouts(ctx)

	// Stage 5: how non-present page-table entries are written. It follows the
	// update level of the kernel, not its build.
	k.loadSoftPTE()

	// Stage 6: processors, clocks, modules.
	k.Processors = k.readProcessors()
	k.loadContexts()
	k.loadTime()
	k.loadModules(ctx)

	// Stage 7: session space (win32k) is mapped only in processes of a session.
	k.loadSession(ctx)

	// Stage 8: image files stand in for read-only sections that the dump lacks.
	k.loadImages(ctx)
	return k, nil
}

// findKernel finds the kernel image and the debugger data block. A plain block
// names the image's base; where it is encoded, the first module of the loader's
// list does, and the image's identity leads to the keys.
func (k *Kernel) findKernel(ctx context.Context) {
	err := k.loadDebugData()
	k.findBase()
	k.identify(ctx)
	if err != nil {
		if err = k.loadDebugData(); err != nil {
			k.warn("%v", err)
		}
	}
	if k.Base == 0 {
		k.warn("the kernel image was not found: neither the debugger data block nor the module list can be read")
	}
}

// loadTriageOnly lists what needs no layout, for machines whose structures are
// not known here.
func (k *Kernel) loadTriageOnly(ctx context.Context) {
	if d, err := k.Space.Bytes(k.Source.DebugData, int(debugMaxSize)); k.Source.Physical == nil && (err == nil || len(d) > 0) {
		if k.Debug, err = parseDebugData(d, k.Source.DebugData); err == nil {
			base, _ := k.Debug.Field(DebugKernBase)
			k.Base = mem.VA(base)
		}
	}
	if k.Source.Physical == nil {
		k.loadModules(ctx)
		return
	}
	k.Modules.Err = errors.New("its list needs this machine's page tables, and ARM64 is not supported yet")
}

// findBase finds the kernel image's base: the debugger data block, else the
// first entry of the module list, which is always the kernel.
func (k *Kernel) findBase() {
	if base, ok := k.Debug.Field(DebugKernBase); ok {
		k.Base = mem.VA(base)
		return
	}
	if t := k.Source.Crash.Triage; t != nil && len(t.Drivers) > 0 && kernelImage(baseName(t.Drivers[0].Path)) {
		k.Base = t.Drivers[0].Base
		return
	}
	if first, err := k.Space.Pointer(k.Source.LoadedModules); err == nil {
		// That list is a variable of the kernel, so its image lies around it.
		base, err := k.Space.Pointer(first + ldrDllBase)
		if err == nil && base <= k.Source.LoadedModules && k.Source.LoadedModules-base < maxKernelImage && k.isImage(base) {
			k.Base = base
			return
		}
	}
	// The list head is a variable of the kernel itself: its image starts at a
	// page below that holds a PE header.
	k.Base = k.imageBelow(k.Source.LoadedModules)
}

// maxKernelImage is more than any kernel image measures.
const maxKernelImage = 64 << 20

func (k *Kernel) imageBelow(at mem.VA) mem.VA {
	if at == 0 {
		return 0
	}
	for page := at.Page(); uint64(at-page) < maxKernelImage && page < at+1; page -= mem.PageSize {
		if k.isImage(page) {
			return page
		}
	}
	return 0
}

// isImage reports whether a page starts with a PE header.
func (k *Kernel) isImage(at mem.VA) bool {
	var dos [0x40]byte
	if _, err := k.Space.ReadVirtual(dos[:], at); err != nil || dos[0] != 'M' || dos[1] != 'Z' {
		return false
	}
	lfanew := binary.LittleEndian.Uint32(dos[0x3c:])
	if lfanew < 0x40 || lfanew > 0x800 {
		return false
	}
	sig, err := k.Space.Uint32(at + mem.VA(lfanew))
	return err == nil && sig == 0x4550 // "PE\0\0"
}

// identify finds the GUID and age of the kernel image and what is known under
// them: types and symbols from a table, embedded addresses.
func (k *Kernel) identify(ctx context.Context) {
	if k.Base == 0 {
		return
	}
	k.ID = types.ImageID{Name: "ntoskrnl.exe"}
	if img, err := types.ParseImage(k.imageReader(k.Base)); img != nil {
		k.ID = img.ID(k.ID.Name)
	} else if k.Source.Physical != nil {
		k.warn("kernel image at %#x: %v", uint64(k.Base), err)
	}
	if t := k.Source.Crash.Triage; t != nil && k.ID.Timestamp == 0 {
		for _, d := range t.Drivers {
			if d.Base == k.Base {
				k.ID.Timestamp, k.ID.Size = d.Timestamp, d.Size
			}
		}
	}
	if k.ID.Zero() {
		k.identifyByAddresses()
	}
	if k.ID.Zero() {
		return
	}
	if _, g, ok := types.EmbeddedByGUID(k.ID.GUID, k.ID.Age); ok {
		k.globals = g
	}
	if k.Source.Symbols == nil {
		return
	}
	store, syms, err := k.Source.Symbols.Resolve(ctx, k.ID)
	if err != nil {
		return // lm and the banner tell which kind of symbols a module has
	}
	k.symbols = syms
	if store != nil {
		k.Types = store
	}
}

// loadSoftPTE decides the generation of software page-table entries: the type
// tables of updated kernels have _MMPTE_SOFTWARE.SwizzleBit.
func (k *Kernel) loadSoftPTE() {
	if k.Types == nil || !k.Space.Paged() {
		return
	}
	t, err := k.Types.Type("_MMPTE_SOFTWARE")
	if err != nil {
		// Without a layout the build decides; from 17763 on only unpatched
		// machines have the old form.
		k.Space.SetSoftPTE(mem.SoftPTE{Swizzled: k.Build >= firstAlwaysSwizzled})
		return
	}
	soft := mem.SoftPTE{}
	if _, ok := t.Field("SwizzleBit"); ok {
		soft.Swizzled = true
		soft.InvalidMask = k.invalidPteMask()
	}
	if err := checkSoftPTE(k.Types, soft.Swizzled); err != nil {
		soft.Unknown = true
		k.warn("page-table entries: %v: pages that are in transition, in the page file or shared through prototype entries are not read", err)
	}
	k.Space.SetSoftPTE(soft)
}

// softBits are the bits of software page-table entries that the reader of
// memory relies on, as in the types of all public tables.
var softBits = []struct {
	typ, field string
	pos, bits  uint32
	swizzled   int // 1: of the new form only, -1: of the old only
}{
	{"_MMPTE_SOFTWARE", "Valid", 0, 1, 0},
	{"_MMPTE_SOFTWARE", "SwizzleBit", 4, 1, 1},
	{"_MMPTE_SOFTWARE", "Protection", 5, 5, 0},
	{"_MMPTE_SOFTWARE", "Prototype", 10, 1, 0},
	{"_MMPTE_SOFTWARE", "Transition", 11, 1, 0},
	{"_MMPTE_SOFTWARE", "PageFileLow", 1, 4, -1},
	{"_MMPTE_SOFTWARE", "PageFileLow", 12, 4, 1},
	{"_MMPTE_SOFTWARE", "PageFileHigh", 32, 32, 0},
	{"_MMPTE_TRANSITION", "Prototype", 10, 1, 0},
	{"_MMPTE_TRANSITION", "Transition", 11, 1, 0},
	{"_MMPTE_TRANSITION", "PageFrameNumber", 12, 0, 0}, // 36 or 40 bits
	{"_MMPTE_PROTOTYPE", "Prototype", 10, 1, 0},
	{"_MMPTE_PROTOTYPE", "ProtoAddress", 16, 48, 0},
}

// checkSoftPTE compares them with what a table says; what it lacks is no
// contradiction.
func checkSoftPTE(s types.Store, swizzled bool) error {
	for _, want := range softBits {
		t, err := s.Type(want.typ)
		if err != nil || want.swizzled == 1 && !swizzled || want.swizzled == -1 && swizzled {
			continue
		}
		f, ok := t.Field(want.field)
		if !ok {
			continue
		}
		pos := 8*f.Offset + uint32(f.BitPos)
		if pos != want.pos || want.bits != 0 && uint32(f.BitLen) != want.bits {
			return fmt.Errorf("%s.%s is at bit %d of %d bits, known kernels have it at %d", want.typ, want.field, pos, f.BitLen, want.pos)
		}
	}
	return nil
}

// firstAlwaysSwizzled is the first build whose public tables all have the new
// form of software page-table entries.
const firstAlwaysSwizzled = 17763

// invalidPteMask reads the mask where its place is known: MiInvalidPteMask up
// to 9600, MiState.Hardware.InvalidPteMask later. 0 where it is not.
func (k *Kernel) invalidPteMask() uint64 {
	at, err := k.Global("MiInvalidPteMask")
	if err != nil {
		var off uint32
		if at, err = k.Global("MiState"); err != nil {
			return 0
		}
		if off, err = OffsetOf(k.Types, "_MI_SYSTEM_INFORMATION", "Hardware", "InvalidPteMask"); err != nil {
			return 0
		}
		at += mem.VA(off)
	}
	mask, err := k.Space.Uint64(at)
	// A mask flips physical address bits only; anything else is no mask.
	if err != nil || mask&^0x000ffffffffff000 != 0 {
		return 0
	}
	return mask
}

// Fields of KUSER_SHARED_DATA (ntddk.h), mapped at one address on every x64
// machine.
const (
	SharedUserData         mem.VA = 0xfffff78000000000
	sharedTickMultiplier          = 0x4
	sharedTickCount               = 0x320
	sharedProductType             = 0x264
	sharedNtBuildNumber           = 0x260
	ticksFixedPointDivisor        = 1 << 24
)

// loadTime reads the clocks. The length of a tick is KeMaximumIncrement;
// without that symbol it is worked out from TickCountMultiplier, milliseconds
// per tick in 8.24 fixed point, which the kernel computes from it.
func (k *Kernel) loadTime() {
	ticks, err := k.Space.Uint64(SharedUserData + sharedTickCount)
	if err != nil {
		k.Time.Err = fmt.Errorf("KUSER_SHARED_DATA.TickCount: %w", err)
	}
	k.Time.Ticks = ticks
	if inc, err := k.Global32("KeMaximumIncrement"); err == nil && saneIncrement(inc) {
		k.Time.Increment = inc
		return
	}
	mult, err := k.Space.Uint32(SharedUserData + sharedTickMultiplier)
	if err == nil {
		inc := (uint64(mult)*10000 + ticksFixedPointDivisor - 1) / ticksFixedPointDivisor
		if saneIncrement(uint32(inc)) {
			k.Time.Increment = uint32(inc)
			return
		}
	}
	if inc, err := k.Global32("KeTimeIncrement"); err == nil && saneIncrement(inc) {
		k.Time.Increment = inc
		return
	}
	k.Time.Err = fmt.Errorf("the length of a clock tick is not in the dump")
}

// saneIncrement: real clocks tick every 0.5 to 20 ms.
func saneIncrement(inc uint32) bool { return inc >= 1000 && inc <= 300000 }

// loadSession finds a process that belongs to a session; its page tables answer
// where the kernel's own map nothing.
func (k *Kernel) loadSession(ctx context.Context) {
	if k.Types == nil || !k.Space.Paged() {
		return
	}
	head, err := k.Global("PsActiveProcessHead")
	if err != nil {
		return
	}
	for p, err := range k.List(ctx, head, "_EPROCESS", "ActiveProcessLinks", MaxProcesses) {
		if err != nil {
			return
		}
		session, err := p.Field("Session").Uint()
		dtb, err2 := p.Field("Pcb.DirectoryTableBase").Uint()
		if err != nil || err2 != nil || session == 0 || dtb&^0xfff == 0 {
			continue
		}
		k.Space.AddOverlay(kernelHalf, 1<<47, k.Space.WithRoot(mem.PA(dtb)))
		return
	}
}
