package memory

// stringRun is a string that is being read.
type stringRun struct {
	at    uint64
	chars []byte
	half  bool // -su: the low byte of a character was read
	low   byte
	shown bool // its beginning was shown: it is longer than what is kept
}

// maxRun is how much of a string is kept; a longer one is shown in parts.
const maxRun = 4096

// graphic tells the characters of strings, from space to tilde.
var graphic = func() (t [256]bool) {
	for c := 0x20; c <= 0x7e; c++ {
		t[c] = true
	}
	return t
}()

// strings finds runs of printable characters.
func (c *scanner) strings(at uint64, b []byte) error {
	if at != c.next {
		if err := c.flush(); err != nil {
			return err
		}
		c.run.half = false
	}
	c.next = at + uint64(len(b))
	if c.q.unit == 2 {
		return c.wide(at, b)
	}
	return c.narrow(at, b)
}

// narrow finds strings of bytes. A run that begins and ends in the piece and is
// too short is passed over where it stands.
func (c *scanner) narrow(at uint64, b []byte) error {
	r := &c.run
	for i := 0; i < len(b); {
		if !graphic[b[i]] {
			if len(r.chars) > 0 || r.shown {
				if err := c.flush(); err != nil {
					return err
				}
			}
			i++
			for i < len(b) && !graphic[b[i]] {
				i++
			}
			continue
		}
		j := i + 1
		for j < len(b) && graphic[b[j]] {
			j++
		}
		if j < len(b) && j-i < c.q.minimum && len(r.chars) == 0 && !r.shown {
			i = j
			continue
		}
		for i < j {
			n := min(j-i, maxRun-len(r.chars))
			if len(r.chars) == 0 {
				r.at = at + uint64(i)
			}
			r.chars = append(r.chars, b[i:i+n]...)
			if err := c.full(); err != nil {
				return err
			}
			i += n
		}
	}
	return nil
}

// wide finds strings of UTF-16 characters, which start at even distances from
// the range's start. One may lie across the seam of two pieces.
func (c *scanner) wide(at uint64, b []byte) error {
	r := &c.run
	for i := 0; i < len(b); i++ {
		if !r.half {
			if (at+uint64(i)-c.q.start)&1 != 0 {
				continue
			}
			if i+1 == len(b) {
				r.half, r.low = true, b[i]
				return nil
			}
			r.low = b[i]
			i++
		}
		r.half = false
		if b[i] != 0 || !graphic[r.low] {
			if len(r.chars) > 0 || r.shown {
				if err := c.flush(); err != nil {
					return err
				}
			}
			continue
		}
		if len(r.chars) == 0 {
			r.at = at + uint64(i) - 1
		}
		r.chars = append(r.chars, r.low)
		if err := c.full(); err != nil {
			return err
		}
	}
	return nil
}

// full shows what is kept of a string that grew too long.
func (c *scanner) full() error {
	if len(c.run.chars) < maxRun {
		return nil
	}
	c.run.shown = true
	return c.show()
}

// flush ends the string that is being read.
func (c *scanner) flush() error {
	r := &c.run
	defer func() { r.chars, r.shown = r.chars[:0], false }()
	if len(r.chars) > 0 && (r.shown || len(r.chars) >= c.q.minimum) {
		return c.show()
	}
	return nil
}

func (c *scanner) show() error {
	r := &c.run
	if c.ctx.Err() != nil {
		return c.ctx.Err()
	}
	err := c.text(r.at, r.chars)
	r.chars = r.chars[:0]
	return err
}
