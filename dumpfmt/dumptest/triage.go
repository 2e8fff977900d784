package dumptest

// Driver is an entry of a triage dump's driver list.
type Driver struct {
	Name      string
	Base      uint64
	Entry     uint64
	Size      uint32
	CheckSum  uint32
	Timestamp uint32
}

// Unloaded is an entry of its list of unloaded drivers.
type Unloaded struct {
	Name       string // at most 12 characters
	Start, End uint64
}

// Block is captured memory.
type Block struct {
	VA   uint64
	Data []byte
}

// Triage describes a triage dump.
type Triage struct {
	Prcb, Process, Thread []byte
	StackTop              uint64
	Stack                 []byte
	Debug                 []byte // see DebugData
	Drivers               []Driver
	Stride                int // of the driver list: 144, 152 or 168
	Unloaded              []Unloaded
	Blocks                []Block
	Options               uint32
	Page                  Block // the single data page; may be empty
	Secondary             []Stream
}

// Offsets of the fields of the triage header from the start of the file, for
// tests that damage one.
var TriageField = map[string]int{
	"size": 0x2004, "valid": 0x2008, "context": 0x200c, "exception": 0x2010, "unloaded": 0x2018,
	"prcb": 0x201c, "process": 0x2020, "thread": 0x2024, "stack": 0x2028, "stack size": 0x202c,
	"drivers": 0x2030, "driver count": 0x2034, "strings": 0x2038, "page": 0x2068,
	"debug": 0x2070, "debug size": 0x2074, "blocks": 0x2078, "block count": 0x207c,
}

// DebugData makes a debugger data block of Windows 7's size that tells the
// sizes of the three objects.
func DebugData(prcb, process, thread int) []byte {
	m := make(Image, 0x340)
	m.Put(0x10, "KDBG")
	m.Put(0x14, uint32(len(m)))
	m.Put(0x18, uint64(0xfffff80002206000))
	m.Put(0x2a8, uint16(process))
	m.Put(0x2b0, uint16(prcb))
	m.Put(0x2c0, uint16(thread))
	return m
}

// Image makes the file.
func (t Triage) Image() Image {
	m := append(Header(4), make(Image, 128)...)
	field := func(name string, v int) { m.Put(TriageField[name], uint32(v)) }
	part := func(name string, data []byte) {
		if len(data) > 0 {
			field(name, len(m))
			m = append(m, data...)
		}
	}
	m.Put(0x2000, uint32(1))
	field("context", 0x348)
	field("exception", 0xf00)
	m.Put(0x2044, t.Options)
	part("unloaded", t.unloaded())
	part("prcb", t.Prcb)
	part("process", t.Process)
	part("thread", t.Thread)
	part("stack", t.Stack)
	field("stack size", len(t.Stack))
	m.Put(0x2048, t.StackTop)
	part("debug", t.Debug)
	field("debug size", len(t.Debug))
	if len(t.Page.Data) > 0 {
		part("page", t.Page.Data)
		m.Put(0x2060, t.Page.VA)
		m.Put(0x206c, uint32(len(t.Page.Data)))
	}
	m = t.drivers(m.pad(8))
	field("blocks", len(m))
	field("block count", len(t.Blocks))
	table := len(m)
	m = append(m, make(Image, 16*len(t.Blocks))...)
	for i, b := range t.Blocks {
		m.Put(table+16*i, b.VA)
		m.Put(table+16*i+8, uint32(len(m)))
		m.Put(table+16*i+12, uint32(len(b.Data)))
		m = append(m, b.Data...)
	}
	field("valid", len(m))
	m = append(m, "TRGD"...)
	field("size", len(m))
	if t.Secondary != nil {
		m = append(m, Blob(t.Secondary...)...)
	}
	m.Put(4000, uint64(len(m)))
	return m
}

func (t Triage) unloaded() []byte {
	m := make(Image, 8+56*len(t.Unloaded))
	m.Put(0, uint64(len(t.Unloaded)))
	for i, u := range t.Unloaded {
		at := 8 + 56*i
		name := Units(u.Name)
		m.Put(at, uint16(len(name)))
		m.Put(at+2, uint16(24))
		m.Put(at+16, name)
		m.Put(at+40, u.Start)
		m.Put(at+48, u.End)
	}
	return m
}

// drivers appends the list and, right behind it, the names.
func (t Triage) drivers(m Image) Image {
	if len(t.Drivers) == 0 {
		return m
	}
	list := len(m)
	m.Put(TriageField["drivers"], uint32(list))
	m.Put(TriageField["driver count"], uint32(len(t.Drivers)))
	m = append(m, make(Image, t.Stride*len(t.Drivers))...)
	m.Put(TriageField["strings"], uint32(len(m)))
	for i, d := range t.Drivers {
		at := list + t.Stride*i
		m.Put(at, uint32(len(m)))
		m.Put(at+56, d.Base)
		m.Put(at+64, d.Entry)
		m.Put(at+72, d.Size)
		m.Put(at+128, d.CheckSum)
		if t.Stride >= 168 { // the kernel's own entry: its time is at 0x9c
			m.Put(at+8+0x9c, d.Timestamp)
		} else {
			m.Put(at+136, d.Timestamp)
		}
		name := Units(d.Name)
		length := make(Image, 4)
		length.Put(0, uint32(len(name)/2))
		m = append(append(m, length...), name...)
		m = append(m, 0, 0).pad(8)
	}
	return m
}

// Foreign lists the beginnings of files that are no kernel dump, by a word that
// the refusal must contain.
func Foreign() map[string][]byte {
	long := func(s string) []byte { return append([]byte(s), make([]byte, 9000)...) }
	core := long("\x7fELF\x02\x01\x01")
	core[16] = 4
	library := long("\x7fELF\x02\x01\x01")
	library[16] = 3
	tar := long("memory.dmp")
	copy(tar[257:], "ustar\x0000")
	return map[string][]byte{
		"minidump":      long("MDMP\x93\xa7"),
		"old format":    long("USERDU64"),
		"32-bit":        long("PAGEDUMP"),
		"encrypted":     long("PAGESECU"),
		"zip":           long("PK\x03\x04\x14"),
		"cabinet":       long("MSCF"),
		"gzip":          long("\x1f\x8b\x08"),
		"xz":            long("\xfd7zXZ\x00"),
		"7z":            long("7z\xbc\xaf\x27\x1c"),
		"zstd":          long("\x28\xb5\x2f\xfd"),
		"bzip2":         long("BZh9"),
		"lz4":           long("\x04\x22\x4d\x18"),
		"rar":           long("Rar!\x1a\x07\x01"),
		"tar":           tar,
		"ELF core":      core,
		"ELF program":   library,
		"LiME":          long("EMiL\x01"),
		"VMware":        long("\xd2\xbe\xd2\xbe"),
		"hibernation":   long("HIBR"),
		"virtual disk":  long("vhdxfile"),
		"database":      long("Microsoft C/C++ MSF 7.00\r\n"),
		"program or":    long("MZ\x90"),
		"zeros":         make([]byte, 9000),
		"text":          []byte("# a scenario\nbuild: 7601\nprocessors: 4\n"),
		"empty":         {},
		"too short":     {0x13, 0x02},
		"no dump":       long("\x13\x02\x77"),
		"a text file":   Units("\ufeffhello"),
		"a hibernation": long("wake"),
	}
}
