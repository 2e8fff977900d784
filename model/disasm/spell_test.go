package disasm_test

import (
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
	if strings.HasPrefix(got.Mnemonic, "cmp") || strings.HasPrefix(got.Mnemonic, "vcmp") || strings.HasPrefix(got.Mnemonic, "pclmul") {
		return strings.HasPrefix(name, got.Mnemonic[:4])
	}
	if name == disasm.Unknown {
		return got.Unknown()
	}
	return prefix+name == got.Mnemonic
}
