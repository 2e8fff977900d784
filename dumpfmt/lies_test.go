package dumpfmt_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/dumpfmt"
	"gokd/dumpfmt/dumptest"
	"gokd/model/mem"
)

// Headers that lie: either an error that names the field and its file offset,
// or what is certain, with a warning.
func TestOpen_lies(t *testing.T) {
	t.Parallel()
	full := dumptest.Full(dumptest.Run{PFN: 1, Pages: 3}, dumptest.Run{PFN: 16, Pages: 4}, dumptest.Run{PFN: 64, Pages: 2})
	bmp := dumptest.Bitmap(6, 8192, 4096, dumptest.Run{PFN: 3, Pages: 4})
	ranges := dumptest.Ranges(10, 4, dumptest.Run{PFN: 1, Pages: 3}, dumptest.Run{PFN: 9, Pages: 2})
	summary := dumptest.Summary(8192, 40, dumptest.Run{PFN: 3, Pages: 4})
	const huge = uint64(1) << 60
	for _, test := range []struct {
		name    string
		image   dumptest.Image
		at      int
		value   any
		err     string // part of the error, or
		offset  int64  // the error's file offset
		warning string // part of the warning
		pages   uint64 // that can be read nevertheless
	}{
		{"run count huge, pages agree", full, 136, uint32(0x7fffffff), "", 0, "3 runs make up its 9 pages", 9},
		{"run count too small", full, 136, uint32(1), "", 0, "using 3", 9},
		{"run count zero", full, 136, uint32(0), "DUMP_HEADER64: run count at file offset 0x88", 0x88, "", 0},
		{"run count filled", full, 136, "PAGEPAGE", "DUMP_HEADER64: run count at file offset 0x88", 0x88, "", 0},
		{"page count huge", full, 144, huge, "", 0, "its 3 runs have 9", 9},
		{"page count of two runs", full, 144, uint64(7), "", 0, "using 2", 7},
		{"first run huge", full, 160, huge, "DUMP_HEADER64: run 0 at file offset 0x98", 0x98, "", 0},
		{"second run huge", full, 176, huge, "", 0, "using the 1 runs before it", 3},
		{"second run at the top", full, 168, ^uint64(0), "", 0, "using the 1 runs before it", 3},
		{"second run overlaps", full, 168, uint64(2), "overlap", 0xa8, "", 0},
		{"dump type 0", full, 3992, uint32(0), "dump type at file offset 0xf98: 0: the writer", 0xf98, "", 0},
		{"dump type 3", full, 3992, uint32(3), "dump type at file offset 0xf98: 3: the file is a header", 0xf98, "", 0},
		{"dump type unknown", full, 3992, uint32(77), "dump type at file offset 0xf98: 0x4d", 0xf98, "", 0},
		{"dump type unknown, bitmap", bmp, 3992, uint32(77), "", 0, "taken for a 64-bit kernel bitmap dump", 4},
		{"dump type 1, bitmap", bmp, 3992, uint32(1), "", 0, "taken for a 64-bit kernel bitmap dump", 4},
		{"dump type 0, ranges", ranges, 3992, uint32(0), "", 0, "taken for", 5},
		{"machine", full, 48, uint32(0x1234), "machine at file offset 0x30", 0x30, "", 0},
		{"bitmap signature", bmp, 8192, "XDMP", "signature at file offset 0x2000", 0x2000, "", 0},
		{"bitmap size huge, pages agree", bmp, 8240, ^uint64(15), "", 0, "using these", 4},
		{"bitmap size zero", bmp, 8240, uint64(0), "bitmap size at file offset 0x2030", 0x2030, "", 0},
		{"bitmap size too small", bmp, 8240, uint64(5), "", 0, "the bitmap marks 2", 2},
		{"page count of bitmap", bmp, 8232, huge, "", 0, "the bitmap marks 4", 4},
		{"first page in header", bmp, 8224, uint64(0x2000), "first page at file offset 0x2020", 0x2020, "", 0},
		{"first page behind the end", bmp, 8224, uint64(1 << 40), "first page at file offset 0x2020", 0x2020, "", 0},
		{"first page negative", bmp, 8224, ^uint64(0), "first page at file offset 0x2020", 0x2020, "", 0},
		{"bitmap empty", bmp, 8248, make([]byte, 1024), "bitmap at file offset 0x2038: it marks no page", 0x2038, "", 0},
		{"newer header in type 2", bmp, 3992, uint32(2), "", 0, "that of Windows 8", 4},
		{"older header in type 6", summary, 3992, uint32(6), "", 0, "using the older", 4},
		{"summary's page count", summary, 8212, uint32(5), "page count at file offset 0x2014", 0x2014, "", 0},
		{"ranges' signature", ranges, 8196, "XDMP", "signature at file offset 0x2004", 0x2004, "", 0},
		{"ranges' marker", ranges, 8192, uint32(1), "marker at file offset 0x2000", 0x2000, "", 0},
		{"metadata size", ranges, 8208, uint64(1), "metadata size at file offset 0x2010", 0x2010, "", 0},
		{"ranges' first page", ranges, 8216, huge, "first page at file offset 0x2018", 0x2018, "", 0},
		{"ranges' page count", ranges, 8232, uint64(3), "", 0, "", 3},
		{"second range huge", ranges, 8264, huge, "", 0, "using the 1 ranges before it", 3},
		{"ranges overlap", ranges, 8256, uint64(2), "overlap", 0x2030, "", 0},
		{"no range", ranges, 8240, uint64(0), "no range", 0x2030, "", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			image := test.image.Clone()
			image.Put(test.at, test.value)
			d, err := dumpfmt.Open(dumpfmt.NewBytes(image), int64(len(image)))
			if test.err != "" {
				var bad *dumpfmt.FormatError
				if !errors.As(err, &bad) || !strings.Contains(err.Error(), test.err) || bad.Offset != test.offset || bad.Format == "" {
					t.Fatalf("error %v, want a FormatError at %#x with %q", err, test.offset, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantWarning(t, d, test.warning)
			pages := uint64(0)
			for _, r := range runsOf(d) {
				pages += r.Size / dumptest.Page
				checkPages(t, d, uint64(r.Base)/dumptest.Page, r.Size/dumptest.Page)
			}
			if pages != test.pages {
				t.Errorf("%d pages can be read, want %d", pages, test.pages)
			}
		})
	}
}

// A short file opens as far as it goes; the cut pages are holes.
func TestOpen_truncated(t *testing.T) {
	t.Parallel()
	run := dumptest.Run{PFN: 3, Pages: 4}
	for name, image := range map[string]dumptest.Image{
		"full":    dumptest.Full(run),
		"bitmap":  dumptest.Bitmap(6, 8192, 4096, run),
		"ranges":  dumptest.Ranges(8, 4, run),
		"summary": dumptest.Summary(8192, 40, run),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, image[:len(image)-2*dumptest.Page+100])
			if diff := cmp.Diff([]mem.Run{runOf(3, 2)}, runsOf(d)); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			wantWarning(t, d, "2 of 4 pages are missing, 0x1f9c bytes")
			if d.PagesExpected != 4 || d.PagesPresent != 2 {
				t.Errorf("pages: %d of %d", d.PagesPresent, d.PagesExpected)
			}
			checkPages(t, d, 3, 2)
			wantHole(t, d, mem.PA(5*dumptest.Page))
			cut := image[:len(image)-4*dumptest.Page]
			if _, err := dumpfmt.Open(dumpfmt.NewBytes(cut), int64(len(cut))); err == nil {
				t.Error("a dump without a page opens")
			}
		})
	}
}
