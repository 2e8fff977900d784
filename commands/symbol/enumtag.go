package symbol

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
)

var enumtag = &cmd.Command{
	Name: ".enumtag", Group: cmd.GroupSession,
	Summary: "list the secondary data that drivers added to the dump",
	Help: `Lists the blocks that bug check callbacks of drivers added behind the memory of the
dump: the GUID that tags each, its size, and its bytes. What they mean only the
driver knows.

  -n  tags and sizes only`,
	Example: ".enumtag",
	SeeAlso: []string{".dumpdebug", ".bugcheck"},
	Args: []cmd.Arg{
		{Name: "short", Switch: "-n", Kind: cmd.KindSwitch, Optional: true, Doc: "tags and sizes only"},
	},
	Needs: cmd.NeedTarget,
	Run:   runEnumtag,
}

// tagRecord is one block of secondary data.
type tagRecord struct {
	Tag     string         `json:"tag"`
	Size    uint32         `json:"size"`
	Data    *string        `json:"data,omitempty"` // hexadecimal
	Missing report.Missing `json:"missing,omitempty"`

	data []byte
	full bool
}

// Type names the record.
func (*tagRecord) Type() string { return "secondary_data" }

// WriteText writes the block as kd does, sixteen bytes a line.
func (r *tagRecord) WriteText(p *report.Printer) {
	p.Printf("{%s} - 0x%x bytes\n", r.Tag, r.Size)
	for _, field := range []string{"data", "rest"} {
		if why, ok := r.Missing[field]; ok {
			p.Styled(report.Warning, "  %s\n", why)
		}
	}
	if !r.full {
		return
	}
	for b := r.data; len(b) > 0; {
		n := min(len(b), 16)
		var hex, text strings.Builder
		for _, c := range b[:n] {
			fmt.Fprintf(&hex, "%02X ", c)
			if c < 0x20 || c > 0x7e {
				c = '.'
			}
			text.WriteByte(c)
		}
		p.Printf("  %-48s %s\n", hex.String(), text.String())
		b = b[n:]
	}
	p.Printf("\n")
}

func runEnumtag(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	full := !in.Has("short")
	if len(s.Kernel.Source.Secondary) == 0 {
		return out.Emit(report.Note("the dump has no secondary data"))
	}
	for _, d := range s.Kernel.Source.Secondary {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := out.Emit(tagOf(d, full)); err != nil {
			return err
		}
	}
	return nil
}

func tagOf(d model.SecondaryData, full bool) *tagRecord {
	g := d.Tag
	r := &tagRecord{Tag: strings.ToLower(strings.Trim(guidText(g[:]), "{}")), Size: d.Size, full: full}
	if !full || d.Read == nil {
		return r
	}
	data, err := d.Read()
	r.Missing.Set("data", err)
	if err != nil {
		return r
	}
	if len(data) > maxTagData {
		r.Missing.Set("rest", fmt.Errorf("the first %#x bytes are shown", maxTagData))
		data = data[:maxTagData]
	}
	text := fmt.Sprintf("%x", data)
	r.data, r.Data = data, &text
	return r
}

// maxTagData bounds what is shown of one block, in bytes.
const maxTagData = 4 << 20

var dumpdebug = &cmd.Command{
	Name: ".dumpdebug", Group: cmd.GroupSession,
	Summary: "show the headers of the dump as they stand in the file",
	Help: `Shows the numbers of the dump's headers by their public names, as they stand in the
file: DUMP_HEADER64, and TRIAGE_DUMP64 of a small dump. Nothing is interpreted:
vertarget and .bugcheck tell what they mean.`,
	Example: ".dumpdebug",
	SeeAlso: []string{".enumtag", "vertarget", ".bugcheck"},
	Needs:   cmd.NeedTarget,
	Run:     runDumpdebug,
}

// headerRecord is the headers of a dump.
type headerRecord struct {
	Format string      `json:"format"`
	Fields []dumpField `json:"fields"`
}

type dumpField struct {
	Structure string      `json:"structure"`
	Name      string      `json:"name"`
	Value     report.Addr `json:"value"`
	bits      uint8
}

// Type names the record.
func (*headerRecord) Type() string { return "dump_header" }

// WriteText writes a line per field, in columns.
func (r *headerRecord) WriteText(p *report.Printer) {
	p.Printf("----- %s analysis\n", r.Format)
	last := ""
	for _, f := range r.Fields {
		if f.Structure != last {
			p.Printf("\n%s:\n", f.Structure)
			last = f.Structure
		}
		width := 19
		if f.Structure == "TRIAGE_DUMP64" {
			width = 28
		}
		switch f.bits {
		case 64:
			p.Printf("%-*s %s\n", width, f.Name, f.Value.Tick())
		default:
			p.Printf("%-*s %0*x\n", width, f.Name, int(f.bits/4), uint64(f.Value))
		}
	}
}

func runDumpdebug(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
	src := &s.Kernel.Source
	if len(src.Header) == 0 {
		return fmt.Errorf(".dumpdebug: a %s has no crash dump header", src.Crash.Format)
	}
	r := &headerRecord{Format: src.Crash.Format}
	for _, f := range src.Header {
		r.Fields = append(r.Fields, dumpField{f.Structure, f.Name, report.Addr(f.Value), f.Bits})
	}
	return out.Emit(r)
}
