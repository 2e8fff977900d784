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
	"gokd/model/types"
)

// module is the record of a loaded image.
type module struct {
	Name      string         `json:"name"`
	Image     string         `json:"image"`
	Path      string         `json:"path"`
	Start     report.Addr    `json:"start"`
	End       report.Addr    `json:"end"`
	Timestamp *uint32        `json:"timestamp"`
	CheckSum  uint32         `json:"checksum"`
	PDB       *pdb           `json:"pdb"`
	Symbols   string         `json:"symbols"`
	File      string         `json:"symbol_file,omitempty"`
	ImageFile string         `json:"image_file,omitempty"` // of the image path, where one stands in for the image
	Repro     bool           `json:"reproducible_build,omitempty"`
	Version   *versionRecord `json:"version,omitempty"`
	Missing   report.Missing `json:"missing,omitempty"`

	opt  options
	zone *time.Location
}

// pdb is the identity of an image's symbols.
type pdb struct {
	Name string `json:"name"`
	GUID string `json:"guid"` // 32 hex digits, as symbol stores spell it
	Age  uint32 `json:"age"`
}

// Type names the record.
func (*module) Type() string { return "module" }

// moduleOf makes the record of a module. It loads no symbols.
func moduleOf(m *model.Module) *module {
	r := &module{
		Name: m.Name, Image: m.Image, Path: m.Path, CheckSum: m.CheckSum,
		Start: report.Addr(m.Base), End: report.Addr(m.End()), Symbols: "deferred",
	}
	_, herr := m.Header()
	if stamp, ok := m.Timestamp(); ok {
		r.Timestamp = &stamp
	} else {
		r.Missing.Set("timestamp", herr)
	}
	if id := m.ID(); !id.Zero() {
		r.PDB = &pdb{id.PDB, id.GUID.String(), id.Age}
	} else {
		r.Missing.Set("pdb", noPDB(m, herr))
	}
	switch s, asked := m.LoadedSymbols(); {
	case asked && s == nil:
		r.Symbols = "none"
	case s != nil:
		r.Symbols = s.Describe()
		if o, ok := m.SymbolOrigin(); ok {
			r.File = o.File
		}
	}
	return r
}

// versionRecord is an image's version resource in JSON.
type versionRecord struct {
	File         string            `json:"file_version"`
	Product      string            `json:"product_version"`
	Translations []string          `json:"translations"`
	Strings      map[string]string `json:"strings"`

	v *version
}

// describe adds what verbose answers show: the version resource, how the image
// was built, and the image file that stands in for it.
func (r *module) describe(ctx context.Context, s *cmd.Session, m *model.Module) {
	h, err := m.Header()
	if err != nil {
		return
	}
	image := moduleReader(s.Kernel, m)
	for _, d := range debugEntries(image, h) {
		r.Repro = r.Repro || d.Type == debugRepro
	}
	v, err := readVersion(image, h)
	switch {
	case errors.Is(err, errNoResources):
	case err != nil:
		r.Missing.Set("version", err)
		r.Version = &versionRecord{}
	default:
		r.Version = &versionRecord{v.File, v.Product, v.Translations, map[string]string{}, v}
		for _, t := range v.Strings {
			r.Version.Strings[t.Key] = t.Value
		}
	}
	if s.Images == nil || r.Timestamp == nil {
		return
	}
	if f, err := s.Images.Find(ctx, types.ImageID{Name: m.Image, Timestamp: *r.Timestamp, Size: uint32(m.Size)}); err == nil {
		r.ImageFile = f.Path
		f.Close()
	}
}

// noPDB says why an image's PDB is not known.
func noPDB(m *model.Module, header error) error {
	if header != nil {
		return header
	}
	h, err := m.Header()
	if err == nil && len(h.Warnings) > 0 {
		return h.Warnings[0]
	}
	return fmt.Errorf("the image has no RSDS record")
}

// WriteText writes the module as the options ask.
func (r *module) WriteText(p *report.Printer) {
	if r.opt.namesOnly {
		p.Printf("%s\n", r.Name)
		return
	}
	p.Printf("%s %s   ", r.Start.Tick(), r.End.Tick())
	switch {
	case r.opt.image || r.opt.full || r.opt.times || r.opt.checksums:
		p.Printf("%-8s", r.Name)
		if r.opt.full {
			p.Printf(" %s", r.Path)
		} else if r.opt.image {
			p.Printf(" %-12s", r.Image)
		}
		if r.opt.times {
			p.Printf(" %s", report.Text(r.time()))
		}
		if r.opt.checksums {
			p.Printf(" %08X", r.CheckSum)
		}
		p.Printf("\n")
	default:
		status := "(" + r.Symbols + " symbols"
		switch r.Symbols {
		case "deferred":
			status = "(deferred"
		case "none":
			status = "(no symbols"
		}
		p.Printf("%-8s   %-23s%s\n", r.Name, status+")", r.File)
	}
	if r.opt.verbose {
		r.details(p)
	}
}

