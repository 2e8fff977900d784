package code

import (
	"encoding/hex"
	"strings"

	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model/disasm"
	"gokd/model/mem"
)

// instruction is the record of one instruction.
type instruction struct {
	Address      report.Addr    `json:"address"`
	Symbol       *string        `json:"symbol"` // the name of its place; null where it has none
	Bytes        *string        `json:"bytes"`  // null where they can't be read
	Mnemonic     *string        `json:"mnemonic"`
	Operands     *string        `json:"operands"`
	Text         *string        `json:"text"`
	Flow         *string        `json:"flow"` // none, jump, condjump, call, return, trap
	Target       *report.Addr   `json:"target"`
	TargetSymbol *string        `json:"target_symbol"`
	Memory       *report.Addr   `json:"memory,omitempty"` // of an operand with a fixed address
	Source       *show.Source   `json:"source,omitempty"` // with .lines on
	Missing      report.Missing `json:"missing,omitempty"`

	line   string // as u writes it
	label  string // a line before it; empty: none
	branch bool   // "Branch" stands behind it
	number bool   // the line of the source stands before the address, as in uf
}

// Type names the record.
func (*instruction) Type() string { return "instruction" }

// WriteText writes the line of the label and that of the instruction.
func (i *instruction) WriteText(p *report.Printer) {
	if i.label != "" {
		p.Styled(report.Symbol, "%s%s:\n", i.label, i.Source.String())
	}
	if i.number && i.Source != nil {
		p.Printf("%5d ", i.Source.Line)
	}
	p.Printf("%s %s", i.Address.Tick(), i.line)
	if i.branch && p.Era != report.Era62 {
		p.Printf("  Branch")
	}
	p.Printf("\n")
}

// recordOf makes the record of a decoded instruction; err says that its bytes
// can't be read.
func (r *reader) recordOf(at uint64, inst *disasm.Inst, err error) *instruction {
	out := &instruction{Address: report.Addr(at)}
	if n := r.name(at).String(); n != "" {
		out.Symbol = &n
	}
	if r.source != nil {
		out.Source = r.source(mem.VA(at))
	}
	if err != nil {
		out.Missing.Set("bytes", err)
		out.line = "??              ???"
		if r.arm {
			out.line = "???????? ???"
		}
		return out
	}
	bytes, flow := hex.EncodeToString(inst.Bytes), inst.Flow.String()
	out.Bytes, out.Flow = &bytes, &flow
	out.Mnemonic, out.Operands, out.Text = &inst.Mnemonic, &inst.Operands, &inst.Text
	if inst.HasTarget {
		target := report.Addr(inst.Target)
		out.Target = &target
		if n := r.name(inst.Target).String(); n != "" {
			out.TargetSymbol = &n
		}
	}
	if inst.HasMem && inst.Mem.PCRel {
		at := report.Addr(inst.Mem.Addr)
		out.Memory = &at
	}
	out.line = inst.Line(r.bytes)
	return out
}

// accessError is kd's line under the command whose memory can't be read: a
// caret below its last character.
type accessError struct {
	column  int
	command string
	why     error
}

func (e *accessError) Error() string {
	return strings.Repeat(" ", e.column) + "^ Memory access error in '" + e.command + "'\n" +
		strings.Repeat(" ", e.column) + "  " + e.why.Error()
}

// Unwrap gives the reason.
func (e *accessError) Unwrap() error { return e.why }

// newAccessError points at the end of a command line.
func newAccessError(prompt, command string, why error) error {
	return &accessError{max(len([]rune(prompt+command))-1, 0), command, why}
}
