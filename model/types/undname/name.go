package undname

import "strings"

// name is a qualified name.
type name struct {
	scopes []string // outermost first
	last   string
	kind   nameKind
	// conversion marks an operator whose name is its result's type, which the
	// encoding holds: it stands where the type is to be put in.
	conversion int
}

type nameKind uint8

const (
	kindPlain nameKind = iota
	kindConstructor
	kindDestructor
)

// String gives "A::B::c".
func (n name) String() string {
	last := n.last
	if n.kind != kindPlain && len(n.scopes) > 0 {
		last = n.scopes[len(n.scopes)-1] // constructors are called like their class
		if n.kind == kindDestructor {
			last = "~" + last
		}
		last += n.last // template arguments
	}
	if len(n.scopes) == 0 {
		return last
	}
	return strings.Join(n.scopes, "::") + "::" + last
}

// qualified reads the name of a symbol and its scopes.
func (p *parser) qualified() name {
	n := p.unqualified()
	n.scopes = p.scopes()
	if n.kind != kindPlain && len(n.scopes) == 0 {
		p.fail("a constructor without a class")
	}
	return n
}

// scopes reads scopes up to "@", innermost first.
func (p *parser) scopes() []string {
	var list []string
	total := 0
	for !p.take("@") {
		if !p.step() {
			return nil
		}
		s := p.scope()
		if total += len(s); total > maxOutput {
			p.fail("the result is too long")
		}
		list = append(list, s)
	}
	for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
		list[i], list[j] = list[j], list[i]
	}
	return list
}

// scope reads one scope.
func (p *parser) scope() string {
	switch c := p.peek(); {
	case c >= '0' && c <= '9':
		return p.nameBack()
	case c != '?':
		return p.simple()
	case strings.HasPrefix(p.rest(), "?$"):
		return p.template(true)
	case strings.HasPrefix(p.rest(), "?A"):
		p.at += 2
		end := strings.IndexByte(p.rest(), '@')
		if end < 0 {
			p.fail("a namespace without an end")
			return ""
		}
		p.at += end + 1
		p.remember("`anonymous namespace'")
		return "`anonymous namespace'"
	case strings.HasPrefix(p.rest(), "?Q"):
		p.at += 2
		return "[" + p.simple() + "]"
	}
	// A scope inside a function: its number, and the function.
	p.at++
	if !p.enter() {
		return ""
	}
	defer p.leave()
	number := p.signed()
	if !p.take("?") {
		p.fail("a scope without its function")
		return ""
	}
	// The function is shown by its name where only names are.
	inner := p.symbolInside()
	return p.clip("`" + inner + "'::`" + number + "'")
}

// symbolInside reads a symbol that is part of another name.
func (p *parser) symbolInside() string {
	if p.peek() == '?' {
		return p.symbol()
	}
	return p.simple()
}

// simple reads a word up to "@" and remembers it.
func (p *parser) simple() string {
	end := strings.IndexByte(p.rest(), '@')
	if end <= 0 {
		p.fail("a word is missing")
		return ""
	}
	s := p.in[p.at : p.at+end]
	p.at += end + 1
	p.remember(s)
	return s
}

// nameBack reads a reference to an earlier name.
func (p *parser) nameBack() string {
	i := int(p.next() - '0')
	if i >= len(p.names) {
		p.fail("a reference to a name that is not there")
		return ""
	}
	return p.names[i]
}

// unqualified reads a name without scopes.
func (p *parser) unqualified() name {
	switch c := p.peek(); {
	case c >= '0' && c <= '9':
		return name{last: p.nameBack()}
	case strings.HasPrefix(p.rest(), "?$"):
		return p.templateName()
	case c == '?':
		p.at++
		return p.operator()
	}
	return name{last: p.simple()}
}

