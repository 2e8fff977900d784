package pool

import (
	"strings"
	"unicode/utf8"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/pool"
)

// repeat gives a character a number of times; none where that is negative.
func repeat(glyph string, n int) string { return strings.Repeat(glyph, max(n, 0)) }

// glyphs are what bars are made of: what is used, and what is free.
func glyphs(p *report.Printer) (used, free string) {
	if p.Blocks() {
		return "█", "░"
	}
	return "#", "."
}

// eighths are the parts of a block character, from one to seven eighths.
var eighths = [...]string{"▏", "▎", "▍", "▌", "▋", "▊", "▉"}

// bar gives a bar of n of most in at most width characters. What is not nothing
// is never drawn as nothing.
func bar(blocks bool, n, most uint64, width int) string {
	if n == 0 || most == 0 || width <= 0 {
		return ""
	}
	share := min(float64(n)/float64(most), 1) * float64(width)
	if !blocks {
		whole := int(share + 0.5)
		if whole == 0 {
			return "|"
		}
		return repeat("#", whole)
	}
	parts := max(int(share*8+0.5), 1)
	s := repeat("█", parts/8)
	if parts%8 > 0 {
		s += eighths[parts%8-1]
	}
	return s
}

// writeBar writes a bar, filled with blanks to its width.
func writeBar(p *report.Printer, style report.Style, n, most uint64, width int) {
	s := bar(p.Blocks(), n, most, width)
	if s != "" {
		p.Styled(style, "%s", s)
	}
	p.Printf("%s", repeat(" ", width-utf8.RuneCountInString(s)))
}

// useMap is the map of a pool.
type useMap struct {
	Part  string    `json:"part"` // "map"
	Pool  string    `json:"pool"`
	Unit  uint64    `json:"unit"` // bytes
	Units []mapUnit `json:"units"`

	pic *pool.Picture
}

// mapUnit is one stretch of it, in bytes.
type mapUnit struct {
	Address report.Addr `json:"address"`
	Used    uint64      `json:"used"`
	Cached  uint64      `json:"cached"`
	Free    uint64      `json:"free"`
	Large   uint64      `json:"large"`
	Missing uint64      `json:"missing"`
}

func newUseMap(pic *pool.Picture) *useMap {
	r := &useMap{Part: "map", Pool: pic.Kind.String(), Unit: pic.Unit, Units: []mapUnit{}, pic: pic}
	for _, u := range pic.Units {
		r.Units = append(r.Units, mapUnit{report.Addr(u.At), u.Used, u.Cached, u.Free, u.Large, u.Missing})
	}
	return r
}

// Type names the record.
func (*useMap) Type() string { return "pool_map" }

// Rows of a map at most, and columns its addresses take.
const (
	mapRows    = 16
	mapMargin  = 20
	mapColumns = 16 // their number is a multiple of it
)

// mapRow is one row: the units from an address on.
type mapRow struct {
	at    mem.VA
	units []pool.MapUnit
}

// rowsOf cuts units into rows. A row begins where something is.
func rowsOf(units []pool.MapUnit, unit uint64, columns int) []mapRow {
	var rows []mapRow
	for i, u := range units {
		if n := len(rows); n > 0 && uint64(u.At-rows[n-1].at) < unit*uint64(columns) {
			rows[n-1].units = append(rows[n-1].units, units[i])
			continue
		}
		rows = append(rows, mapRow{u.At, units[i : i+1 : i+1]})
	}
	return rows
}

// WriteText draws the map with the largest scale that has few enough rows.
func (r *useMap) WriteText(p *report.Printer) {
	if len(r.pic.Units) == 0 {
		p.Printf("Map of %s pool: nothing to draw\n", r.Pool)
		return
	}
	columns := max((p.Width()-mapMargin)/mapColumns, 1) * mapColumns
	units, unit := r.pic.Units, r.pic.Unit
	rows := rowsOf(units, unit, columns)
	for len(rows) > mapRows && unit < 1<<46 {
		unit *= 2
		units = pool.Coarser(units, unit/2, 2)
		rows = rowsOf(units, unit, columns)
	}
	p.Printf("Map of %s pool, a character for %#x bytes:\n\n", r.Pool, unit)
	for _, row := range rows {
		p.Printf(" %s  ", report.Text(report.Addr(row.at).Tick()))
		writeUnits(p, row, unit)
		p.Printf("\n")
	}
	full, part, little, free := mapGlyphs(p)
	p.Printf("\n %s in use, %s in part, %s little, %s more free than used, L large allocations, ? not here\n", full, part, little, free)
}

// mapGlyphs are the characters of small blocks on the map.
func mapGlyphs(p *report.Printer) (full, part, little, free string) {
	if p.Blocks() {
		return "█", "▓", "░", "·"
	}
	return "#", "+", "-", "."
}

// writeUnits writes the characters of a row, those of one style at once.
func writeUnits(p *report.Printer, row mapRow, unit uint64) {
	var run strings.Builder
	var style report.Style
	next := row.at
	flush := func(s report.Style) {
		if s != style && run.Len() > 0 {
			p.Styled(style, "%s", run.String())
			run.Reset()
		}
		style = s
	}
	for _, u := range row.units {
		if gap := uint64(u.At-next) / unit; gap > 0 {
			flush(report.Plain)
			run.WriteString(repeat(" ", int(gap)))
		}
		glyph, s := unitGlyph(p, u.Density, unit)
		flush(s)
		run.WriteString(glyph)
		next = u.At + mem.VA(unit)
	}
	p.Styled(style, "%s", run.String())
}

// unitGlyph gives the character of a unit: what most of it is.
func unitGlyph(p *report.Printer, d pool.Density, unit uint64) (string, report.Style) {
	full, part, little, free := mapGlyphs(p)
	idle := d.Free + d.Cached
	switch most := max(d.Used, idle, d.Large, d.Missing); {
	case d.Large == most:
		return "L", report.Own
	case d.Missing == most:
		return "?", report.Warning
	case idle == most:
		return free, report.Address
	case d.Used >= unit/4*3:
		return full, report.Symbol
	case d.Used >= unit/4:
		return part, report.Symbol
	}
	return little, report.Symbol
}
