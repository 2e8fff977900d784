package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model"
)

var registers = &cmd.Command{
	Name: "r", Prefix: true, Group: cmd.GroupThread,
	Summary: "show registers, or set a pseudo-register",
	Args: []cmd.Arg{{
		Name: "registers", Kind: cmd.KindRest, Optional: true, Complete: cmd.CompleteRegister,
		Doc: "names with commas between, each maybe with :TYPE; $t0 = EXPRESSION; behind the r: F, X, or M and a mask",
	}},
	Needs: cmd.NeedTarget,
	Help: `Shows the registers of the current scope: as the processor's were saved when the
dump was made, or as .thread, .cxr, .trap or .frame /c set them; then the place
and the instruction there, with the address that it reads or writes and what is
there. Named registers stand alone: 64 bits, parts (eax, ax, al, r8d), flags (zf),
xmm0, mxcsr, st0, dr7, cr3, and pseudo-registers. :TYPE shows elements, the
highest first: ib iw id iq signed, ub uw ud uq in hexadecimal, f and d floating
point.

r. shows what the instruction names, rF the floating-point unit, rX the xmm
registers, rM MASK what the mask asks for: 1 or 2 general, 4 floating point, 8
segments, 20 debug, 40 xmm, 80 control and 100 system registers. r $t0 =
EXPRESSION sets a pseudo-register, r $.u0 = TEXT a fixed alias; r ? shows all of
$t0 to $t19.

Question marks stand for what a frame does not know: only the registers that
functions preserve are found again. After .thread and .trap such registers show as
zeros, as in kd; in JSON they are null. Nothing in a dump is changed: r rax=1 does
not work. A dump of an ARM64 machine holds the registers of the processor that
crashed.`,
	Example: "r\nr rip,rsp\nr rax:ub\nr $t0 = 5\nr $t0\nrX\nrM 80",
	SeeAlso: []string{".frame", ".cxr", ".trap", ".thread", "~"},
	Run:     runRegisters,
}

func runRegisters(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	text := in.Raw
	if strings.Contains(text, "=") || strings.HasPrefix(text, "?") {
		if done, err := assign(ctx, s, text); done {
			return err
		}
	}
	mode := byte(0)
	if in.Joined {
		switch c := text[0]; c {
		case 'F', 'X', 'M':
			mode, text = c, strings.TrimSpace(text[1:])
		case '.':
			if text != "." {
				return cmd.Misuse(fmt.Errorf("nothing can stand behind r.: %q", text[1:]))
			}
			mode, text = c, ""
		case '$', '@', '?', ':':
		default:
			return &cmd.UnknownError{Line: "r" + strings.Fields(text)[0], Similar: s.Commands.Similar("r"+strings.Fields(text)[0], 3)}
		}
	}
	if text == "?" {
		return userVariables(s, out)
	}
	text = strings.TrimSpace(strings.TrimPrefix(text, "?"))
	if s.Kernel.Source.Machine == model.MachineARM64 {
		return arm64Registers(ctx, s, mode, text, out)
	}
	if mode == 'M' {
		return runMask(ctx, s, text, out)
	}
	if text != "" && allPseudo(text) { // needs no registers
		return pick(ctx, s, nil, text, out)
	}
	v, err := scopeView(s)
	switch {
	case err != nil:
		return err
	case text != "":
		return pick(ctx, s, v, text, out)
	case mode == 'F':
		return floatingPoint(v, s.CPU, out)
	case mode == 'X':
		return xmmRegisters(v, s.CPU, out)
	}
	r := contextRecord(ctx, s, v)
	if mode == '.' {
		return usedRegisters(v, r, out)
	}
	r.again = v.set != ""
	return out.Emit(r)
}

// assign carries out assignments. Those to registers of the processor are
// refused.
func assign(ctx context.Context, s *cmd.Session, text string) (done bool, err error) {
	name, _, found := strings.Cut(text, "=")
	name = strings.TrimPrefix(strings.ToLower(strings.TrimSpace(name)), "@")
	if found && isRegister(name) {
		return true, fmt.Errorf("r: %s can't be set: a dump is read only, and nothing in it is changed; r $t0 = VALUE sets a pseudo-register", name)
	}
	ok, err := s.Assign(ctx, text)
	return ok || err != nil, err
}

func isRegister(name string) bool {
	if name == "rip" || name == "eip" || name == "efl" || name == "eflags" {
		return true
	}
	v := &view{known: allKnown}
	_, ok := v.named(name)
	return ok
}