// template reads "?$", a name and arguments, as text. It is remembered as a
// whole where it is a scope or a type.
func (p *parser) template(remember bool) string {
	n := p.templateName()
	s := n.last
	if n.kind != kindPlain {
		p.fail("a template of a constructor as a scope")
	}
	if remember {
		p.remember(s)
	}
	return s
}

func (p *parser) templateName() name {
	if !p.enter() {
		return name{}
	}
	defer p.leave()
	p.take("?$")
	// References inside the arguments count from their own beginning, and nothing
	// outside can refer to what they name.
	names, types := p.names, p.types
	p.names, p.types = nil, nil
	n := p.unqualified()
	args := p.arguments()
	p.names, p.types = names, types
	n.last = p.clip(n.last + closed(args))
	return n
}

// closed puts a list in angle brackets; two of them that close are kept apart.
func closed(args []string) string {
	s := "<" + strings.Join(args, ",")
	if strings.HasSuffix(s, ">") {
		s += " "
	}
	return s + ">"
}

// operators are the names behind "?".
var operators = map[string]string{
	"2": "operator new", "3": "operator delete", "4": "operator=", "5": "operator>>", "6": "operator<<",
	"7": "operator!", "8": "operator==", "9": "operator!=", "A": "operator[]", "C": "operator->",
	"D": "operator*", "E": "operator++", "F": "operator--", "G": "operator-", "H": "operator+",
	"I": "operator&", "J": "operator->*", "K": "operator/", "L": "operator%", "M": "operator<",
	"N": "operator<=", "O": "operator>", "P": "operator>=", "Q": "operator,", "R": "operator()",
	"S": "operator~", "T": "operator^", "U": "operator|", "V": "operator&&", "W": "operator||",
	"X": "operator*=", "Y": "operator+=", "Z": "operator-=",
	"_0": "operator/=", "_1": "operator%=", "_2": "operator>>=", "_3": "operator<<=", "_4": "operator&=",
	"_5": "operator|=", "_6": "operator^=",
	"_7": "`vftable'", "_8": "`vbtable'", "_9": "`vcall'", "_A": "`typeof'", "_B": "`local static guard'",
	"_D": "`vbase destructor'", "_E": "`vector deleting destructor'", "_F": "`default constructor closure'",
	"_G": "`scalar deleting destructor'", "_H": "`vector constructor iterator'",
	"_I": "`vector destructor iterator'", "_J": "`vector vbase constructor iterator'",
	"_K": "`virtual displacement map'", "_L": "`eh vector constructor iterator'",
	"_M": "`eh vector destructor iterator'", "_N": "`eh vector vbase constructor iterator'",
	"_O": "`copy constructor closure'", "_S": "`local vftable'", "_T": "`local vftable constructor closure'",
	"_U": "operator new[]", "_V": "operator delete[]", "_X": "`placement delete closure'",
	"_Y":  "`placement delete[] closure'",
	"__A": "`managed vector constructor iterator'", "__B": "`managed vector destructor iterator'",
	"__C": "`EH vector copy constructor iterator'", "__D": "`EH vector vbase copy constructor iterator'",
	"__G": "`vector copy constructor iterator'", "__H": "`vector vbase copy constructor iterator'",
	"__I": "`managed vector vbase copy constructor iterator'", "__J": "`local static thread guard'",
	"__L": "operator co_await", "__M": "operator<=>",
}

// operator reads what follows "?" in the place of a name.
func (p *parser) operator() name {
	switch {
	case p.take("0"):
		return name{kind: kindConstructor}
	case p.take("1"):
		return name{kind: kindDestructor}
	case p.take("B"):
		return name{last: "operator ", conversion: len("operator ")}
	case p.take("__K"):
		return name{last: `operator ""` + p.simple()}
	}
	n := 1
	for n < 3 && strings.HasPrefix(p.rest(), "__"[:n]) {
		n++
	}
	if len(p.rest()) >= n {
		if s, ok := operators[p.rest()[:n]]; ok {
			p.at += n
			return name{last: s}
		}
	}
	p.fail("an unknown operator")
	return name{}
}
