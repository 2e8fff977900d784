package repl_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/repl"
)

// damaged is a dump with one thing wrong, the machine's truth before that, and
// what the program says of it.
type damaged struct {
	t             *testing.T
	dump, symbols string
	truth         record
	raw           []byte // the file
	batch         []string
	answers       [][]record // to the batch
	banner        record
	text          string // banner and answers as text
}

// damages says what must be told of each dump of the damaged folder.
var damages = map[string]func(*damaged){
	"bad-loop-processes": (*damaged).processLoop,
	"bad-loop-resources": (*damaged).resourceLoop,
	"bad-lying-bitmap":   (*damaged).lyingBitmap,
	"bad-lying-runs":     (*damaged).lyingRuns,
	"bad-pool-corrupt":   (*damaged).poolCorrupt,
	"bad-truncated":      (*damaged).truncated,
	"evil-names":         (*damaged).evilNames,
}

func TestHostile_damaged(t *testing.T) {
	for _, packed := range shared.Glob(t, "dumps/damaged", "*.dmp.xz") {
		name, _, _ := strings.Cut(filepath.Base(packed), ".")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check, ok := damages[name]
			if !ok {
				t.Fatalf("nothing says what the program must tell of %s", name)
			}
			d := &damaged{t: t, dump: shared.Dump(t, packed), raw: shared.Unpacked(t, packed)}
			shared.JSON(t, shared.Path(t, "dumps/damaged", name+".truth.json.xz"), &d.truth)
			if strings.Contains(object(list(d.truth["modules"])[0])["guid"].(string), "5EEDDEAD") {
				d.symbols = shared.Path(t, "dumps/symbols/win7seed")
			}
			d.run()
			check(d)
		})
	}
}

// hostileBatch is every command that walks the target, with odd addresses.
func hostileBatch(truth record) []string {
	batch := []string{
		"vertarget", ".bugcheck", ".time", "lm", "lmv", "!process 0 0", "!process 0 7", "!locks", "!locks -d", "!locks -v",
		"!poolused", "!poolused 1", "!poolused 2", "!poolused 4", "!poolfind *", "!poolfind * 1",
		"!poolfind Leak 0", "!poolfind Leak 1", "!poolfind * 4", "!thread", "!thread -p",
	}
	odd := []string{
		"0", "1", "7", "ffffffffffffffff", "fffff78000000000", "fffffffffffffff8", "8000000000000000",
		"7fffffffffff", "800000000000", "ffff7fffffffffff", "ffff800000000000", "deadbeefdeadbeef",
	}
	system := object(truth["system"])
	for _, v := range append(list(system["current_threads"]), list(system["prcbs"])...) {
		odd = append(odd, fmt.Sprint(v))
	}
	odd = append(odd, fmt.Sprint(system["PsActiveProcessHead"]), fmt.Sprint(system["ExpSystemResourcesList"]))
	for i, v := range list(truth["threads"]) {
		if i%16 == 0 { // values on the stacks of some threads
			at, _ := number(object(v)["stack_current"]).(uint64)
			odd = append(odd, fmt.Sprintf("%x", at), fmt.Sprintf("%x", at+0x123))
		}
	}
	for _, at := range odd {
		batch = append(batch, "!thread "+at, "!process "+at+" 7", "!locks "+at, "!pool "+at, "!pool "+at+" 2")
	}
	for i := range 4 {
		batch = append(batch, fmt.Sprintf("~%ds", i), "!thread", "!process")
	}
	return batch
}

