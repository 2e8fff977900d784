package repl

import (
	"bufio"
	"context"
	"fmt"
	"net/url"
	"strings"

	"gokd/commands/report"
	"gokd/model"
	"gokd/model/types"
	"gokd/model/types/sympath"
)

// needed is a file that the dump's analysis can use: a PDB or an image.
type needed struct {
	Module    string  `json:"module"`
	Kind      string  `json:"kind"` // pdb or image
	Name      string  `json:"name"`
	GUID      *string `json:"guid,omitempty"`
	Age       *uint32 `json:"age,omitempty"`
	Timestamp *uint32 `json:"timestamp,omitempty"`
	Size      *uint32 `json:"size,omitempty"`
	// Path is the file's place on a symbol server (documented with Microsoft's
	// symstore).
	Path string `json:"path"`
	URL  string `json:"url"`
	// State is "found" or "missing"; null where no path was given to look at.
	State *string `json:"state"`
	File  *string `json:"file"` // where it was found

	onlyURL bool
}

// Type names the record.
func (*needed) Type() string { return "symbol_file" }

// WriteText writes a line: module, identity, server path, and where the file
// was found.
func (n *needed) WriteText(p *report.Printer) {
	state := ""
	switch {
	case n.onlyURL:
		p.Printf("%s\n", n.URL)
		return
	case n.File != nil:
		state = report.Sprintf("  found: %s", *n.File)
	case n.State != nil:
		state = "  " + *n.State
	}
	if n.GUID != nil {
		p.Printf("%-12s %s %-3d %s%s\n", n.Module, *n.GUID, *n.Age, n.Path, report.Text(state))
		return
	}
	p.Printf("%-12s %08X %-27x %s%s\n", n.Module, *n.Timestamp, *n.Size, n.Path, report.Text(state))
}

// lister lists what a dump needs.
type lister struct {
	target  *Target
	server  string // address that the addresses of files start with
	missing bool   // only what was not found
	urls    bool   // addresses only
	sink    report.Sink
}

// listSymbols is "gokd symbols DUMP": what the dump needs, to be fetched
// elsewhere. No server is asked.
func listSymbols(ctx context.Context, p Program, args []string) error {
	opt := options{era: report.Era19041, paths: Paths{Symbols: p.defaultSymbolPath()}}
	var l lister
	f := flagSet(&opt)
	f.BoolVar(&l.missing, "missing", false, "")
	f.BoolVar(&l.urls, "urls", false, "")
	names, err := parseArgs(f, args)
	if err != nil {
		return err
	}
	if names = append(opt.dumps, names...); len(names) != 1 {
		return fmt.Errorf("%w: gokd symbols takes one dump", errUsage)
	}
	opt.paths.Offline = true
	if l.target, err = p.Open(ctx, names[0], opt.paths); err != nil {
		return err
	}
	defer l.target.Close()
	l.server = serverOf(l.target.symbols)
	out := bufio.NewWriter(p.Stdout)
	l.sink = report.NewPrinter(out, opt.era, false)
	if opt.json {
		j := report.NewJSON(out)
		j.Begin("symbols", "")
		l.sink = j
	}
	for _, m := range l.target.Kernel.Modules.All {
		if err := l.list(ctx, m); err != nil {
			return err
		}
	}
	return out.Flush()
}

// serverOf gives the first server of a path, else Microsoft's.
func serverOf(p *sympath.Path) string {
	for _, e := range p.Elements() {
		for _, s := range e.Stores {
			if strings.Contains(s, "://") {
				return s
			}
		}
	}
	return sympath.MicrosoftServer
}

// list lists the files of a module whose identity is known.
func (l *lister) list(ctx context.Context, m *model.Module) error {
	id := m.ID()
	var list []*needed
	if path := sympath.ServerPath(id); path != "" {
		guid := id.GUID.String()
		list = append(list, &needed{Module: m.Name, Kind: "pdb", Name: firstPart(path), GUID: &guid, Age: &id.Age, Path: path})
	}
	if path := sympath.ImageServerPath(id); path != "" && id.Timestamp != 0 && id.Size != 0 {
		list = append(list, &needed{Module: m.Name, Kind: "image", Name: firstPart(path), Timestamp: &id.Timestamp, Size: &id.Size, Path: path})
	}
	for _, n := range list {
		n.onlyURL, n.URL = l.urls, l.address(n.Path)
		l.look(ctx, n, id)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.missing && n.File != nil {
			continue
		}
		if err := l.sink.Emit(n); err != nil {
			return err
		}
	}
	return nil
}

// look tells whether a file is at hand.
func (l *lister) look(ctx context.Context, n *needed, id types.ImageID) {
	symbols, images := l.target.symbols, l.target.images
	if symbols.Spec() == "" && (n.Kind == "pdb" || images.Spec() == "") {
		return
	}
	var found sympath.Found
	var err error
	if n.Kind == "pdb" {
		found, err = symbols.Locate(ctx, id)
	} else {
		found, err = images.Locate(ctx, id)
	}
	state := "found"
	if err != nil {
		state = "missing"
	} else {
		n.File = &found.Path
	}
	n.State = &state
}

// address gives the address of a file on the server.
func (l *lister) address(path string) string {
	if u, err := url.Parse(l.server); err == nil {
		return u.JoinPath(path).String()
	}
	return l.server + "/" + path
}

func firstPart(path string) string {
	name, _, _ := strings.Cut(path, "/")
	return name
}
