package symbol

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

const dhUsage = "!dh [-f|-s|-a|-h] ADDRESS or MODULE"

var dh = &cmd.Command{
	Name: "!dh", Group: cmd.GroupSymbols,
	Summary: "show the headers of an image",
	Help: `Shows what the headers of an image in memory say: file header, optional header,
data directories, sections, and the debug directory below the section that it
lies in.

  -f  file headers only; -s section headers only; -a all, as without an option

A page of headers that was not captured, as in most small dumps, is an error;
with an image path (-i) the image file stands in for it.`,
	Example: "!dh -f nt\n!dh -s sis",
	SeeAlso: []string{"lm", "!lmi"},
	Args: []cmd.Arg{{
		Name: "[-f|-s|-a|-h] image", Kind: cmd.KindRest, Complete: cmd.CompleteModule, Doc: "a module, or the address of an image",
	}},
	Needs: cmd.NeedTarget,
	Run:   runDh,
}

// dhSection is a section in !dh's record.
type dhSection struct {
	Name        string `json:"name"`
	RVA         uint32 `json:"rva"`
	VirtualSize uint32 `json:"virtual_size"`
	RawSize     uint32 `json:"raw_size"`
	RawOffset   uint32 `json:"raw_offset"`
	Flags       uint32 `json:"flags"`
}

// imageHeader is the record of !dh.
type imageHeader struct {
	Base        report.Addr    `json:"base"`
	Kind        string         `json:"kind"`
	File        []headerField  `json:"file_header,omitempty"`
	Optional    []headerField  `json:"optional_header,omitempty"`
	Directories []headerField  `json:"directories,omitempty"`
	Sections    []dhSection    `json:"sections,omitempty"`
	Debug       []debugEntry   `json:"debug,omitempty"`
	PDB         *pdb           `json:"pdb"`
	Missing     report.Missing `json:"missing,omitempty"`

	debugAt uint32 // RVA of the debug directory
}

// Type names the record.
func (*imageHeader) Type() string { return "image_header" }

// WriteText writes the headers as kd does.
func (r *imageHeader) WriteText(p *report.Printer) {
	if len(r.File) > 0 {
		p.Printf("\nFile Type: %s\nFILE HEADER VALUES\n", r.Kind)
		writeFields(p, r.File)
		p.Printf("\nOPTIONAL HEADER VALUES\n")
		writeFields(p, r.Optional)
		writeFields(p, r.Directories)
		p.Printf("\n")
	}
	for i, s := range r.Sections {
		s.write(p, i+1)
		if len(r.Debug) > 0 && r.debugAt >= s.RVA && r.debugAt-s.RVA < max(s.VirtualSize, s.RawSize) {
			r.writeDebug(p)
		}
	}
	for _, field := range []string{"sections", "pdb"} {
		if why, ok := r.Missing[field]; ok {
			p.Own("%s: %s\n", field, why)
		}
	}
}

func writeFields(p *report.Printer, fields []headerField) {
	for _, f := range fields {
		p.Printf("%s\n", report.Text(report.Layout(f.Text)))
		for _, line := range f.lines {
			p.Printf("            %s\n", line)
		}
	}
}

func (s *dhSection) write(p *report.Printer, n int) {
	p.Printf("\nSECTION HEADER #%X\n%8s name\n%8X virtual size\n%8X virtual address\n%8X size of raw data\n%8X file pointer to raw data\n",
		n, s.Name, s.VirtualSize, s.RVA, s.RawSize, s.RawOffset)
	// An image that is loaded has neither.
	p.Printf("       0 file pointer to relocation table\n       0 file pointer to line numbers\n" +
		"       0 number of relocations\n       0 number of line numbers\n")
	p.Printf("%8X flags\n", s.Flags)
	for _, w := range wordsOf(s.Flags, sectionWords) {
		p.Printf("         %s\n", w)
	}
	p.Printf("         (no align specified)\n         %s\n", rights(s.Flags))
}

// writeDebug writes the debug directory. Of the identity kd prints the word
// "guid"; it stands in a line of our own.
func (r *imageHeader) writeDebug(p *report.Printer) {
	p.Printf("\n\nDebug Directories(%d)\n\tType       Size     Address  Pointer\n", len(r.Debug))
	for _, d := range r.Debug {
		name := debugNames[d.Type]
		if name == "" {
			name = fmt.Sprintf("(%5d)", d.Type)
		}
		p.Printf("\t%-7s%8x%12x%9x", name, d.Size, d.RVA, d.Pointer)
		if d.Type == debugCodeView && r.PDB != nil {
			p.Printf("\tFormat: RSDS, guid, %d, %s", r.PDB.Age, r.PDB.Name)
		}
		p.Printf("\n")
	}
	if r.PDB != nil {
		p.Own("PDB: %s, GUID %s, age %d\n", r.PDB.Name, r.PDB.GUID, r.PDB.Age)
	}
}

