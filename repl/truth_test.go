package repl_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/repl"
)

// record is one JSON line.
type record map[string]any

// answers runs commands and gives the records of each.
func answers(t testing.TB, dump, symbols string, lines ...string) [][]record {
	t.Helper()
	script := filepath.Join(t.TempDir(), "batch.kd")
	if err := os.WriteFile(script, []byte(strings.Join(lines, "\n")+"\nq\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, diag bytes.Buffer
	code := repl.Main(context.Background(), repl.Program{
		Args:  []string{"-z", dump, "-q", "-json", "-keepgoing", "-y", symbols, "-cf", script},
		Stdin: strings.NewReader(""), Stdout: &out, Stderr: &diag,
		Getenv: func(string) string { return "" }, Location: time.UTC,
	})
	if code > 1 {
		t.Fatalf("exit code %d: %s", code, diag.String())
	}
	var got [][]record
	var batch []record
	dec := json.NewDecoder(&out)
	for {
		var r record
		err := dec.Decode(&r)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if r["record"] == "end" {
			got, batch = append(got, batch), nil
			continue
		}
		batch = append(batch, r)
	}
	if len(got) != len(lines) {
		t.Fatalf("%d answers to %d commands", len(got), len(lines))
	}
	return got
}

// number reads "0x..." text or a JSON number; nil for null.
func number(v any) any {
	switch v := v.(type) {
	case string:
		n, err := strconv.ParseUint(strings.TrimPrefix(v, "0x"), 16, 64)
		if err != nil {
			return v
		}
		return n
	case float64:
		return uint64(v)
	}
	return nil
}

// keyed indexes the records of a kind by an address field.
func keyed(batch []record, kind, key string) map[uint64]record {
	m := map[uint64]record{}
	for _, r := range batch {
		if at, ok := number(r[key]).(uint64); ok && r["record"] == kind {
			m[at] = r
		}
	}
	return m
}

// tally compares fields and reports the first few that differ.
type tally struct {
	t      *testing.T
	fields int
	bad    int
}

func (y *tally) eq(where, field string, want, got any) {
	y.fields++
	if fmt.Sprint(want) == fmt.Sprint(got) {
		return
	}
	if y.bad++; y.bad <= 5 {
		y.t.Errorf("%s %s: want %v, got %v", where, field, want, got)
	}
}

// nums compares two values as numbers.
func (y *tally) num(where, field string, want, got any) {
	y.eq(where, field, number(want), number(got))
}

func list(v any) []any { l, _ := v.([]any); return l }

func object(v any) record {
	switch v := v.(type) {
	case map[string]any:
		return v
	case record:
		return v
	}
	return nil
}

func TestTruth(t *testing.T) {
	for _, packed := range shared.Glob(t, "dumps/x64", "*.dmp.xz") {
		name, _, _ := strings.Cut(filepath.Base(packed), ".")
		t.Run(strings.TrimSuffix(filepath.Base(packed), ".dmp.xz"), func(t *testing.T) {
			t.Parallel()
			var truth record
			shared.JSON(t, shared.Path(t, "dumps/x64", name+".truth.json.xz"), &truth)
			dump := shared.Dump(t, packed)
			family := strings.TrimSuffix(name, "-encoded")
			symbols := shared.Path(t, "isf/windows") + ";" + shared.Path(t, "dumps/symbols", family)
			for _, path := range []string{"", symbols} {
				c := &checker{symbols: path, truth: truth}
				c.ask(t, dump)
				word := "without symbols"
				if path != "" {
					word = "with symbols"
				}
				t.Run(word, func(t *testing.T) { c.all(t, family) })
			}
		})
	}
}

type checker struct {
	symbols string
	truth   record
	threads []record   // of the truth
	blocks  []poolfind // what to look for in the pool
	answers map[string][]record
}

// threadLine asks for a thread of the truth.
func threadLine(x record) string { return fmt.Sprintf("!thread %v e", x["address"]) }

// ask runs everything that is compared in one session: opening the dump with
// its symbols takes longer than most commands.
func (c *checker) ask(t *testing.T, dump string) {
	t.Helper()
	lines := []string{"lm", "!process 0 0", "!locks -d", "!poolused 1"}
	for _, v := range list(c.truth["threads"]) {
		c.threads = append(c.threads, object(v))
		lines = append(lines, threadLine(object(v)))
	}
	c.blocks = c.selectedBlocks()
	for _, b := range c.blocks {
		lines = append(lines, b.line)
	}
	c.answers = map[string][]record{}
	for i, batch := range answers(t, dump, c.symbols, lines...) {
		c.answers[lines[i]] = batch
	}
}

func (c *checker) all(t *testing.T, family string) {
	areas := []struct {
		name string
		run  func(*tally)
	}{{"modules", c.modules}, {"processes", c.processes}, {"threads", c.threadFields}, {"stacks", c.stacks}, {"resources", c.resources}, {"pool tags", c.poolTags}, {"pool blocks", c.poolBlocks}}
	for _, a := range areas {
		// No one knows the addresses of the seed kernel without its table, and
		// small blocks of segment-heap pools are not walked.
		if c.symbols == "" && family == "win7seed" && strings.HasPrefix(a.name, "pool") || a.name == "pool blocks" && family == "w10_19041" {
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			y := &tally{t: t}
			a.run(y)
			if y.fields == 0 {
				t.Error("nothing was compared")
			}
			if y.bad > 0 {
				t.Errorf("%d of %d fields differ", y.bad, y.fields)
			}
		})
	}
}

func (c *checker) modules(y *tally) {
	got := keyed(c.answers["lm"], "module", "start")
	y.eq("modules", "count", len(list(c.truth["modules"])), len(got))
	for _, v := range list(c.truth["modules"]) {
		m := object(v)
		at, _ := number(m["base"]).(uint64)
		r := got[at]
		w := fmt.Sprint("module ", m["image"])
		y.num(w, "end", m["end"], r["end"])
		y.num(w, "timestamp", m["timestamp"], r["timestamp"])
		if m["guid"] != nil {
			pdb := object(r["pdb"])
			y.eq(w, "guid", m["guid"], strings.ToUpper(strings.ReplaceAll(fmt.Sprint(pdb["guid"]), "-", "")))
			y.num(w, "age", m["age"], pdb["age"])
		}
	}
}

func (c *checker) processes(y *tally) {
	got := keyed(c.answers["!process 0 0"], "process", "address")
	y.eq("processes", "count", len(list(c.truth["processes"])), len(got))
	for _, v := range list(c.truth["processes"]) {
		p := object(v)
		at, _ := number(p["address"]).(uint64)
		r := got[at]
		w := fmt.Sprint("process ", p["address"])
		y.num(w, "pid", p["pid"], r["pid"])
		y.num(w, "parent_pid", p["ppid"], r["parent_pid"])
		y.eq(w, "image", p["image"], r["image"])
		y.num(w, "peb", p["peb"], r["peb"])
		y.num(w, "dir_base", p["dtb"], r["dir_base"])
		y.num(w, "object_table", p["object_table"], r["object_table"])
		y.num(w, "handle_count", p["handle_count"], r["handle_count"])
	}
}

// eachThread pairs the threads of the truth with the answers.
func (c *checker) eachThread(check func(where string, want, got record)) {
	for _, x := range c.threads {
		at, _ := number(x["address"]).(uint64)
		check(fmt.Sprint("thread ", x["address"]), x, keyed(c.answers[threadLine(x)], "thread", "address")[at])
	}
}

func (c *checker) threadFields(y *tally) {
	c.eachThread(func(w string, x, r record) {
		cid := object(r["cid"])
		y.num(w, "pid", x["pid"], cid["pid"])
		y.num(w, "tid", x["tid"], cid["tid"])
		y.eq(w, "state", x["state"], r["state"])
		y.eq(w, "image", x["owning_image"], r["image"])
		for want, got := range map[string]string{
			"teb": "teb", "win32thread": "win32_thread", "owning_process": "process", "attached_process": "attached_process",
			"priority": "priority", "base_priority": "base_priority", "context_switches": "context_switches",
			"wait_start_tick": "wait_start_ticks", "ticks": "wait_ticks",
			"user_time_ms_truncated": "user_time_ms", "kernel_time_ms_truncated": "kernel_time_ms",
			"unusual_boost": "unusual_boost", "foreground_boost": "foreground_boost",
			"io_priority": "io_priority", "page_priority": "page_priority", "device_map": "device_map",
		} {
			y.num(w, got, x[want], r[got])
		}
		if x["pid"] != 0.0 {
			y.num(w, "win32_start_address", x["start_address"], r["win32_start_address"])
		}
		stack := object(r["stack"])
		for _, f := range []string{"init", "current", "base", "limit"} {
			y.num(w, "stack."+f, x["stack_"+f], stack[f])
		}
		if x["state"] == "Waiting" {
			y.eq(w, "wait_reason", x["wait_reason"], r["wait_reason"])
			y.eq(w, "wait_mode", x["wait_mode"], r["wait_mode"])
			y.eq(w, "alertable", x["alertable"], r["alertable"])
			y.eq(w, "wait_objects", pairs(list(x["wait_objects"]), "object", "type"), pairs(list(r["wait_objects"]), "address", "type"))
		}
		y.eq(w, "irps", column(list(x["irps"]), "irp"), column(list(r["irps"]), "address"))
	})
}

func pairs(l []any, a, b string) []string {
	var out []string
	for _, v := range l {
		out = append(out, fmt.Sprint(number(object(v)[a]), object(v)[b]))
	}
	return out
}

func column(l []any, key string) []any {
	var out []any
	for _, v := range l {
		out = append(out, number(object(v)[key]))
	}
	return out
}

// alias makes one name of those that share an address in the kernel.
var alias = regexp.MustCompile(`^K[ixy]`)

func site(f record) string {
	off, _ := number(f["offset"]).(uint64)
	name, _ := f["function"].(string)
	return fmt.Sprintf("%v!%s+%#x", f["module"], alias.ReplaceAllString(name, "K?"), off)
}

func (c *checker) stacks(y *tally) {
	c.eachThread(func(w string, x, r record) {
		want := list(x["stack"])
		if len(want) == 0 || x["pid"] == 0.0 {
			return
		}
		var got []record
		for _, f := range list(r["frames"]) {
			if sp, _ := number(object(f)["child_sp"]).(uint64); sp >= 1<<63 {
				got = append(got, object(f))
			}
		}
		y.eq(w, "frames", len(want), len(got))
		for i := range min(len(want), len(got)) {
			a, b := object(want[i]), got[i]
			f := fmt.Sprintf("%s frame %d", w, i)
			y.num(f, "child_sp", a["child_sp"], b["child_sp"])
			y.num(f, "return_address", a["ret_addr"], b["return_address"])
			if c.symbols != "" && a["function"] != nil {
				y.eq(f, "site", site(a), site(b))
			}
		}
	})
}

func sortedNumbers(l []any) []uint64 {
	var out []uint64
	for _, v := range l {
		n, _ := number(v).(uint64)
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func (c *checker) resources(y *tally) {
	got := keyed(c.answers["!locks -d"], "resource", "address")
	y.eq("resources", "count", len(list(c.truth["resources"])), len(got))
	for _, v := range list(c.truth["resources"]) {
		x := object(v)
		at, _ := number(x["address"]).(uint64)
		r := got[at]
		w := fmt.Sprint("resource ", x["address"])
		state := x["state"]
		if state == "free" {
			state = "none"
		}
		y.eq(w, "ownership", state, r["ownership"])
		y.num(w, "contention_count", x["contention"], r["contention_count"])
		y.num(w, "shared_waiters", x["number_shared_waiters"], r["shared_waiters"])
		y.num(w, "exclusive_waiters", x["number_exclusive_waiters"], r["exclusive_waiters"])
		y.eq(w, "owners", sortedPairs(list(x["owners"])), sortedPairs(list(r["owners"])))
		y.eq(w, "waiting_shared", sortedNumbers(list(x["shared_waiters"])), sortedNumbers(list(r["waiting_shared"])))
		y.eq(w, "waiting_exclusive", sortedNumbers(list(x["exclusive_waiters"])), sortedNumbers(list(r["waiting_exclusive"])))
	}
}

func sortedPairs(l []any) []string {
	out := pairs(l, "raw", "count")
	slices.Sort(out)
	return out
}

// tagText spells four tag bytes as JSON output does.
func tagText(b []byte) string {
	b = slices.Clone(b)
	b[3] &= 0x7f
	var s strings.Builder
	for _, c := range b {
		if c >= 32 && c < 127 && c != '\\' {
			s.WriteByte(c)
		} else {
			fmt.Fprintf(&s, `\x%02x`, c)
		}
	}
	return s.String()
}

func (c *checker) poolTags(y *tally) {
	used := map[any]record{}
	for _, r := range c.answers["!poolused 1"] {
		if r["record"] == "pool_tag" {
			used[r["tag"]] = r
		}
	}
	for _, v := range object(object(c.truth["pool"])["tracker_totals"]) {
		x := object(v)
		b, err := hex.DecodeString(fmt.Sprint(x["tag_hex"]))
		if err != nil || len(b) != 4 {
			y.t.Fatalf("tag %v", x["tag_hex"])
		}
		r := used[tagText(b)]
		for want, got := range map[string]string{
			"nonpaged_allocs": "nonpaged_allocs", "nonpaged_frees": "nonpaged_frees", "nonpaged_bytes": "nonpaged_used",
			"paged_allocs": "paged_allocs", "paged_frees": "paged_frees", "paged_bytes": "paged_used",
		} {
			y.eq("tag "+tagText(b), got, x[want], r[got])
		}
	}
}

// escaped spells a tag of the truth without the protection bit.
var escaped = regexp.MustCompile(`\\x([0-9a-f]{2})`)

func bareTag(name string) string {
	b := escaped.ReplaceAllStringFunc(name, func(s string) string {
		n, _ := strconv.ParseUint(s[2:], 16, 8)
		return string([]byte{byte(n)})
	})
	raw := []byte(b)
	if len(raw) == 4 {
		raw[3] &= 0x7f
	}
	return string(raw)
}

type block struct{ at, size uint64 }

// poolfind is a search and what it must find.
type poolfind struct {
	line string
	want []block
}

// selectedBlocks gives a search for each tag of the truth whose blocks are listed.
func (c *checker) selectedBlocks() (all []poolfind) {
	pool := object(c.truth["pool"])
	for name, v := range object(pool["blocks_of_selected_tags"]) {
		for _, kind := range []string{"nonpaged", "paged"} {
			if want := c.blocksOf(pool, list(v), bareTag(name), kind); len(want) > 0 {
				all = append(all, poolfind{fmt.Sprintf(`!poolfind -tag "%s" -%s`, bareTag(name), kind), want})
			}
		}
	}
	return all
}

func (c *checker) poolBlocks(y *tally) {
	for _, b := range c.blocks {
		var got []block
		for _, r := range c.answers[b.line] {
			if r["record"] == "pool_block" && r["state"] == "allocated" {
				at, _ := number(r["address"]).(uint64)
				size, _ := number(r["size"]).(uint64)
				got = append(got, block{at, size})
			}
		}
		byAddress := func(a, b block) int { return cmp.Compare(a.at, b.at) }
		slices.SortFunc(got, byAddress)
		slices.SortFunc(b.want, byAddress)
		y.eq(b.line, "count", len(b.want), len(got))
		for n := range min(len(b.want), len(got)) {
			want := b.want[n]
			if want.size == 0 {
				want.size = got[n].size // the truth of large blocks is in bytes asked for
			}
			y.eq(b.line, fmt.Sprint("block ", n), want, got[n])
		}
	}
}

// blocksOf joins the small blocks of a tag with its large ones.
func (c *checker) blocksOf(pool record, small []any, tag, kind string) []block {
	var want []block
	for _, v := range small {
		b := object(v)
		if b["pool"] == kind {
			at, _ := number(b["data"]).(uint64)
			size, _ := number(b["size"]).(uint64)
			want = append(want, block{at, size})
		}
	}
	for _, v := range list(pool["big_pages"]) {
		b := object(v)
		if b["pool"] == kind && b["free"] == false && bareTag(fmt.Sprint(b["tag"])) == tag {
			at, _ := number(b["va"]).(uint64)
			want = append(want, block{at, 0})
		}
	}
	return want
}