// run asks everything as JSON and as text and checks what holds for any dump.
func (d *damaged) run() {
	d.t.Helper()
	d.batch = hostileBatch(d.truth)
	script := writeScript(d.t, d.batch)
	out := d.program(script, "-json")
	for line := range strings.Lines(out) {
		if bad, ok := firstControl(line, "\n", true); ok {
			d.t.Fatalf("a raw %q in the JSON line %.200q", bad, line)
		}
	}
	var batch []record
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var r record
		if err := dec.Decode(&r); err != nil {
			d.t.Fatal(err)
		}
		switch r["record"] {
		case "target":
			if d.banner == nil {
				d.banner = r
			}
		case "end":
			d.answers, batch = append(d.answers, append(batch, r)), nil
			continue
		}
		batch = append(batch, r)
	}
	if len(d.answers) != len(d.batch) {
		d.t.Fatalf("%d answers to %d commands", len(d.answers), len(d.batch))
	}
	d.text = d.program(script)
	if bad, ok := firstControl(d.text, "\n\t", false); ok {
		d.t.Errorf("a raw %q in the text", bad)
	}
}

// program runs the batch and gives all that is printed.
func (d *damaged) program(script string, args ...string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), endless)
	defer cancel()
	var out, diag bytes.Buffer
	code := repl.Main(ctx, repl.Program{
		Args:  append([]string{"-z", d.dump, "-y", d.symbols, "-keepgoing", "-cf", script}, args...),
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &diag,
		Getenv: func(string) string { return "" }, Location: time.UTC,
	})
	if ctx.Err() != nil {
		d.t.Fatalf("the batch did not end within %v", endless)
	}
	// Among the odd addresses are some that no command can show.
	if code != repl.ExitFailed {
		d.t.Errorf("exit code %d, want %d: %s", code, repl.ExitFailed, diag.String())
	}
	for _, s := range []string{out.String(), diag.String()} {
		if i := strings.Index(s, "internal error"); i >= 0 {
			d.t.Errorf("a bug shows: %s", s[max(0, i-100):min(len(s), i+3000)])
		}
		if !utf8.ValidString(s) {
			d.t.Error("output that is no UTF-8")
		}
	}
	return out.String()
}

// firstControl finds a C0, DEL or C1 character that is none of those allowed,
// and, in text, one that hides or reorders others.
func firstControl(s, allowed string, asJSON bool) (rune, bool) {
	for _, r := range s {
		switch {
		case strings.ContainsRune(allowed, r):
		case r < 0x20 || r >= 0x7f && r <= 0x9f:
			return r, true
		case !asJSON && (r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff):
			return r, true
		}
	}
	return 0, false
}

// answer gives the records of a command of the batch, and its end.
func (d *damaged) answer(command string) (all []record, end record) {
	d.t.Helper()
	i := slices.Index(d.batch, command)
	if i < 0 {
		d.t.Fatalf("%s is not in the batch", command)
	}
	a := d.answers[i]
	return a[:len(a)-1], a[len(a)-1]
}

// kind gives the records of a kind.
func kind(all []record, name string) (out []record) {
	for _, r := range all {
		if r["record"] == name {
			out = append(out, r)
		}
	}
	return out
}

