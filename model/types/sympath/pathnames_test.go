package sympath

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/types"
)

func TestTableNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, pdb string
		want      []string
		refused   bool
	}{
		{"ntoskrnl.exe", "ntkrnlmp.pdb", []string{"ntkrnlmp.pdb", "ntoskrnl.pdb"}, false},
		{"Ntfs.sys", "ntfs.pdb", []string{"ntfs.pdb"}, false},
		{"volsnap.sys", `..\..\..\windows\temp\evil.pdb`, []string{"evil.pdb", "volsnap.pdb"}, false},
		{"afd.sys", "/etc/passwd", []string{"passwd", "afd.pdb"}, false},
		{"..", "a\x00b.pdb", nil, true},
		{"my\x1b[31mfault.sys", "myfault.pdb", []string{"myfault.pdb"}, false},
		{"", "", nil, false},
	} {
		got, err := tableNames(types.ImageID{Name: tt.name, PDB: tt.pdb})
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != tt.refused {
			t.Errorf("%q, %q: error %v (-want +got):\n%s", tt.name, tt.pdb, err, diff)
		}
	}
}
