package symbol

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
	"gokd/model/mem"
	"gokd/model/types"
)

// The types of the tests, after those of the debugger's documentation of dt.
var (
	uchar   = &types.Type{Name: "unsigned char", Kind: types.KindChar, Size: 1}
	char8   = &types.Type{Name: "char", Kind: types.KindChar, Size: 1}
	wchar   = &types.Type{Name: "wchar", Kind: types.KindSigned, Size: 2}
	ushort  = &types.Type{Name: "unsigned short", Kind: types.KindInt, Size: 2}
	short   = &types.Type{Name: "short", Kind: types.KindSigned, Size: 2}
	ulong   = &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}
	long    = &types.Type{Name: "long", Kind: types.KindSigned, Size: 4}
	uint64t = &types.Type{Name: "unsigned long long", Kind: types.KindInt, Size: 8}
	int64t  = &types.Type{Name: "long long", Kind: types.KindSigned, Size: 8}
	float4  = &types.Type{Name: "float", Kind: types.KindFloat, Size: 4}
	double  = &types.Type{Name: "double", Kind: types.KindFloat, Size: 8}
	boole   = &types.Type{Name: "bool", Kind: types.KindBool, Size: 1}
	void    = &types.Type{Name: "void", Kind: types.KindVoid}

	routine = &types.Type{Name: "(struct _KDPC *, void *)", Kind: types.KindFunction, Elem: void}
	blind   = &types.Type{Name: "function", Kind: types.KindFunction}

	listEntry = func() *types.Type {
		t := &types.Type{Name: "_LIST_ENTRY", Kind: types.KindStruct, Size: 16}
		t.Fields = []types.Field{{Name: "Flink", Type: ptr(t)}, {Name: "Blink", Offset: 8, Type: ptr(t)}}
		return t
	}()
	unicode = &types.Type{Name: "_UNICODE_STRING", Kind: types.KindStruct, Size: 16, Fields: []types.Field{
		{Name: "Length", Type: ushort}, {Name: "MaximumLength", Offset: 2, Type: ushort}, {Name: "Buffer", Offset: 8, Type: ptr(wchar)},
	}}
	guid = &types.Type{Name: "_GUID", Kind: types.KindStruct, Size: 16, Fields: []types.Field{
		{Name: "Data1", Type: ulong}, {Name: "Data4", Offset: 8, Type: array(uchar, 8)},
	}}
	large = &types.Type{Name: "_LARGE_INTEGER", Kind: types.KindUnion, Size: 8, Fields: []types.Field{
		{Name: "LowPart", Type: ulong}, {Name: "HighPart", Offset: 4, Type: long}, {Name: "QuadPart", Type: int64t},
		{Name: "u", Type: &types.Type{Name: "__unnamed_1", Kind: types.KindStruct, Size: 8, Fields: []types.Field{{Name: "LowPart", Type: ulong}}}},
	}}
	state = &types.Type{Name: "_STATE", Kind: types.KindEnum, Size: 4, Consts: map[string]int64{"Ready": 1, "Waiting": 0x200, "Broken": -1, "AlsoReady": 1}}
	owner = &types.Type{Name: "_OWNER_ENTRY", Kind: types.KindStruct, Size: 16, Fields: []types.Field{
		{Name: "OwnerThread", Type: uint64t}, {Name: "OwnerCount", Offset: 8, Type: long}, {Name: "TableSize", Offset: 8, Type: ulong},
	}}
	thing = &types.Type{Name: "_THING", Kind: types.KindStruct, Size: 0x108, Fields: []types.Field{
		{Name: "Links", Type: listEntry},
		{Name: "Count", Offset: 0x10, Type: short}, {Name: "Flag", Offset: 0x12, Type: ushort},
		{Name: "Bits", Offset: 0x14, Type: ulong, BitPos: 0, BitLen: 4}, {Name: "Bit", Offset: 0x14, Type: ulong, BitPos: 4, BitLen: 1},
		{Name: "Rest", Offset: 0x14, Type: ulong, BitPos: 5, BitLen: 27},
		{Name: "Letter", Offset: 0x18, Type: uchar}, {Name: "Priority", Offset: 0x19, Type: char8},
		{Name: "Name", Offset: 0x20, Type: unicode}, {Name: "Id", Offset: 0x30, Type: guid}, {Name: "Time", Offset: 0x40, Type: large},
		{Name: "State", Offset: 0x48, Type: state}, {Name: "Next", Offset: 0x50, Type: ptr(owner)}, {Name: "None", Offset: 0x58, Type: ptr(void)},
		{Name: "Routine", Offset: 0x60, Type: ptr(routine)}, {Name: "Blind", Offset: 0x68, Type: ptr(blind)},
		{Name: "Image", Offset: 0x70, Type: array(uchar, 15)}, {Name: "Big", Offset: 0x80, Type: uint64t}, {Name: "Small", Offset: 0x88, Type: uint64t},
		{Name: "Owners", Offset: 0x90, Type: array(owner, 2)}, {Name: "Numbers", Offset: 0xb0, Type: array(ulong, 3)},
		{Name: "Ratio", Offset: 0xbc, Type: float4}, {Name: "Exact", Offset: 0xc0, Type: double}, {Name: "Yes", Offset: 0xc8, Type: boole},
		{Name: "Text", Offset: 0xd0, Type: ptr(char8)}, {Name: "Counter", Offset: 0xd8, Type: ptr(ulong)}, {Name: "Lost", Offset: 0xe0, Type: ptr(char8)},
		{Name: "Wide", Offset: 0xe8, Type: array(wchar, 4)}, {Name: "Bad", Offset: 0xf0, Type: &types.Type{Name: "<unreadable type 0x1234>"}},
		{Name: "Link", Offset: 0xf8, Type: ptr(listEntry)}, {Name: "Odd", Offset: 0x100, Type: state},
	}}
)

