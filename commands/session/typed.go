package session

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/types"
)

var evaluateTyped = &cmd.Command{
	Name: "??", Prefix: true, Group: cmd.GroupSession,
	Summary: "evaluate a C++ expression",
	Help: `Works out an expression by the rules of C++ and shows its type and value; of a
structure, or a pointer to one, the fields as dt shows them.

  numbers    decimal; 0x hexadecimal, a leading 0 octal; suffixes L, U, I64
  registers  @rip, @$t0; @$thread, @$proc, @$teb and @$peb point to structures
  symbols    the variable's value, by the type that the symbols tell
  types      (nt!_EPROCESS*)x, (unsigned long)x, sizeof(type), static_cast<T>(x)
  members    p->field, s.field, array[3], *p, &p->field
  operators  all of C that change nothing; pointers move by what they point to
  macros     #CONTAINING_RECORD(address, type, field), #FIELD_OFFSET(type, field),
             #RTL_FIELD_SIZE, #RTL_SIZEOF_THROUGH_FIELD, #RTL_NUMBER_OF,
             #RTL_CONTAINS_FIELD
  others     @@masm( ) and @@( ) take an expression of MASM

Functions are not called and nothing is assigned (r? $t0 = sets a variable with
its type). Classes have no bases here, and templates are not known.`,
	Example: "?? sizeof(nt!_EPROCESS)\n?? @$thread->Tcb.State\n?? 1 + 2.5",
	SeeAlso: []string{"?", ".expr"},
	Args: []cmd.Arg{{
		Name: "expression", Kind: cmd.KindRest, Complete: cmd.CompleteType, Doc: "what to evaluate",
	}},
	Run: runTyped,
}

func runTyped(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	e, ok := s.Eval.(cmd.TypedEvaluator)
	if !ok {
		return errNoEvaluator
	}
	v, err := e.EvalTyped(ctx, in.Text("expression"))
	if err != nil {
		return err
	}
	r := newTypedRecord(v)
	if t := v.Type; t != nil && (t.Kind == types.KindArray && narrow(t.Elem)) {
		r.text, err = characters(s, v)
		r.Missing.Set("text", err)
	}
	if err := out.Emit(r); err != nil {
		return err
	}
	return fields(ctx, s, v)
}

func narrow(t *types.Type) bool { return t != nil && t.Size == 1 }

// characters reads an array of bytes as text, up to a zero one.
func characters(s *cmd.Session, v cmd.Typed) (string, error) {
	b := make([]byte, min(v.Type.Count, maxLab))
	n, err := s.ReadVirtual(b, v.Location)
	text, _, _ := strings.Cut(string(b[:n]), "\x00")
	return fmt.Sprintf("%q", text), err
}

// plainName is a type's name that can be written in a command.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z_0-9:]*$`)

// fields shows those of a structure, or of the one that a pointer leads to, by dt.
func fields(ctx context.Context, s *cmd.Session, v cmd.Typed) error {
	t, at := v.Type, v.Location
	if t != nil && t.Kind == types.KindPointer {
		t, at = t.Elem, mem.VA(v.Value)
	}
	if t == nil || t.Kind != types.KindStruct && t.Kind != types.KindUnion || at == 0 || !plainName.MatchString(t.Name) {
		return nil
	}
	name := t.Name
	if v.Module != "" && plainName.MatchString(v.Module) {
		name = v.Module + "!" + name
	}
	line := fmt.Sprintf("dt %s 0x%x", name, uint64(at))
	if _, _, ok := s.Commands.Find(line); !ok {
		return nil
	}
	return s.Execute(ctx, line)
}

// typedRecord is the value of a C++ expression.
type typedRecord struct {
	Name     string         `json:"type"`
	Value    *report.Addr   `json:"value"`
	Location *report.Addr   `json:"location"`
	Text     string         `json:"text"`
	Missing  report.Missing `json:"missing,omitempty"`

	text string // behind the value of an array of characters
}

func newTypedRecord(v cmd.Typed) *typedRecord {
	r := &typedRecord{Name: cmd.TypeName(v.Type), Location: address(v.Location)}
	value := report.Addr(v.Value)
	r.Value = &value
	if t := v.Type; t != nil && (t.Kind == types.KindStruct || t.Kind == types.KindUnion || t.Kind == types.KindArray) {
		r.Value = nil
		r.Missing.Set("value", errors.New("it is no number"))
	}
	if r.Location == nil {
		r.Missing.Set("location", errors.New("it lies in no memory"))
	}
	r.Text = valueText(v)
	return r
}

// valueText writes a value as kd writes one of its type: signed numbers in
// decimal with 0n, others in hexadecimal from 10 on, pointers with all digits.
func valueText(v cmd.Typed) string {
	t := v.Type
	switch {
	case t == nil:
		return unsignedText(v.Value)
	case t.Kind == types.KindFloat && t.Size == 4:
		return shortFloat(float64(math.Float32frombits(uint32(v.Value))))
	case t.Kind == types.KindFloat:
		return shortFloat(math.Float64frombits(v.Value))
	case t.Kind == types.KindBool && v.Value != 0:
		return "true"
	case t.Kind == types.KindBool:
		return "false"
	case t.Kind == types.KindPointer && v.Value == 0:
		return "(null)"
	case t.Kind == types.KindPointer, t.Kind == types.KindStruct, t.Kind == types.KindUnion, t.Kind == types.KindArray, t.Kind == types.KindFunction:
		return "0x" + report.Addr(v.Value).Tick()
	case t.Kind == types.KindEnum:
		return enumText(t, v.Value)
	case t.Kind == types.KindSigned && t.Size == 1, t.Kind == types.KindChar && !strings.HasPrefix(t.Name, "unsigned"):
		return fmt.Sprintf("0n%d %s", int8(v.Value), quotedChar(byte(v.Value)))
	case t.Kind == types.KindChar:
		if v.Value&0xff == 0 {
			return "0 ''"
		}
		return fmt.Sprintf("%#x %s", byte(v.Value), quotedChar(byte(v.Value)))
	case t.Kind == types.KindSigned:
		return fmt.Sprintf("0n%d", int64(v.Value))
	case t.Kind == types.KindVoid:
		return ""
	}
	return unsignedText(v.Value)
}

func unsignedText(v uint64) string {
	if v < 10 {
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("%#x", v)
}

func quotedChar(c byte) string {
	if c < 0x20 || c > 0x7e {
		return "''"
	}
	return "'" + string(rune(c)) + "'"
}

// enumText names the constant of a value: "Waiting (0n5)". Of several names the
// first in order stands for it.
func enumText(t *types.Type, v uint64) string {
	found := ""
	for name, n := range t.Consts {
		if n == int64(v) && (found == "" || name < found) {
			found = name
		}
	}
	if found == "" {
		return fmt.Sprintf("0n%d (No matching name)", int64(v))
	}
	return fmt.Sprintf("%s (0n%d)", found, int64(v))
}

// Type names the record.
func (*typedRecord) Type() string { return "typed_value" }

// WriteText writes kd's line: the type, then the value.
func (r *typedRecord) WriteText(p *report.Printer) {
	p.Printf("%s", r.Name)
	if r.Text != "" {
		p.Printf(" %s", r.Text)
	}
	if r.text != "" {
		p.Printf(" %s", r.text)
	}
	p.Printf("\n")
}
