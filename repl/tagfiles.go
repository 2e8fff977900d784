package repl

import (
	"os"
	"path/filepath"
	"strings"
)

// tagFileName is what debuggers call their descriptions of pool tags.
const tagFileName = "pooltag.txt"

// TagFiles lists the files with descriptions of pool tags, the most important
// first: those that $GOKD_POOLTAGS names, and only those where it is set; else
// the ones there are beside the program, in the user's folder, and where debuggers
// are installed on Windows.
func TagFiles(stateDir string) []string {
	if list, ok := os.LookupEnv("GOKD_POOLTAGS"); ok {
		return nonEmpty(filepath.SplitList(list))
	}
	var own []string
	if self, err := os.Executable(); err == nil {
		own = append(own, filepath.Join(filepath.Dir(self), tagFileName))
	}
	if stateDir != "" {
		own = append(own, filepath.Join(stateDir, tagFileName))
	}
	files := existing(own, len(own))
	// The files of the kits for several machines say the same.
	return append(files, existing(kitFiles(os.Getenv), 1)...)
}

// existing gives the first most files that there are.
func existing(names []string, most int) []string {
	var files []string
	for _, name := range names {
		if _, err := os.Stat(name); err == nil && len(files) < most {
			files = append(files, name)
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
