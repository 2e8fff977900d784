package model

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"gokd/model/mem"
)

// DebugField is a field of KDDEBUGGER_DATA64: byte offset and size. The block
// is part of the debugger interface (wdbgexts.h), laid out alike on every
// build; later builds only append. Block.Size says how much of it exists.
type DebugField struct{ Off, Size uint16 }

// The fields that gokd uses. Names are those of the structure.
var (
	DebugOwnerTag   = DebugField{0x010, 4}
	DebugSize       = DebugField{0x014, 4}
	DebugKernBase   = DebugField{0x018, 8}
	DebugMmPageSize = DebugField{0x138, 8}

	DebugOffsetKThreadNextProcessor              = DebugField{0x298, 2}
	DebugOffsetKThreadTeb                        = DebugField{0x29a, 2}
	DebugOffsetKThreadKernelStack                = DebugField{0x29c, 2}
	DebugOffsetKThreadInitialStack               = DebugField{0x29e, 2}
	DebugOffsetKThreadApcProcess                 = DebugField{0x2a0, 2}
	DebugOffsetKThreadState                      = DebugField{0x2a2, 2}
	DebugSizeEProcess                            = DebugField{0x2a8, 2}
	DebugOffsetEprocessPeb                       = DebugField{0x2aa, 2}
	DebugOffsetEprocessParentCID                 = DebugField{0x2ac, 2}
	DebugOffsetEprocessDirectoryTableBase        = DebugField{0x2ae, 2}
	DebugSizePrcb                                = DebugField{0x2b0, 2}
	DebugOffsetPrcbCurrentThread                 = DebugField{0x2b4, 2}
	DebugOffsetPrcbProcStateContext              = DebugField{0x2bc, 2}
	DebugOffsetPrcbNumber                        = DebugField{0x2be, 2}
	DebugSizeEThread                             = DebugField{0x2c0, 2}
	DebugOffsetPcrContainedPrcb                  = DebugField{0x2e6, 2}
	DebugOffsetPrcbContext                       = DebugField{0x338, 2}
	DebugOffsetKThreadStackLimit                 = DebugField{0x340, 4}
	DebugOffsetKThreadStackBase                  = DebugField{0x344, 4}
	DebugOffsetKThreadQueueListEntry             = DebugField{0x348, 4}
	DebugOffsetEThreadIrpList                    = DebugField{0x34c, 4}
	DebugOffsetPrcbIdleThread                    = DebugField{0x350, 2}
	DebugOffsetKThreadWaitReason                 = DebugField{0x35c, 2}
	DebugPteBase                                 = DebugField{0x360, 8}
	debugMinSize, debugMaxSize            uint32 = 0x290, 0x1000
)

// debugGlobals are the kernel variables whose addresses the block gives.
var debugGlobals = map[string]DebugField{
	"PsLoadedModuleList":            {0x048, 8},
	"PsActiveProcessHead":           {0x050, 8},
	"PspCidTable":                   {0x058, 8},
	"ExpSystemResourcesList":        {0x060, 8},
	"ExpPagedPoolDescriptor":        {0x068, 8},
	"ExpNumberOfPagedPools":         {0x070, 8},
	"KeTimeIncrement":               {0x078, 8},
	"KiBugCheckData":                {0x088, 8},
	"ObpRootDirectoryObject":        {0x098, 8},
	"ObpTypeObjectType":             {0x0a0, 8},
	"MmPfnDatabase":                 {0x0c0, 8},
	"MmNumberOfPagingFiles":         {0x0e8, 8},
	"MmNumberOfPhysicalPages":       {0x0f8, 8},
	"MmNonPagedPoolStart":           {0x110, 8},
	"MmNonPagedPoolEnd":             {0x118, 8},
	"MmPagedPoolStart":              {0x120, 8},
	"MmPagedPoolEnd":                {0x128, 8},
	"MmTotalCommitLimit":            {0x148, 8},
	"MmTotalCommittedPages":         {0x150, 8},
	"MmSharedCommit":                {0x158, 8},
	"MmDriverCommit":                {0x160, 8},
	"MmProcessCommit":               {0x168, 8},
	"MmPagedPoolCommit":             {0x170, 8},
	"MmModifiedPageListHead":        {0x198, 8},
	"MmModifiedNoWritePageListHead": {0x1a0, 8},
	"MmAvailablePages":              {0x1a8, 8},
	"MmResidentAvailablePages":      {0x1b0, 8},
	"PoolTrackTable":                {0x1b8, 8},
	"NonPagedPoolDescriptor":        {0x1c0, 8},
	"NtBuildLab":                    {0x208, 8},
	"KiProcessorBlock":              {0x218, 8},
	"MmUnloadedDrivers":             {0x220, 8},
	"MmLastUnloadedDriver":          {0x228, 8},
	"MmSpecialPoolTag":              {0x238, 8},
	"MmAllocatedNonPagedPool":       {0x250, 8},
	"CmNtCSDVersion":                {0x268, 8},
	"MmPhysicalMemoryBlock":         {0x270, 8},
}

