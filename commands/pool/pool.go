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
		{Name: "Address", Kind: cmd.KindAddr, Doc: "an address in the pool"},
		{Name: "Flags", Kind: cmd.KindFlags, Optional: true, Doc: "0 the blocks of the page, 2 only the block that holds the address, 80000000 without its description"},
	},
	Needs: cmd.NeedKernel,
	Help: `Shows the blocks of the page that holds an address, with the one that holds it
marked, or the large allocation that holds it. Where the headers of the page
break, the blocks before the break are shown. The contents of a block (flag 1)
are what dc shows. Small blocks of segment heaps (Windows 10 1903 and later) are
not read yet.`,
	SeeAlso: []string{"!poolfind", "!poolused"},
	Run:     runPool,
}

// Flags of !pool.
const (
	flagContents = 1
	flagOne      = 2
	flagQuiet    = 0x80000000
)

// pageLine is the first line of !pool.
type pageLine struct {
	Page report.Addr `json:"address"`
	Pool *string     `json:"pool"` // null where no range of a pool holds it
}

// Type names the record.
func (*pageLine) Type() string { return "pool_page" }

// WriteText writes kd's line.
func (r *pageLine) WriteText(p *report.Printer) {
	region := "Unknown"
	if r.Pool != nil {
		region = *r.Pool + " pool"
	}
	p.Printf("Pool page %s region is %s\n", r.Page, region)
}

// pageBlock is a block as !pool shows it.
type pageBlock struct {
	*blockRecord
	marked bool
	desc   string
}

// WriteText writes the row: a star before the block that holds the address,
// and its description on a line of its own.
func (r *pageBlock) WriteText(p *report.Printer) {
	b := r.block
	if b.Large {
		word := "tag"
		if p.Era == report.Era62 {
			word = "Tag"
		}
		p.Printf("*%s : large page allocation, %s is %s, size is %#x bytes\n", b.Body, word, b.Tag, b.Size)
	} else if r.marked {
		report.Text("*" + headerRow(b, "*")).WriteText(p)
	} else {
		report.Text(" " + headerRow(b, " ")).WriteText(p)
	}
	if r.marked && r.desc != "" {
		p.Printf("\t\t%s\n", r.desc)
	}
}

// owning gives kd's line about a tag.
func (st *state) owning(t pool.Tag) string {
	d, ok := st.tags.Find(t)
	switch {
	case !ok:
		return "Owning component : Unknown (update pooltag.txt)"
	case d.Binary == "":
		return fmt.Sprintf("Pooltag %s : %s", t, d.Text)
	}
	return fmt.Sprintf("Pooltag %s : %s, Binary : %s", t, d.Text, d.Binary)
}

func runPool(ctx context.Context, s *cmd.Session, in cmd.Args, out report.Sink) error {
	at, flags := in.Addr("Address"), in.Uint("Flags", 0)
	switch {
	case at == 0 || at == ^mem.VA(0):
		return cmd.Misuse(errors.New("an address in the pool is needed: a kernel dump has no process heap to show"))
	case flags&^(flagContents|flagOne|flagQuiet) != 0:
		return cmd.Misuse(fmt.Errorf("flags %#x: want 0, 2 or 80000000", flags))
	}
	st, err := open(s)
	if err != nil {
		return err
	}
	line := &pageLine{Page: report.Addr(at)}
	if kind, ok := st.pool.KindOf(ctx, at); ok {
		name := kdPools[kind]
		line.Pool = &name
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := out.Emit(line); err != nil {
		return err
	}
	a := &around{st: st, out: out, at: at, one: flags&flagOne != 0, quiet: flags&flagQuiet != 0}
	if err := a.show(ctx); err != nil {
		return err
	}
	if flags&flagContents != 0 {
		return out.Emit(report.Notef("The contents of a block are what dc %s shows.", at))
	}
	return nil
}

// around is one run of !pool.
type around struct {
	st         *state
	out        report.Sink
	at         mem.VA
	one, quiet bool
}

func (a *around) show(ctx context.Context) error {
	b, ok, tableErr := a.st.pool.LargeAt(ctx, a.at)
	if ok {
		return a.emit(b, true)
	}
	page, err := a.st.pool.PageAt(ctx, a.at)
	var fault *mem.Fault
	switch {
	case errors.Is(err, pool.ErrNotWalked):
		return err
	case errors.As(err, &fault):
		return a.unreadable(err, tableErr)
	case err != nil:
		return a.notPool(err, tableErr)
	}
	for _, b := range page.Blocks {
		holds := a.at >= b.Header && a.at < b.End()
		if a.one && !holds {
			continue
		}
		if err := a.emit(b, holds); err != nil {
			return err
		}
	}
	if page.Broken != nil {
		return a.out.Emit(report.Notef("Damaged: %v.", page.Broken))
	}
	return nil
}

func (a *around) emit(b pool.Block, marked bool) error {
	r := &pageBlock{blockRecord: newBlock(a.st.pool, b, true), marked: marked}
	if marked && !a.quiet {
		r.desc = a.st.owning(b.Tag)
	}
	return a.out.Emit(r)
}

// notPool writes what kd says of an address that is in no pool.
func (a *around) notPool(err, tableErr error) error {
	text := report.Textf("%s is not a valid large pool allocation, checking large session pool...\n%s is not valid pool. Checking for freed (or corrupt) pool\n",
		a.at.Page(), a.at.Page())
	if e := a.out.Emit(text); e != nil {
		return e
	}
	return a.why(err, tableErr)
}

func (a *around) unreadable(err, tableErr error) error {
	text := report.Textf("%s is not a valid large pool allocation, checking large session pool...\n%s is not valid pool. Checking for freed (or corrupt) pool\nAddress %s could not be read. It may be a freed, invalid or paged out page\n",
		a.at.Page(), a.at.Page(), a.at.Page())
	if e := a.out.Emit(text); e != nil {
		return e
	}
	return a.why(err, tableErr)
}

// why adds the reasons on lines of our own.
func (a *around) why(err, tableErr error) error {
	if tableErr != nil {
		if e := a.out.Emit(report.Notef("%v", tableErr)); e != nil {
			return e
		}
	}
	return a.out.Emit(report.Notef("%v", err))
}
