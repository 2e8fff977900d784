package repl_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mayImport is what each folder may import of this project and of others; the
// standard library is free. Imports point down and inwards. A new folder needs a
// line here. Tests are exempt.
var mayImport = map[string]string{
	".":    "repl",
	"repl": "repl/source commands commands/cmd commands/masm commands/report commands/session dumpfmt dumpfmt/snapshot model model/types model/types/sympath golang.org/x/sys golang.org/x/term github.com/pkg/term",

	"repl/source": "dumpfmt model",

	"commands":         "commands/cmd commands/session commands/script commands/memory commands/symbol commands/symload commands/process commands/thread commands/stack commands/code commands/lock commands/pool commands/vm commands/lesson",
	"commands/cmd":     "commands/report model model/mem model/types model/types/sympath",
	"commands/report":  "",
	"commands/masm":    "commands/cmd model model/mem model/types model/unwind",
	"commands/show":    group + " model/unwind",
	"commands/session": group,
	"commands/script":  group + " commands/show",
	"commands/memory":  group + " commands/show",
	"commands/symbol":  group + " commands/show",
	"commands/symload": group + " model/types/sympath model/types/index",
	"commands/stack":   group + " commands/show model/disasm",
	"commands/code":    group + " commands/show model/disasm",
	"commands/process": group + " commands/show",
	"commands/thread":  group + " commands/show",
	"commands/lock":    group + " commands/show",
	"commands/pool":    group + " commands/show model/pool/cell model/pool/heap",
	"commands/vm":      group + " commands/show model/vm model/pool/cell model/pool/heap",
	"commands/lesson":  group + " commands/show",

	"model":                   "model/mem model/types model/types/undname",
	"model/mem":               "",
	"model/types":             "model/mem github.com/ulikunitz/xz",
	"model/types/pdb":         "model/types",
	"model/types/cab":         "",
	"model/types/pdb/pdbtest": "model/types", // for tests only
	"model/types/index":       "model/types",
	"model/types/undname":     "",
	"model/types/sympath":     "model/types model/types/pdb model/types/cab model/types/index",
	"model/disasm":            "golang.org/x/arch",
	"model/unwind":            "model model/mem model/types",
	"model/process":           walker,
	"model/thread":            walker + " model/process",
	"model/resource":          walker + " model/process model/thread",
	"model/pool":              walker + " model/disasm model/pool/cell model/pool/heap",
	"model/pool/cell":         "model/mem",
	"model/pool/heap":         walker + " model/pool/cell",
	"model/pool/heaptest":     "model/mem model/types model/modeltest", // for tests only
	"model/vm":                walker + " model/process model/thread model/pool model/pool/heap",
	"model/ident":             walker + " model/process model/thread model/resource model/pool",
	"model/diagnose":          walker + " model/process model/thread model/resource model/pool model/ident",
	"model/modeltest":         "model model/mem model/types model/types/sympath dumpfmt dumpfmt/dumptest/shared repl/source", // for tests only

	"model/types/internal/genlayout": "model/types", // run by hand, makes embedded tables

	"dumpfmt":          "model/mem github.com/edsrzf/mmap-go golang.org/x/sys",
	"dumpfmt/snapshot": "dumpfmt model/mem model/types go.yaml.in/yaml/v3",
	"dumpfmt/dumptest": "",

	"dumpfmt/dumptest/shared": "github.com/ulikunitz/xz", // for tests only
}

const (
	group  = "commands/cmd commands/report model model/mem model/types model/process model/thread model/resource model/pool model/ident model/diagnose model/unwind"
	walker = "model model/mem model/types model/unwind"
)

// onlyIn names the one place that may import a package that has its ways.
var onlyIn = map[string]string{
	"github.com/c-bata/go-prompt": "repl/prompt.go",
	"github.com/fatih/color":      "commands/report/",
}

const module = "gokd/"

// TestImports holds every file of the project to the table.
func TestImports(t *testing.T) {
	t.Parallel()
	files := 0
	err := fs.WalkDir(os.DirFS(".."), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && name != "." || d.Name() == "testdata"):
			return fs.SkipDir
		case path.Ext(name) == ".go" && !strings.HasSuffix(name, "_test.go"):
			files++
			checkImports(t, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("only %d files found", files)
	}
}

func checkImports(t *testing.T, name string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	dir := path.Dir(name)
	list, known := mayImport[dir]
	if !known {
		t.Errorf("%s: the folder has no line in the table of imports", dir)
		return
	}
	allowed := strings.Fields(list)
	for _, spec := range f.Imports {
		what, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		if place, ok := onlyIn[what]; ok {
			if name != place && !(strings.HasSuffix(place, "/") && strings.HasPrefix(name, place)) {
				t.Errorf("%s imports %s; only %s may", name, what, place)
			}
			continue
		}
		if first, _, _ := strings.Cut(what, "/"); first != "gokd" && !strings.Contains(first, ".") {
			continue // standard library
		}
		what = strings.TrimPrefix(what, module)
		if !slices.ContainsFunc(allowed, func(a string) bool {
			return what == a || strings.Contains(a, ".") && strings.HasPrefix(what, a+"/")
		}) {
			t.Errorf("%s imports %s; %s may import only: %s", name, what, dir, list)
		}
	}
}
