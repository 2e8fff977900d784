package symbol

import (
	"fmt"
	"time"

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
		if o, ok := s.(interface{ Origin() types.Origin }); ok {
			r.File = o.Origin().File
		}
	}
	return r
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
	case r.opt.image || r.opt.full || r.opt.times:
		p.Printf("%-8s", r.Name)
		if r.opt.full {
			p.Printf(" %s", r.Path)
		} else if r.opt.image {
			p.Printf(" %-12s", r.Image)
		}
		if r.opt.times {
			p.Printf(" %s", report.Text(r.time()))
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
	p.Printf("    Image path: %s\n", r.Path)
	p.Printf("    Image name: %s\n", r.Image)
	if p.Era == report.Era26100 {
		p.Printf("    Browse all global symbols  functions  data\n")
	}
	p.Printf("    Timestamp:        %s\n", r.time())
	p.Printf("    CheckSum:         %08X\n", r.CheckSum)
	p.Printf("    ImageSize:        %08X\n", uint64(r.End-r.Start))
	if r.PDB != nil {
		p.Own("    PDB: %s, GUID %s, age %d\n", r.PDB.Name, r.PDB.GUID, r.PDB.Age)
	}
	for _, field := range []string{"timestamp", "pdb"} {
		if why, ok := r.Missing[field]; ok {
			p.Own("    %s unknown: %s\n", field, why)
		}
	}
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
