package dumpfmt

import (
	"bytes"
	"slices"

	"gokd/model/mem"
)

// Layout of DUMP_HEADER64 (public in the Windows SDK's mindumpdef.h; also QEMU
// include/qemu/win_dump_defs.h, volatility3 crash64.json, kdmp-parser). What
// follows the header starts at dataOffset.
const (
	dataOffset = 0x2000

	offMajor         = 0x08
	offMinor         = 0x0c
	offDTB           = 0x10
	offPfnDatabase   = 0x18
	offLoadedModules = 0x20
	offActiveProcs   = 0x28
	offMachine       = 0x30
	offProcessors    = 0x34
	offBugCheck      = 0x38
	offBugArgs       = 0x40
	offDebugData     = 0x80
	offContext       = 0x348
	offException     = 0xf00
	offDumpType      = 0xf98
	offRequiredSpace = 0xfa0
	offSystemTime    = 0xfa8
	offComment       = 0xfb0
	commentSize      = 0x80
	offUpTime        = 0x1030
	offProductType   = 0x1040
	offSuiteMask     = 0x1044
	offAttributes    = 0x1050

	exceptionSize = 0x98
)

// Bits of DUMP_HEADER64.Attributes (DUMP_FILE_ATTRIBUTES of mindumpdef.h).
const (
	attrLive      = 1 << 4 // LiveDumpGeneratedDump
	attrEncrypted = 1 << 8 // EncryptedDumpData
	attrDecrypted = 1 << 9 // set by the program that decrypted it
)

// LIVE_SYSTEM_DUMP, the bug check code of a dump made on a running machine
// (Microsoft's bug check reference; QEMU writes it too).
const bugCheckLive = 0x161

// contexts gives the size of a CONTEXT and the offset of its ContextFlags, by
// machine (winnt.h; both seen in triage dumps).
var contexts = map[uint16]struct{ size, flags int }{
	MachineX64:   {0x4d0, 0x30},
	MachineARM64: {0x390, 0},
}

// foreignMachines are machine types whose kernels gokd does not read.
var foreignMachines = map[uint32]string{
	MachineX86: "32-bit x86", 0x200: "Itanium (IA64)", 0x1c0: "32-bit ARM", 0x1c4: "32-bit ARM", 0x184: "Alpha", 0x284: "64-bit Alpha",
}

var crash64 = &Format{
	Name: "64-bit crash dump",
	Doc:  "full, kernel, active, summary, triage and WinDbg-made dumps of x64 and ARM64 machines (PAGEDU64)",
	Sniff: func(head []byte) bool {
		return bytes.HasPrefix(head, []byte("PAGEDU64"))
	},
	Open: openCrash64,
}

// kind is one DumpType of the header.
type kind struct {
	name string
	open func(o *opener) error
}

// kinds lists the dump types (mindumpdef.h names 1 to 7; WinDbg writes 8 to 10).
var kinds = map[uint32]kind{
	1:  {"64-bit full dump", openFull},
	2:  {"64-bit kernel summary dump", openSummary},
	4:  {"64-bit triage dump", openTriage},
	5:  {"64-bit full bitmap dump", openBitmap},
	6:  {"64-bit kernel bitmap dump", openBitmap},
	7:  {"64-bit automatic bitmap dump", openBitmap},
	8:  {"64-bit kernel range dump", openRdmp},
	9:  {"64-bit kernel and user range dump", openRdmp},
	10: {"64-bit complete range dump", openRdmp},
}

// opener is what the readers of one dump share while it is opened.
type opener struct {
	f    File
	size int64
	h    record // DUMP_HEADER64
	d    *Dump
	end  int64 // where the primary data ends; secondary data may follow
}

func openCrash64(f File, size int64) (*Dump, error) {
	h, err := readRecord(f, "DUMP_HEADER64", 0, dataOffset)
	if err != nil {
		return nil, err
	}
	o := &opener{f: f, size: size, h: h, d: &Dump{Size: size}}
	if err := o.header(); err != nil {
		return nil, err
	}
	k, err := o.kind()
	if err != nil {
		return nil, err
	}
	o.d.Format = k.name
	if err := k.open(o); err != nil {
		return nil, err
	}
	o.secondary()
	o.d.header = o.fields
	return o.d, nil
}

