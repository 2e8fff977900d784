package vm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
	"gokd/model/process"
)

var session = &cmd.Command{
	Name: "!session", Aliases: []string{"!kdexts.session"}, Group: cmd.GroupProcess,
	Summary: "list the logon sessions, or choose the one that other commands speak of",
	Args: []cmd.Arg{
		{Name: "DefaultSession", Kind: cmd.KindRest, Optional: true, Doc: "-s N: choose session N; -s -1: that of the current process; -?: this help"},
	},
	Needs:   cmd.NeedKernel,
	Help:    sessionHelp,
	Example: "!session",
	SeeAlso: []string{".process", "!poolused", "!poolfind", "!vm"},
	Run:     runSession,
}

const sessionHelp = `Without arguments lists the sessions whose structure is in the dump, and the
current one: the one that was chosen, else that of the current process.

-s N chooses session N: !poolused 8, !poolfind -session and !vm 4 then speak of
it alone, and its first process becomes the implicit one, so that session
addresses can be read. -s -1 goes back to the session of the current process,
and those commands to all sessions. A kernel dump holds no memory of sessions on
Windows 8 and later: their structures are mapped in processes only.`

// errSessionHelp asks for the help.
var errSessionHelp = errors.New("help")

// current stands for -s -1.
const current = -1

// parseSession reads the arguments: nothing, or what -s chose.
func parseSession(text string) (choice int64, set bool, err error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return 0, false, nil
	}
	if strings.HasPrefix(words[0], "/") {
		words[0] = "-" + words[0][1:]
	}
	switch {
	case words[0] == "-?":
		return 0, false, errSessionHelp
	case words[0] == "-s" && len(words) == 1:
		return 0, false, errors.New("-s needs the number of a session, or -1")
	case words[0] == "-s":
		words = words[1:]
	case strings.HasPrefix(words[0], "-"):
		return 0, false, fmt.Errorf("unknown switch %s", words[0])
	}
	if len(words) > 1 {
		return 0, false, fmt.Errorf("unexpected argument %q", words[1])
	}
	if words[0] == "-1" {
		return current, true, nil
	}
	// Sessions are decimal in what kd prints and on Windows' own tools.
	var n uint32
	var rest string
	if c, _ := fmt.Sscanf(words[0]+" .", "%d %s", &n, &rest); c != 2 || rest != "." {
		return 0, false, fmt.Errorf("%q is no number of a session", words[0])
	}
	return int64(n), true, nil
}

// sessionList is the record of the list.
type sessionList struct {
	Sessions []sessionItem  `json:"sessions"`
	Current  *uint32        `json:"current"`
	Chosen   bool           `json:"chosen"` // Current was set by !session -s
	Missing  report.Missing `json:"missing,omitempty"`
}

type sessionItem struct {
	ID        uint32        `json:"session"`
	Address   report.Addr   `json:"address"`
	Processes []report.Addr `json:"processes"`
}

// Type names the record.
func (*sessionList) Type() string { return "sessions" }

// WriteText writes kd's lines.
func (r *sessionList) WriteText(p *report.Printer) {
	p.Printf("Sessions on machine: %d\n", len(r.Sessions))
	p.Printf("Valid Sessions:")
	for _, s := range r.Sessions {
		p.Printf(" %d", s.ID)
	}
	p.Printf("\n")
	if r.Current != nil {
		p.Printf("Current Session %d\n", *r.Current)
	}
}

// chosen is the record of a choice.
type chosen struct {
	Session  uint32       `json:"session"`
	Process  *report.Addr `json:"process"`
	Sessions int          `json:"sessions"`
}

// Type names the record.
func (*chosen) Type() string { return "session" }

// WriteText writes what kd says of a choice, with its line about page tables,
// which gokd reads in any case.
func (r *chosen) WriteText(p *report.Printer) {
	p.Printf("Sessions on machine: %d\n", r.Sessions)
	if r.Process != nil {
		p.Printf("Implicit process is now %s\n", r.Process.Tick())
	}
	// Two public outputs of different years end in this letter.
	p.Printf(".cache forcedecodeptes done\nUsing session %dl\n", r.Session)
}

