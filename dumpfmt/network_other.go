//go:build !linux

package dumpfmt

import (
	"os"
	"path/filepath"
	"strings"
)

// onNetwork tells whether a file's bytes come over a network, as far as its
// name shows: a UNC path, \\server\share\..., but not the device prefixes \\?\
// and \\.\ of local drives.
func onNetwork(_ *os.File, name string) bool {
	full, err := filepath.Abs(name)
	if err != nil {
		return false
	}
	volume := strings.ToUpper(filepath.VolumeName(full))
	if strings.HasPrefix(volume, `\\?\`) || strings.HasPrefix(volume, `\\.\`) {
		return strings.HasPrefix(volume[4:], `UNC\`)
	}
	return strings.HasPrefix(volume, `\\`)
}
