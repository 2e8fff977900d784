package stack

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
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

// instructionAt lets u spell the instruction at an address. Without u there is
// no text. u runs in a session of its own, so that it goes on where the user's
// last one ended, and shows bytes whatever .asm says.
func instructionAt(ctx context.Context, s *cmd.Session, at mem.VA) instruction {
	i := instruction{at: at}
	var b [1]byte
	if _, err := s.ReadVirtual(b[:], at); err != nil {
		i.missing = true
		return i
	}
	if s.Commands == nil || s.Out == nil {
		return i
	}
	if _, _, ok := s.Commands.Find("u"); !ok {
		return i
	}
	own := &cmd.Session{
		Kernel: s.Kernel, Commands: s.Commands, Eval: s.Eval, Symbols: s.Symbols, Images: s.Images,
		CPU: s.CPU, Scope: s.Scope, Out: s.Out,
	}
	text, err := own.Capture(ctx, fmt.Sprintf("u 0x%x L1", uint64(at)))
	if err == nil {
		i.read(text)
	}
	return i
}

// read takes the instruction out of the answer of u: the last line that begins
// with the address; then bytes, then text.
func (i *instruction) read(answer string) {
	for line := range strings.SplitSeq(answer, "\n") {
		rest, ok := strings.CutPrefix(line, report.Addr(i.at).Tick()+" ")
		if !ok {
			continue
		}
		code, text, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		b, err := hex.DecodeString(code)
		if err != nil || len(b) == 0 {
			continue
		}
		i.line, i.bytes, i.text = strings.TrimRight(line, " "), b, strings.TrimSpace(text)
		return
	}
}
