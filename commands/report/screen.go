package report

// Screen is what pictures in text need to know of a terminal.
type Screen struct {
	Columns func() int // its width now; 0 where it is not known
	Blocks  bool       // it shows the block characters of Unicode
}

// Widths of pictures, in columns: what a terminal without a known width, a file
// and a script get, and between what a terminal's own is taken.
const (
	DefaultWidth = 80
	minWidth     = 60
	maxWidth     = 200
)

// Width is how wide a picture may be, in columns. Text that does not go to a
// terminal has DefaultWidth, so that it is the same everywhere.
func (p *Printer) Width() int {
	if p.Screen == nil || p.Screen.Columns == nil {
		return DefaultWidth
	}
	n := p.Screen.Columns()
	if n <= 0 {
		return DefaultWidth
	}
	// The last column is left free: some terminals go to the next line there.
	return min(max(n-1, minWidth), maxWidth)
}

// Blocks reports whether a picture may use block characters; else it is ASCII.
func (p *Printer) Blocks() bool { return p.Screen != nil && p.Screen.Blocks }
