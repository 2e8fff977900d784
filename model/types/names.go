package types

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"strings"
)

// maxNames bounds the names of one table.
const maxNames = 1 << 21

// Names is a table of names and addresses. It implements Symbols by binary
// search in two orders: names as spelled, and addresses.
type Names struct {
	describe string
	names    []string // sorted, no doubles
	rvas     []uint32 // of names
	byRVA    []uint32 // indices into names, one per address, sorted by address
}

// NewNames makes a table of names and their addresses relative to the image's
// base; both slices have one length and belong to the table afterwards. Of a
// name given twice the first stays.
func NewNames(describe string, names []string, rvas []uint32) *Names {
	n := min(len(names), len(rvas), maxNames)
	t := &Names{describe: describe, names: names[:n], rvas: rvas[:n]}
	if !slices.IsSorted(t.names) {
		sort.Stable(byName{t})
	}
	t.dropDoubles()
	t.index()
	return t
}

// Memory gives about how many bytes the table keeps in memory.
func (t *Names) Memory() int {
	n := 16*cap(t.names) + 4*cap(t.rvas) + 4*cap(t.byRVA)
	for _, name := range t.names {
		n += len(name)
	}
	return n
}

type byName struct{ *Names }

func (s byName) Len() int           { return len(s.names) }
func (s byName) Less(i, j int) bool { return s.names[i] < s.names[j] }
func (s byName) Swap(i, j int) {
	s.names[i], s.names[j] = s.names[j], s.names[i]
	s.rvas[i], s.rvas[j] = s.rvas[j], s.rvas[i]
}

func (t *Names) dropDoubles() {
	kept := 0
	for i, name := range t.names {
		if i > 0 && name == t.names[kept-1] {
			continue
		}
		t.names[kept], t.rvas[kept] = name, t.rvas[i]
		kept++
	}
	t.names, t.rvas = t.names[:kept], t.rvas[:kept]
}

// index orders the names by address and keeps the best one of each.
func (t *Names) index() {
	all := make([]uint32, len(t.names))
	for i := range all {
		all[i] = uint32(i)
	}
	slices.SortFunc(all, func(a, b uint32) int {
		if d := cmp.Compare(t.rvas[a], t.rvas[b]); d != 0 {
			return d
		}
		return compareAliases(t.names[a], t.names[b])
	})
	all = slices.CompactFunc(all, func(a, b uint32) bool { return t.rvas[a] == t.rvas[b] })
	t.byRVA = slices.Clip(all)
}

// CompareAliases orders two names of one address, the one to show first, for
// other tables of names.
func CompareAliases(a, b string) int { return compareAliases(a, b) }

// compareAliases puts the name to show before the others at one address. Names
// that people write come first. Of a routine and its assembler entry the entry
// wins, Ky before Kx before Ki: kd prints nt!KySwitchKernelStackCallout (alias
// Kx...) and nt!KxStartSystemThread (alias Ki...). Then the shorter name, which
// gives memcpy for memcpy and memmove, as kd prints it.
func compareAliases(a, b string) int {
	return cmp.Or(
		cmp.Compare(aliasRank(a), aliasRank(b)),
		cmp.Compare(len(a), len(b)),
		strings.Compare(a, b),
	)
}

func aliasRank(name string) int {
	switch {
	case strings.HasPrefix(name, "Ky"):
		return 0
	case strings.HasPrefix(name, "Kx"):
		return 1
	case strings.HasPrefix(name, "??_C@"): // a string literal
		return 5
	case strings.HasPrefix(name, "?"), strings.HasPrefix(name, "__imp_"), strings.HasPrefix(name, "$$"):
		return 4
	case strings.HasPrefix(name, "_"):
		return 3
	}
	return 2
}

// Lookup implements Symbols.
func (t *Names) Lookup(name string) (Symbol, bool) {
	i, ok := slices.BinarySearch(t.names, name)
	if !ok {
		return Symbol{}, false
	}
	return Symbol{Name: t.names[i], RVA: t.rvas[i]}, true
}

// Nearest implements Symbols.
func (t *Names) Nearest(rva uint32) (sym Symbol, delta uint32, ok bool) {
	i, exact := slices.BinarySearchFunc(t.byRVA, rva, func(n, rva uint32) int {
		return cmp.Compare(t.rvas[n], rva)
	})
	if !exact {
		i--
	}
	if i < 0 {
		return Symbol{}, 0, false
	}
	n := t.byRVA[i]
	return Symbol{Name: t.names[n], RVA: t.rvas[n]}, rva - t.rvas[n], true
}

// Prefix implements Symbols. No more than max names; none for max <= 0.
func (t *Names) Prefix(prefix string, max int) []string {
	i, _ := slices.BinarySearch(t.names, prefix)
	end := i
	for end < len(t.names) && end-i < max && strings.HasPrefix(t.names[end], prefix) {
		end++
	}
	if end == i {
		return nil
	}
	return slices.Clone(t.names[i:end])
}

// All implements Symbols.
func (t *Names) All() iter.Seq[Symbol] {
	return func(yield func(Symbol) bool) {
		for i, name := range t.names {
			if !yield(Symbol{Name: name, RVA: t.rvas[i]}) {
				return
			}
		}
	}
}

// Len implements Symbols.
func (t *Names) Len() int { return len(t.names) }

// Describe implements Symbols.
func (t *Names) Describe() string { return t.describe }

var _ Symbols = (*Names)(nil)
