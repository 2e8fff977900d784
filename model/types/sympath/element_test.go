package sympath

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := write(t, "", dir, "file")
	ms := MicrosoftServer
	type element struct{ Kind, Stores, Expanded, Note string }
	for _, tt := range []struct {
		spec string
		want []element
	}{
		{"", nil},
		{" ; ;", nil},
		{` "` + dir + `" `, []element{{"folder", dir, dir, ""}}},
		{file, []element{{"folder", file, file, "not used: not a folder"}}},
		{"srv*", []element{{"server", "down " + ms, "cache*;SRV*" + ms, ""}}},
		{"SRV*" + ms, []element{{"server", "down " + ms, "SRV*" + ms, ""}}},
		{"srv**" + ms, []element{{"server", "down " + ms, "srv**" + ms, ""}}},
		{"srv*a*b*" + ms + "/", []element{{"server", "a b " + ms, "srv*a*b*" + ms + "/", ""}}},
		{"symsrv*SymSrv.dll*a*" + ms, []element{{"server", "a " + ms, "symsrv*SymSrv.dll*a*" + ms, ""}}},
		{"symsrv*symsrv.dll*", []element{{"server", "down " + ms, "cache*;SRV*" + ms, ""}}},
		{"symsrv*other.dll*a", []element{{"unusable", "", "symsrv*other.dll*a", "not used: the only symbol server library is symsrv.dll"}}},
		{"srv*" + dir, []element{{"server", dir, "srv*" + dir, ""}}},
		{"cache*", []element{{"cache", "down", "cache*", ""}}},
		{"cache*a;srv*", []element{{"cache", "a", "cache*a", ""}, {"server", "down " + ms, "cache*;SRV*" + ms, ""}}},
		{"cache*https://h/s", []element{{"unusable", "", "cache*https://h/s", "not used: cache* names a folder, srv* a server"}}},
		{"what*a", []element{{"unusable", "", "what*a", "not used: an element with * starts with srv*, symsrv*symsrv.dll* or cache*"}}},
		{"https://h/s", []element{{"server", "down https://h/s", "SRV*https://h/s", "taken as srv*https://h/s"}}},
		{"srv*a*http://msdl.microsoft.com/download/symbols", []element{{"server", "a " + ms, "srv*a*http://msdl.microsoft.com/download/symbols", ""}}},
		{"srv*a*http://127.0.0.1:80/s", []element{{"server", "a http://127.0.0.1:80/s", "srv*a*http://127.0.0.1:80/s", ""}}},
		{"srv*a*http://builds/s", []element{{"server", "a http://builds/s", "srv*a*http://builds/s", "http://builds/s is not encrypted: its files can be forged on the way"}}},
		{"srv*a*ftp://h/s", []element{{"unusable", "", "srv*a*ftp://h/s", "not used: ftp://h/s: a symbol server is asked over https or http"}}},
		{"srv*a*https://", []element{{"unusable", "", "srv*a*https://", "not used: https://: the address names no server"}}},
		{"srv*a*https://me:secret@h/s", []element{{"server", "a https://me:xxxxx@h/s", "srv*a*https://me:secret@h/s", ""}}},
	} {
		var got []element
		for _, e := range (parsing{fallback: "down"}).parse(tt.spec) {
			got = append(got, element{e.Kind.String(), strings.Join(e.Stores, " "), e.expanded, e.Note})
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.spec, diff)
		}
	}
}

// TestParse_noCache: without a folder of its own, a path can't use what needs one.
func TestParse_noCache(t *testing.T) {
	t.Parallel()
	p := New("srv*;cache*;srv**https://h/s;srv*a*https://h/s")
	want := []string{
		"srv*: not used: there is no default downstream store; name a folder: srv*FOLDER*https://msdl.microsoft.com/download/symbols",
		"cache*: not used: there is no default cache; name a folder",
		"srv**https://h/s: not used: there is no default downstream store; name a folder: srv*FOLDER*https://h/s",
	}
	if diff := cmp.Diff(want, p.Notes()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

// TestPath_set follows .sympath and .symfix (MicrosoftDocs, .symfix).
func TestPath_set(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := Open(dir, Options{CacheDir: filepath.Join(dir, "own")})
	p.Add("srv*")
	p.SetDefaultStore(`c:\myCache`)
	if want := dir + ";srv*"; p.Spec() != want {
		t.Errorf("path %s, want %s", p.Spec(), want)
	}
	if want := dir + `;cache*c:\myCache;SRV*https://msdl.microsoft.com/download/symbols`; p.Expanded() != want {
		t.Errorf("expanded %s, want %s", p.Expanded(), want)
	}
	p.SetDefaultStore("")
	if want := filepath.Join(dir, "own", "symbols"); p.DefaultStore() != want || !p.Remote() {
		t.Errorf("default store %s, want %s; remote %v", p.DefaultStore(), want, p.Remote())
	}
	p.Set("")
	if p.Remote() || p.Expanded() != "" || p.Elements() != nil {
		t.Errorf("an empty path: %+v", p.Elements())
	}
	if got := under(t, dir); got != nil {
		t.Errorf("files made without need: %q", got)
	}
}
