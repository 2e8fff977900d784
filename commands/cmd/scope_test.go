package cmd

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/mem"
)

// TestScope: what was chosen is dropped by another processor, and a thread whose
// registers are lost does not get those of the processor.
func TestScope(t *testing.T) {
	t.Parallel()
	own := model.Registers{RIP: 1}
	s := &Session{Kernel: &model.Kernel{Processors: []model.Processor{{Context: &own, CurrentThread: 0x1000}, {Number: 1, Context: &model.Registers{RIP: 2}}}}}
	set := model.Registers{RIP: 3}
	space := mem.NewFlat(nil)
	s.Scope = Scope{Process: 0x2000, Space: space, Thread: 0x3000, Registers: &set, Set: ".cxr", Frame: 4, Called: true}
	if r, err := s.Registers(); err != nil || r.RIP != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	s.ResetRegisters()
	if c := s.Scope; c.Process != 0x2000 || c.Space != space || c.Thread != 0 || c.Registers != nil || c.Set != "" || c.Frame != 0 || c.Called {
		t.Errorf("%+v", c)
	}
	lost := errors.New("its stack is not resident")
	s.Scope = Scope{Thread: 0x3000, Set: ".thread", Err: lost}
	if r, err := s.Registers(); err != lost {
		t.Errorf("%+v, %v; want %v", r, err, lost)
	}
	s.SetProcessor(1)
	if r, err := s.Registers(); err != nil || r.RIP != 2 || s.CPU != 1 || s.Scope.Thread != 0 {
		t.Errorf("%+v, %v, scope %+v", r, err, s.Scope)
	}
}

// TestReturnAddress: the command that walks stacks is asked.
func TestReturnAddress(t *testing.T) {
	t.Parallel()
	c := &Command{
		Name: "k", Prefix: true, Summary: "s", Help: "h", Group: GroupThread,
		Run:           func(_ context.Context, _ *Session, in Args, out report.Sink) error { return nil },
		ReturnAddress: func(context.Context, *Session) (mem.VA, error) { return 0x1234, nil },
	}
	tab, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Commands: tab}
	if at, err := s.ReturnAddress(context.Background()); at != 0x1234 || err != nil {
		t.Errorf("%#x, %v", uint64(at), err)
	}
	if _, err := (&Session{}).ReturnAddress(context.Background()); err == nil {
		t.Error("a session without commands knows return addresses")
	}
}

// TestJoined tells "kb" from "k b".
func TestJoined(t *testing.T) {
	t.Parallel()
	var got []string
	c := &Command{
		Name: "k", Prefix: true, Summary: "s", Help: "h", Group: GroupThread,
		Args: []Arg{{Name: "text", Kind: KindRest, Optional: true, Doc: "d"}},
		Run: func(_ context.Context, _ *Session, in Args, out report.Sink) error {
			if in.Joined {
				got = append(got, "joined "+in.Raw)
			} else {
				got = append(got, in.Raw)
			}
			return nil
		},
	}
	tab, err := NewTable(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &Session{Commands: tab, Out: NewOutput(&bytes.Buffer{}, report.Era19041, false)}
	if err := s.Execute(context.Background(), "k; kb 5; k b"); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"", "joined b 5", "b"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
