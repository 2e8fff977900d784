package model

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"testing"

	"gokd/model/mem"
)

// encode does what the kernel does to the block, in the order of the public
// descriptions read backwards.
func encode(raw []byte, never, always uint64, flag mem.VA) []byte {
	out := make([]byte, len(raw))
	for i := 0; i < len(raw); i += 8 {
		v := binary.LittleEndian.Uint64(raw[i:]) ^ always
		v = bits.ReverseBytes64(v) ^ uint64(flag)
		v = bits.RotateLeft64(v, -int(never&0x3f)) ^ never
		binary.LittleEndian.PutUint64(out[i:], v)
	}
	return out
}

func TestDecodeDebugData(t *testing.T) {
	t.Parallel()
	plain := make([]byte, 0x380)
	for i := range plain {
		plain[i] = byte(i * 7)
	}
	binary.LittleEndian.PutUint32(plain[0x10:], debugTag)
	binary.LittleEndian.PutUint32(plain[0x14:], 0x380)
	const never, always, flag = 0xe7dedff9276e11d9, 0x74c213fd3296c642, 0xfffff80513850d00
	coded := encode(plain, never, always, flag)
	if bytes.Equal(coded, plain) {
		t.Fatal("the block was not encoded")
	}
	if got := decodeDebugData(coded, never, always, flag); !bytes.Equal(got, plain) {
		t.Error("decoding does not undo encoding")
	}
	d, err := parseDebugData(plain, 0x1000)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := d.Field(DebugSize); v != 0x380 || !ok {
		t.Errorf("Size = %#x, %v", v, ok)
	}
}

func TestParseDebugData_bad(t *testing.T) {
	t.Parallel()
	good := make([]byte, 0x340)
	binary.LittleEndian.PutUint32(good[0x10:], debugTag)
	binary.LittleEndian.PutUint32(good[0x14:], 0x340)
	for n := range good {
		if _, err := parseDebugData(good[:n], 0); err == nil && n < int(debugMinSize) {
			t.Fatalf("%d bytes pass for a block", n)
		}
	}
	bad := bytes.Clone(good)
	binary.LittleEndian.PutUint32(bad[0x14:], 0x7fffffff)
	if _, err := parseDebugData(bad, 0); err == nil {
		t.Error("a block of 2 GB is accepted")
	}
	var none *DebugData
	if _, ok := none.Field(DebugSize); ok {
		t.Error("a missing block has a field")
	}
}

func FuzzParseContext(f *testing.F) {
	f.Add(make([]byte, ContextSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, ok := ParseContext(b)
		if ok && (len(b) < 0x100 || r.RIP == 0) {
			t.Errorf("%d bytes give a context with rip %#x", len(b), r.RIP)
		}
	})
}