const debugTag = 0x4742444b // "KDBG"

// DebugData is the kernel's debugger data block.
type DebugData struct {
	At      mem.VA
	Decoded bool // it was encoded in memory
	raw     []byte
}

// Field reads a field of the block; ok is false where the block is shorter or
// the field is zero, which means that the build does not fill it.
func (d *DebugData) Field(f DebugField) (v uint64, ok bool) {
	if d == nil || int(f.Off)+int(f.Size) > len(d.raw) {
		return 0, false
	}
	var b [8]byte
	copy(b[:], d.raw[f.Off:f.Off+f.Size])
	v = binary.LittleEndian.Uint64(b[:])
	return v, v != 0
}

// Global gives the address of a kernel variable that the block names.
func (d *DebugData) Global(name string) (mem.VA, bool) {
	f, ok := debugGlobals[name]
	if !ok {
		return 0, false
	}
	v, ok := d.Field(f)
	return mem.VA(v), ok
}

// parseDebugData checks a plain block.
func parseDebugData(raw []byte, at mem.VA) (*DebugData, error) {
	if len(raw) < int(debugMinSize) {
		return nil, fmt.Errorf("debugger data block at %#x: %d bytes readable, want at least %d", uint64(at), len(raw), debugMinSize)
	}
	tag, size := binary.LittleEndian.Uint32(raw[0x10:]), binary.LittleEndian.Uint32(raw[0x14:])
	if tag != debugTag {
		return nil, fmt.Errorf("debugger data block at %#x: tag is %#x, not KDBG", uint64(at), tag)
	}
	if size < debugMinSize || size > debugMaxSize {
		return nil, fmt.Errorf("debugger data block at %#x: size %#x is no block's", uint64(at), size)
	}
	if int(size) < len(raw) {
		raw = raw[:size]
	}
	return &DebugData{At: at, raw: raw}, nil
}

// decodeDebugData undoes the encoding of Windows 8 and later (public in the
// win8_kdbg overlay of Volatility and in MemProcFS): per 64-bit word, XOR with
// KiWaitNever, rotate left by its low byte, XOR with the address of
// KdpDataBlockEncoded, swap bytes, XOR with KiWaitAlways.
func decodeDebugData(raw []byte, never, always uint64, encodedFlag mem.VA) []byte {
	out := make([]byte, len(raw)&^7)
	for i := 0; i+8 <= len(raw); i += 8 {
		v := binary.LittleEndian.Uint64(raw[i:]) ^ never
		v = bits.RotateLeft64(v, int(never&0xff))
		v = bits.ReverseBytes64(v^uint64(encodedFlag)) ^ always
		binary.LittleEndian.PutUint64(out[i:], v)
	}
	return out
}

// loadDebugData reads the block, decoding it where need be. k.globals must be
// set for an encoded one.
func (k *Kernel) loadDebugData() error {
	at := k.Source.DebugData
	if g, ok := k.globalRVA("KdDebuggerDataBlock"); ok && at == 0 {
		at = g
	}
	if at == 0 {
		return fmt.Errorf("debugger data block: the header gives no address")
	}
	raw, rerr := k.Space.Bytes(at, int(debugMaxSize))
	d, err := parseDebugData(raw, at)
	if err == nil {
		k.Debug = d
		return nil
	}
	if len(raw) < int(debugMinSize) && rerr != nil {
		return fmt.Errorf("debugger data block: %w", rerr)
	}
	never, ok1 := k.readGlobal64("KiWaitNever")
	always, ok2 := k.readGlobal64("KiWaitAlways")
	flag, ok3 := k.globalRVA("KdpDataBlockEncoded")
	if !ok1 || !ok2 || !ok3 {
		return fmt.Errorf("%w; if it is encoded, the symbols of this kernel are needed to decode it", err)
	}
	plain := decodeDebugData(raw, never, always, flag)
	if d, err = parseDebugData(plain, at); err != nil {
		return fmt.Errorf("%w, plain or decoded", err)
	}
	d.Decoded = true
	k.Debug = d
	return nil
}

// globalRVA finds a kernel variable by symbols or embedded addresses only.
func (k *Kernel) globalRVA(name string) (mem.VA, bool) {
	for _, s := range []interface {
		Lookup(string) (rva uint32, ok bool)
	}{lookup{k.symbols}, lookup{k.globals}} {
		if rva, ok := s.Lookup(name); ok && k.Base != 0 {
			return k.Base + mem.VA(rva), true
		}
	}
	return 0, false
}

func (k *Kernel) readGlobal64(name string) (uint64, bool) {
	at, ok := k.globalRVA(name)
	if !ok {
		return 0, false
	}
	v, err := k.Space.Uint64(at)
	return v, err == nil
}
