package session

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

var vertarget = &cmd.Command{
	Name: "vertarget", Group: cmd.GroupSession,
	Summary: "show the target's version, kernel and clocks",
	Help: `Shows what the dump says of its machine: Windows version, processors, product,
build lab, place of the kernel, the time of the dump and how long the machine had
run; then, in lines of our own, where the structure layouts come from and what
was odd while the dump was loaded. Up to Windows 11 the version is called
Windows 10, as in kd: the kernel's own version number did not change.`,
	Example: "vertarget",
	SeeAlso: []string{".time", ".bugcheck", "lm"},
	Needs:   cmd.NeedTarget,
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		return out.Emit(NewTarget(s.Kernel, s.Location))
	},
}

// Target is the record of what a dump says of its machine. The banner of a
// session is made of it, too.
type Target struct {
	File       string         `json:"file"`
	Format     string         `json:"format"`
	DumpType   uint32         `json:"dump_type"`
	Live       bool           `json:"live"`
	System     string         `json:"system"`
	Build      uint32         `json:"build"`
	Pack       *uint32        `json:"service_pack"`
	Machine    string         `json:"machine"`
	Checked    bool           `json:"checked"`
	Processors uint32         `json:"processors"`
	Product    *string        `json:"product"`
	Suites     []string       `json:"suites"`
	Lab        *string        `json:"build_lab"`
	Base       report.Addr    `json:"kernel_base"`
	ModuleList report.Addr    `json:"loaded_module_list"`
	Time       *time.Time     `json:"session_time"`
	UptimeMS   *uint64        `json:"uptime_ms"`
	Kernel     *kernelPDB     `json:"kernel_pdb"`
	Layout     layout         `json:"layout"`
	Symbols    string         `json:"kernel_symbols"`
	Warnings   []string       `json:"warnings"`
	Missing    report.Missing `json:"missing,omitempty"`

	zone *time.Location
}

type kernelPDB struct {
	Name string `json:"name"`
	GUID string `json:"guid"`
	Age  uint32 `json:"age"`
}

// layout says where the structure layouts come from.
type layout struct {
	Match  string `json:"match"` // exact, nearest, synthetic or none
	Source string `json:"source"`
	Build  uint32 `json:"build"`
}

// Type names the record.
func (*Target) Type() string { return "target" }

// NewTarget gathers the record; times are shown in zone (nil: UTC).
func NewTarget(k *model.Kernel, zone *time.Location) *Target {
	c := &k.Source.Crash
	t := &Target{
		File: k.Source.Name, Format: c.Format, DumpType: c.DumpType, Live: c.Live,
		System: systemName(k.Build), Build: k.Build, Checked: k.Source.Checked,
		Processors: k.Source.Processors, Base: report.Addr(k.Base), Suites: []string{},
		Symbols: "none", Warnings: append([]string{}, k.Warnings...), zone: zone,
	}
	if t.zone == nil {
		t.zone = time.UTC
	}
	t.Machine = machineName(k.Source.Machine)
	t.setClocks(c)
	t.setProduct(k)
	t.setLab(k)
	t.setPack(k)
	if head, err := k.Global("PsLoadedModuleList"); err == nil {
		t.ModuleList = report.Addr(head)
	}
	if !k.ID.Zero() {
		t.Kernel = &kernelPDB{k.ID.PDB, k.ID.GUID.String(), k.ID.Age}
	} else {
		t.Missing.Set("kernel_pdb", fmt.Errorf("the kernel image's header is not in the dump"))
	}
	if nt, ok := k.Modules.ByName("nt"); ok {
		if s, _ := nt.LoadedSymbols(); s != nil {
			t.Symbols = s.Describe()
		}
	}
	o := k.Origin()
	t.Layout = layout{Match: o.Match.String(), Source: o.Source, Build: o.Build}
	return t
}

// systemName gives kd's name for a build. The version that a kernel reports of
// itself stayed 10.0 for Windows 11, and so does the name.
func systemName(build uint32) string {
	for _, s := range []struct {
		from uint32
		name string
	}{
		{10000, "Windows 10"}, {9600, "Windows 8.1"}, {9200, "Windows 8"}, {7000, "Windows 7"},
		{6001, "Windows Server 2008/Windows Vista"}, {6000, "Windows Vista"},
		{3790, "Windows Server 2003"}, {2600, "Windows XP"},
	} {
		if build >= s.from {
			return s.name
		}
	}
	return "Windows"
}