// time gives the image's time stamp as kd prints it.
func (r *module) time() string {
	if r.Timestamp == nil {
		return "unavailable (00000000)"
	}
	zone := r.zone
	if zone == nil {
		zone = time.UTC
	}
	at := time.Unix(int64(*r.Timestamp), 0).In(zone)
	return fmt.Sprintf("%s (%08X)", at.Format("Mon Jan _2 15:04:05 2006"), *r.Timestamp)
}

// details writes the block of lm v.
func (r *module) details(p *report.Printer) {
	if r.Symbols != "deferred" {
		p.Printf("    Loaded symbol image file: %s\n", r.Image)
	}
	if r.ImageFile != "" {
		p.Printf("    Mapped memory image file: %s\n", r.ImageFile)
	}
	p.Printf("    Image path: %s\n", r.Path)
	p.Printf("    Image name: %s\n", r.Image)
	if p.Era == report.Era26100 {
		p.Printf("    Browse all global symbols  functions  data\n")
	}
	if r.Repro && r.Timestamp != nil {
		p.Printf("    Image was built with /Brepro flag.\n")
		p.Printf("    Timestamp:        %08X (This is a reproducible build file hash, not a timestamp)\n", *r.Timestamp)
	} else {
		p.Printf("    Timestamp:        %s\n", r.time())
	}
	p.Printf("    CheckSum:         %08X\n", r.CheckSum)
	p.Printf("    ImageSize:        %08X\n", uint64(r.End-r.Start))
	r.Version.write(p)
	if r.PDB != nil {
		p.Own("    PDB: %s, GUID %s, age %d\n", r.PDB.Name, r.PDB.GUID, r.PDB.Age)
	}
	for _, field := range []string{"timestamp", "pdb", "version"} {
		if why, ok := r.Missing[field]; ok {
			p.Own("    %s unknown: %s\n", field, why)
		}
	}
}

// noTranslations are the languages that the debugger tries where the resource
// names none, or can't be read.
const noTranslations = "0000.04b0 0000.04e4 0409.04b0 0409.04e4"

// write writes the version resource as lm v does.
func (r *versionRecord) write(p *report.Printer) {
	if r == nil {
		return
	}
	if v := r.v; v != nil && v.Fixed {
		p.Printf("    File version:     %s\n    Product version:  %s\n", v.File, v.Product)
		p.Printf("    File flags:       %X (Mask %X)%s\n", v.Flags, v.FlagsMask, flagWords(v.Flags&v.FlagsMask))
		p.Printf("    File OS:          %X%s\n", v.OS, osWords[v.OS])
		p.Printf("    File type:        %d.%d%s\n", v.Kind, v.Subkind, kindWords[v.Kind])
		p.Printf("    File date:        %08X.%08X\n", v.Date>>32, v.Date&0xffffffff)
	}
	languages := strings.Join(r.Translations, " ")
	if languages == "" {
		languages = noTranslations
	}
	p.Printf("    Translations:     %s\n    Information from resource tables:\n", languages)
	if r.v == nil {
		return
	}
	for _, key := range versionKeys {
		if text := r.v.get(key); text != "" {
			p.Printf("        %-17s %s\n", key+":", text)
		}
	}
}

// versionKeys are the strings that lm v shows, in its order.
var versionKeys = []string{
	"CompanyName", "ProductName", "InternalName", "OriginalFilename", "ProductVersion", "FileVersion",
	"PrivateBuild", "SpecialBuild", "FileDescription", "LegalCopyright", "LegalTrademarks", "Comments",
}

// The words for VS_FIXEDFILEINFO's fields, after the names of its constants in
// the public documentation.
var (
	osWords   = map[uint32]string{0x40004: " NT Win32", 0x40000: " NT Base", 4: " Unknown Win32"}
	kindWords = map[uint32]string{0: " Unknown", 1: " App", 2: " Dll", 3: " Driver", 4: " Font", 5: " VXD", 7: " Static Lib"}
)

func flagWords(flags uint32) (text string) {
	for i, word := range []string{" Debug", " Prerelease", " Patched", " Private", " Infoinferred", " Special"} {
		if flags>>i&1 != 0 {
			text += word
		}
	}
	return text
}

// unloadedRecord is an image that was unloaded before the dump was made.
type unloadedRecord struct {
	Name  string      `json:"name"`
	Start report.Addr `json:"start"`
	End   report.Addr `json:"end"`
}

// Type names the record.
func (unloadedRecord) Type() string { return "unloaded_module" }

// WriteText writes the line of lm's second list.
func (r unloadedRecord) WriteText(p *report.Printer) {
	p.Printf("%s %s   %s\n", r.Start.Tick(), r.End.Tick(), r.Name)
}

// moduleGap says that a list of modules ends early, and why.
type moduleGap struct {
	Text string `json:"text"`
}

// Type names the record.
func (moduleGap) Type() string { return "module_gap" }

// SkippedItems counts the gap.
func (moduleGap) SkippedItems() int { return 1 }

// WriteText writes the reason.
func (r moduleGap) WriteText(p *report.Printer) {
	p.Styled(report.Warning, "module list: %s\n", r.Text)
}