func ptr(t *types.Type) *types.Type {
	return &types.Type{Name: "*" + t.Name, Kind: types.KindPointer, Size: 8, Elem: t}
}

func array(t *types.Type, n uint32) *types.Type {
	return &types.Type{Name: fmt.Sprintf("[%d]%s", n, t.Name), Kind: types.KindArray, Size: t.Size * n, Elem: t, Count: n}
}

// image is the memory of the tests: a _THING at thingAt and what it points at.
const (
	thingAt = 0xfffff80000001000
	dataAt  = 0xfffff80000002000
)

func testMemory() *reader {
	pages := map[uint64][]byte{thingAt: make([]byte, 0x1000), dataAt: make([]byte, 0x1000)}
	put := func(at uint64, b []byte) { copy(pages[at&^0xfff][at&0xfff:], b) }
	le := binary.LittleEndian
	p64 := func(off int, v uint64) { put(thingAt+uint64(off), le.AppendUint64(nil, v)) }
	p32 := func(off int, v uint32) { put(thingAt+uint64(off), le.AppendUint32(nil, v)) }
	p64(0, thingAt+0x400)
	p64(8, thingAt+0x400)
	p64(0x400, thingAt)
	p64(0x408, thingAt)
	p32(0x10, 0x8000fffe)
	p32(0x14, 0x15)
	put(thingAt+0x18, []byte{'A', 0xf4})
	p32(0x20, 6|8<<16)
	p64(0x28, dataAt)
	put(thingAt+0x30, []byte{0x49, 0x7b, 0x4d, 0x74, 0x81, 0x7b, 0x0c, 0x47, 0xa2, 0xd8, 0xa8, 0xd2, 0x62, 0xfc, 0x8a, 0x29})
	p64(0x40, 0xffffe86d079b8000)
	p32(0x48, 0x200)
	p64(0x50, dataAt+0x100)
	p64(0x60, 0xfffff80012345678)
	p64(0x68, 0xfffff80012345000)
	put(thingAt+0x70, []byte("System\x00x"))
	p64(0x80, 0x18031c8e7c)
	p64(0x88, 10)
	p64(0x90, dataAt+0x500)
	p32(0x98, 3)
	p32(0xb0, 7)
	p32(0xbc, 0x3fc00000)
	p64(0xc0, 0x3fb999999999999a)
	put(thingAt+0xc8, []byte{1})
	p64(0xd0, dataAt+0x20)
	p64(0xd8, dataAt+0x40)
	p64(0xe0, 0x589)
	put(thingAt+0xe8, []byte{'a', 0, 'b', 0})
	p64(0xf8, thingAt)
	p32(0x100, 0x17)
	put(dataAt, []byte{'a', 0, 'b', 0, 'c', 0})
	put(dataAt+0x20, []byte("UH\x8b"))
	put(dataAt+0x40, []byte{0x2a})
	return &reader{read: func(p []byte, at uint64) (int, error) {
		n := 0
		for n < len(p) {
			page := pages[(at+uint64(n))&^0xfff]
			if page == nil {
				return n, &mem.Fault{Kind: mem.NotCaptured, VA: mem.VA(at + uint64(n))}
			}
			n += copy(p[n:], page[(at+uint64(n))&0xfff:])
		}
		return n, nil
	}}
}

