package memory

import (
	"fmt"
	"testing"

	"gokd/commands/report"
)

// TestDump_pseudo: the last value that a command showed is left in $p, of the
// size of a value; one that is not in the dump leaves it alone.
func TestDump_pseudo(t *testing.T) {
	t.Parallel()
	m := newMachine()
	m.text(0x12f980, words(0x6d206e49, 0x726f6d65, 0x00120079, 0x0012f9f4))
	s, _ := sessionOf(t, m.kernel(), report.Era19041)
	for _, tt := range []struct {
		line string
		want uint64
	}{
		{"dd 12f980 L2", 0x726f6d65},
		{"dw 12f980 L1", 0x6e49},
		{"db 12f980 L4", 0x6d},
		{"dq 12f980 L2", 0x0012f9f400120079},
		{"dd 7fff0000 L1", 0x0012f9f400120079},
	} {
		_ = s.Execute(t.Context(), tt.line) // memory that is missing is an answer
		got, ok := s.Pseudo("$p")
		if want := fmt.Sprintf("%#x true", tt.want); fmt.Sprintf("%#x %v", got.Value, ok) != want {
			t.Errorf("%s: $p = %#x %v, want %s", tt.line, got.Value, ok, want)
		}
	}
}
