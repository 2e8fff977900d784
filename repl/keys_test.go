package repl

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// arrows knows the arrow keys and Delete.
func arrows(b []byte) bool {
	return len(b) == 3 && b[1] == '[' && b[2] >= 'A' && b[2] <= 'D' || string(b) == "\x1b[3~"
}

// all takes every key; what is left then waited in vain for more.
func all(k *keys) (list []string) {
	for _, final := range []bool{false, true} {
		for key := k.next(final); key != nil; key = k.next(final) {
			list = append(list, string(key))
		}
	}
	return list
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		chunks []string
		want   []string
	}{
		{"text", []string{"!locks"}, []string{"!locks"}},
		{"pasted lines", []string{"!locks\r!thread\rlm\r"}, []string{"!locks", "\r", "!thread", "\r", "lm", "\r"}},
		{"pasted lines of Windows", []string{"lm\r\n", ".time\r", "\nq\r\n"}, []string{"lm", "\r", ".time", "\r", "q", "\r"}},
		{"line feeds", []string{"a\n\nb"}, []string{"a", "\n", "\n", "b"}},
		{"two arrows", []string{"\x1b[A\x1b[A"}, []string{"\x1b[A", "\x1b[A"}},
		{"an arrow in pieces", []string{"\x1b", "[", "A"}, []string{"\x1b[A"}},
		{"a key with parameters", []string{"\x1b[3~x"}, []string{"\x1b[3~", "x"}},
		{"an unknown key", []string{"a\x1b[1;9Zb"}, []string{"a", "b"}},
		{"Alt", []string{"\x1bfa"}, []string{"a"}},
		{"Escape", []string{"\x1b"}, []string{"\x1b"}},
		{"Escape twice", []string{"\x1b\x1b[A"}, []string{"\x1b", "\x1b[A"}},
		{"control keys", []string{"ab\x03\x04\x7f"}, []string{"ab", "\x03", "\x04", "\x7f"}},
		{"a character in pieces", []string{"a\xe6", "\x97\xa5b"}, []string{"a", "日b"}},
		{"a broken character", []string{"a\xe6"}, []string{"a"}},
		{"bytes that are no text", []string{"\xff\xfea"}, []string{"\xff\xfea"}},
		{"NUL", []string{"a\x00b"}, []string{"a", "b"}},
		{"an endless sequence", []string{"\x1b[" + strings.Repeat("1;", 20) + "x"}, []string{strings.Repeat("1;", 13) + "x"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			k := &keys{known: arrows}
			var got []string
			for _, c := range tt.chunks {
				k.add([]byte(c))
				for key := k.next(false); key != nil; key = k.next(false) {
					got = append(got, string(key))
				}
			}
			got = append(got, all(k)...)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func TestKeys_alone(t *testing.T) {
	t.Parallel()
	k := &keys{known: arrows}
	for _, tt := range []struct {
		chunk string
		alone bool
	}{{"\r", true}, {"lm\r", false}, {"\r\r", false}} {
		k.pending = nil
		if k.add([]byte(tt.chunk)); k.alone != tt.alone {
			t.Errorf("%q: alone is %v", tt.chunk, k.alone)
		}
	}
}

// FuzzKeys: text is never lost or changed, and every key is whole, however the
// bytes arrive.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("!locks\r\n\x1b[A日"), 3)
	f.Add([]byte("\x1b\x1b[[A\x1bO"), 1)
	f.Add([]byte("\xe6\x97\x1b[999999999999999999"), 2)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = max(1, min(size, 64))
		k := &keys{known: arrows}
		var out []byte
		for rest := data; len(rest) > 0; {
			n := min(size, len(rest))
			k.add(rest[:n])
			rest = rest[n:]
			for key := k.next(false); key != nil; key = k.next(false) {
				if len(key) == 0 {
					t.Fatal("an empty key")
				}
				out = append(out, key...)
			}
		}
		for _, key := range all(k) {
			out = append(out, key...)
		}
		if len(k.pending) > 0 {
			t.Fatalf("%q is left", k.pending)
		}
		if !bytes.ContainsAny(data, "\x00\x1b\n") && strings.ToValidUTF8(string(data), "") == string(data) && !bytes.Equal(out, data) {
			t.Fatalf("%q became %q", data, out)
		}
	})
}