// addresses gives the values of a field, each once, sorted.
func addresses[T any](all []T, field string, of func(T) record) []uint64 {
	var out []uint64
	for _, v := range all {
		if at, ok := number(of(v)[field]).(uint64); ok {
			out = append(out, at)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// same compares a list of the truth with the records of a command by address.
func (d *damaged) same(truth, command, name string) {
	d.t.Helper()
	all, _ := d.answer(command)
	want := addresses(list(d.truth[truth]), "address", func(v any) record { return object(v) })
	got := addresses(kind(all, name), "address", func(r record) record { return r })
	if len(want) == 0 || !slices.Equal(want, got) {
		d.t.Errorf("%s: %d of %s, want the %d of the truth", command, len(got), truth, len(want))
	}
}

// whole checks that lists are complete and that nothing is said to be missing.
func (d *damaged) whole() {
	d.t.Helper()
	d.same("processes", "!process 0 0", "process")
	d.same("resources", "!locks -d", "resource")
	all, _ := d.answer("lm")
	want := addresses(list(d.truth["modules"]), "base", func(v any) record { return object(v) })
	if got := addresses(kind(all, "module"), "start", func(r record) record { return r }); !slices.Equal(want, got) {
		d.t.Errorf("lm: %d modules, want %d", len(got), len(want))
	}
}

// says requires a text in the output.
func (d *damaged) says(parts ...string) {
	d.t.Helper()
	for _, p := range parts {
		if !strings.Contains(d.text, p) {
			d.t.Errorf("the text does not say %q", p)
		}
	}
}

// broken requires that a command tells of a broken list, in text, in its
// summary record, and as a skipped item in its end record.
func (d *damaged) broken(command, summary, text string) {
	d.t.Helper()
	d.says(text)
	all, end := d.answer(command)
	sums := kind(all, summary)
	if len(sums) != 1 || !strings.Contains(fmt.Sprint(sums[0]["broken"]), text) {
		d.t.Errorf("%s: summaries %v, want one that says %q", command, sums, text)
	}
	if end["ok"] != true || end["skipped"] != 1.0 {
		d.t.Errorf("%s: end %v, want it ok with one item skipped", command, end)
	}
}

func (d *damaged) damage() record { return object(list(d.truth["damage"])[0]) }

// processLoop: one process's link forward leads back into the list.
func (d *damaged) processLoop() {
	x := d.damage()
	d.whole()
	d.broken("!process 0 0", "process_summary", fmt.Sprintf("_EPROCESS list broken at %v: ", x["to"]))
	d.says(fmt.Sprintf("%v shown", x["distinct_processes"]))
	// All threads but the idle ones belong to some process of the list.
	all, _ := d.answer("!process 0 7")
	want := 0
	for _, v := range list(d.truth["threads"]) {
		if object(v)["pid"] != 0.0 {
			want++
		}
	}
	if got := addresses(kind(all, "thread"), "address", func(r record) record { return r }); len(got) != want {
		d.t.Errorf("!process 0 7: %d threads, want %d", len(got), want)
	}
}

// resourceLoop: the same of a resource.
func (d *damaged) resourceLoop() {
	x := d.damage()
	d.whole()
	d.broken("!locks -d", "lock_summary", fmt.Sprintf("_ERESOURCE list broken at %v: ", x["to"]))
	d.says(fmt.Sprintf("%v shown", x["distinct_resources"]))
	all, _ := d.answer("!locks -d")
	if sum := kind(all, "lock_summary")[0]; sum["total"] != x["distinct_resources"] {
		d.t.Errorf("!locks -d: %v resources, want %v", sum["total"], x["distinct_resources"])
	}
}

// warned requires a warning in the banner, in text and in the target record.
func (d *damaged) warned(parts ...string) {
	d.t.Helper()
	for _, w := range list(d.banner["warnings"]) {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(fmt.Sprint(w), p)
		}
		if all {
			d.says("Warning: " + fmt.Sprint(w))
			return
		}
	}
	d.t.Errorf("no warning says %q: %v", parts, d.banner["warnings"])
}

func (d *damaged) lyingBitmap() {
	d.whole()
	d.warned("bitmap size at file offset 0x2030", "0xfffffffffffffff0 pages")
}

func (d *damaged) lyingRuns() {
	d.whole()
	d.warned("run count at file offset 0x88", "2147483647")
}

// truncated: the warning counts the pages that are not there, and each list
// that misses some says so.
func (d *damaged) truncated() {
	expected := binary.LittleEndian.Uint64(d.raw[0x90:]) // NumberOfPages
	missing := expected - uint64(len(d.raw)-headerBytes)/0x1000
	d.warned(fmt.Sprintf("%d of %d pages are missing", missing, expected), fmt.Sprintf("cut short at %#x", len(d.raw)))
	all, _ := d.answer("!process 0 0")
	processes := len(kind(all, "process"))
	if processes == 0 || processes >= len(list(d.truth["processes"])) {
		d.t.Errorf("!process 0 0: %d processes, want some of %d", processes, len(list(d.truth["processes"])))
	}
	d.broken("!process 0 0", "process_summary", "page not in dump")
	d.says(fmt.Sprintf("page not in dump; %d shown", processes))
	if all, end := d.answer("lm"); len(kind(all, "module")) == 0 || len(kind(all, "module_gap")) != 1 || end["skipped"] != 1.0 {
		d.t.Errorf("lm: end %v, want some modules and the gap", end)
	}
	for _, command := range []string{"!poolfind *", "!poolused"} {
		if all, end := d.answer(command); end["ok"] == true && end["skipped"] == 0.0 && len(all) > 0 {
			d.t.Errorf("%s on half a machine claims to be whole: %v", command, all[len(all)-1])
		}
	}
}

// poolCorrupt: of a page whose headers break, the blocks before the break are
// found and none behind it; all other pages are whole.
func (d *damaged) poolCorrupt() {
	d.whole()
	all, end := d.answer("!poolfind *")
	where := list(d.damage()["where"])
	if end["skipped"] != float64(len(where)) {
		d.t.Errorf("!poolfind *: end %v, want %d pages counted as skipped", end, len(where))
	}
	breaks := map[uint64]uint64{} // by page
	for _, v := range where {
		page, _ := number(object(v)["page"]).(uint64)
		at, _ := number(object(v)["block"]).(uint64)
		breaks[page] = at
		d.says(fmt.Sprintf("Damaged: _POOL_HEADER at %#x: ", at), fmt.Sprintf("%v blocks before it in the page", object(v)["blocks_before_it_in_page"]))
	}
	var got []uint64
	for _, r := range kind(all, "pool_block") {
		if at, _ := number(r["header"]).(uint64); r["large"] != true && r["state"] == "allocated" {
			got = append(got, at)
		}
	}
	var want []uint64
	var blocks [][]any
	shared.JSON(d.t, shared.Path(d.t, "dumps/damaged/bad-pool-corrupt.blocks.json.xz"), &blocks)
	for _, b := range blocks {
		at, _ := number(b[0]).(uint64)
		if stop, ok := breaks[at&^0xfff]; b[3] == "a" && b[4] == "n" && (!ok || at < stop) {
			want = append(want, at)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		d.t.Errorf("!poolfind *: %d small blocks in use, want %d", len(got), len(want))
	}
}

// evilNames: names reach a terminal escaped; JSON carries them as they are.
func (d *damaged) evilNames() {
	d.whole()
	all, _ := d.answer("!process 0 0")
	for _, v := range list(d.truth["processes"]) {
		p := object(v)
		i := slices.IndexFunc(kind(all, "process"), func(r record) bool { return r["address"] == p["address"] })
		if i < 0 || kind(all, "process")[i]["image"] != p["image"] {
			d.t.Errorf("process %v: not with the image %q", p["address"], p["image"])
		}
		d.says("Image: " + escapedControls(fmt.Sprint(p["image"])))
	}
	all, _ = d.answer("lm")
	byBase := keyed(all, "module", "start")
	for _, v := range list(d.truth["modules"]) {
		m := object(v)
		at, _ := number(m["base"]).(uint64)
		if got := byBase[at]; got["image"] != m["image"] || object(got["pdb"])["name"] != m["pdb"] {
			d.t.Errorf("module %v: image %q, PDB %q; want %q, %q", m["base"], got["image"], object(got["pdb"])["name"], m["image"], m["pdb"])
		}
		d.says("Image name: " + escapedControls(fmt.Sprint(m["image"])))
	}
	// What a symbol server is asked for is a name, never a path out of its folder.
	r := run(d.t, "", "symbols", d.dump)
	for line := range strings.Lines(r.Out) {
		path := line[strings.LastIndex(strings.TrimRight(line, "\n"), " ")+1:]
		if strings.Contains(path, "..") || strings.HasPrefix(path, "/") || strings.Contains(path, "\x1b") {
			d.t.Errorf("gokd symbols names the path %q", path)
		}
	}
	if r.Code != repl.ExitFine || !strings.Contains(r.Out, "evil.pdb/") || !strings.Contains(r.Out, "passwd/") {
		d.t.Errorf("gokd symbols: exit code %d, %s", r.Code, r.Out)
	}
}

// escapedControls spells control characters as text output does.
func escapedControls(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
