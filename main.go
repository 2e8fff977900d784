// Gokd is a debugger of Windows kernel dumps with kd's commands.
package main

import (
	"context"
	"embed"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"gokd/repl"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "0.1.0"

// snapshots are the embedded scenarios: no folder below could reach them.
//
//go:embed testdata/snapshots
var snapshots embed.FS

func main() {
	scenarios, err := fs.Sub(snapshots, "testdata/snapshots")
	if err != nil {
		panic(err) // the name is embedded above
	}
	os.Exit(repl.Main(context.Background(), repl.Program{
		Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Getenv: os.Getenv, Version: version,
		Scenarios: scenarios, Location: time.Local, StateDir: stateDir(), CacheDir: cacheDir(),
		TagFiles: repl.TagFiles(stateDir()),
	}))
}

// stateDir is where the history of the prompt is kept; empty where the user has
// no such folder.
func stateDir() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "gokd")
}

// cacheDir is where downloaded symbols and their indexes are kept; empty where
// the user has no such folder.
func cacheDir() string {
	if dir := os.Getenv("GOKD_CACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "gokd")
}
