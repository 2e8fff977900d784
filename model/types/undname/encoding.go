package undname

import (
	"fmt"
	"strings"
)

// encoding reads what a name stands for and gives the declaration.
func (p *parser) encoding(n name) string {
	switch c := p.peek(); {
	case c >= '0' && c <= '4':
		p.at++
		return p.variable(n, c)
	case c == '5': // a guard of local statics
		p.at++
		v, _ := p.number()
		return fmt.Sprintf("%s{%d}", n, v)
	case c == '6' || c == '7':
		return p.table(n)
	case c == '8':
		p.at++
		return n.String()
	case c == '9': // extern "C": no type
		p.at++
		return n.String()
	}
	return p.function(n)
}

// variable reads the type of a variable.
func (p *parser) variable(n name, class byte) string {
	t := p.plainType()
	ext := p.extensions()
	q, member := p.cv()
	if member {
		p.typeName()
	}
	if strings.Contains(ext, "__unaligned") {
		q = join(q, "__unaligned")
	}
	if t.post == "" && !strings.HasSuffix(t.pre, "*") && !strings.HasSuffix(t.pre, "&") {
		t = qualify(t, q) // those of a pointer repeat what it leads to
	}
	access := [...]string{"private: static ", "protected: static ", "public: static ", "", ""}[class-'0']
	if p.only {
		return n.String()
	}
	return p.clip(access + join(t.pre, n.String()) + t.post)
}

// table reads the rest of a table of virtual functions: qualifiers, and the
// bases that it is for.
func (p *parser) table(n name) string {
	p.next()
	p.extensions()
	q, _ := p.cv()
	var bases []string
	for !p.take("@") {
		if !p.step() {
			return ""
		}
		bases = append(bases, p.typeName())
	}
	s := n.String()
	if !p.only {
		s = join(q, s)
	}
	if len(bases) > 0 && !p.only {
		s += "{for `" + strings.Join(bases, "'s `") + "'}"
	}
	return p.clip(s)
}

// function reads the type of a function.
func (p *parser) function(n name) string {
	access, thunk, this := "", "", false
	switch c := p.peek(); {
	case p.take("$$J0"): // extern "C"
		return `extern "C" ` + p.function(n)
	case p.take("$$F"), p.take("$$H"):
		return p.function(n)
	case p.take("$$N"):
		return p.function(n)
	case p.take("$B"):
		return p.vcall(n)
	case p.take("$R"):
		access, thunk, this = p.displaced(true)
	case p.take("$"):
		access, thunk, this = p.displaced(false)
	case c >= 'A' && c <= 'Z':
		p.at++
		access, thunk, this = p.memberClass(c)
	default:
		p.fail("an unknown kind of symbol")
		return ""
	}
	t := p.functionType(this)
	if n.conversion > 0 {
		n.last = n.last[:n.conversion] + typ{pre: t.pre}.text() + n.last[n.conversion:]
		t.pre = ""
	}
	if p.only {
		return n.String()
	}
	return p.clip(access + join(join(t.pre, t.convention), n.String()) + thunk + t.post)
}

// memberClass gives access and kind of a member function by its letter: eight
// for private, protected and public each, then two for others. Odd letters are
// far functions of old machines.
func (p *parser) memberClass(c byte) (access, thunk string, this bool) {
	if c >= 'Y' {
		return "", "", false
	}
	access = [...]string{"private: ", "protected: ", "public: "}[(c-'A')/8]
	switch (c - 'A') % 8 / 2 {
	case 0:
		return access, "", true
	case 1:
		return access + "static ", "", false
	case 2:
		return access + "virtual ", "", true
	}
	return "[thunk]: " + access + "virtual ", "`adjustor{" + p.signed() + "}'", true
}

// displaced reads a thunk of a class with virtual bases.
func (p *parser) displaced(extended bool) (access, thunk string, this bool) {
	c := p.next()
	if c < '0' || c > '5' {
		p.fail("an unknown kind of thunk")
		return "", "", false
	}
	access = [...]string{"private: ", "protected: ", "public: "}[(c-'0')/2]
	count, word := 2, "`vtordisp{"
	if extended {
		count, word = 4, "`vtordispex{"
	}
	var list []string
	for range count { // 32-bit offsets, mostly negative
		v, _ := p.number()
		list = append(list, fmt.Sprint(int32(v)))
	}
	return "[thunk]: " + access + "virtual ", word + strings.Join(list, ",") + "}'", true
}

// vcall reads a thunk that calls through a table: its offset and a letter.
func (p *parser) vcall(n name) string {
	at := p.signed()
	p.take("A")
	convention := conventions[p.next()]
	if p.only {
		return n.String()
	}
	return "[thunk]: " + join(convention, n.String()) + "{" + at + ",{flat}}"
}

// special reads the names that begin with an operator of their own kind.
func (p *parser) special() (text string, ok bool) {
	switch {
	case p.take("?_C@"):
		return p.stringLiteral(), true
	case p.take("?_R0"):
		t := p.plainType()
		p.at = min(p.at, len(p.in))
		p.take("@8")
		return t.text() + " `RTTI Type Descriptor'", true
	case p.take("?_R1"):
		list := []string{p.signed(), p.signed(), p.signed(), p.signed()}
		return p.descriptor("`RTTI Base Class Descriptor at (" + strings.Join(list, ",") + ")'"), true
	case p.take("?_R2"):
		return p.descriptor("`RTTI Base Class Array'"), true
	case p.take("?_R3"):
		return p.descriptor("`RTTI Class Hierarchy Descriptor'"), true
	case p.take("?_R4"):
		n := name{last: "`RTTI Complete Object Locator'", scopes: p.scopes()}
		return p.table(n), true
	case p.take("?__E"):
		return p.initializer("`dynamic initializer for '"), true
	case p.take("?__F"):
		return p.initializer("`dynamic atexit destructor for '"), true
	}
	return "", false
}

// descriptor reads the scopes of a descriptor and its end.
func (p *parser) descriptor(last string) string {
	n := name{last: last, scopes: p.scopes()}
	p.take("8")
	return n.String()
}

// initializer reads the variable that a function sets up or takes down.
func (p *parser) initializer(word string) string {
	what := ""
	if p.peek() == '?' { // a variable with its type
		only := p.only
		p.only = true
		p.take("?")
		n := p.qualified()
		if c := p.peek(); c >= '0' && c <= '4' {
			p.at++
			p.variable(n, c)
		}
		p.only = only
		what = n.String()
		p.take("@")
		p.take("@")
	} else {
		n := p.qualified()
		what = n.String()
	}
	n := name{last: word + what + "''"}
	if p.only && p.depth == 1 {
		p.partial = true
		return n.String()
	}
	return p.encoding(n)
}

// stringLiteral reads the name of a string constant: width, length, checksum
// and the first characters. The debuggers show no more than what it is.
func (p *parser) stringLiteral() string {
	if p.depth == 1 {
		p.partial = true
		return "`string'"
	}
	if !p.take("_0") && !p.take("_1") {
		p.fail("an unknown string constant")
		return ""
	}
	p.number()
	for range 2 { // checksum, characters
		end := strings.IndexByte(p.rest(), '@')
		if end < 0 {
			p.fail("a string constant without an end")
			return ""
		}
		p.at += end + 1
	}
	return "`string'"
}
