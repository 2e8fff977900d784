package repl

import "strings"

// maxDiff limits the lines that are compared for the smallest difference;
// longer answers are compared line by line.
const maxDiff = 2000

// sameText reports whether two answers say the same: lines may differ in the
// width of their blanks, which copying through web pages loses, and in empty
// lines.
func sameText(a, b []string) bool {
	a, b = condensed(a), condensed(b)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func condensed(lines []string) []string {
	var out []string
	for _, l := range lines {
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// diff gives the lines that differ: "- " those of want, "+ " those of got.
func diff(want, got []string) []string {
	want, got = condensed(want), condensed(got)
	if len(want) > maxDiff || len(got) > maxDiff {
		return diffByLine(want, got)
	}
	// common[i][j] is the length of the longest common run of lines of want[i:]
	// and got[j:].
	common := make([][]uint16, len(want)+1)
	for i := range common {
		common[i] = make([]uint16, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			i, j = i+1, j+1
		case i < len(want) && (j == len(got) || common[i+1][j] >= common[i][j+1]):
			out = append(out, "- "+want[i])
			i++
		default:
			out = append(out, "+ "+got[j])
			j++
		}
	}
	return out
}

func diffByLine(want, got []string) []string {
	var out []string
	for i := range max(len(want), len(got)) {
		if i < len(want) && i < len(got) && want[i] == got[i] {
			continue
		}
		if i < len(want) {
			out = append(out, "- "+want[i])
		}
		if i < len(got) {
			out = append(out, "+ "+got[i])
		}
	}
	return out
}