// allPseudo tells that a list names pseudo-registers only.
func allPseudo(text string) bool {
	for _, w := range names(text) {
		if !strings.HasPrefix(w, "$") {
			return false
		}
	}
	return true
}

// names cuts a list at commas and blanks.
func names(text string) []string {
	list := strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ' ' || c == '\t' })
	for i := range list {
		list[i] = strings.TrimPrefix(list[i], "@")
	}
	return list
}

// maxNames limits the registers of one command.
const maxNames = 256

// pick shows the registers of a list.
func pick(ctx context.Context, s *cmd.Session, v *view, text string, out report.Sink) error {
	words := names(text)
	if len(words) > maxNames {
		return cmd.Misuse(fmt.Errorf("%d registers: at most %d are taken", len(words), maxNames))
	}
	r := &registerSet{processor: s.CPU, only: []register{}}
	if v != nil {
		r.set = v.set
	}
	for _, word := range words {
		name, typ, _ := strings.Cut(word, ":")
		name = strings.ToLower(name)
		n, err := lookup(ctx, s, v, name)
		if err != nil {
			return err
		}
		if typ != "" {
			if n, err = n.as(typ); err != nil {
				return err
			}
		}
		r.only = append(r.only, n.register)
	}
	return out.Emit(r)
}

// lookup finds a register, or a pseudo-register.
func lookup(ctx context.Context, s *cmd.Session, v *view, name string) (wide, error) {
	if strings.HasPrefix(name, "$") {
		if t, ok := s.Pseudo(name); ok {
			return wideOf(name, t.Value, 8), nil
		}
		n, err := s.Eval.Eval(ctx, "@"+name)
		return wideOf(name, n, 8), err
	}
	if v == nil {
		return wide{}, errors.New("no registers")
	}
	if n, ok := v.named(name); ok {
		return n, nil
	}
	if n, ok, err := controlRegister(s, name); ok || err != nil {
		return n, err
	}
	return wide{}, fmt.Errorf("r: there is no register %q; r alone shows all", name)
}

// usedRegisters shows the registers that the instruction names, as r. does;
// nothing where it names none.
func usedRegisters(v *view, r *registerSet, out report.Sink) error {
	_, operands, _ := strings.Cut(r.code.text, " ")
	r.only = []register{}
	for _, word := range strings.FieldsFunc(operands, func(c rune) bool { return strings.ContainsRune(" ,[]+-*:", c) }) {
		w, ok := v.named(word)
		if ok && !slices.ContainsFunc(r.only, func(o register) bool { return o.name == w.name }) {
			r.only = append(r.only, w.register)
		}
	}
	if len(r.only) == 0 {
		return nil
	}
	return out.Emit(r)
}

// userVariables shows $t0 to $t19.
func userVariables(s *cmd.Session, out report.Sink) error {
	r := &registerLines{processor: s.CPU, gap: " "}
	var list []register
	for i := 0; ; i++ {
		name := fmt.Sprintf("$t%d", i)
		t, ok := s.Pseudo(name)
		if !ok {
			break
		}
		list = append(list, wideOf(fmt.Sprintf("%4s", name), t.Value, 8).register)
	}
	r.add(3, list)
	return out.Emit(r)
}

// arm64Registers shows those of the crashed processor of an ARM64 machine.
func arm64Registers(ctx context.Context, s *cmd.Session, mode byte, text string, out report.Sink) error {
	regs, ok := model.ParseARM64Context(s.Kernel.Source.Crash.Context)
	if !ok {
		return errors.New("the registers are not in this dump")
	}
	if mode != 0 {
		return fmt.Errorf("r%c: only the general registers of ARM64 are read", mode)
	}
	r := arm64(regs)
	r.processor = s.CPU
	if text == "" {
		r.locate(ctx, s)
		return out.Emit(r)
	}
	r.place = s.Kernel.NameOf(ctx, r.pc).String()
	all := slices.Concat(r.list, r.special)
	for _, word := range names(text) {
		i := slices.IndexFunc(all, func(v register) bool { return strings.EqualFold(strings.TrimSpace(v.name), word) })
		switch {
		case i >= 0:
			v := all[i]
			v.name = strings.TrimSpace(v.name)
			r.only = append(r.only, v)
		case strings.HasPrefix(word, "$"):
			w, err := lookup(ctx, s, nil, strings.ToLower(word))
			if err != nil {
				return err
			}
			r.only = append(r.only, w.register)
		default:
			return fmt.Errorf("r: there is no register %q; r alone shows all", word)
		}
	}
	return out.Emit(r)
}