func machineName(machine uint16) string {
	switch machine {
	case model.MachineX64:
		return "x64"
	case model.MachineARM64:
		return "ARM 64-bit (AArch64)"
	}
	return fmt.Sprintf("machine %#x", machine)
}

// filetimeEpoch is 1 January 1970 as a FILETIME (100 ns units since 1601).
const filetimeEpoch = 116444736000000000

// maxFiletime is the end of the year 9999, after which no time is a time.
const maxFiletime = 2650467744000000000

func (t *Target) setClocks(c *model.Crash) {
	switch ft := c.SystemTime; {
	case ft == 0:
		t.Missing.Set("session_time", fmt.Errorf("not in the header"))
	case ft < filetimeEpoch || ft > maxFiletime:
		t.Missing.Set("session_time", fmt.Errorf("%#x in the header is no time", ft))
	default:
		ticks := int64(ft - filetimeEpoch)
		at := time.Unix(ticks/1e7, ticks%1e7*100).UTC()
		t.Time = &at
	}
	if c.UpTime != 0 {
		ms := c.UpTime / 10000
		t.UptimeMS = &ms
	} else {
		t.Missing.Set("uptime_ms", fmt.Errorf("not in the header"))
	}
}

// Fields of KUSER_SHARED_DATA (ntddk.h) that repeat the header's.
const (
	sharedProductType = 0x264
	sharedSuiteMask   = 0x2d0
)

// productNames are those of NT_PRODUCT_TYPE, from 1.
var productNames = [...]string{"WinNt", "LanManNt", "Server"}

// suiteNames are the bits of the suite mask (VER_SUITE_* of winnt.h), as kd
// spells them.
var suiteNames = [...]string{
	"SmallBusiness", "Enterprise", "BackOffice", "CommunicationServer", "TerminalServer",
	"SmallBusinessRestricted", "EmbeddedNT", "DataCenter", "SingleUserTS", "Personal", "Blade",
	"EmbeddedRestricted", "SecurityAppliance", "StorageServer", "ComputeServer", "WHServer",
}

func (t *Target) setProduct(k *model.Kernel) {
	product, suite := k.Source.Crash.ProductType, k.Source.Crash.SuiteMask
	if product == 0 {
		p, err := k.Space.Uint32(model.SharedUserData + sharedProductType)
		if err != nil {
			t.Missing.Set("product", err)
			return
		}
		product = p
		suite, _ = k.Space.Uint32(model.SharedUserData + sharedSuiteMask)
	}
	name := fmt.Sprintf("<%d>", product)
	if product >= 1 && int(product) <= len(productNames) {
		name = productNames[product-1]
	}
	t.Product = &name
	for i, n := range suiteNames {
		if suite>>i&1 != 0 {
			t.Suites = append(t.Suites, n)
		}
	}
}

// maxLab limits the build lab string; real ones have some 50 characters.
const maxLab = 128

func (t *Target) setLab(k *model.Kernel) {
	// The debugger data block names the long form of the string, NtBuildLabEx,
	// where the kernel has one; the symbol of that name is the short one.
	at, ok := k.Debug.Global("NtBuildLab")
	if !ok {
		var err error
		if at, err = k.Global("NtBuildLab"); err != nil {
			t.Missing.Set("build_lab", err)
			return
		}
	}
	lab, err := narrowString(k, at, maxLab)
	if err != nil {
		t.Missing.Set("build_lab", err)
		return
	}
	t.Lab = &lab
}

// narrowString reads bytes up to a NUL.
func narrowString(k *model.Kernel, at mem.VA, max int) (string, error) {
	b, err := k.Space.Bytes(at, max)
	for i, c := range b {
		if c == 0 {
			return model.Latin1(b[:i]), nil
		}
	}
	if err == nil {
		err = fmt.Errorf("string at %#x: no end within %d bytes", uint64(at), max)
	}
	return "", err
}

