package dumpfmt_test

import (
	"testing"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest/shared"
)

// TestHeader_real holds the fields of a real small dump to what an independent
// reader found (triage_x64.expected.txt).
func TestHeader_real(t *testing.T) {
	t.Parallel()
	data := shared.Unpacked(t, shared.Path(t, "dumps/real/triage_x64.dmp"))
	d, err := dumpfmt.Open(dumpfmt.NewBytes(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{
		"MajorVersion": 0xf, "MinorVersion": 0x4a61, "DirectoryTableBase": 0x1ad000, "BugCheckCode": 0x1000007e,
		"BugCheckParameter4": 0xffff850429891720, "SecondaryDataState": 0x45474150, "ProductType": 1, "SuiteMask": 0x110,
		"ServicePackBuild": 0, "SizeOfDump": 0x13a28c, "MmOffset": 0x2080, "TriageOptions": 0xffffffff, "TopOfStack": 0xffff850429890ee8,
		"LimitOfBStore": 0, "DataPageSize": 0, "DebuggerDataOffset": 0x104a8, "DataBlocksOffset": 0x19438, "DataBlocksCount": 0x727,
	}
	for _, f := range d.Header() {
		if v, ok := want[f.Name]; ok && v != f.Value {
			t.Errorf("%s: want %#x", f, v)
		}
		delete(want, f.Name)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}