func runDh(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	words := strings.Fields(in.Raw)
	file, sections := true, true
	for len(words) > 0 && len(words[0]) == 2 && (words[0][0] == '-' || words[0][0] == '/') {
		switch words[0][1] {
		case 'f':
			sections = false
		case 's':
			file = false
		case 'a':
		case 'h', '?':
			return out.Emit(report.Text(dhUsage + "\n\nf = file headers only\ns = section headers only\na = all information\nh = this text\n"))
		default:
			return cmd.Misuse(fmt.Errorf("unknown option %s", words[0]))
		}
		words = words[1:]
	}
	// kd also takes the option behind the image.
	if n := len(words); n > 1 && (words[n-1] == "-f" || words[n-1] == "-s" || words[n-1] == "-a") {
		file, sections = words[n-1] != "-s", words[n-1] != "-f"
		words = words[:n-1]
	}
	if len(words) == 0 {
		return cmd.Misuse(errors.New("an image is missing"))
	}
	base, err := imageBase(ctx, s, strings.Join(words, " "))
	if err != nil {
		return cmd.Misuse(err)
	}
	r, err := readHeaders(s, base)
	if err != nil {
		return fmt.Errorf("image at %#x: %w", uint64(base), err)
	}
	if !file {
		r.File, r.Optional, r.Directories = nil, nil, nil
	}
	if !sections {
		r.Sections = nil
	}
	return out.Emit(r)
}

// imageBase gives the base of a module by name, or the value of an expression.
func imageBase(ctx context.Context, s *cmd.Session, text string) (mem.VA, error) {
	if m, ok := s.Kernel.Modules.ByName(text); ok {
		return m.Base, nil
	}
	if s.Eval == nil {
		return 0, fmt.Errorf("no evaluator for %q", text)
	}
	v, err := s.Eval.Eval(ctx, text)
	return mem.VA(v), err
}

// readHeaders reads the headers of the image at an address.
func readHeaders(s *cmd.Session, base mem.VA) (*imageHeader, error) {
	image := types.RVAReaderFunc(func(p []byte, rva uint32) (int, error) {
		return s.ReadVirtual(p, base+mem.VA(rva))
	})
	im, err := types.ParseImage(image)
	if err != nil {
		return nil, err
	}
	file, optional, err := rawHeaders(image)
	if err != nil {
		return nil, err
	}
	r := &imageHeader{
		Base: report.Addr(base), Kind: "EXECUTABLE IMAGE", Debug: debugEntries(image, im),
		File: fileFields(file, stampText(im.Timestamp, s.Location)), Optional: optionalFields(optional),
	}
	if im.Characteristics&0x2000 != 0 {
		r.Kind = "DLL"
	}
	for i, name := range directoryNames {
		var d types.Directory
		if i < len(im.Directories) {
			d = im.Directories[i]
		}
		r.Directories = append(r.Directories, headerField{
			Name: name, Value: uint64(d.RVA), Text: fmt.Sprintf("%8X [%8X] address [size] of %s Directory", d.RVA, d.Size, name),
		})
	}
	for _, sec := range im.Sections {
		r.Sections = append(r.Sections, dhSection{sec.Name, sec.RVA, sec.VirtualSize, sec.RawSize, sec.RawOffset, sec.Characteristics})
	}
	if d := im.Debug; d.GUID != (types.GUID{}) {
		r.PDB = &pdb{d.PDB, d.GUID.String(), d.Age}
	}
	if dir, ok := im.Directory(types.DirDebug); ok {
		r.debugAt = dir.RVA
	}
	for _, w := range im.Warnings {
		r.Missing.Set("pdb", w)
	}
	return r, nil
}

// stampText formats a time stamp; nothing for 0.
func stampText(stamp uint32, zone *time.Location) string {
	if stamp == 0 {
		return ""
	}
	if zone == nil {
		zone = time.UTC
	}
	return time.Unix(int64(stamp), 0).In(zone).Format("Mon Jan _2 15:04:05 2006")
}

// lmi is !lmi: the facts of one module.
var lmi = &cmd.Command{
	Name: "!lmi", Group: cmd.GroupSymbols,
	Summary: "show what is known of a module and its symbols",
	Help: `Shows the identity of one module: base, machine, time stamp, size, checksum, the
debug directory with the identity of its PDB, where its headers were read from,
and what its symbols are. It loads the symbols. Since Windows 10 most time stamps
are hashes of the file.`,
	Example: "!lmi sis",
	SeeAlso: []string{"lm", "!dh"},
	Args: []cmd.Arg{{
		Name: "module", Kind: cmd.KindRest, Complete: cmd.CompleteModule, Doc: "a module, or an address inside one",
	}},
	Needs: cmd.NeedTarget,
	Run:   runLmi,
}