// dtText shows a type, or what lies at an address, as a line of dt asks.
func dtText(t *testing.T, line string, typ *types.Type) string {
	t.Helper()
	o, err := parseDt(t.Context(), line, hexEval{}, func(_ *dtOptions, f fieldPath) bool { return hasField(typ, f) })
	if err != nil {
		t.Fatalf("dt %s: %v", line, err)
	}
	r := &typeRecord{Name: typ.Name, Size: typ.Size, Kind: kindName(typ.Kind), opt: o}
	v := &valuer{ctx: t.Context(), verbose: o.verbose, name: func(at mem.VA) string {
		if at == 0xfffff80012345678 {
			return "nt!Foo+0"
		}
		return ""
	}}
	var at uint64
	if o.address != nil {
		at, v.mem = *o.address, testMemory()
	}
	s := &shower{ctx: t.Context(), v: v, o: o, r: r}
	if err := s.show(typ, at); err != nil {
		return "error: " + err.Error() + "\n"
	}
	if v.mem != nil {
		r.bad = v.mem.bad
	}
	var b bytes.Buffer
	r.WriteText(report.NewPrinter(&b, report.Era19041, false))
	return b.String()
}

// TestDt_type: what stands behind the colon without an address.
func TestDt_type(t *testing.T) {
	t.Parallel()
	want := `   +0x000 Links            : _LIST_ENTRY
   +0x010 Count            : Int2B
   +0x012 Flag             : Uint2B
   +0x014 Bits             : Pos 0, 4 Bits
   +0x014 Bit              : Pos 4, 1 Bit
   +0x014 Rest             : Pos 5, 27 Bits
   +0x018 Letter           : UChar
   +0x019 Priority         : Char
   +0x020 Name             : _UNICODE_STRING
   +0x030 Id               : _GUID
   +0x040 Time             : _LARGE_INTEGER
   +0x048 State            : _STATE
   +0x050 Next             : Ptr64 _OWNER_ENTRY
   +0x058 None             : Ptr64 Void
   +0x060 Routine          : Ptr64     void 
   +0x068 Blind            : Ptr64     <function> 
   +0x070 Image            : [15] UChar
   +0x080 Big              : Uint8B
   +0x088 Small            : Uint8B
   +0x090 Owners           : [2] _OWNER_ENTRY
   +0x0b0 Numbers          : [3] Uint4B
   +0x0bc Ratio            : Float
   +0x0c0 Exact            : Float8B
   +0x0c8 Yes              : Bool
   +0x0d0 Text             : Ptr64 Char
   +0x0d8 Counter          : Ptr64 Uint4B
   +0x0e0 Lost             : Ptr64 Char
   +0x0e8 Wide             : [4] Wchar
   +0x0f0 Bad              : <unreadable type 0x1234>
   +0x0f8 Link             : Ptr64 _LIST_ENTRY
   +0x100 Odd              : _STATE
`
	if d := cmp.Diff(want, dtText(t, "_THING", thing)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestDt_values: what stands there with one, each kind of value once, as public
// answers of dt have it.
func TestDt_values(t *testing.T) {
	t.Parallel()
	want := "   +0x000 Links            : _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
		"   +0x010 Count            : 0n-2\n" +
		"   +0x012 Flag             : 0x8000\n" +
		"   +0x014 Bits             : 0y0101\n" +
		"   +0x014 Bit              : 0y1\n" +
		"   +0x014 Rest             : 0y000000000000000000000000000 (0)\n" +
		"   +0x018 Letter           : 0x41 'A'\n" +
		"   +0x019 Priority         : -12 ''\n" +
		"   +0x020 Name             : _UNICODE_STRING \"abc\"\n" +
		"   +0x030 Id               : _GUID {744d7b49-7b81-470c-a2d8-a8d262fc8a29}\n" +
		"   +0x040 Time             : _LARGE_INTEGER 0xffffe86d`079b8000\n" +
		"   +0x048 State            : 200 ( Waiting )\n" +
		"   +0x050 Next             : 0xfffff800`00002100 _OWNER_ENTRY\n" +
		"   +0x058 None             : (null) \n" +
		"   +0x060 Routine          : 0xfffff800`12345678     void  nt!Foo+0\n" +
		"   +0x068 Blind            : 0xfffff800`12345000     +fffff80012345000\n" +
		"   +0x070 Image            : [15]  \"System\"\n" +
		"   +0x080 Big              : 0x00000018`031c8e7c\n" +
		"   +0x088 Small            : 0xa\n" +
		"   +0x090 Owners           : [2] _OWNER_ENTRY\n" +
		"   +0x0b0 Numbers          : [3] 7\n" +
		"   +0x0bc Ratio            : 1.5\n" +
		"   +0x0c0 Exact            : 0.1\n" +
		"   +0x0c8 Yes              : 1\n" +
		"   +0x0d0 Text             : 0xfffff800`00002020  \"UH???\"\n" +
		"   +0x0d8 Counter          : 0xfffff800`00002040  -> 0x2a\n" +
		"   +0x0e0 Lost             : 0x00000000`00000589  \"--- memory read error at address 0x00000000`00000589 ---\"\n" +
		"   +0x0e8 Wide             : [4]  \"ab\"\n" +
		"   +0x0f0 Bad              : <unreadable type 0x1234>\n" +
		"   +0x0f8 Link             : 0xfffff800`00001000 _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
		"   +0x100 Odd              : 17 (No matching name)\n"
	if d := cmp.Diff(want, dtText(t, "_THING fffff80000001000", thing)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestDt_lines holds the ways of choosing and opening members to the
// documentation's samples, whose 32-bit pointers became 64-bit ones.
func TestDt_lines(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line string
		typ  *types.Type
		want string
	}{
		{"_THING fffff80000001000 Priority", thing, "   +0x019 Priority : -12 ''\n"},
		{"_THING count FLAG", thing, "   +0x010 Count : Int2B\n   +0x012 Flag  : Uint2B\n"},
		{"_THING 1000 Nu*", thing, "   +0x0b0 Numbers : [3] ??\nMemory read error 00000000000010b0\n"},
		{"_THING fffff80000001000 -a Numbers", thing, "   +0x0b0 Numbers : \n    [00] 7\n    [01] 0\n    [02] 0\n"},
		{"_THING fffff80000001000 -a2 Numbers", thing, "   +0x0b0 Numbers : \n    [00] 7\n    [01] 0\n"},
		{"_THING fffff80000001000 Numbers[1]", thing, "   +0x0b4 Numbers[1] : 0\n"},
		{"_THING fffff80000001000 Owners[0].OwnerC*", thing, "   +0x090 Owners[0]         : \n      +0x008 OwnerCount        : 0n3\n"},
		{"_THING fffff80000001000 Owners.OwnerCount", thing, "   +0x090 Owners            : \n    [00] \n      +0x008 OwnerCount        : 0n3\n" +
			"    [01] \n      +0x008 OwnerCount        : 0n0\n"},
		{"_THING Numbers[3]", thing, "error: Numbers[3]: the array has 3 elements\n"},
		{"_THING fffff80000001000 Time.", thing, "   +0x040 Time  :  0xffffe86d`079b8000\n      +0x000 LowPart : 0x79b8000\n" +
			"      +0x004 HighPart : 0n-6035\n      +0x000 QuadPart : 0n-25920000000000\n      +0x000 u     : <unnamed-tag>\n"},
		{"_THING fffff80000001000 Time..", thing, "   +0x040 Time   :  0xffffe86d`079b8000\n      +0x000 LowPart : 0x79b8000\n" +
			"      +0x004 HighPart : 0n-6035\n      +0x000 QuadPart : 0n-25920000000000\n      +0x000 u      : \n         +0x000 LowPart : 0x79b8000\n"},
		{"_THING Time.LowPart", thing, "   +0x040 Time         : \n      +0x000 LowPart      : Uint4B\n"},
		{"_THING fffff80000001000 Next.OwnerCount", thing, "   +0x050 Next            : \n      +0x008 OwnerCount      : 0n0\n"},
		{"_THING fffff80000001000 None.", thing, "   +0x058 None  : (null) \n"},
		{"-o -i _THING fffff80000001000 State -y Ima", thing, "State : 200 ( Waiting )\nImage : [15]  \"System\"\n"},
		{"-v _OWNER_ENTRY", owner, "struct _OWNER_ENTRY, 3 elements, 0x10 bytes\n   +0x000 OwnerThread      : Uint8B\n" +
			"   +0x008 OwnerCount       : Int4B\n   +0x008 TableSize        : Uint4B\n"},
		{"-v _THING fffff80000001000 Links Bit State Next", thing, "struct _THING, 31 elements, 0x108 bytes\n" +
			"   +0x000 Links : struct _LIST_ENTRY, 2 elements, 0x10 bytes\n [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"   +0x014 Bit   : Bitfield 0y1\n   +0x048 State : 200 ( Waiting )\n" +
			"   +0x050 Next  : 0xfffff800`00002100 struct _OWNER_ENTRY, 3 elements, 0x10 bytes\n"},
		{"-v _THING Bits Routine State", thing, "struct _THING, 31 elements, 0x108 bytes\n   +0x014 Bits    : Bitfield Pos 0, 4 Bits\n" +
			"   +0x048 State   : Enum _STATE,  4 total enums\n   +0x060 Routine : Ptr64 to     void \n"},
		{"_STATE", state, "   Broken = 0n-1\n   AlsoReady = 0n1\n   Ready = 0n1\n   Waiting = 0n512\n"},
		{"_STATE fffff80000001048", state, "200 ( Waiting )\n"},
		{"ULONG fffff80000001048", ulong, "0x200\n"}, {"ULONG", ulong, "Uint4B\n"},
		{"_LIST_ENTRY fffff80000001000", listEntry, " [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"   +0x000 Flink            : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n" +
			"   +0x008 Blink            : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n"},
		{"-r1 _LIST_ENTRY fffff80000001000", listEntry, " [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"   +0x000 Flink            : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n" +
			"      +0x000 Flink            : 0xfffff800`00001000 _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"      +0x008 Blink            : 0xfffff800`00001000 _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"   +0x008 Blink            : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n" +
			"      +0x000 Flink            : 0xfffff800`00001000 _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"      +0x008 Blink            : 0xfffff800`00001000 _LIST_ENTRY [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n"},
		{"-b _THING fffff80000001000 Links Owners Next", thing, "   +0x000 Links  :  [ 0xfffff800`00001400 - 0xfffff800`00001400 ]\n" +
			"      +0x000 Flink  : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n" +
			"      +0x008 Blink  : 0xfffff800`00001400 _LIST_ENTRY [ 0xfffff800`00001000 - 0xfffff800`00001000 ]\n" +
			"   +0x050 Next   : 0xfffff800`00002100 _OWNER_ENTRY\n" +
			"   +0x090 Owners : \n    [00] \n      +0x000 OwnerThread : 0xfffff800`00002500\n      +0x008 OwnerCount : 0n3\n      +0x008 TableSize : 3\n" +
			"    [01] \n      +0x000 OwnerThread : 0\n      +0x008 OwnerCount : 0n0\n      +0x008 TableSize : 0\n"},
		{"_OWNER_ENTRY 0", owner, "   +0x000 OwnerThread      : ??\n   +0x008 OwnerCount       : ??\n   +0x008 TableSize        : ??\nMemory read error 0000000000000000\n"},
		{"_THING 0 Next Name Links Image Bits", thing, "   +0x000 Links : _LIST_ENTRY\n   +0x014 Bits  : ??\n   +0x020 Name  : _UNICODE_STRING\n   +0x050 Next  : ???? \n" +
			"   +0x070 Image : [15]  \"--- memory read error at address 0x00000000`00000070 ---\"\nMemory read error 0000000000000000\n"},
		{"_UNICODE_STRING fffff80000001020", unicode, " \"abc\"\n   +0x000 Length           : 6\n   +0x002 MaximumLength    : 8\n" +
			"   +0x008 Buffer           : 0xfffff800`00002000  \"abc\"\n"},
		{"-c _OWNER_ENTRY fffff80000001090", owner, "   +0x000 OwnerThread : 0xfffff800`00002500    +0x008 OwnerCount : 0n3    +0x008 TableSize : 3 \n"},
		{"_THING Nothing", thing, "error: no such member\n"},
		{"_EMPTY", &types.Type{Name: "_EMPTY", Kind: types.KindStruct}, "error: _EMPTY: its table does not describe its members\n"},
	} {
		if d := cmp.Diff(tt.want, dtText(t, tt.line, tt.typ)); d != "" {
			t.Errorf("dt %s (-want +got):\n%s", tt.line, d)
		}
	}
}

// TestDt_circle: structures whose pointers lead in a circle end.
func TestDt_circle(t *testing.T) {
	t.Parallel()
	got := dtText(t, "-r9 _LIST_ENTRY fffff80000001000", listEntry)
	if n := strings.Count(got, "\n"); n != 7 {
		t.Errorf("%d lines, want 7:\n%s", n, got)
	}
}

func TestParseDt(t *testing.T) {
	t.Parallel()
	type want struct {
		Module, Name, List string
		Fields             []string
		Address            uint64
		HasAddress         bool
		Depth, Array       int
		Size               uint64
	}
	for line, w := range map[string]want{
		"nt!_THING":                       {Module: "nt", Name: "_THING", Array: noArray},
		"_THING -r3 abc":                  {Name: "_THING", Address: 0xabc, HasAddress: true, Depth: 3, Array: noArray},
		"-r nt!_THING":                    {Module: "nt", Name: "_THING", Depth: defaultDepth, Array: noArray},
		"_THING Count 10 Flag":            {Name: "_THING", Fields: []string{"Count", "Flag"}, Address: 0x10, HasAddress: true, Array: noArray},
		"_THING -n abc":                   {Name: "_THING", Fields: []string{"abc"}, Array: noArray},
		"-ny A":                           {Name: "A", Array: noArray},
		"10 _THING":                       {Name: "_THING", Address: 0x10, HasAddress: true, Array: noArray},
		"_THING 10 -l Links.Flink -y Ima": {Name: "_THING", Fields: []string{"Ima"}, Address: 0x10, HasAddress: true, List: "Links.Flink", Array: noArray},
		"-a4 _THING 10":                   {Name: "_THING", Address: 0x10, HasAddress: true, Array: 4},
		"-ca10 ULONG 1002be0":             {Name: "ULONG", Address: 0x1002be0, HasAddress: true, Array: 10},
		"(unsigned long) 10":              {Name: "unsigned long", Address: 0x10, HasAddress: true, Array: noArray},
		"_THING (10)":                     {Name: "_THING", Address: 0x10, HasAddress: true, Array: noArray},
		"-s 20 nt!*":                      {Module: "nt", Name: "*", Size: 0x20, Array: noArray},
		"_THING[3] 10":                    {Name: "_THING", Address: 0x10, HasAddress: true, Array: noArray},
		"_THING Time.Low":                 {Name: "_THING", Fields: []string{"Time.Low"}, Array: noArray},
	} {
		o, err := parseDt(t.Context(), line, parenEval{}, func(_ *dtOptions, f fieldPath) bool { return hasField(thing, f) })
		if err != nil {
			t.Errorf("dt %s: %v", line, err)
			continue
		}
		got := want{Module: o.module, Name: o.name, List: o.list, Depth: o.depth, Array: o.array}
		if o.address != nil {
			got.Address, got.HasAddress = *o.address, true
		}
		if o.size != nil {
			got.Size = *o.size
		}
		for _, f := range o.fields {
			var parts []string
			for _, p := range f.parts {
				parts = append(parts, p.pattern)
			}
			got.Fields = append(got.Fields, strings.Join(parts, "."))
		}
		if d := cmp.Diff(w, got); d != "" {
			t.Errorf("dt %s (-want +got):\n%s", line, d)
		}
	}
	for _, line := range []string{"", "-q _THING", "-s", "-l", "_THING -l Links", "(", "nt!", "_THING (1", "_THING a" + strings.Repeat(".", 40), "-a99999999999 _X"} {
		if _, err := parseDt(t.Context(), line, parenEval{}, func(*dtOptions, fieldPath) bool { return false }); err == nil {
			t.Errorf("dt %s: no error", line)
		}
	}
}

// parenEval is hexEval for numbers in parentheses too.
type parenEval struct{ hexEval }

func (p parenEval) Eval(ctx context.Context, text string) (uint64, error) {
	if strings.Trim(text, "()0123456789abcdef") != "" {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return p.hexEval.Eval(ctx, strings.Trim(text, "()"))
}

func FuzzParseDt(f *testing.F) {
	for _, s := range []string{"-b nt!_THING 10 Count.. Numbers[2]", "-r3 -a5 X", "_THING -l a.b 10", "(a b) -n 10", "-s 10 nt!*", "a..b[1].", "[", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if len(line) > 1000 {
			return
		}
		o, err := parseDt(t.Context(), line, parenEval{}, func(_ *dtOptions, f fieldPath) bool { return hasField(thing, f) })
		if err != nil || o.help {
			return
		}
		r := &typeRecord{opt: o}
		s := &shower{ctx: t.Context(), v: &valuer{ctx: t.Context(), mem: testMemory(), name: func(mem.VA) string { return "" }}, o: o, r: r}
		_ = s.show(thing, thingAt)
		r.WriteText(report.NewPrinter(new(bytes.Buffer), report.Era19041, false))
	})
}

// TestDt_pointer: a variable that is a pointer shows what it points at.
func TestDt_pointer(t *testing.T) {
	t.Parallel()
	want := "0xfffff800`00002100 \n   +0x000 OwnerThread      : 0\n   +0x008 OwnerCount       : 0n0\n   +0x008 TableSize        : 0\n"
	if d := cmp.Diff(want, dtText(t, "X fffff80000001050", ptr(owner))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if d := cmp.Diff("(null) \n", dtText(t, "X fffff80000001058", ptr(owner))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
