package pool

import (
	"fmt"
	"strings"

	"gokd/model/pool"
)

// hex0x gives a number with 0x before it.
func hex0x(n uint64) string { return fmt.Sprintf("%#x", n) }

// dash gives a number, and a dash for none.
func dash(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// percent gives a share as "97%"; below ten with a place after the point, and
// all only where it is all.
func percent(part, of uint64) string {
	if of == 0 || part == 0 {
		return "-"
	}
	switch share := 100 * float64(part) / float64(of); {
	case part == of:
		return "100%"
	case share > 99.9:
		return "99.9%"
	case share < 0.1 && part > 0:
		return "<0.1%"
	case share >= 99 || share < 9.95:
		return fmt.Sprintf("%.1f%%", share)
	default:
		return fmt.Sprintf("%.0f%%", share)
	}
}

// spellTag gives a tag as it has to be typed: in quotes where it holds a blank.
func spellTag(t pool.Tag) string {
	s := t.Spell()
	if strings.TrimRight(s, " ") != s && !strings.ContainsAny(strings.TrimRight(s, " "), " ") {
		s = strings.TrimRight(s, " ") // a shorter tag is filled with blanks
	}
	if strings.ContainsAny(s, " ;\"") || strings.HasPrefix(s, "0x") {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	return s
}
