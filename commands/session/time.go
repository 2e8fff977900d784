package session

import (
	"context"
	"time"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

var dotTime = &cmd.Command{
	Name: ".time", Group: cmd.GroupSession,
	Summary: "show when the dump was made and how long the machine had run",
	Help: `Shows the machine's clock when the dump was made, in the time zone of this
computer, and the time since it was started. Both stand in the dump's header.`,
	Example: ".time",
	SeeAlso: []string{"vertarget"},
	Needs:   cmd.NeedTarget,
	Run: func(_ context.Context, s *cmd.Session, _ cmd.Args, out report.Sink) error {
		t := NewTarget(s.Kernel, s.Location)
		missing := report.Missing{}
		for _, f := range []string{"session_time", "uptime_ms"} {
			if why, ok := t.Missing[f]; ok {
				missing[f] = why
			}
		}
		return out.Emit(&clocks{t.Time, t.UptimeMS, missing, t.zone})
	},
}

// clocks is the record of .time.
type clocks struct {
	Time     *time.Time     `json:"session_time"`
	UptimeMS *uint64        `json:"uptime_ms"`
	Missing  report.Missing `json:"missing,omitempty"`

	zone *time.Location
}

// Type names the record.
func (*clocks) Type() string { return "time" }

// WriteText writes kd's two lines.
func (c *clocks) WriteText(p *report.Printer) { writeClocks(p, c.Time, c.UptimeMS, c.zone) }
