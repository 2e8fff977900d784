package pool

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/report"
)

// TestAppendFields holds the fast way against the general one.
func TestAppendFields(t *testing.T) {
	t.Parallel()
	owner := report.Addr(0xffffa80011112222)
	for _, r := range []*blockRecord{
		{},
		{Address: 0xfffffa8011111010, Header: 0xfffffa8011111000, Tag: "Leak", Size: 0x210, PreviousSize: 0x30, State: "allocated", Pool: "nonpaged"},
		{Tag: "Leak", State: "allocated", Room: 0x220, Place: "lfh", Heap: &owner},
		{Tag: `a\x00"\x5c`, State: "free", Protected: true, Large: true, Pool: "paged", Owner: &owner},
		{Tag: "<&>", Missing: report.Missing{"owner_process": "page not in dump \x7f"}},
	} {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode((*plain)(r)); err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(want.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		got := append(r.AppendFields([]byte{'{'}), '}')
		if err := json.Unmarshal(got, &b); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if diff := cmp.Diff(a, b); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// plain is the record without its fast way.
type plain blockRecord
