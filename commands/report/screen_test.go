package report

import (
	"io"
	"testing"
)

func TestPrinter_Width(t *testing.T) {
	t.Parallel()
	p := NewPrinter(io.Discard, Era19041, false)
	if p.Width() != 80 || p.Blocks() {
		t.Errorf("without a terminal: %d columns, blocks %v", p.Width(), p.Blocks())
	}
	for columns, want := range map[int]int{-1: 80, 0: 80, 20: 60, 80: 79, 132: 131, 5000: 200} {
		p.Screen = &Screen{Columns: func() int { return columns }, Blocks: true}
		if got := p.Width(); got != want || !p.Blocks() {
			t.Errorf("terminal of %d columns: %d, want %d", columns, got, want)
		}
	}
	if p.Screen = (&Screen{}); p.Width() != 80 || p.Blocks() {
		t.Error("a terminal of which nothing is known")
	}
}
