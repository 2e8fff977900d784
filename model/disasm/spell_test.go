package disasm_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"gokd/model/disasm"
)

// spelled gives the debuggers' word for a mnemonic of LLVM where they differ.
var spelled = map[string]string{
	"int3": "int", "int1": "int", "movabs": "mov", "xlatb": "xlat", "lcall": "call", "ljmp": "jmp",
	"fcompi": "fcomip", "fucompi": "fucomip", "<unknown>": disasm.Unknown,
}

// sameMnemonic compares but for spelling: LLVM writes the width of a string
// instruction into its mnemonic and the condition of a vector comparison.
func sameMnemonic(got disasm.Inst, j judged) bool {
	want := strings.Join(strings.Fields(j.mnemonic), " ")
	prefix, name := "", want
	if i := strings.LastIndexByte(want, ' '); i >= 0 {
		prefix, name = want[:i+1], want[i+1:]
	}
	if s, ok := spelled[name]; ok {
		name = s
	}
	for _, s := range []string{"movs", "stos", "lods", "cmps", "scas", "ins", "outs"} {
		if len(name) == len(s)+1 && strings.HasPrefix(name, s) && got.Mnemonic != name && strings.ContainsAny(name[len(s):], "bwdq") {
			name = s
		}
	}
	if strings.HasPrefix(got.Mnemonic, "b") && strings.HasPrefix(name, "b.") {
		name = "b" + name[2:]
	}
	if strings.HasPrefix(got.Mnemonic, "vcmp") || strings.HasPrefix(got.Mnemonic, "pclmul") {
		return strings.HasPrefix(name, got.Mnemonic[:4])
	}
	if name == disasm.Unknown {
		return got.Unknown()
	}
	return prefix+name == got.Mnemonic
}

// scaled is an index register as LLVM writes it.
var scaled = regexp.MustCompile(`([1248])\*([a-z][a-z0-9]*)`)

// normal reduces operands to what both spellings have in common: no blanks, no
// words for sizes of vectors, numbers by their lowest byte.
func normal(s string, ours bool) string {
	if !ours {
		text, target, found := strings.Cut(s, "# ")
		if at := strings.Index(text, "[rip"); at >= 0 && found {
			target, _, _ = strings.Cut(target, " <")
			end := strings.IndexByte(text, ']')
			text = text[:at+1] + strings.TrimSpace(target) + text[end:]
		}
		s, _, _ = strings.Cut(text, " <")
		s = scaled.ReplaceAllString(s, "$2*$1")
	}
	s = strings.NewReplacer(" ", "", "xmmword", "W16", "ymmword", "W32", "oword", "W16", "mmword", "W8", "qword", "W8", "dword", "W4",
		"tbyte", "W10", "byte", "W1", "fword", "W6", "word", "W2", "st(0)", "st", "es:", "").Replace(s)
	var b strings.Builder
	depth := 0
	for i := 0; i < len(s); {
		c := s[i]
		letter := func(j int) bool {
			return j >= 0 && j < len(s) && (s[j] >= 'a' && s[j] <= 'z' || s[j] >= 'A' && s[j] <= 'Z' || s[j] >= '0' && s[j] <= '9')
		}
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		}
		minus := c == '-' && depth == 0 && !ours
		at := i
		if minus {
			at++
		}
		if (minus || !letter(i-1)) && at < len(s) && s[at] >= '0' && s[at] <= '9' {
			end := at
			for letter(end) || end < len(s) && s[end] == '`' {
				end++
			}
			word := strings.ReplaceAll(s[at:end], "`", "")
			var v uint64
			if ours {
				v, _ = strconv.ParseUint(strings.TrimSuffix(word, "h"), 16, 64)
			} else {
				v, _ = strconv.ParseUint(word, 0, 64)
			}
			if minus {
				v = -v
			}
			fmt.Fprintf(&b, "%02x", byte(v))
			i = end
			continue
		}
		b.WriteByte(c)
		i++
	}
	return b.String()
}