func runSession(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	choice, set, err := parseSession(in.Text("DefaultSession"))
	if errors.Is(err, errSessionHelp) {
		return out.Emit(report.Text("usage: !session [-s DefaultSession]\n\n" + sessionHelp + "\n"))
	}
	if err != nil {
		return cmd.Misuse(err)
	}
	p, err := pools(s)
	if err != nil {
		return err
	}
	list, lack := p.Sessions(ctx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if set && choice == current {
		s.LogonSession = nil
	}
	id, why := currentSession(s)
	switch {
	case set && choice == current && why != nil:
		return fmt.Errorf("!session: the session of the current process is not known: %w", why)
	case set && choice == current:
		choice = int64(id)
		fallthrough
	case set:
		return choose(s, list, lack, uint32(choice), in, out)
	case len(list) == 0:
		return noSessions(lack)
	}
	r := &sessionList{Sessions: []sessionItem{}, Chosen: s.LogonSession != nil}
	for _, i := range list {
		item := sessionItem{ID: i.ID, Address: report.Addr(i.At), Processes: []report.Addr{}}
		for _, at := range i.Processes {
			item.Processes = append(item.Processes, report.Addr(at))
		}
		r.Sessions = append(r.Sessions, item)
	}
	if r.Missing.Set("current", why); why == nil {
		r.Current = &id
	}
	if err := out.Emit(r); err != nil {
		return err
	}
	if why != nil {
		if err := out.Emit(report.Notef("The current session is not known: %v.", why)); err != nil {
			return err
		}
	}
	if lack != nil {
		return out.Emit(report.Notef("Not all sessions are listed: %v.", lack))
	}
	return nil
}

// noSessions says why there is nothing to list or to choose.
func noSessions(lack error) error {
	if lack == nil {
		lack = errors.New("no process belongs to one")
	}
	return fmt.Errorf("!session: no session is known: %w", lack)
}

// currentSession gives the session that was chosen, else that of the current
// process.
func currentSession(s *cmd.Session) (uint32, error) {
	if s.LogonSession != nil {
		return *s.LogonSession, nil
	}
	at, err := s.Process()
	if err != nil {
		return 0, err
	}
	p, err := process.At(s.Kernel, at)
	switch {
	case err != nil:
		return 0, err
	case p.Gaps["session"] != nil:
		return 0, p.Gaps["session"]
	case !p.HasSession:
		return 0, fmt.Errorf("process %s belongs to no session", at)
	}
	return p.Session, nil
}

// choose sets the session context, and the process context with it as kd does.
func choose(s *cmd.Session, list []pool.SessionInfo, lack error, id uint32, in cmd.Args, out report.Sink) error {
	if len(list) == 0 {
		return noSessions(lack)
	}
	var numbers []string
	for _, i := range list {
		numbers = append(numbers, fmt.Sprint(i.ID))
		if i.ID != id {
			continue
		}
		r := &chosen{Session: id, Sessions: len(list)}
		if len(i.Processes) > 0 {
			if err := enter(s, i.Processes[0]); err != nil {
				return err
			}
			at := report.Addr(i.Processes[0])
			r.Process = &at
		}
		if back, _, _ := parseSession(in.Text("DefaultSession")); back != current {
			s.LogonSession = &id
		}
		return out.Emit(r)
	}
	return fmt.Errorf("!session: session %d is not in the dump; there are %s", id, strings.Join(numbers, ", "))
}

// enter makes a process the implicit one.
func enter(s *cmd.Session, at mem.VA) error {
	space, err := process.Space(s.Kernel, at)
	if err != nil {
		return fmt.Errorf("!session: process %s: %w", at, err)
	}
	s.Scope.Process, s.Scope.Space = at, space
	return nil
}
