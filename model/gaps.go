package model

// Gaps says, per field of a walked item, why it is not known. A nil map is
// ready to use through a pointer.
type Gaps map[string]error

// Set notes why a field is missing; a nil error notes nothing and the first
// reason stays. It reports whether the field is known.
func (g *Gaps) Set(field string, err error) bool {
	if err == nil {
		return true
	}
	if *g == nil {
		*g = Gaps{}
	}
	if _, ok := (*g)[field]; !ok {
		(*g)[field] = err
	}
	return false
}

// Uint reads an integer field of an object into a gap-keeping item.
func (g *Gaps) Uint(field string, o Object) uint64 {
	v, err := o.Uint()
	g.Set(field, err)
	return v
}

// Latin1 gives the bytes of a narrow string as the characters of the same
// numbers, up to a NUL, so that no byte is lost.
func Latin1(b []byte) string {
	r := make([]rune, 0, len(b))
	for _, c := range b {
		if c == 0 {
			break
		}
		r = append(r, rune(c))
	}
	return string(r)
}