// moduleInfo is the record of !lmi.
type moduleInfo struct {
	*module
	Machine         uint16       `json:"machine"`
	Characteristics uint16       `json:"characteristics"`
	Debug           []debugEntry `json:"debug"`
	Why             string       `json:"symbols_missing,omitempty"`

	asked string
	read  error
}

// Type names the record.
func (*moduleInfo) Type() string { return "module_info" }

func runLmi(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	m, ok := s.Kernel.Modules.ByName(in.Raw)
	if !ok && s.Eval != nil {
		v, err := s.Eval.Eval(ctx, in.Raw)
		if err != nil {
			return cmd.Misuse(err)
		}
		m, ok = s.Kernel.Modules.At(mem.VA(v))
	}
	if !ok {
		return fmt.Errorf("!lmi: no module %s is loaded (lm lists them)", in.Raw)
	}
	return out.Emit(infoOf(ctx, s, m, in.Raw))
}

func infoOf(ctx context.Context, s *cmd.Session, m *model.Module, asked string) *moduleInfo {
	_, serr := m.Symbols(ctx)
	r := &moduleInfo{module: moduleOf(m), asked: asked, Debug: []debugEntry{}}
	r.zone = s.Location
	h, err := m.Header()
	if r.read = err; err == nil {
		r.Machine, r.Characteristics = h.Machine, h.Characteristics
		r.Debug = append(r.Debug, debugEntries(moduleReader(s.Kernel, m), h)...)
	}
	r.describe(ctx, s, m)
	if serr != nil {
		r.Why = serr.Error()
	}
	return r
}

// debugWords are !lmi's names of debug directory entries.
var debugWords = map[uint32]string{1: "COFF", 2: "CODEVIEW", 3: "FPO", 4: "MISC", 13: "POGO", 16: "REPRO", 20: "DLLCHAR_EX"}

// WriteText writes the block of !lmi.
func (r *moduleInfo) WriteText(p *report.Printer) {
	p.Printf("Loaded Module Info: [%s] \n", r.asked)
	p.Printf("         Module: %s\n   Base Address: %s\n     Image Name: %s\n", r.Name, r.Start, r.Image)
	if r.read == nil {
		name := machineNames[r.Machine]
		if name == "" {
			name = "unknown"
		}
		p.Printf("   Machine Type: %d (%s)\n", r.Machine, name)
	}
	if r.Timestamp != nil {
		when := stampText(*r.Timestamp, r.zone)
		if r.Repro {
			when = "(This is a reproducible build file hash, not a true timestamp)"
		}
		p.Printf("     Time Stamp: %08x %s\n", *r.Timestamp, when)
	}
	p.Printf("           Size: %x\n       CheckSum: %x\n", uint64(r.End-r.Start), r.CheckSum)
	if r.read == nil {
		p.Printf("Characteristics: %x  \n", r.Characteristics)
		r.writeDebug(p)
		p.Printf("     Image Type: MEMORY   - Image read successfully from loaded memory.\n")
	} else {
		p.Printf("     Image Type: DEFERRED - Image headers could not be read.\n")
		p.Own("                 %s\n", r.read)
	}
	kind, what := "PDB", "Symbols loaded successfully."
	switch r.Symbols {
	case "none":
		kind, what = "NONE", "PDB not found."
	case "export":
		kind, what = "EXPORT", "PDB not found"
	case "pdb", "private pdb":
	default:
		kind = strings.ToUpper(r.Symbols)
	}
	p.Printf("    Symbol Type: %-8s - %s\n", kind, what)
	if r.File != "" {
		p.Printf("                 %s\n", r.File)
	}
	switch r.Symbols {
	case "private pdb":
		p.Printf("    Load Report: private symbols & lines, not source indexed \n                 %s\n", r.File)
	case "pdb":
		p.Printf("    Load Report: public symbols , not source indexed \n                 %s\n", r.File)
	case "export":
		p.Printf("    Load Report: export symbols\n")
	case "none":
		p.Printf("    Load Report: no symbols loaded\n")
	}
	if r.Why != "" {
		p.Own("                 %s\n", r.Why)
	}
}

func (r *moduleInfo) writeDebug(p *report.Printer) {
	head := "Debug Data Dirs: Type  Size     VA  Pointer\n"
	for _, d := range r.Debug {
		name := debugWords[d.Type]
		if name == "" {
			name = "??"
		}
		p.Printf("%s%21s %5x, %5x, %7x ", report.Text(head), name, d.Size, d.RVA, d.Pointer)
		head = ""
		switch {
		case d.Type == debugCodeView && r.PDB != nil:
			g := r.PDB.GUID
			p.Printf("RSDS - GUID: {%s-%s-%s-%s-%s}\n               Age: %d, Pdb: %s\n",
				g[:8], g[8:12], g[12:16], g[16:20], g[20:], r.PDB.Age, r.PDB.Name)
		case d.Type == debugRepro:
			p.Printf("Reproducible build\n")
		default:
			p.Printf("[Data not mapped]\n")
		}
	}
}
