package types

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestLayouts_offsets holds the embedded layouts against a list of offsets that
// was put together by hand and by other readers from the same public tables.
func TestLayouts_offsets(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/offsets.txt")
	if err != nil {
		t.Fatal(err)
	}
	layouts := map[string]*Layout{}
	for _, l := range Layouts() {
		layouts[l.Family()] = l
		// The list is of the table each layout was taken from, with what moves.
		if g, age, ok := l.ID(); ok {
			layouts[l.Family()], _, _ = EmbeddedByGUID(g, age)
		}
	}
	var columns []string
	checked := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Fields(line)
		switch cells[0] {
		case "#":
			continue
		case "path":
			columns = cells[1:]
			continue
		}
		for i, want := range cells[1:] {
			if want == "?" {
				continue
			}
			if got := place(layouts[columns[i]], cells[0]); got != want {
				t.Errorf("%s: %s = %s, want %s", columns[i], cells[0], got, want)
			}
			checked++
		}
	}
	if checked < 2500 {
		t.Errorf("only %d places checked", checked)
	}
}

// place spells where a field lies as the list does.
func place(l *Layout, path string) string {
	owner, field, _ := strings.Cut(path, ".")
	typ, err := l.Type(owner)
	if err != nil {
		return "-"
	}
	if field == "sizeof" {
		return fmt.Sprintf("%x", typ.Size)
	}
	f := Field{Type: typ}
	var base uint32
	for name := range strings.SplitSeq(field, ".") {
		var ok bool
		base += f.Offset
		if f, ok = f.Type.Field(name); !ok {
			return "-"
		}
	}
	at := base + f.Offset
	switch f.BitLen {
	case 0:
		return fmt.Sprintf("%x", at)
	case 1:
		return fmt.Sprintf("%x:%d", at, f.BitPos)
	}
	return fmt.Sprintf("%x:%d-%d", at, f.BitPos, f.BitPos+f.BitLen-1)
}
