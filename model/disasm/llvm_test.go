package disasm_test

import (
	"bufio"
	"bytes"
	"debug/pe"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model/disasm"
)

// llvm finds a tool of LLVM; the test is skipped without it, and fails where
// GOKD_REQUIRE_LLVM=1 says that it must be there.
func llvm(t *testing.T, tool string) string {
	t.Helper()
	for _, name := range []string{tool + "-19", tool} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("GOKD_REQUIRE_LLVM") == "1" {
		t.Fatalf("%s is not installed", tool)
	}
	t.Skipf("%s is not installed", tool)
	return ""
}

// judged is an instruction as llvm-objdump reads it.
type judged struct {
	at       uint64
	bytes    []byte
	mnemonic string
	text     string
}

// objdump lists the instructions of an image's .text.
func objdump(t *testing.T, tool, image string) []judged {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool, "-d", "--x86-asm-syntax=intel", "--section=.text", "--print-imm-hex", image)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	var list []judged
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if j, ok := parseJudged(lines.Text()); ok {
			list = append(list, j)
		}
	}
	return list
}

func parseJudged(line string) (j judged, ok bool) {
	head, rest, found := strings.Cut(line, ":")
	at, err := strconv.ParseUint(strings.TrimSpace(head), 16, 64)
	if !found || err != nil || !strings.HasPrefix(rest, " ") {
		return j, false
	}
	raw, text, _ := strings.Cut(rest, "\t")
	for _, b := range strings.Fields(raw) {
		if len(b) == 8 { // a word of ARM64
			v, err := strconv.ParseUint(b, 16, 32)
			if err != nil {
				return j, false
			}
			j.bytes = append(j.bytes, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
			continue
		}
		v, err := strconv.ParseUint(b, 16, 8)
		if err != nil {
			return j, false
		}
		j.bytes = append(j.bytes, byte(v))
	}
	j.at, j.text = at, text
	j.mnemonic, rest, _ = strings.Cut(text, "\t")
	if len(j.bytes) > 1 && strings.HasPrefix(rest, "\t") { // "rep", then the instruction
		name, _, _ := strings.Cut(rest[1:], "\t")
		j.mnemonic += " " + name
	}
	return j, len(j.bytes) > 0
}

// textOf reads an image's .text.
func textOf(t *testing.T, image string) (code []byte, at uint64, arm bool) {
	t.Helper()
	f, err := pe.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := f.Section(".text")
	if code, err = s.Data(); err != nil {
		t.Fatal(err)
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		t.Fatalf("%s is no 64-bit image", image)
	}
	return code[:min(len(code), int(s.VirtualSize))], h.ImageBase + uint64(s.VirtualAddress), f.Machine == pe.IMAGE_FILE_MACHINE_ARM64
}

// images are real drivers that may be shared.
func images(t *testing.T) []string {
	t.Helper()
	list := []string{shared.Path(t, "pdb/systeminformer.sys")}
	for _, name := range []string{"amdppm.sys", "Wdf01000.sys"} {
		found, err := filepath.Glob(filepath.Join(shared.Path(t, "symstore/"+name), "*", name))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no image, %v", name, err)
		}
		list = append(list, found...)
	}
	return list
}

// TestAgainstLLVM reads .text of real drivers: every instruction that
// llvm-objdump finds has the same length and, but for spelling, the same
// mnemonic.
func TestAgainstLLVM(t *testing.T) {
	t.Parallel()
	tool := llvm(t, "llvm-objdump")
	for _, image := range images(t) {
		t.Run(filepath.Base(image), func(t *testing.T) {
			t.Parallel()
			code, base, arm := textOf(t, image)
			checked, wrong, diff := 0, map[string]int{}, 0
			list := objdump(t, tool, image)
			for i := 0; i < len(list); i++ {
				j := list[i]
				n := len(j.bytes)
				if prefixOnly(j) && i+1 < len(list) { // LLVM prints lock and rep apart
					i++
					n += len(list[i].bytes)
					j.mnemonic, j.text = j.mnemonic+" "+list[i].mnemonic, j.text+list[i].text
				}
				at := j.at - base
				if at >= uint64(len(code)) {
					break
				}
				var got disasm.Inst
				var err error
				if arm {
					got, err = disasm.OneARM64(code[at:], j.at, disasm.Options{})
				} else {
					got, err = disasm.One(code[at:], j.at, disasm.Options{})
				}
				checked++
				if _, ops, _ := strings.Cut(j.text, "\t"); err == nil && normal(ops, false) != normal(got.Operands, true) {
					if diff++; diff < 20 && !arm && got.Operands != "3" {
						t.Errorf("%#x: % x: operands of %q, want %q", j.at, got.Bytes, got.Text, j.text)
					}
				}
				if err != nil || got.Len != n && !got.Unknown() || !sameMnemonic(got, j) {
					key := fmt.Sprintf("llvm %q, got %q", j.mnemonic, got.Mnemonic)
					if wrong[key]++; wrong[key] <= 2 && len(wrong) < 40 {
						t.Errorf("%#x: % x: %d bytes %q, want %d %q (%v)", j.at, code[at:at+uint64(n)], got.Len, got.Text, n, j.text, err)
					}
				}
			}
			if checked < 1000 {
				t.Errorf("only %d instructions", checked)
			}
			t.Logf("%d instructions", checked)
		})
	}
}

func prefixOnly(j judged) bool {
	if len(j.bytes) != 1 {
		return false
	}
	switch j.mnemonic {
	case "lock", "rep", "repne", "bnd", "notrack", "data16", "addr32", "rex64", "cs", "ds", "es", "ss", "fs", "gs":
		return true
	}
	return strings.HasPrefix(j.mnemonic, "rex")
}
