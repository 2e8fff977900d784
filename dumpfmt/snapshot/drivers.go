package snapshot

import (
	"fmt"
	"unicode/utf16"

	"gokd/model/mem"
)

// loaderEntrySize is more than any _KLDR_DATA_TABLE_ENTRY of Windows 7.
const loaderEntrySize = 0xa0

// writeModules lists the images in load order, as the loader keeps them.
func (m *machine) writeModules() {
	head := m.global("PsLoadedModuleList")
	for _, img := range m.images {
		e := m.object("_KLDR_DATA_TABLE_ENTRY", img.ldr)
		pdata := img.part(".pdata")
		e.puts("ExceptionTable", img.base+mem.VA(pdata.rva), "ExceptionTableSize", 12*len(img.sorted),
			"DllBase", img.base, "EntryPoint", img.base+mem.VA(img.entry), "SizeOfImage", img.size,
			"Flags", 0x49104000, "LoadCount", 1, "CheckSum", img.checksum)
		m.setString(e, "FullDllName", "MmLd", img.path)
		m.setString(e, "BaseDllName", "MmLd", img.file)
		m.listAdd(head, e.field("InLoadOrderLinks"))
	}
	m.writeUnloaded()
}

const unloadedEntries = 50 // of the array behind MmUnloadedDrivers

// writeUnloaded lists the drivers that every start of Windows loads only to
// find out how it would write a crash dump.
func (m *machine) writeUnloaded() {
	width := m.size("_UNLOADED_DRIVER")
	table := m.nonpaged.alloc(tagOf("MmDT"), unloadedEntries*width)
	at := m.prof.drivers + 0x1800000
	names := []string{"crashdmp.sys", "dump_storport.sys", "dump_dumpfve.sys"}
	for i, name := range names {
		o := m.object("_UNLOADED_DRIVER", table+mem.VA(uint64(i)*width))
		m.setString(o, "Name", "MmDT", name)
		size := mem.VA(0xa000 + 0x3000*i)
		o.puts("StartAddress", at, "EndAddress", at+size, "CurrentTime", m.now-m.ticks*m.tickLength+200_000_000)
		at += size
	}
	m.setGlobal("MmUnloadedDrivers", uint64(table))
	m.setGlobal("MmLastUnloadedDriver", uint64(len(names)))
}

// device gives the device object of a module's driver, made when first asked
// for; 0 for no name.
func (m *machine) device(name text) mem.VA {
	if name.s == "" {
		return 0
	}
	img, err := m.module(name.s, name.line)
	if err != nil {
		m.fail(err)
		return 0
	}
	if at := m.drivers[img]; at != 0 {
		return at
	}
	driver := m.placeObject(m.nonpaged, tagOf("Driv"), m.size("_DRIVER_OBJECT"), number{})
	device := m.placeObject(m.nonpaged, tagOf("Devi"), m.size("_DEVICE_OBJECT"), number{})
	m.drivers[img] = device
	m.objectHeader(driver, "Driver", 0)
	m.objectHeader(device, "Device", 0)
	d := m.object("_DRIVER_OBJECT", driver)
	d.puts("Type", 4, "Size", m.size("_DRIVER_OBJECT"), "DeviceObject", device, "DriverStart", img.base,
		"DriverSize", img.size, "DriverSection", img.ldr, "DriverInit", img.base+mem.VA(img.entry))
	for i := range 28 { // IRP_MJ_MAXIMUM_FUNCTION and one
		d.put(fmt.Sprintf("MajorFunction[%d]", i), uint64(img.base)+uint64(img.sorted[0].rva))
	}
	m.setString(d, "DriverName", "ObNm", `\FileSystem\`+img.name)
	m.object("_DEVICE_OBJECT", device).puts("Type", 3, "Size", m.size("_DEVICE_OBJECT"), "ReferenceCount", 1,
		"DriverObject", driver, "DeviceType", 8, "StackSize", 7)
	return device
}

// file makes a file object; 0 where there is neither name nor device.
func (m *machine) file(name string, device mem.VA) mem.VA {
	if name == "" && device == 0 {
		return 0
	}
	at := m.placeObject(m.nonpaged, tagOf("File")|protected, m.size("_FILE_OBJECT"), number{})
	m.objectHeader(at, "File", 1)
	f := m.object("_FILE_OBJECT", at)
	f.puts("Type", 5, "Size", m.size("_FILE_OBJECT"), "DeviceObject", device)
	if name != "" {
		text := m.unicode(m.paged, "IoNm", name)
		n := 2 * len(utf16.Encode([]rune(name)))
		f.puts("FileName.Length", n, "FileName.MaximumLength", n+2, "FileName.Buffer", text)
	}
	return at
}

// planModuleCode adds what every image has besides the routines of stacks: an
// entry point, the routines that the scenario lists, and those that hold a
// pool tag.
func (m *machine) planModuleCode() error {
	for _, img := range m.images {
		entry := "DriverEntry"
		if img.kernel() {
			entry = "KiSystemStartup"
			for _, name := range []string{"ExAllocatePoolWithTag", "ExFreePoolWithTag", "ExSetResourceOwnerPointer", "ExpWorkerThread"} {
				img.function(name, 0)
			}
		}
		img.function(entry, 0)
		spec := img.spec
		for _, name := range sortedKeys(spec.Functions) {
			at := spec.Functions[name]
			if name == "" || len(name) > maxName {
				return wrong(at.line, "%s: function %q: want a name", img.file, name)
			}
			f := img.function(name, at.line)
			if at.v == 0 {
				continue
			}
			if err := f.setAddress(at.v, at.line); err != nil {
				return err
			}
		}
		for _, tag := range sortedKeys(spec.Tags) {
			where := spec.Tags[tag]
			if len(tag) == 0 || len(tag) > 4 || where.s == "" {
				return wrong(where.line, "%s: tag %q: want 1 to 4 characters, and the function that holds it", img.file, tag)
			}
			f := img.function(where.s, where.line)
			f.tag = (tag + "    ")[:4]
			if len(f.sites) == 0 { // the tag is an argument of this call
				f.sites[0x40] = m.nt.function("ExAllocatePoolWithTag", 0)
			}
		}
	}
	return nil
}