// header takes over the facts of the header and refuses what cannot be read.
func (o *opener) header() error {
	h, d := o.h, o.d
	machine := h.u32(offMachine)
	if name, ok := foreignMachines[machine]; ok {
		return &UnsupportedError{Is: "a crash dump of a machine of type " + name,
			Next: "open it with WinDbg; gokd reads x64 and ARM64"}
	}
	if machine != MachineX64 && machine != MachineARM64 {
		return h.bad("machine", offMachine, "%#x is no known type", machine)
	}
	if v := h.u32(offAttributes); v>>16 != filler32>>16 { // bits set in filler are no attributes
		d.Attributes = v
	}
	if d.Attributes&attrEncrypted != 0 && d.Attributes&attrDecrypted == 0 {
		return errEncrypted
	}
	d.Machine = uint16(machine)
	d.Type = h.u32(offDumpType)
	d.Major, d.Build = h.opt32(offMajor), h.opt32(offMinor)
	d.Processors = h.opt32(offProcessors)
	d.DTB = mem.PA(h.opt64(offDTB))
	d.DebugData = mem.VA(h.opt64(offDebugData))
	d.LoadedModules = mem.VA(h.opt64(offLoadedModules))
	d.ActiveProcs = mem.VA(h.opt64(offActiveProcs))
	d.PfnDatabase = mem.VA(h.opt64(offPfnDatabase))
	d.BugCheck = h.opt32(offBugCheck)
	for i := range d.BugCheckArgs {
		d.BugCheckArgs[i] = h.opt64(offBugArgs + 8*i)
	}
	d.RequiredSpace = h.opt64(offRequiredSpace)
	d.SystemTime, d.UpTime = h.opt64(offSystemTime), h.opt64(offUpTime)
	d.ProductType, d.SuiteMask = h.opt32(offProductType), h.opt32(offSuiteMask)
	d.Live = d.BugCheck == bugCheckLive || d.Attributes&attrLive != 0
	d.Comment = comment(h.data[offComment : offComment+commentSize])
	d.Context = contextAt(h.data[offContext:], d.Machine)
	d.Exception = exceptionAt(h.data[offException:])
	return nil
}

// errEncrypted names the program that Microsoft gives for it
// (learn.microsoft.com, "About dump encryption").
var errEncrypted = &UnsupportedError{Is: "an encrypted crash dump",
	Next: "decrypt it where its private key is (KernelDumpDecrypt.exe memory.dmp plain.dmp) and open the result"}

// kind looks the dump type up. A type that says nothing is replaced by what
// follows the header, if that has a signature of its own.
func (o *opener) kind() (kind, error) {
	typ := o.d.Type
	k, known := kinds[typ]
	var second [12]byte
	n, _ := o.f.ReadAt(second[:], dataOffset) // what is missing matches nothing
	next := second[:n]
	bmp := bytes.HasPrefix(next, []byte("SDMPDUMP")) || bytes.HasPrefix(next, []byte("FDMPDUMP"))
	rdmp := n == len(second) && string(next[4:]) == "RDMPDUMP"
	noRuns := typ == 1 && o.h.u32(offRunCount) == filler32
	switch {
	case (!known || noRuns) && bmp:
		k = kinds[6]
	case (!known || noRuns) && rdmp:
		k = kinds[9]
	case known:
		return k, nil
	case typ == 3:
		return kind{}, o.h.bad("dump type", offDumpType, "3: the file is a header without memory")
	case typ == 0:
		return kind{}, o.h.bad("dump type", offDumpType, "0: the writer did not finish the dump")
	default:
		return kind{}, o.h.bad("dump type", offDumpType, "%#x is no known type", typ)
	}
	o.d.warn("DUMP_HEADER64: dump type at file offset %#x: %#x does not fit what follows the header: taken for a %s", offDumpType, typ, k.name)
	return k, nil
}

// contextAt copies a CONTEXT, or gives nil where the writer left none: filler
// or zeros where its flags belong.
func contextAt(b []byte, machine uint16) []byte {
	c, ok := contexts[machine]
	if !ok || len(b) < c.size {
		return nil
	}
	flags := record{data: b}.opt32(c.flags)
	if flags == 0 {
		return nil
	}
	return slices.Clone(b[:c.size])
}

// exceptionAt copies an EXCEPTION_RECORD64, or gives nil where there is none.
func exceptionAt(b []byte) []byte {
	if len(b) < exceptionSize {
		return nil
	}
	b = b[:exceptionSize]
	if (record{data: b}).opt32(0) == 0 {
		return nil // no exception has the code 0
	}
	return slices.Clone(b)
}

// comment reads the header's comment: bytes up to a NUL, as Latin-1.
func comment(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	if bytes.HasPrefix(b, []byte("PAGEPAGE")) {
		return ""
	}
	runes := make([]rune, 0, len(b))
	for _, c := range b {
		runes = append(runes, rune(c))
	}
	return string(runes)
}
