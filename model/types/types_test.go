package types

import (
	"testing"
)

func TestGUID(t *testing.T) {
	t.Parallel()
	const text = "606FF669409B00F7FC8C61A9C1670129"
	want := GUID{0x69, 0xf6, 0x6f, 0x60, 0x9b, 0x40, 0xf7, 0x00, 0xfc, 0x8c, 0x61, 0xa9, 0xc1, 0x67, 0x01, 0x29}
	for _, spelled := range []string{text, "606ff669-409b-00f7-fc8c-61a9c1670129"} {
		g, err := ParseGUID(spelled)
		if err != nil || g != want || g.String() != text {
			t.Errorf("ParseGUID(%s) = %v, %v; want %v", spelled, g, err, want)
		}
	}
	for _, bad := range []string{"", "12", text + "00", "6 6FF669409B00F7FC8C61A9C1670129", "+" + text[1:], "é" + text[2:]} {
		if g, err := ParseGUID(bad); err == nil {
			t.Errorf("ParseGUID(%q) = %v, want an error", bad, g)
		}
	}
	if !(ImageID{Name: "x"}).Zero() || (ImageID{GUID: want}).Zero() {
		t.Error("Zero is wrong")
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for m, want := range map[Match]string{MatchNone: "none", MatchNearest: "nearest", MatchSynthetic: "synthetic", MatchExact: "exact"} {
		if m.String() != want {
			t.Errorf("%d = %s, want %s", m, m, want)
		}
	}
}

func TestNotFoundError(t *testing.T) {
	t.Parallel()
	err := &NotFoundError{What: "type", Name: "_X", In: "ISF table t.json"}
	if want := "type _X: not in ISF table t.json"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
