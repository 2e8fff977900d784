package pool

import (
	"context"
	"fmt"
	"strings"

	"gokd/commands/report"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/pool"
)

// tagImage is an image that holds a tag.
type tagImage struct {
	Tag     string      `json:"tag"`
	Image   string      `json:"image"`
	Module  string      `json:"module"`
	Start   report.Addr `json:"start"`
	Kernel  bool        `json:"kernel"` // the kernel itself
	Kind    string      `json:"kind"`   // of the best place: tag, operand, data, code, text
	Count   int         `json:"count"`
	Places  []tagPlace  `json:"places"` // the best; see count
	Missing uint64      `json:"missing_pages"`
	// Described: the tag's description names the image.
	Described bool `json:"described"`

	kind  pool.PlaceKind
	shown int
}

// tagPlace is one place of a tag in an image.
type tagPlace struct {
	Address     report.Addr  `json:"address"`
	Offset      uint64       `json:"offset"` // from the image's start
	Symbol      *string      `json:"symbol"`
	Section     *string      `json:"section"`
	Kind        string       `json:"kind"`
	Protected   bool         `json:"protected"`
	Instruction *string      `json:"instruction"`
	Argument    int          `json:"argument,omitempty"`
	Call        *report.Addr `json:"call,omitempty"`
	Routine     *string      `json:"routine,omitempty"`

	kind pool.PlaceKind
	name string
}

// Type names the record.
func (*tagImage) Type() string { return "pool_tag_image" }

// verdicts say what the best place in an image means.
var verdicts = [...]string{
	pool.InText:    "only inside longer texts: likely not its user",
	pool.InCode:    "among code, as no operand of an instruction: weak",
	pool.InData:    "in data: may use it",
	pool.AsOperand: "as an operand in code: likely uses it",
	pool.AsTag:     "passed to a routine of the pool: it uses the tag",
}

// WriteText writes the image and its best places.
func (r *tagImage) WriteText(p *report.Printer) {
	p.Styled(report.Strong, " %s", r.Image)
	if r.Kernel {
		p.Printf(" (the kernel itself)")
	}
	p.Printf(": %s, %s\n", many(uint64(r.Count), "place"), verdicts[r.kind])
	if r.Described {
		p.Printf("   its description names this image\n")
	}
	for i, at := range r.Places {
		if i == r.shown {
			p.Printf("   ... and %s more\n", many(uint64(r.Count-i), "place"))
			return
		}
		at.writeText(p)
	}
	if more := r.Count - len(r.Places); more > 0 {
		p.Printf("   ... and %s more\n", many(uint64(more), "place"))
	}
}

func (t *tagPlace) writeText(p *report.Printer) {
	p.Printf("   ")
	p.Styled(report.Address, "%s", report.Text(t.Address.Tick()))
	p.Printf("  ")
	p.Styled(report.Symbol, "%s", t.name)
	switch {
	case t.Instruction != nil:
		p.Printf("  %s", *t.Instruction)
	case t.Section != nil:
		p.Printf("  %s", *t.Section)
	}
	if t.Protected {
		p.Printf("  (protected)")
	}
	p.Printf("\n")
	if t.Routine != nil {
		p.Printf("                      argument %d of %s\n", t.Argument, *t.Routine)
	}
}

// imagesSummary closes the search of images.
type imagesSummary struct {
	Images   int    `json:"images"`
	Holding  int    `json:"holding"`
	Bytes    uint64 `json:"bytes"`
	Missing  uint64 `json:"missing_pages"`
	Partly   int    `json:"partly"`
	Absent   int    `json:"absent"`
	Unlooked int    `json:"unlooked"`
}

// Type names the record.
func (*imagesSummary) Type() string { return "pool_tag_images" }

// SkippedItems counts what could not be searched.
func (r *imagesSummary) SkippedItems() int { return int(r.Missing) + r.Unlooked }

// WriteText says what was searched, and what was not.
func (r *imagesSummary) WriteText(p *report.Printer) {
	p.Printf("Searched: %s, %d KB\n", many(uint64(r.Images), "image"), r.Bytes/1024)
	if r.Absent > 0 {
		p.Own("Nothing of %s is in this dump: what they hold is not known.\n", many(uint64(r.Absent), "image"))
	}
	if r.Missing > 0 {
		p.Own("Not in this dump: %s of %s.\n", many(r.Missing, "page"), many(uint64(r.Partly), "image"))
	}
	if r.Unlooked > 0 {
		p.Own("Not searched: %s; those before them are larger than real ones.\n", many(uint64(r.Unlooked), "image"))
	}
}

// Images and places that are shown where -all does not ask for all.
const (
	shownImages = 8
	shownPlaces = 3
)

