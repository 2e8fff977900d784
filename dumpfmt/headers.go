package dumpfmt

import "strconv"

// HeaderField is a number of a container's header, by its public name.
type HeaderField struct {
	Structure string // "DUMP_HEADER64"
	Name      string
	Value     uint64
	Bits      uint8 // width of the number: 8, 32 or 64
}

// headerEntry places a field in its structure.
type headerEntry struct {
	at   int
	bits uint8
	name string
}

// header64 are the fields of DUMP_HEADER64 besides its blocks, in the order of
// mindumpdef.h.
var header64 = []headerEntry{
	{offMajor, 32, "MajorVersion"}, {offMinor, 32, "MinorVersion"}, {0x104d, 8, "KdSecondaryVersion"}, {offDTB, 64, "DirectoryTableBase"},
	{offPfnDatabase, 64, "PfnDataBase"}, {offLoadedModules, 64, "PsLoadedModuleList"}, {offActiveProcs, 64, "PsActiveProcessHead"},
	{offMachine, 32, "MachineImageType"}, {offProcessors, 32, "NumberProcessors"}, {offBugCheck, 32, "BugCheckCode"},
	{offBugArgs, 64, "BugCheckParameter1"}, {offBugArgs + 8, 64, "BugCheckParameter2"},
	{offBugArgs + 16, 64, "BugCheckParameter3"}, {offBugArgs + 24, 64, "BugCheckParameter4"},
	{offDebugData, 64, "KdDebuggerDataBlock"}, {offDumpType, 32, "DumpType"}, {offRequiredSpace, 64, "RequiredDumpSpace"},
	{offSystemTime, 64, "SystemTime"}, {offUpTime, 64, "SystemUpTime"}, {0x1038, 32, "MiniDumpFields"},
	{0x103c, 32, "SecondaryDataState"}, {offProductType, 32, "ProductType"}, {offSuiteMask, 32, "SuiteMask"},
	{0x1048, 32, "WriterStatus"}, {offAttributes, 32, "Attributes"}, {0x1054, 32, "BootId"},
}

// triage64 are the fields of TRIAGE_DUMP64 in their order, all of 32 bits but
// those that are named below.
var (
	triage64 = []string{
		"ServicePackBuild", "SizeOfDump", "ValidOffset", "ContextOffset", "ExceptionOffset", "MmOffset", "UnloadedDriversOffset",
		"PrcbOffset", "ProcessOffset", "ThreadOffset", "CallStackOffset", "SizeOfCallStack", "DriverListOffset", "DriverCount",
		"StringPoolOffset", "StringPoolSize", "BrokenDriverOffset", "TriageOptions", "TopOfStack", "BStoreOffset", "SizeOfBStore",
		"LimitOfBStore", "DataPageAddress", "DataPageOffset", "DataPageSize", "DebuggerDataOffset", "DebuggerDataSize",
		"DataBlocksOffset", "DataBlocksCount",
	}
	triageWide = map[string]bool{"TopOfStack": true, "LimitOfBStore": true, "DataPageAddress": true}
)

const triageHeaderSize = 0x80

// fields gives the numbers of the headers, for whoever wants to see them as they
// stand in the file.
func (o *opener) fields() (list []HeaderField) {
	for _, e := range header64 {
		f := HeaderField{Structure: "DUMP_HEADER64", Name: e.name, Bits: e.bits}
		switch e.bits {
		case 8:
			f.Value = uint64(o.h.data[e.at])
		case 32:
			f.Value = uint64(o.h.u32(e.at))
		default:
			f.Value = o.h.u64(e.at)
		}
		list = append(list, f)
	}
	if o.d.Triage == nil {
		return list
	}
	t, err := readRecord(o.f, "TRIAGE_DUMP64", dataOffset, triageHeaderSize)
	if err != nil {
		return list
	}
	at := 0
	for _, name := range triage64 {
		f := HeaderField{Structure: "TRIAGE_DUMP64", Name: name, Bits: 32}
		if triageWide[name] {
			f.Bits, f.Value = 64, t.u64(at)
			at += 8
		} else {
			f.Value = uint64(t.u32(at))
			at += 4
		}
		list = append(list, f)
	}
	return list
}

// String gives "NAME 0xVALUE".
func (f HeaderField) String() string { return f.Name + " 0x" + strconv.FormatUint(f.Value, 16) }
