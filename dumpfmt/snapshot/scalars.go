package snapshot

import (
	"math"
	"math/bits"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// text is a string of the scenario with its line.
type text struct {
	s    string
	line int
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (t *text) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind != yaml.ScalarNode {
		return wrong(n.Line, "want a word or a number here")
	}
	if len(n.Value) > maxName || strings.ContainsAny(n.Value, "\x00\n\r") {
		return wrong(n.Line, "%.20q...: want at most %d characters in one line", n.Value, maxName)
	}
	t.s, t.line = n.Value, n.Line
	return nil
}

func (t text) or(other string) string {
	if t.s == "" {
		return other
	}
	return t.s
}

// number is an unsigned number of the scenario: decimal, 0x..., 16 hex digits
// with or without a back-tick as debuggers print addresses, or a size such as
// 540MB.
type number struct {
	v    uint64
	set  bool
	line int
}

// units are the endings of sizes.
var units = []struct {
	name  string
	shift uint
}{{"KB", 10}, {"MB", 20}, {"GB", 30}}

// UnmarshalYAML implements yaml.Unmarshaler.
func (n *number) UnmarshalYAML(node *yaml.Node) error {
	n.line = node.Line
	if node.Kind != yaml.ScalarNode {
		return wrong(node.Line, "want a number here")
	}
	if node.Tag == "!!null" {
		return nil
	}
	v, err := parseNumber(node.Value)
	if err != nil {
		return wrong(node.Line, "%.40q: want a number: 12, 0x1f, 540MB or an address", node.Value)
	}
	n.v, n.set = v, true
	return nil
}

func parseNumber(s string) (uint64, error) {
	plain := strings.ReplaceAll(s, "`", "")
	if len(plain) == 16 && !strings.HasPrefix(plain, "0x") { // no decimal number here has so many digits
		return strconv.ParseUint(plain, 16, 64)
	}
	for _, u := range units {
		if digits, ok := strings.CutSuffix(plain, u.name); ok {
			v, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 64)
			if hi, lo := bits.Mul64(v, 1<<u.shift); hi == 0 {
				return lo, err
			}
			return math.MaxUint64, strconv.ErrRange
		}
	}
	if strings.HasPrefix(plain, "0x") {
		return strconv.ParseUint(plain[2:], 16, 64)
	}
	return strconv.ParseUint(plain, 10, 64)
}

func (n number) or(other uint64) uint64 {
	if n.set {
		return n.v
	}
	return other
}

// row is one line of a stack: a call site, or a whole line as kd prints it.
type row struct {
	module, function string // function without a module names a piece of a stack
	offset           uint32
	hasOffset        bool
	trap             bool
	exact            bool // with the addresses below
	sp, ret, trapAt  uint64
	line             int
}

// site gives the row as kd prints the call site.
func (r row) site() string {
	if r.module == "" {
		return r.function
	}
	return r.module + "!" + r.function
}

// rows is a stack: a list of call sites, or text pasted from a debugger.
type rows []row

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *rows) UnmarshalYAML(n *yaml.Node) error {
	lines, first := []string{}, []int{}
	switch n.Kind {
	case yaml.ScalarNode:
		at := n.Line
		if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 { // the text starts behind the | or >
			at++
		}
		for i, line := range strings.Split(n.Value, "\n") {
			lines, first = append(lines, line), append(first, at+i)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if item.Kind != yaml.ScalarNode {
				return wrong(item.Line, "want a call site such as nt!KeWaitForSingleObject+0x19f")
			}
			lines, first = append(lines, item.Value), append(first, item.Line)
		}
	default:
		return wrong(n.Line, "want a list of call sites, or lines as kd prints them")
	}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Child-SP") {
			continue
		}
		one, err := parseRow(line)
		if err != nil {
			return wrong(first[i], "%.80q: %w", line, err)
		}
		one.line = first[i]
		*r = append(*r, one)
	}
	if len(*r) > maxStackRows {
		return wrong(n.Line, "%d rows, at most %d are possible", len(*r), maxStackRows)
	}
	return nil
}