// setPack finds the number of the service pack: the high byte of the low word
// of CmNtCSDVersion, which a triage dump keeps as ServicePackBuild. 0 is none.
func (t *Target) setPack(k *model.Kernel) {
	v, err := k.Global32("CmNtCSDVersion")
	if triage := k.Source.Crash.Triage; err != nil && triage != nil {
		v, err = triage.ServicePack, nil
	}
	if err != nil {
		t.Missing.Set("service_pack", err)
		return
	}
	v = v >> 8 & 0xff
	t.Pack = &v
}

// WriteText writes the block of vertarget.
func (t *Target) WriteText(p *report.Printer) {
	t.writeVersion(p)
	writeClocks(p, t.Time, t.UptimeMS, t.zone)
	t.writeOwn(p)
}

func (t *Target) writeVersion(p *report.Printer) {
	p.Printf("%s Kernel Version %d", t.System, t.Build)
	if t.Pack != nil && *t.Pack != 0 {
		p.Printf(" (Service Pack %d)", *t.Pack)
	}
	if t.Processors > 1 {
		p.Printf(" MP (%d procs)", t.Processors)
	} else {
		p.Printf(" UP")
	}
	kind := "Free"
	if t.Checked {
		kind = "Checked"
	}
	p.Printf(" %s %s\n", kind, t.Machine)
	if t.Product != nil {
		p.Printf("Product: %s", *t.Product)
		if len(t.Suites) > 0 {
			p.Printf(", suite: %s", strings.Join(t.Suites, " "))
		}
		p.Printf("\n")
	}
	if t.Lab != nil {
		// Debuggers of the Windows 10 years call it so for its builds.
		if t.Build >= 10000 && p.Era >= report.Era19041 {
			p.Printf("Edition build lab: %s\n", *t.Lab)
		} else {
			p.Printf("Built by: %s\n", *t.Lab)
		}
	}
	if p.Era < report.Era26100 {
		p.Printf("Machine Name:\n")
	}
	p.Printf("Kernel base = 0x%s PsLoadedModuleList = 0x%s\n", t.Base.Tick(), t.ModuleList.Tick())
}

// writeClocks writes the two lines that .time prints.
func writeClocks(p *report.Printer, at *time.Time, uptime *uint64, zone *time.Location) {
	if at != nil {
		p.Printf("Debug session time: %s\n", sessionTime(*at, zone))
	} else {
		p.Printf("Debug session time: not available\n")
	}
	if uptime == nil {
		p.Printf("System Uptime: not available\n")
		return
	}
	ms := *uptime
	s := ms / 1000
	p.Printf("System Uptime: %d days %d:%02d:%02d.%03d\n", s/86400, s/3600%24, s/60%60, s%60, ms%1000)
}

// sessionTime writes a time as kd does: "Thu Nov 24 01:43:05.332 2022 (UTC + 1:00)".
func sessionTime(at time.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.UTC
	}
	at = at.In(zone)
	_, offset := at.Zone()
	sign := '+'
	if offset < 0 {
		sign, offset = '-', -offset
	}
	return fmt.Sprintf("%s (UTC %c %d:%02d)", at.Format("Mon Jan _2 15:04:05.000 2006"), sign, offset/3600, offset/60%60)
}

// writeOwn writes how exact the layouts are, and what was odd.
func (t *Target) writeOwn(p *report.Printer) {
	switch t.Layout.Match {
	case types.MatchNone.String():
		p.Own("Layouts: none fits this kernel; only what the debugger data block gives is known\n")
		if t.Kernel != nil {
			p.Own("         needed: the symbol table of %s, GUID %s, age %d\n", t.Kernel.Name, t.Kernel.GUID, t.Kernel.Age)
		}
	case types.MatchNearest.String():
		p.Own("Layouts: nearest, proved against this dump: %s\n", t.Layout.Source)
	default:
		p.Own("Layouts: %s: %s\n", t.Layout.Match, t.Layout.Source)
	}
	if t.Symbols != "none" {
		p.Own("Kernel symbols: %s\n", t.Symbols)
	} else {
		p.Own("Kernel symbols: none\n")
	}
	if t.Live {
		p.Own("Live dump: written while the machine ran on; lists may be caught in the middle of a change\n")
	}
	for _, w := range t.Warnings {
		p.Own("Warning: %s\n", w)
	}
}
