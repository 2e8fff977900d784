package show

import (
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/diagnose"
	"gokd/model/mem"
	"gokd/model/resource"
)

// Owner is a granted owner of a resource.
type Owner struct {
	Raw     report.Addr  `json:"raw"`
	Thread  *report.Addr `json:"thread"`
	Count   uint32       `json:"count"`
	Tagged  bool         `json:"tagged"`
	Note    *string      `json:"note"` // kd's remark on an odd owner
	StackOf *report.Addr `json:"stack_of"`
}

// Resource is the record of an executive resource.
type Resource struct {
	Address          report.Addr    `json:"address"`
	Name             *string        `json:"name"`
	Ownership        string         `json:"ownership"`
	ContentionCount  uint32         `json:"contention_count"`
	SharedWaiters    uint32         `json:"shared_waiters"`
	ExclusiveWaiters uint32         `json:"exclusive_waiters"`
	Owners           []Owner        `json:"owners"`
	WaitingShared    []report.Addr  `json:"waiting_shared"`
	WaitingExclusive []report.Addr  `json:"waiting_exclusive"`
	ActiveEntries    uint32         `json:"active_entries"`
	Fast             bool           `json:"fast"`
	Origin           string         `json:"layout,omitempty"`
	Missing          report.Missing `json:"missing,omitempty"`

	r *resource.Resource
}

// Type names the record.
func (*Resource) Type() string { return "resource" }

// NewResource makes the record of a resource. name is its symbol, empty where
// it has none.
func NewResource(k *model.Kernel, r *resource.Resource, name string, stackOf diagnose.StackOf) *Resource {
	n := &Resource{
		Address: report.Addr(r.Address), Ownership: r.Ownership.String(), ContentionCount: r.ContentionCount,
		SharedWaiters: r.SharedWaiters, ExclusiveWaiters: r.ExclusiveCount, ActiveEntries: r.ActiveEntries,
		Fast: r.Fast, Owners: []Owner{}, Origin: LayoutNote(k), r: r,
		WaitingShared: addrs(r.WaitingShared), WaitingExclusive: addrs(r.WaitingExclusive),
	}
	if name != "" {
		n.Name = &name
	}
	for _, e := range r.Owners() {
		o := Owner{Raw: report.Addr(e.Raw), Count: e.Count, Tagged: e.Tagged}
		if remark := note(e); remark != "" {
			o.Note = &remark
		}
		if e.Thread != 0 {
			t := report.Addr(e.Thread)
			o.Thread = &t
		}
		if e.Tagged && e.Thread == 0 && stackOf != nil {
			if t, _, ok := stackOf(e.Raw); ok {
				a := report.Addr(t)
				o.StackOf = &a
			}
		}
		n.Owners = append(n.Owners, o)
	}
	for f, err := range r.Gaps {
		n.Missing.Set(f, err)
	}
	return n
}

func addrs(list []mem.VA) []report.Addr {
	out := make([]report.Addr, len(list))
	for i, a := range list {
		out[i] = report.Addr(a)
	}
	return out
}

// note is the remark kd makes on an owner that ExSetResourceOwnerPointer set.
func note(e resource.Entry) string {
	switch {
	case !e.Tagged:
		return ""
	case e.Thread != 0:
		return fmt.Sprintf("*** Actual Thread %s", e.Thread)
	}
	return "*** Unknown owner, possibly FileSystem"
}

// WriteText writes the block of !locks.
func (n *Resource) WriteText(p *report.Printer) {
	state := "Available"
	switch n.r.Ownership {
	case resource.Exclusive:
		state = "Exclusively owned"
	case resource.Shared:
		state = fmt.Sprintf("Shared %d owning threads", n.r.ActiveEntries)
	}
	p.Printf("\n")
	if n.Name != nil {
		p.Printf("Resource @ %s (0x%s)    ", *n.Name, n.Address.String())
	} else {
		p.Printf("Resource @ 0x%s    ", n.Address.String())
	}
	p.Styled(report.Strong, "%s\n", state)
	for _, c := range []struct {
		name string
		n    uint32
	}{{"Contention Count", n.ContentionCount}, {"NumberOfSharedWaiters", n.SharedWaiters}, {"NumberOfExclusiveWaiters", n.ExclusiveWaiters}} {
		if c.n != 0 {
			p.Printf("    %s = %d\n", c.name, c.n)
		}
	}
	n.writeThreads(p)
	n.writeExclusive(p)
}

const perLine = 4

// writeThreads lists owners and shared waiters; owners are marked, and a remark
// ends its line.
func (n *Resource) writeThreads(p *report.Printer) {
	if len(n.r.Entries) == 0 {
		return
	}
	const indent = "              "
	var b strings.Builder
	b.WriteString("     Threads: ")
	col := 0
	entries := append(n.r.Owners(), waiting(n.r.Entries)...)
	for i, e := range entries {
		if col == perLine {
			b.WriteString("\n" + indent)
			col = 0
		}
		fmt.Fprintf(&b, "%016x-%02x", e.Raw, e.Count)
		col++
		if !e.Granted {
			b.WriteString("    ")
			continue
		}
		b.WriteString("<*> ")
		if remark := note(e); remark != "" {
			b.WriteString(remark)
			if i+1 < len(entries) {
				b.WriteString("\n" + indent)
			}
			col = 0
		}
	}
	p.Printf("%s\n", report.Text(b.String()))
}

func waiting(entries []resource.Entry) []resource.Entry {
	var list []resource.Entry
	for _, e := range entries {
		if !e.Granted {
			list = append(list, e)
		}
	}
	return list
}

func (n *Resource) writeExclusive(p *report.Printer) {
	if n.ExclusiveWaiters == 0 || len(n.WaitingExclusive) == 0 {
		return
	}
	p.Printf("\n     Threads Waiting On Exclusive Access:\n")
	for i, t := range n.WaitingExclusive {
		if i%perLine == 0 {
			p.Printf("              ")
		}
		p.Printf("%s       ", t.String())
		if i%perLine == perLine-1 || i == len(n.WaitingExclusive)-1 {
			p.Printf("\n")
		}
	}
}

// Deadlock is the record of threads that wait for each other, or for
// themselves.
type Deadlock struct {
	Kind        string        `json:"kind"`
	Threads     []report.Addr `json:"threads"`
	Resources   []report.Addr `json:"resources"`
	Certain     bool          `json:"certain"`
	Explanation string        `json:"explanation"`
}

// NewDeadlock makes the record of a deadlock.
func NewDeadlock(d diagnose.Deadlock) *Deadlock {
	return &Deadlock{Kind: d.Kind, Threads: addrs(d.Threads), Resources: addrs(d.Resources), Certain: d.Certain, Explanation: d.Explanation}
}

// Type names the record.
func (*Deadlock) Type() string { return "deadlock" }

// OwnLine: kd draws no conclusions.
func (*Deadlock) OwnLine() {}

// WriteText writes the explanation on lines of its own.
func (d *Deadlock) WriteText(p *report.Printer) { p.Own("%s\n", report.Text(d.Explanation)) }
