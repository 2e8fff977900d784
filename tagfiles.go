package main

import (
	"os"
	"path/filepath"
	"strings"
)

// tagFileName is what debuggers call their descriptions of pool tags.
const tagFileName = "pooltag.txt"

// tagFiles lists where a pooltag.txt may be, the most important first: the files
// that $GOKD_POOLTAGS names, and only those where it is set; else beside the
// program, in the user's folder, and where debuggers are installed on Windows.
func tagFiles() []string {
	if list, ok := os.LookupEnv("GOKD_POOLTAGS"); ok {
		return nonEmpty(filepath.SplitList(list))
	}
	var files []string
	if self, err := os.Executable(); err == nil {
		files = append(files, filepath.Join(filepath.Dir(self), tagFileName))
	}
	if dir := stateDir(); dir != "" {
		files = append(files, filepath.Join(dir, tagFileName))
	}
	for _, name := range kitFiles(os.Getenv) {
		if _, err := os.Stat(name); err == nil {
			return append(files, name) // those of other machines say the same
		}
	}
	return files
}

// kitFiles lists where the Windows kits put their debuggers' file: that of the
// newest kit first. Without the variables of Windows there are none.
func kitFiles(getenv func(string) string) []string {
	var files []string
	for _, variable := range []string{"ProgramFiles(x86)", "ProgramFiles"} {
		dir := getenv(variable)
		if dir == "" {
			continue
		}
		for _, kit := range []string{"10", "8.1", "8.0"} {
			for _, machine := range []string{"x64", "arm64", "x86"} {
				files = append(files, filepath.Join(dir, "Windows Kits", kit, "Debuggers", machine, "triage", tagFileName))
			}
		}
		for _, old := range []string{"Debugging Tools for Windows (x64)", "Debugging Tools for Windows (x86)"} {
			files = append(files, filepath.Join(dir, old, "triage", tagFileName))
		}
	}
	return files
}

func nonEmpty(list []string) []string {
	var out []string
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}
