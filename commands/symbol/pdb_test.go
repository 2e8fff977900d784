package symbol

import (
	"context"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/dumpfmt"
	"gokd/dumpfmt/snapshot"
	"gokd/model"
	"gokd/model/modeltest"
	"gokd/model/types"
	pdbfile "gokd/model/types/pdb"
)

// driverTable stands in for the symbols of one module of a snapshot.
type driverTable struct {
	next types.Resolver
	file *pdbfile.File
}

func (d driverTable) Resolve(ctx context.Context, id types.ImageID) (types.Store, types.Symbols, error) {
	if id.Name == "sis.sys" {
		return d.file, d.file, nil
	}
	return d.next.Resolve(ctx, id)
}

// snapshotSession opens the embedded snapshot; its sis.sys has the symbols of
// testdata/pdb/driver.pdb.
func snapshotSession(t testing.TB) *cmd.Session {
	t.Helper()
	text, err := os.ReadFile("../../testdata/snapshots/self-deadlock.yaml")
	if err != nil {
		t.Fatal(err)
	}
	im, err := snapshot.Build(text, snapshot.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := dumpfmt.Open(im, im.Size())
	if err != nil {
		t.Fatal(err)
	}
	file, err := pdbfile.Open("../../testdata/pdb/driver.pdb")
	if err != nil {
		t.Fatal(err)
	}
	k := modeltest.Load(t, d, func(s *model.Source) { s.Symbols = driverTable{im.Resolver(), file} })
	return sessionOf(t, k)
}

// TestPDB: types of a module other than nt come from its own database.
func TestPDB(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	s.Out.Printer.KDOnly = true
	for _, tt := range []struct{ line, want string }{
		{"lm m sis", "start             end                 module name\n" +
			"fffff880`01400000 fffff880`0141e000   sis        (deferred)             \n"},
		{"dt sis!_[A-F]*", "          sis!_BASE_TYPES\n" +
			"          sis!_DEVICE\n" +
			"          sis!_DRIVER\n" +
			"          sis!_FLAGS\n"},
		{"dt sis!*Dev*", "fffff880`01403000  sis!DeviceList\n" +
			"          sis!_DEVICE\n"},
		{"dt sis!_OVERLAY", "   +0x000 Whole            : Uint8B\n" +
			"   +0x000 Low              : Uint4B\n" +
			"   +0x004 High             : Int4B\n" +
			"   +0x000 Part             : <unnamed-tag>\n" +
			"   +0x000 Flags            : _FLAGS\n"},
		{"dt -v sis!_DEVICE Id Dispatch Names Neighbours Unload Overlay", "struct _DEVICE, 19 elements, 0x1d0 bytes\n" +
			"   +0x018 Overlay    : union _OVERLAY, 5 elements, 0x18 bytes\n" +
			"   +0x030 Id         : struct <unnamed-tag>, 2 elements, 0x18 bytes\n" +
			"   +0x070 Names      : [4] struct _UNICODE_STRING, 3 elements, 0x10 bytes\n" +
			"   +0x0b0 Dispatch   : [28] Ptr64 to     long \n" +
			"   +0x190 Unload     : Ptr64 to     void \n" +
			"   +0x198 Neighbours : Ptr64 to Ptr64 to struct _DEVICE, 19 elements, 0x1d0 bytes\n"},
		{"dt sis!_DEVICE Id. Overlay..", "   +0x018 Overlay   : \n" +
			"      +0x000 Whole     : Uint8B\n" +
			"      +0x000 Low       : Uint4B\n" +
			"      +0x004 High      : Int4B\n" +
			"      +0x000 Part      : \n" +
			"         +0x000 Bytes     : [8] UChar\n" +
			"      +0x000 Flags     : \n" +
			"         +0x000 First     : Pos 0, 1 Bit\n" +
			"         +0x000 Second    : Pos 1, 30 Bits\n" +
			"         +0x004 Third     : Pos 0, 7 Bits\n" +
			"         +0x008 Wide      : Pos 0, 40 Bits\n" +
			"         +0x008 Rest      : Pos 43, 21 Bits\n" +
			"         +0x010 Sign      : Pos 0, 3 Bits\n" +
			"         +0x014 Pool      : Pos 0, 3 Bits\n" +
			"   +0x030 Id        : \n" +
			"      +0x000 u         : <unnamed-tag>\n" +
			"      +0x008 Name      : _UNICODE_STRING\n"},
		{"dt sis!_FLAGS sis P*", "   +0x014 Pool : 0y000\n"},
		{"dt sis!Driver", "???? \n" +
			"Memory read error fffff88001403058\n"},
		{"dt sis!Counter", "??\n" +
			"Memory read error fffff88001403010\n"},
		{"dt fffff88001403010", "??\n" +
			"Memory read error fffff88001403010\n"},
		{"dt fffff88001403011", "0xfffff88001403011: no variable begins there; dt TYPE fffff88001403011 shows it as a type that you name\n"},
		{"x /v sis!*Device*", "prv global fffff880`01403000   10 sis!DeviceList = struct _LIST_ENTRY\n" +
			"prv func   fffff880`01401000   36 sis!EvtDeviceAdd (struct WDFDEVICE__ *, struct _DEVICE *, struct _UNICODE_STRING *, enum _POOL, unsigned int64)\n"},
		{"x /t sis![cdg]*", "fffff880`01402010 <NoType> sis!gokd::Circle::`vftable' = <no type information>\n" +
			"fffff880`014012c5 <NoType> sis!Chained (<no parameter info>)\n" +
			"fffff880`01401140 void (struct _LIST_ENTRY *, void *) sis!Count (struct _LIST_ENTRY *, void *)\n" +
			"fffff880`01403010 unsigned long sis!Counter = ??\n" +
			"fffff880`01403000 struct _LIST_ENTRY sis!DeviceList = struct _LIST_ENTRY\n" +
			"fffff880`01403058 struct _DRIVER * sis!Driver = ????\n" +
			"fffff880`014010a0 long (struct _DRIVER *, struct _UNICODE_STRING *) sis!DriverEntry (struct _DRIVER *, struct _UNICODE_STRING *)\n" +
			"fffff880`01402000 wchar_t [5] sis!Greeting = wchar_t [5]\n" +
			"fffff880`01401180 unsigned int (void) sis!gokd::Circle::Area (void)\n" +
			"fffff880`01401150 unsigned int (void) sis!gokd::Shape::Area (void)\n" +
			"fffff880`01401160 unsigned int (void) sis!gokd::Shape::Area (void)\n" +
			"fffff880`01403070 unsigned int sis!gokd::Shape::count = ??\n" +
			"fffff880`01403018 struct gokd::Circle sis!gokd::circle = struct gokd::Circle\n" +
			"fffff880`01403078 struct gokd::Array<gokd::Circle *,2> sis!gokd::circles = struct gokd::Array<gokd::Circle *,2>\n" +
			"fffff880`014030b0 struct gokd::Left * sis!gokd::left = ????\n" +
			"fffff880`01403088 struct gokd::Array<gokd::Array<int,4>,2> sis!gokd::table = struct gokd::Array<gokd::Array<int,4>,2>\n" +
			"fffff880`014030a8 union gokd::Value sis!gokd::value = union gokd::Value\n"},
		{"ln sis!Counter", "(fffff880`01403010)   sis!Counter   |  (fffff880`01403018)   sis!gokd::circle\n" +
			"Exact matches:\n" +
			"    sis!Counter = ??\n"},
		{"dt sis!NoSuch", "Symbol sis!NoSuch not found.\n"},
		{"lm m sis", "start             end                 module name\n" +
			"fffff880`01400000 fffff880`0141e000   sis        (private pdb symbols)  ../../testdata/pdb/driver.pdb\n"},
	} {
		got, _ := s.Capture(t.Context(), tt.line)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, d)
		}
	}
}
