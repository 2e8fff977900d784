package disasm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

const hexDigits = "0123456789abcdef"

// Tick gives an address as the debuggers write it: "fffff805`4a1c2345".
func Tick(at uint64) string {
	var b [17]byte
	for i := 16; i >= 0; i-- {
		if i == 8 {
			b[i] = '`'
			continue
		}
		b[i] = hexDigits[at&15]
		at >>= 4
	}
	return string(b[:])
}

// number gives a number as the debuggers write constants: one digit as it is,
// more in capitals with an h behind, and a 0 before a letter.
func number(v uint64) string {
	if v < 10 {
		return string(rune('0' + v))
	}
	s := strings.ToUpper(strconv.FormatUint(v, 16)) + "h"
	if s[0] > '9' {
		return "0" + s
	}
	return s
}

// Widths of a line's columns in characters. Bytes of eight and more push the
// operands one column to the right; the mnemonic's padding gives way to them.
const (
	bytesWidth    = 16
	mnemonicWidth = 8
)

// Line gives an instruction as u prints it behind its address: bytes in
// hexadecimal, mnemonic, operands. Without bytes it is the instruction's text.
func (i *Inst) Line(bytes bool) string {
	if !bytes {
		return i.Text
	}
	if i.arm { // as one word
		return fmt.Sprintf("%08x ", binary.LittleEndian.Uint32(i.Bytes)) + i.Text
	}
	var b strings.Builder
	for _, c := range i.Bytes {
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	column := bytesWidth + mnemonicWidth
	if b.Len() < bytesWidth {
		b.WriteString(strings.Repeat(" ", bytesWidth-b.Len()))
	} else {
		b.WriteByte(' ')
		column++
	}
	b.WriteString(i.Mnemonic)
	if i.Operands != "" {
		b.WriteString(strings.Repeat(" ", max(column-b.Len(), 1)))
		b.WriteString(i.Operands)
	}
	return b.String()
}

// layText joins mnemonic and operands in a column of the width given.
func layText(mnemonic, operands string, width int) string {
	if operands == "" {
		return mnemonic
	}
	return mnemonic + strings.Repeat(" ", max(width-len(mnemonic), 1)) + operands
}
