package pool

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gokd/commands/cmd"
	"gokd/commands/report"
)

// indexSession opens a dump with a cache folder of its own; run gives what a
// line prints, with the folder's name as FOLDER.
func indexSession(t *testing.T, dump, folder string) (s *cmd.Session, run func(string) string) {
	t.Helper()
	s, got := session(t, openShared(t, dump), report.Era19041)
	s.CacheDir = folder
	st, err := open(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := st.codec(); err != nil {
		t.Skipf("no files of indexes: %v", err)
	}
	return s, func(line string) string {
		got.Reset()
		_ = s.Execute(t.Context(), line) // what fails is shown
		return strings.ReplaceAll(strings.ReplaceAll(got.String(), folder, "FOLDER"), `FOLDER\`, "FOLDER/")
	}
}

// inFolder lists what a cache folder holds.
func inFolder(t *testing.T, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(folder, "pool-index"))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

const (
	win7    = "dumps/x64/win7.kernel.dmp.xz"
	noIndex = "Indexes of the pools:\n" +
		"  Nonpaged: none; a search makes it\n" +
		"  Paged:    none; a search makes it\n" +
		"  Session:  none; a search makes it\n"
	oneIndex = "Indexes of the pools:\n" +
		"  Nonpaged: 3899 blocks, 61 KB\n" +
		"  Paged:    none; a search makes it\n" +
		"  Session:  none; a search makes it\n"
	readIndex = "Indexes of the pools:\n" +
		"  Nonpaged: 3899 blocks, 61 KB, read from a file\n" +
		"  Paged:    none; a search makes it\n" +
		"  Session:  none; a search makes it\n"
)

// TestPoolindex: nothing is written until it is asked for; what was written
// serves the next session, and the answers are the same.
func TestPoolindex(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	_, run := indexSession(t, win7, folder)
	const off = "Files: off; .poolindex on keeps them in FOLDER/pool-index, 0 files of 0 KB are there\n"
	check := func(line, want string) {
		t.Helper()
		if d := gocmp.Diff(want, run(line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", line, d)
		}
	}
	check(".poolindex", noIndex+off)
	check(".poolindex save", "no index is held: a search, such as !poolfind, makes one\n")
	check(".poolindex load", "no index to load: FOLDER/pool-index has none of this dump for a pool that was not read yet\n")
	first := run("!poolfind Leak")
	check(".poolindex", oneIndex+off)
	if got := inFolder(t, folder); got != nil {
		t.Fatalf("written unasked: %v", got)
	}
	check(".poolindex save", oneIndex+"Written: nonpaged pool\nFiles: off; .poolindex on keeps them in FOLDER/pool-index, 1 file of 62 KB are there\n")
	check(".poolindex save", oneIndex+"Files: off; .poolindex on keeps them in FOLDER/pool-index, 1 file of 62 KB are there\n")

	_, run = indexSession(t, win7, folder)
	check(".poolindex ON", readIndex+"Read: nonpaged pool\nFiles: kept in FOLDER/pool-index, 1 file of 62 KB\n")
	check("!poolfind Leak", first)
	if got := run("!poolused -verify Leak"); !strings.Contains(got, "Verdict: agrees") {
		t.Errorf("%s", got)
	}
	if got := inFolder(t, folder); len(got) != 2 { // -verify read paged pool too
		t.Errorf("%v", got)
	}
	check(".poolindex off", strings.Replace(readIndex, "  Paged:    none; a search makes it\n",
		"  Paged:    1307 blocks, 21 KB; parts of the pool are not in the dump or damaged\n", 1)+
		"Files: off; .poolindex on keeps them in FOLDER/pool-index, 2 files of 82 KB are there\n")
	check(".poolindex clear", noIndex+"Forgotten; 2 files removed\n"+off)
	check("!poolfind Leak", first)
	if got := inFolder(t, folder); got != nil {
		t.Errorf("left: %v", got)
	}
}

// TestPoolindex_damaged: a file that is damaged, cut, or of another dump is set
// aside with a word, and the pool is read.
func TestPoolindex_damaged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		harm func(b []byte) []byte
	}{
		{"cut", func(b []byte) []byte { return b[:len(b)-7] }},
		{"empty", func([]byte) []byte { return nil }},
		{"a bit", func(b []byte) []byte { b[len(b)/2] ^= 4; return b }},
		{"noise", func(b []byte) []byte { return bytes.Repeat([]byte("noise"), 1000) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			_, run := indexSession(t, win7, folder)
			first := run("!poolfind Leak")
			run(".poolindex save")
			names := inFolder(t, folder)
			file := filepath.Join(folder, "pool-index", names[0])
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, c.harm(b), 0o600); err != nil {
				t.Fatal(err)
			}
			_, run = indexSession(t, win7, folder)
			got := run(".poolindex load")
			if want := "FOLDER/pool-index/" + names[0] + " can't be used and was set aside as " + names[0] + ".bad: index of nonpaged pool: "; !strings.HasPrefix(got, want) {
				t.Errorf("%s", got)
			}
			if got := inFolder(t, folder); !slices.Equal(got, []string{names[0] + ".bad"}) {
				t.Errorf("%v", got)
			}
			if d := gocmp.Diff(first, run("!poolfind Leak")); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if got := run(".poolindex clear"); !strings.Contains(got, "Forgotten; 1 file removed\n") {
				t.Errorf("%s", got)
			}
		})
	}
}

// TestPoolindex_other: the index of one dump is none of another, whatever its
// file is called.
func TestPoolindex_other(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	_, run := indexSession(t, win7, folder)
	run("!poolfind Leak; .poolindex save")
	from := filepath.Join(folder, "pool-index", inFolder(t, folder)[0])
	s, run := indexSession(t, "dumps/x64/win81.full.dmp.xz", folder)
	if got := run(".poolindex load"); !strings.HasPrefix(got, "no index to load: ") {
		t.Errorf("%s", got)
	}
	st, err := open(s)
	if err != nil {
		t.Fatal(err)
	}
	_, id, err := st.codec()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(from, st.indexFolder(s).name(id, 0)); err != nil {
		t.Fatal(err)
	}
	if got := run(".poolindex load"); !strings.Contains(got, "was set aside") || !strings.Contains(got, "the index does not fit the dump") {
		t.Errorf("%s", got)
	}
}

// TestPoolindex_folder: what can't be written is said, what is another's stays.
func TestPoolindex_folder(t *testing.T) {
	t.Parallel()
	_, run := indexSession(t, win7, t.TempDir())
	for _, c := range []struct{ line, want string }{
		{".poolindex maybe", ".poolindex: \"maybe\": want on, off, save, load or clear\nusage: .poolindex [what]\n"},
		{".poolindex off", noIndex + "Files: off; .poolindex on keeps them in FOLDER/pool-index, 0 files of 0 KB are there\n"},
	} {
		if d := gocmp.Diff(c.want, run(c.line)); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.line, d)
		}
	}
	s, got := session(t, openShared(t, win7), report.Era19041) // no folder
	for _, line := range []string{".poolindex on", ".poolindex load"} {
		got.Reset()
		_ = s.Execute(t.Context(), line)
		if want := "there is no cache folder: $GOKD_CACHE names one\n"; got.String() != want {
			t.Errorf("%s: %q", line, got)
		}
	}
	got.Reset()
	_ = s.Execute(t.Context(), ".poolindex; .poolindex clear")
	if want := noIndex + "Files: none can be kept, there is no cache folder\n" + noIndex + "Forgotten; 0 files removed\nFiles: none can be kept, there is no cache folder\n"; got.String() != want {
		t.Errorf("%s", got)
	}

	// A file stands where the folder should be.
	blocked := t.TempDir()
	if err := os.WriteFile(filepath.Join(blocked, "pool-index"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, run = indexSession(t, win7, blocked)
	run(".poolindex on")
	if got := run("!poolfind Leak -small"); !strings.Contains(got, "\nThe index could not be written: index of nonpaged pool: ") || !strings.Contains(got, "12 found") {
		t.Errorf("%s", got)
	}

	// Files of others, and those being written, stay.
	shared := t.TempDir()
	f := indexFiles{filepath.Join(shared, "pool-index")}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * newAge)
	for _, name := range []string{"notes.txt", "new-1.gokdpool", "new-2.gokdpool", "a-nonpaged.gokdpool"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(filepath.Join(f.dir, "new-2.gokdpool"), old, old); err != nil {
		t.Fatal(err)
	}
	f.makeRoom(0, "")
	if d := gocmp.Diff([]string{"a-nonpaged.gokdpool", "new-1.gokdpool", "notes.txt"}, inFolder(t, shared)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n, err := f.clear(); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if d := gocmp.Diff([]string{"new-1.gokdpool", "notes.txt"}, inFolder(t, shared)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestPoolindex_interrupted: a file that was not written to its end is none.
func TestPoolindex_interrupted(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s, run := indexSession(t, win7, folder)
	run("!poolfind Leak")
	st, err := open(s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if saved, err := st.saveIndexes(ctx, st.indexFolder(s)); err == nil || len(saved) != 0 {
		t.Errorf("%v, %v", saved, err)
	}
	if got := inFolder(t, folder); got != nil {
		t.Errorf("%v", got)
	}
}
