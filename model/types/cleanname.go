package types

import (
	"fmt"
	"slices"
	"strings"
)

// maxFileName bounds the names that a dump may make the program look for.
const maxFileName = 128

// CleanName reduces a name from a dump or image ("\SystemRoot\...\ntfs.sys",
// "d:\obj\srv2.pdb") to its last part, and refuses what could be more than the
// name of a file in one folder: separators are cut at, and empty names, "." and
// "..", control and other unusual characters, long names and the device names
// of DOS are errors.
func CleanName(name string) (string, error) {
	base := name[strings.LastIndexAny(name, `/\`)+1:]
	switch {
	case base == "":
		return "", fmt.Errorf("file name %q: empty", clip(name))
	case len(base) > maxFileName:
		return "", fmt.Errorf("file name %q: %d bytes, at most %d", clip(name), len(base), maxFileName)
	case base[0] == '.' || base[0] == ' ' || base[0] == '-':
		return "", fmt.Errorf("file name %q: starts with %q", clip(name), base[0])
	case strings.HasSuffix(base, ".") || strings.HasSuffix(base, " "):
		return "", fmt.Errorf("file name %q: ends with %q", clip(name), base[len(base)-1])
	}
	for _, c := range []byte(base) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte("._-+$@!~&#,=()[]{} ", c) < 0 {
			return "", fmt.Errorf("file name %q: character %q", clip(name), c)
		}
	}
	stem, _, _ := strings.Cut(strings.ToLower(base), ".")
	if device := strings.TrimRight(stem, " 0123456789"); slices.Contains(dosDevices, device) {
		return "", fmt.Errorf("file name %q: name of a device", clip(name))
	}
	return base, nil
}

var dosDevices = []string{"con", "prn", "aux", "nul", "com", "lpt", "conin$", "conout$"}
