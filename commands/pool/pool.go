package pool

import (
	"context"
	"errors"
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

var poolCommand = &cmd.Command{
	Name: "!pool", Aliases: []string{"!kdexts.pool", "!kdext*.pool"}, Group: cmd.GroupPool,
	Summary: "show the pool blocks around an address",
	Args: []cmd.Arg{
		{Name: "Address", Kind: cmd.KindAddr, Optional: true, Doc: "an address in the pool"},
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "0 the blocks of the page, 1 with the first bytes of each, 2 only the block that holds the address, 80000000 without its description; they add up"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows the blocks of the page that holds an address, with the one that holds it
marked and its tag explained, or the large allocation that holds it. In a segment
heap (Windows 10 1903 and later) these are the blocks of its subsegment that touch
the page.

Where the headers make no sense it says which, with its bytes, what is wrong, which
block's owner may have written over it, and goes on where headers make sense again.
A block that the kernel's free lists hold while its header has it in use is told.
!poolval checks every header of the page.

A block's size and tag are those of its header: what a driver wrote over them is
what is shown. Pages that the dump does not hold can't be shown. Addresses 0 and -1
stand for the heaps of a process, which this command has no memory of to show.`,
	Example: "!pool fffffa800cc28f70\n!pool fffffa800cc28f70 3",
	SeeAlso: []string{"!poolval", "!poolfind", "!poolused"},
	Run:     runPool,
}

// Flags of !pool.
const (
	flagContents = 1
	flagOne      = 2
	flagQuiet    = 0x80000000
)

// around is one run of !pool.
type around struct {
	s     *cmd.Session
	st    *state
	out   report.Sink
	at    mem.VA
	flags uint64
	loc   pool.Location
}

func runPool(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	a := &around{s: s, out: out, at: in.Addr("Address"), flags: in.Uint("Flags", 0)}
	switch {
	case a.at == 0 || a.at == ^mem.VA(0):
		return cmd.Misuse(errors.New("an address in the pool is needed: 0 and -1 mean the heaps of a process, which a kernel dump does not show"))
	case a.flags != uint64(int32(a.flags)) && a.flags != uint64(uint32(a.flags)), uint32(a.flags)&^(flagContents|flagOne|flagQuiet) != 0:
		return cmd.Misuse(fmt.Errorf("flags %#x: want a sum of 1, 2 and 80000000", a.flags))
	}
	// In kd 80000000 is a negative number: its sign goes on in the upper half.
	a.flags = uint64(uint32(a.flags))
	var err error
	if a.st, err = open(s); err != nil {
		return err
	}
	a.loc, err = locate(ctx, s, a.st, a.at)
	if e := ctx.Err(); e != nil {
		return e
	}
	if e := out.Emit(newPage(&a.loc)); e != nil {
		return e
	}
	var fault *mem.Fault
	var broken *pool.PageError
	switch {
	case err == nil, errors.As(err, &broken):
		return a.show()
	case errors.Is(err, pool.ErrNotWalked):
		return err
	case errors.As(err, &fault):
		return a.notPool(ctx, err, true)
	}
	return a.notPool(ctx, err, false)
}

// locate looks an address up, in the session that was chosen where one was.
func locate(ctx context.Context, s *cmd.Session, st *state, at mem.VA) (pool.Location, error) {
	if s.LogonSession != nil {
		return st.pool.LocateIn(ctx, at, *s.LogonSession)
	}
	return st.pool.Locate(ctx, at)
}

// show writes the blocks and, where they lie, what is wrong between them.
func (a *around) show() error {
	damage, elsewhere := a.near()
	for _, b := range a.loc.Blocks {
		// What is wrong with a header that has a row stands below its row.
		for len(damage) > 0 && b.Place != pool.InSpecial && (damage[0].At < b.Header || damage[0].At == b.Header && damage[0].Resume != b.Header) {
			if err := a.out.Emit(newDamage(a.st, damage[0])); err != nil {
				return err
			}
			damage = damage[1:]
		}
		if err := a.block(b); err != nil {
			return err
		}
	}
	for _, d := range damage {
		if err := a.out.Emit(newDamage(a.st, d)); err != nil {
			return err
		}
	}
	if elsewhere > 0 {
		if err := a.out.Emit(report.Notef("%s more in the %s %s no sense; !poolval %s shows them.",
			many(uint64(elsewhere), "place"), a.loc.Heap.Area.Kind, makes(elsewhere), a.at)); err != nil {
			return err
		}
	}
	return a.remarks()
}

func makes(n int) string {
	if n == 1 {
		return "makes"
	}
	return "make"
}

// near gives the damage that touches the page, and how much more there is in
// the subsegment.
func (a *around) near() (here []pool.Damage, elsewhere int) {
	page := a.at.Page()
	for _, d := range a.loc.Damage {
		if a.loc.Heap == nil || d.At < page+mem.PageSize && d.At+mem.VA(max(d.Size, 1)) > page {
			here = append(here, d)
		} else {
			elsewhere++
		}
	}
	return here, elsewhere
}

// block writes a block where the flags ask for it.
func (a *around) block(b pool.Block) error {
	holds := a.loc.Found && b.Header == a.loc.Block.Header
	page := a.at.Page()
	if !holds && (a.flags&flagOne != 0 || mem.VA(rowStart(b)) >= page+mem.PageSize || b.Header+mem.VA(max(b.Size, b.Room)) <= page) {
		return nil
	}
	r := &pageBlock{blockRecord: newBlock(a.st.pool, b, true), marked: holds}
	if holds {
		r.site = &a.loc
		if a.flags&flagQuiet == 0 {
			r.desc = a.st.owning(b.Tag)
		}
	}
	if a.flags&flagContents != 0 {
		r.contents = newContents(a.loc.Space(), b)
	}
	return a.out.Emit(r)
}

// remarks adds lines of our own about the block that holds the address.
func (a *around) remarks() error {
	l := &a.loc
	if a.flags&flagQuiet != 0 {
		return nil
	}
	var notes []string
	if !l.Found && len(l.Damage) > 0 {
		notes = append(notes, report.Sprintf("%s lies where no header makes sense: it is not known which block holds it.", a.at))
	}
	if s := siteText(l); s != "" {
		notes = append(notes, s)
	}
	if l.Found && l.Block.State == pool.Cached {
		notes = append(notes, "The block was freed and waits on a list for its next use or its release; its header still has it in use.")
	}
	if l.Session != nil && l.Heap == nil {
		text := report.Sprintf("The page is that of session %d.", *l.Session)
		if a.s.LogonSession == nil {
			text += " !session -s chooses another."
		}
		notes = append(notes, text)
	}
	switch {
	case l.Owner != 0:
		notes = append(notes, report.Sprintf("The block is charged to process %s%s.", l.Owner, a.image(l.Owner)))
	case l.OwnerErr != nil:
		notes = append(notes, report.Sprintf("The block is charged to a process that is not known: %v.", l.OwnerErr))
	}
	for _, n := range notes {
		if err := a.out.Emit(report.Note(n)); err != nil {
			return err
		}
	}
	return nil
}

// image gives the name of a process's image in parentheses.
func (a *around) image(process mem.VA) string { return imageOf(a.st, process) }

func imageOf(st *state, process mem.VA) string {
	name, err := st.kernel.Object("_EPROCESS", process).Field("ImageFileName").CString()
	if err != nil || name == "" {
		return ""
	}
	return report.Sprintf(" (%s)", name)
}

// notPool writes what kd says of an address that is in no pool, and the reasons
// on lines of our own.
func (a *around) notPool(ctx context.Context, err error, unreadable bool) error {
	page := a.at.Page()
	text := report.Sprintf("%s is not a valid large pool allocation, checking large session pool...\n", page)
	if _, e := a.st.pool.Ranges(ctx, pool.Session); e != nil {
		text += "Unable to read large session pool table (Session data is not present in mini and kernel-only dumps)\n"
	}
	text += report.Sprintf("%s is not valid pool. Checking for freed (or corrupt) pool\n", page)
	if unreadable {
		text += report.Sprintf("Address %s could not be read. It may be a freed, invalid or paged out page\n", page)
	}
	if e := a.out.Emit(report.Text(text)); e != nil {
		return e
	}
	if _, e := a.st.pool.BigTable(ctx); e != nil {
		if e := a.out.Emit(report.Notef("%v", e)); e != nil {
			return e
		}
	}
	for _, d := range a.loc.Damage {
		if e := a.out.Emit(newDamage(a.st, d)); e != nil {
			return e
		}
	}
	if w := a.loc.Where; w != "" {
		return a.out.Emit(report.Notef("%s is in no block of the pool: %s.", a.at, w))
	}
	return a.out.Emit(report.Notef("%v", err))
}
