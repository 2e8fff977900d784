package undname

import "strings"

// arguments reads template arguments up to "@".
func (p *parser) arguments() []string {
	var list []string
	total := 0
	for !p.take("@") {
		if !p.step() {
			return nil
		}
		text, ok := p.argument()
		if !ok {
			continue // an empty pack
		}
		if total += len(text); total > maxOutput {
			p.fail("the result is too long")
		}
		list = append(list, text)
	}
	return list
}

// argument reads one template argument.
func (p *parser) argument() (text string, ok bool) {
	switch {
	case p.take("$S"), p.take("$$V"), p.take("$$$V"), p.take("$$Z"):
		return "", false
	case p.take("$$Y"): // a template as an argument
		return p.typeName(), true
	case p.take("$M"): // a value with its type
		p.plainType()
		return p.value()
	case strings.HasPrefix(p.rest(), "$$"):
		return p.plainType().text(), true
	case strings.HasPrefix(p.rest(), "$"):
		p.at++
		return p.value()
	}
	return p.parameter().text(), true
}

// value reads a constant that is a template argument, behind its "$".
func (p *parser) value() (text string, ok bool) {
	p.take("$")
	switch c := p.next(); c {
	case '0':
		return p.signed(), true
	case '1', 'H', 'I', 'J':
		return p.memberAddress(c), true
	case 'E':
		return p.symbol(), true
	case 'F', 'G': // a pointer to a member variable: offsets
		list := []string{p.signed(), p.signed()}
		if c == 'G' {
			list = append(list, p.signed())
		}
		return "{" + strings.Join(list, ",") + "}", true
	case 'D', 'Q':
		return "`template-parameter" + p.signed() + "'", true
	case 'R':
		p.simple()
		return "`template-parameter" + p.signed() + "'", true
	case '2': // a structure: its type and the values of its members
		return p.structure(), true
	}
	p.fail("an unknown template argument")
	return "", false
}

// memberAddress reads the address of a symbol, with the offsets that a pointer
// to a member of a class with several bases has.
func (p *parser) memberAddress(c byte) string {
	if c == '1' {
		if p.peek() != '?' {
			p.fail("an address without a symbol")
			return ""
		}
		return "&" + p.symbol()
	}
	list := make([]string, 0, 4)
	if p.peek() == '?' {
		list = append(list, p.symbol())
	}
	for range c - 'H' + 1 {
		list = append(list, p.signed())
	}
	return "{" + strings.Join(list, ",") + "}"
}

// structure reads a constant of class type: "2Type@@values@".
func (p *parser) structure() string {
	t := p.plainType().text()
	var list []string
	for !p.take("@") {
		if !p.step() {
			return ""
		}
		p.take("$")
		text, ok := p.value()
		if ok {
			list = append(list, text)
		}
	}
	return p.clip(t + "{" + strings.Join(list, ",") + "}")
}