// images searches the loaded images for the tag.
func (t *tagStory) images(ctx context.Context) error {
	found, err := pool.SearchTag(ctx, t.s.Kernel, t.tag)
	if err != nil {
		return err
	}
	if err := emit(t.out, report.Text("\n")); err != nil {
		return err
	}
	if err := t.holders(ctx, found); err != nil {
		return err
	}
	if err := t.described(found); err != nil {
		return err
	}
	err = emit(t.out, &imagesSummary{found.Images, len(found.Users), found.Bytes, found.Missing, found.Partly, found.Absent, found.Unlooked})
	if err != nil || len(found.Users) == 0 {
		return err
	}
	// What to do next, where it is certain enough.
	if u := found.Users[0]; u.Kind() == pool.AsTag && !u.Kernel() {
		return emit(t.out, report.Notef("Next: lmvm %s tells whose driver it is and which version; u %s shows the code.",
			u.Module.Name, report.Text(report.Addr(u.Best[0].Inst).Tick())))
	}
	return nil
}

// holders names the images; those that hold the tag only inside longer texts
// share one line, since there may be many of them.
func (t *tagStory) holders(ctx context.Context, found pool.TagSearch) error {
	if len(found.Users) == 0 {
		return t.nobody(found)
	}
	if err := emit(t.out, report.Textf("Images that hold %s, the most likely user first:\n", spellTag(t.tag))); err != nil {
		return err
	}
	name := show.NameOf(ctx, t.s.Kernel)
	var texts []string
	for i := range found.Users {
		u := &found.Users[i]
		r := t.image(u, name)
		switch {
		case t.all:
		case u.Kind() == pool.InText && len(found.Users) > 1:
			texts = append(texts, u.Module.Image)
			continue
		case i >= shownImages:
			texts = append(texts, u.Module.Image)
			continue
		}
		if err := emit(t.out, r); err != nil {
			return err
		}
	}
	if len(texts) == 0 {
		return nil
	}
	const named = 6
	more := ""
	if len(texts) > named {
		more = fmt.Sprintf(" and %d more", len(texts)-named)
		texts = texts[:named]
	}
	return emit(t.out, report.Notef("Less likely, most only inside longer texts: %s%s; -all shows them.", strings.Join(texts, ", "), more))
}

func (t *tagStory) image(u *pool.TagUser, name func(mem.VA) string) *tagImage {
	r := &tagImage{Tag: t.tag.Spell(), Image: u.Module.Image, Module: u.Module.Name, Start: report.Addr(u.Module.Base),
		Kernel: u.Kernel(), Kind: u.Kind().String(), Count: u.Places, Missing: u.Lost, Places: []tagPlace{}, kind: u.Kind(), shown: shownPlaces, Described: t.names(u.Module)}
	if t.all {
		r.shown = len(u.Best)
	}
	for _, p := range u.Best {
		at := p.At
		if p.Inst != 0 {
			at = p.Inst
		}
		x := tagPlace{Address: report.Addr(at), Offset: uint64(at - u.Module.Base), Section: orNull(p.Section), Kind: p.Kind.String(),
			Protected: p.Protected, Instruction: orNull(p.Instruction), Argument: p.Argument, Routine: orNull(p.Routine), kind: p.Kind}
		if p.Call != 0 {
			call := report.Addr(p.Call)
			x.Call = &call
		}
		// The function before it in the image has nothing to do with data.
		if p.Kind == pool.AsTag || p.Kind == pool.AsOperand || p.Kind == pool.InCode {
			x.name = name(at)
			x.Symbol = orNull(x.name)
		}
		if x.name == "" {
			x.name = fmt.Sprintf("%s+%#x", u.Module.Name, x.Offset)
		}
		r.Places = append(r.Places, x)
	}
	return r
}

// names reports whether a description of the tag names an image.
func (t *tagStory) names(m *model.Module) bool {
	for _, d := range t.st.tags.All(t.tag) {
		if strings.EqualFold(d.Binary, m.Image) {
			return true
		}
	}
	return false
}

// described says of an image that the description names where the search
// contradicts it: two drivers may use one tag.
func (t *tagStory) described(found pool.TagSearch) error {
	d, ok := t.st.tags.Find(t.tag)
	// Parts of the kernel (nt!mm) and names that are no file name are no images.
	if !ok || !t.used && len(found.Users) == 0 || !strings.Contains(d.Binary, ".") || strings.ContainsAny(d.Binary, " !") {
		return nil
	}
	for _, u := range found.Users {
		if strings.EqualFold(d.Binary, u.Module.Image) {
			return nil
		}
	}
	for _, m := range t.s.Kernel.Modules.All {
		if strings.EqualFold(d.Binary, m.Image) {
			if found.Missing > 0 {
				return nil // it may hold the tag in a page that is not there
			}
			return emit(t.out, report.Notef("%s, which the description names, is loaded and does not hold the tag.", d.Binary))
		}
	}
	return emit(t.out, report.Notef("%s, which the description names, is not loaded: another driver uses the tag, or it was unloaded.", d.Binary))
}

// nobody says what it means that no image holds the tag.
func (t *tagStory) nobody(found pool.TagSearch) error {
	if found.Missing > 0 {
		return emit(t.out, report.Textf("No page of an image that this dump holds has the characters %s\n", spellTag(t.tag)))
	}
	return emit(t.out,
		report.Textf("No loaded image holds the characters %s\n", spellTag(t.tag)),
		report.Note("Its driver may have been unloaded (lm lists which were), or makes up the tag at run time."))
}
