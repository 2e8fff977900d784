package pool

import (
	"encoding/json"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
)

// truthBlock is a line of a NAME.blocks.json file: header address, size with
// header, the stored tag in hex, a(llocated) or f(ree), n(onpaged) or p(aged),
// and the process it is charged to.
type truthBlock struct {
	address string
	size    uint64
	tag     string
	state   string
	pool    string
	billed  string
}

func (b *truthBlock) UnmarshalJSON(data []byte) error {
	var billed any
	cells := []any{&b.address, &b.size, &b.tag, &b.state, &b.pool, &billed}
	if err := json.Unmarshal(data, &cells); err != nil {
		return err
	}
	b.billed = "0x0"
	if s, ok := billed.(string); ok {
		b.billed = s
	}
	return nil
}

// truth is the part of a truth file that speaks of the pool.
type truth struct {
	Pool struct {
		Trackers map[string]truthTag `json:"tracker_totals"`
		Big      []struct {
			VA    string `json:"va"`
			Tag   string `json:"tag"`
			Pool  string `json:"pool"`
			Bytes uint64 `json:"bytes"`
			Free  bool   `json:"free"`
		} `json:"big_pages"`
		Bulk struct {
			Pages, Blocks uint64
		} `json:"bulk"`
	} `json:"pool"`
}

type truthTag struct {
	Tag            string `json:"tag_hex"`
	NonpagedAllocs uint64 `json:"nonpaged_allocs"`
	NonpagedFrees  uint64 `json:"nonpaged_frees"`
	NonpagedBytes  int64  `json:"nonpaged_bytes"`
	PagedAllocs    uint64 `json:"paged_allocs"`
	PagedFrees     uint64 `json:"paged_frees"`
	PagedBytes     int64  `json:"paged_bytes"`
}

func readTruth(tb testing.TB, name string) (t truth) {
	tb.Helper()
	shared.JSON(tb, shared.Path(tb, "dumps", name+".truth.json.xz"), &t)
	return t
}

func readBlocks(tb testing.TB, name string) (list []truthBlock) {
	tb.Helper()
	shared.JSON(tb, shared.Path(tb, "dumps", name+".blocks.json.xz"), &list)
	return list
}
