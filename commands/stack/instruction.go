package stack

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"slices"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/disasm"
	"gokd/model/mem"
)

// instruction is the one at an address, as u shows it, with what r adds.
type instruction struct {
	at      mem.VA
	line    string // as u writes it
	bytes   []byte
	text    string // "mov     qword ptr [rsp+8],rcx"; empty: not known
	comment string // "ss:0018:fffff880`0201bb40=0000000000000000"
	missing bool   // its bytes are not in the dump
}

// MarshalJSON gives the parts by name.
func (i *instruction) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Address report.Addr `json:"address"`
		Bytes   string      `json:"bytes"`
		Text    string      `json:"text"`
		Comment string      `json:"effective_address,omitempty"`
	}{report.Addr(i.at), hex.EncodeToString(i.bytes), i.text, i.comment})
}

func (i *instruction) orNil() *instruction {
	if i.text == "" {
		return nil
	}
	return i
}

// write writes the last line of r.
func (i *instruction) write(p *report.Printer) {
	switch {
	case i.missing:
		p.Printf("%s ??              ???\n", report.Addr(i.at).Tick())
	case i.line == "":
		p.Printf("%s\n", report.Addr(i.at).Tick())
	case i.comment == "":
		p.Printf("%s\n", i.line)
	default:
		p.Printf("%s %s\n", i.line, i.comment)
	}
}

// instructionAt reads and decodes the instruction at an address. It is spelled
// as u spells it; its bytes are shown whatever .asm says.
func instructionAt(ctx context.Context, s *cmd.Session, at mem.VA) instruction {
	i := instruction{at: at}
	decode := disasm.One
	switch s.Kernel.Source.Machine {
	case model.MachineX64:
	case model.MachineARM64:
		decode = disasm.OneARM64
	default:
		return i
	}
	var b [disasm.MaxLen]byte
	n, err := s.ReadVirtual(b[:], at)
	if n == 0 {
		i.missing = true
		return i
	}
	inst, short := decode(b[:n], uint64(at), disasm.Options{Symbol: show.CodeName(ctx, s.Kernel)})
	if short != nil && err != nil { // the rest of it can't be read
		i.missing = true
		return i
	}
	i.line = report.Addr(at).Tick() + " " + inst.Line(true)
	i.bytes, i.text = slices.Clone(inst.Bytes), inst.Text
	return i
}
