package undname

import "strings"

// typ is a type as text around the name of what has it: "int (__cdecl*" and
// ")(char)".
type typ struct {
	pre, post string
	// function and array: a pointer to it needs parentheses, and its calling
	// convention moves into them.
	function, array bool
	convention      string
}

// text gives the type without a name.
func (t typ) text() string {
	if t.function {
		return join(t.pre, t.convention) + t.post
	}
	return t.pre + t.post
}

// join puts a blank between two texts that are not empty.
func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + " " + b
}

// qualifiers are those of a pointer or object, by the letters A to D.
var qualifiers = [4]string{"", "const", "volatile", "const volatile"}

// primitives are the types of one letter; extended those behind "_".
var primitives = map[byte]string{
	'X': "void", 'C': "signed char", 'D': "char", 'E': "unsigned char", 'F': "short", 'G': "unsigned short",
	'H': "int", 'I': "unsigned int", 'J': "long", 'K': "unsigned long", 'M': "float", 'N': "double", 'O': "long double",
}

var extended = map[byte]string{
	'N': "bool", 'J': "__int64", 'K': "unsigned __int64", 'W': "wchar_t", 'Q': "char8_t", 'S': "char16_t", 'U': "char32_t",
	'P': "auto", 'T': "decltype(auto)", 'L': "__int128", 'M': "unsigned __int128", 'D': "__int8", 'E': "unsigned __int8",
	'F': "__int16", 'G': "unsigned __int16", 'H': "__int32", 'I': "unsigned __int32",
}

// plainType reads a type.
func (p *parser) plainType() typ {
	if !p.enter() {
		return typ{}
	}
	defer p.leave()
	t := p.typeOf()
	p.clip(t.pre)
	p.clip(t.post)
	return t
}

func (p *parser) typeOf() typ {
	switch {
	case p.take("$$T"):
		return typ{pre: "std::nullptr_t"}
	case p.take("$$A8@@"):
		return p.functionType(true)
	case p.take("$$A6"):
		return p.functionType(false)
	case p.take("$$BY"):
		return p.arrayType()
	case p.take("$$C"):
		q, _ := p.cv()
		return qualify(p.plainType(), q)
	case p.take("$$Q"):
		return p.pointer("&&", "")
	case p.take("$$R"):
		return p.pointer("&&", "volatile")
	}
	c := p.next()
	if s, ok := primitives[c]; ok {
		return typ{pre: s}
	}
	switch c {
	case '_':
		if s, ok := extended[p.next()]; ok {
			return typ{pre: s}
		}
	case '?': // a class returned by value
		q, _ := p.cv()
		return qualify(p.plainType(), q)
	case 'T':
		return p.tag("union ")
	case 'U':
		return p.tag("struct ")
	case 'V':
		return p.tag("class ")
	case 'W':
		if d := p.next(); d >= '0' && d <= '7' {
			return p.tag("enum ")
		}
	case 'P':
		return p.pointer("*", "")
	case 'Q', 'R', 'S':
		return p.pointer("*", qualifiers[c-'P'])
	case 'A':
		return p.pointer("&", "")
	case 'B':
		return p.pointer("&", "volatile")
	case 'Y':
		return p.arrayType()
	}
	p.fail("an unknown type")
	return typ{}
}

// tag reads the name of a class, structure, union or enumeration.
func (p *parser) tag(word string) typ {
	s := p.typeName()
	if p.only {
		word = ""
	}
	return typ{pre: word + s}
}

// typeName reads the qualified name of a type.
func (p *parser) typeName() string {
	last := ""
	switch c := p.peek(); {
	case c >= '0' && c <= '9':
		last = p.nameBack()
	case strings.HasPrefix(p.rest(), "?$"):
		last = p.template(true)
	default:
		last = p.scope()
	}
	return p.clip(name{scopes: p.scopes(), last: last}.String())
}

// qualify puts qualifiers behind a type. Those that are there already come twice
// where a reference to a constant pointer is spelled: "AEBQEAH".
func qualify(t typ, q string) typ {
	if q != "" && !t.function && !strings.HasSuffix(t.pre, " "+q) {
		t.pre = join(t.pre, q)
	}
	return t
}

// cv reads qualifiers. member: a class follows, the type is that of a pointer
// to its members.
func (p *parser) cv() (q string, member bool) {
	switch c := p.next(); {
	case c >= 'A' && c <= 'D':
		return qualifiers[c-'A'], false
	case c >= 'Q' && c <= 'T':
		return qualifiers[c-'Q'], true
	}
	p.fail("unknown qualifiers")
	return "", false
}

// extensions reads the qualifiers that only Microsoft's compilers have. __ptr64
// is left out, as every pointer of the machines read here has it.
func (p *parser) extensions() string {
	s := ""
	for {
		switch {
		case p.take("E"):
		case p.take("I"):
			s = join(s, "__restrict")
		case p.take("F"):
			s = join(s, "__unaligned")
		default:
			return s
		}
	}
}

