package symbol

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/code"
	"gokd/commands/stack"
)

// TestLines: .lines switches source lines on and off for all commands that show
// places in code; symbols without any have none.
func TestLines(t *testing.T) {
	t.Parallel()
	s := snapshotSession(t)
	table, err := cmd.NewTable(append(append(Commands(), stack.Commands()...), code.Commands()...)...)
	if err != nil {
		t.Fatal(err)
	}
	s.Commands = table
	for _, tt := range []struct{ line, want string }{
		{".lines -d", "Line number information will not be loaded\n"},
		{"ln sis!Count", "(fffff880`01401140)   sis!Count   |  (fffff880`01401150)   sis!gokd::Shape::Area\n" +
			"Exact matches:\n    sis!Count (struct _LIST_ENTRY *, void *)\n"},
		{".lines", "Line number information will be loaded\nSource lines are known of: sis\n"},
		{"ln sis!Count", " [c:\\src\\driver.c @ 159] (fffff880`01401140)   sis!Count   |  (fffff880`01401150)   sis!gokd::Shape::Area\n" +
			"Exact matches:\n    sis!Count (struct _LIST_ENTRY *, void *)\n"},
		{"ln sis!Count+3", " [c:\\src\\driver.c @ 159] (fffff880`01401140)   sis!Count+0x3   |  (fffff880`01401150)   sis!gokd::Shape::Area\n"},
		{"ln nt!KeBugCheckEx", "(fffff800`02207770)   nt!KeBugCheckEx   |  (fffff800`022077b0)   nt!KeDelayExecutionThread\n" +
			"Exact matches:\n    nt!KeBugCheckEx (<no parameter info>)\n"},
		{"k = @rsp sis!Count+3 1", " # Child-SP          RetAddr           Call Site\n" +
			"00 fffff880`0218ead0 00000000`00000000 sis!Count+0x3 [c:\\src\\driver.c @ 159]\n"},
		{"kc = @rsp sis!Count+3 1", " # Call Site\n00 sis!Count+0x3 [c:\\src\\driver.c @ 159]\n"},
		{"kL = @rsp sis!Count+3 1", " # Child-SP          RetAddr           Call Site\n" +
			"00 fffff880`0218ead0 00000000`00000000 sis!Count+0x3\n"},
		{"kn = @rsp nt!KeBugCheckEx 1", " # Child-SP          RetAddr           Call Site\n" +
			"00 fffff880`0218ead0 00000000`00000000 nt!KeBugCheckEx\n"},
		{".frame = @rbp @rsp sis!Count+3", "00 fffff880`0218ead0 00000000`00000000 sis!Count+0x3 [c:\\src\\driver.c @ 159]\n"},
		{"u sis!Count L2", "sis!Count [c:\\src\\driver.c @ 159]:\n" +
			"fffff880`01401140 33c0            xor     eax,eax\nfffff880`01401142 85c0            test    eax,eax\n"},
		{"uf sis!Count", "sis!Count [c:\\src\\driver.c @ 159]:\n" +
			"  159 fffff880`01401140 33c0            xor     eax,eax\n" +
			"  159 fffff880`01401142 85c0            test    eax,eax\n" +
			"  159 fffff880`01401144 488bfa          mov     rdi,rdx\n" +
			"  160 fffff880`01401147 0fb6c8          movzx   ecx,al\n"},
		{".lines -t", "Line number information will not be loaded\n"},
		{"u sis!Count L1", "sis!Count:\nfffff880`01401140 33c0            xor     eax,eax\n"},
		{".lines -e", "Line number information will be loaded\nSource lines are known of: sis\n"},
	} {
		got, _ := s.Capture(t.Context(), tt.line)
		if strings.HasPrefix(tt.line, "uf ") { // the image's code is not that of the table
			got = strings.Join(strings.SplitAfterN(got, "\n", 6)[:5], "")
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.line, d)
		}
	}
}
