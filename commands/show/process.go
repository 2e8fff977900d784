package show

import (
	"fmt"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/process"
)

// Process is the record of a process.
type Process struct {
	Address     report.Addr    `json:"address"`
	PID         *uint64        `json:"pid"`
	ParentPID   *uint64        `json:"parent_pid"`
	Session     *uint32        `json:"session"`
	Image       *string        `json:"image"`
	Peb         *report.Addr   `json:"peb"`
	DirBase     *report.Addr   `json:"dir_base"`
	ObjectTable *report.Addr   `json:"object_table"`
	HandleCount *uint64        `json:"handle_count"`
	Origin      string         `json:"layout,omitempty"`
	Missing     report.Missing `json:"missing,omitempty"`
}

// Type names the record.
func (*Process) Type() string { return "process" }

// NewProcess makes the record of a process.
func NewProcess(k *model.Kernel, p process.Process) *Process {
	r := &Process{
		Address: report.Addr(p.Address), PID: known(p.Gaps, "pid", p.PID), ParentPID: known(p.Gaps, "parent_pid", p.ParentPID),
		Image: known(p.Gaps, "image", p.Image), Peb: addr(p.Gaps, "peb", p.Peb), DirBase: addr(p.Gaps, "dir_base", p.DirBase),
		ObjectTable: addr(p.Gaps, "object_table", p.ObjectTable), HandleCount: known(p.Gaps, "handle_count", p.HandleCount),
		Origin: LayoutNote(k),
	}
	if p.HasSession {
		r.Session = &p.Session
	}
	for f, err := range p.Gaps {
		if f != "device_map" { // which is no part of the record
			r.Missing.Set(f, err)
		}
	}
	return r
}

// WriteText writes the block of !process with flags 0.
func (r *Process) WriteText(p *report.Printer) {
	p.Styled(report.Strong, "PROCESS %s\n", r.Address.String())
	session := "none"
	if r.Session != nil {
		session = fmt.Sprint(*r.Session)
	} else if r.Missing["session"] != "" {
		session = "????"
	}
	p.Printf("    SessionId: %s  Cid: %s    Peb: %s  ParentCid: %s\n",
		session, text(r.PID, "%04x"), hex8(r.Peb), text(r.ParentPID, "%04x"))
	count := "<Data Not Accessible>"
	if r.HandleCount != nil {
		count = fmt.Sprintf("%3d.", *r.HandleCount)
	}
	p.Printf("    DirBase: %s  ObjectTable: %s  HandleCount: %s\n", hex8(r.DirBase), hex8(r.ObjectTable), count)
	p.Printf("    Image: %s\n\n", image(r.Image))
}

// hex8 spells a value with at least eight hex digits, as kd does here on every
// machine.
func hex8(a *report.Addr) string {
	if a == nil {
		return "????????"
	}
	return fmt.Sprintf("%08x", uint64(*a))
}