// pointer reads what a pointer or reference leads to.
func (p *parser) pointer(sign, own string) typ {
	if p.take("6") {
		return pointTo(p.functionType(false), sign, own, "")
	}
	if p.take("8") {
		class := p.typeName()
		return pointTo(p.functionType(true), sign, own, class)
	}
	ext := p.extensions()
	q, member := p.cv()
	class := ""
	if member {
		class = p.typeName()
	}
	t := p.plainType()
	if t.array {
		t.pre = join(t.pre, q)
	} else {
		t = qualify(t, q)
	}
	if strings.Contains(ext, "__unaligned") {
		t.pre = join(t.pre, "__unaligned")
	}
	if strings.Contains(ext, "__restrict") {
		own = join(own, "__restrict")
	}
	return pointTo(t, sign, own, class)
}

// pointTo makes the type of a pointer. Functions and arrays bind tighter than the
// sign, so it stands in parentheses, and a function's convention moves there too.
func pointTo(t typ, sign, own, class string) typ {
	if class != "" {
		sign = class + "::" + sign
	}
	if own != "" {
		sign += " " + own
	}
	switch {
	case t.function && class != "":
		return typ{pre: t.pre + " (" + join(t.convention, sign), post: ")" + t.post}
	case t.function:
		return typ{pre: t.pre + " (" + t.convention + sign, post: ")" + t.post}
	case t.array:
		return typ{pre: t.pre + " (" + sign, post: ")" + t.post}
	}
	return typ{pre: join(t.pre, sign), post: t.post}
}

// maxRank bounds the dimensions of an array.
const maxRank = 32

// arrayType reads dimensions and the type of an element.
func (p *parser) arrayType() typ {
	rank, negative := p.number()
	if rank == 0 || rank > maxRank || negative {
		p.fail("an array of unlikely rank")
		return typ{}
	}
	dims := ""
	for range rank {
		switch n := p.signed(); n {
		case "0": // of no known size
			dims += "[]"
		default:
			dims += "[" + n + "]"
		}
	}
	q := ""
	if p.take("$$C") {
		q, _ = p.cv()
	}
	t := qualify(p.plainType(), q)
	return typ{pre: t.pre, post: dims + t.post, array: true}
}

// conventions are the calling conventions; the odd letters export the function.
var conventions = map[byte]string{
	'A': "__cdecl", 'B': "__cdecl", 'C': "__pascal", 'D': "__pascal", 'E': "__thiscall", 'F': "__thiscall",
	'G': "__stdcall", 'H': "__stdcall", 'I': "__fastcall", 'J': "__fastcall", 'M': "__clrcall", 'N': "__clrcall",
	'O': "__eabi", 'P': "__eabi", 'Q': "__vectorcall", 'S': "__swiftcall", 'W': "__swiftasynccall", 'w': "__regcall",
}

// functionType reads the type of a function; this: with the qualifiers of a
// member's object first.
func (p *parser) functionType(this bool) typ {
	object := ""
	if this {
		object = p.thisQualifiers()
	}
	p.take("$$J0") // of extern "C", in a template argument
	convention, ok := conventions[p.next()]
	if !ok {
		p.fail("an unknown calling convention")
		return typ{}
	}
	var result typ
	if !p.take("@") { // constructors and destructors have none
		result = p.plainType()
	}
	post := "(" + p.parameters() + ")" + object
	switch {
	case p.take("Z"):
	case p.take("_E"):
		post += " noexcept"
	default:
		p.fail("a function without an end")
	}
	return typ{pre: result.pre, post: p.clip(post + result.post), function: true, convention: convention}
}

// thisQualifiers reads the qualifiers of a member function.
func (p *parser) thisQualifiers() string {
	ext, ref := "", ""
	for {
		ext = join(ext, p.extensions())
		switch {
		case p.take("G"):
			ref = " &"
			continue
		case p.take("H"):
			ref = " &&"
			continue
		}
		break
	}
	q, _ := p.cv()
	s := join(q, ext)
	if s != "" {
		s = " " + s
	}
	return s + ref
}

// parameters reads the types of parameters.
func (p *parser) parameters() string {
	if p.take("X") {
		return "void"
	}
	var list []string
	total := 0
	for {
		switch {
		case !p.step():
			return ""
		case p.take("@"):
			return strings.Join(list, ",")
		case p.take("Z"):
			return strings.Join(append(list, "..."), ",")
		}
		text := p.parameter().text()
		if total += len(text); total > maxOutput {
			p.fail("the result is too long")
		}
		list = append(list, text)
	}
}

// parameter reads one type or a reference to an earlier one. Types of one
// character are not worth a reference and have no number.
func (p *parser) parameter() typ {
	if c := p.peek(); c >= '0' && c <= '9' {
		p.at++
		if int(c-'0') >= len(p.types) {
			p.fail("a reference to a type that is not there")
			return typ{}
		}
		return p.types[c-'0']
	}
	from := p.at
	t := p.plainType()
	if p.at-from > 1 && len(p.types) < 10 {
		p.types = append(p.types, t)
	}
	return t
}
