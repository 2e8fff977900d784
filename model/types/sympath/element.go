package sympath

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// ElementKind tells what an element of a path is.
type ElementKind uint8

// The kinds of elements.
const (
	ElementUnusable ElementKind = iota
	ElementFolder
	ElementServer // srv*: stores, the nearest first
	ElementCache  // cache*
)

// String gives the kind in a word.
func (k ElementKind) String() string {
	return [...]string{"unusable", "folder", "server", "cache"}[k]
}

// Element is a part of a path between semicolons.
type Element struct {
	Text   string // as written
	Kind   ElementKind
	Stores []string // folders and servers that it stands for, in the order they are asked
	Note   string   // why it is not used, or what is odd about it; empty: nothing

	stores   []store
	expanded string
}

// Remote reports whether the element names a server.
func (e Element) Remote() bool {
	return slices.ContainsFunc(e.stores, func(s store) bool { return s.server != nil })
}

// store is a folder or a server.
type store struct {
	dir    string
	server *url.URL // nil: dir
}

func (s store) String() string {
	if s.server != nil {
		return s.server.Redacted()
	}
	return s.dir
}

// maxElements bounds a path; longer ones come from loops in scripts.
const maxElements = 256

// parsing knows what the parts of a path stand for.
type parsing struct {
	fallback string // folder of downloads where the path names none; empty: none
	shown    string // how it is shown in an expanded path
}

// parse splits a path at semicolons.
func (p parsing) parse(spec string) (list []Element) {
	for part := range strings.SplitSeq(spec, ";") {
		part = strings.Trim(strings.TrimSpace(part), `"`)
		if part == "" {
			continue
		}
		if len(list) == maxElements {
			return append(list, Element{Text: part, Note: fmt.Sprintf("not used: a path has at most %d elements", maxElements)})
		}
		e := p.element(part)
		for _, s := range e.stores {
			e.Stores = append(e.Stores, s.String())
		}
		list = append(list, e)
	}
	return list
}

func (p parsing) element(part string) Element {
	tokens := strings.Split(part, "*")
	switch word := strings.ToLower(tokens[0]); {
	case len(tokens) == 1 && strings.Contains(part, "://"):
		e := p.server(part, tokens)
		e.expanded = "SRV*" + part
		if e.Kind != ElementUnusable && e.Note == "" {
			e.Note = "taken as srv*" + part
		}
		return e
	case len(tokens) == 1:
		e := Element{Text: part, Kind: ElementFolder, stores: []store{{dir: part}}, expanded: part}
		if err := isFolder(part); err != nil {
			e.Note = fmt.Sprintf("not used: %v", err)
		}
		return e
	case word == "srv":
		return p.server(part, tokens[1:])
	case word == "symsrv" && strings.EqualFold(tokens[1], "symsrv.dll"):
		return p.server(part, tokens[2:])
	case word == "symsrv":
		return unusable(part, "the only symbol server library is symsrv.dll")
	case word == "cache":
		return p.cache(part, tokens[1:])
	}
	return unusable(part, "an element with * starts with srv*, symsrv*symsrv.dll* or cache*")
}

func unusable(part, why string) Element {
	return Element{Text: part, Note: "not used: " + why, expanded: part}
}

// cache reads the folders of a cache*; an empty name is the default one.
func (p parsing) cache(part string, tokens []string) Element {
	e := Element{Text: part, Kind: ElementCache, expanded: part}
	for _, t := range tokens {
		if strings.Contains(t, "://") {
			return unusable(part, "cache* names a folder, srv* a server")
		}
		if t == "" {
			t = p.fallback
		}
		if t == "" {
			return unusable(part, "there is no default cache; name a folder")
		}
		e.stores = append(e.stores, store{dir: t})
	}
	return e
}

// server reads the stores of a srv*: folders that keep what those after them
// have, and servers.
func (p parsing) server(part string, tokens []string) Element {
	e := Element{Text: part, Kind: ElementServer, expanded: part}
	if len(tokens) == 0 || len(tokens) == 1 && tokens[0] == "" {
		tokens = []string{"", MicrosoftServer}
		e.expanded = "cache*" + p.shown + ";SRV*" + MicrosoftServer
	}
	var odd []string
	for _, t := range tokens {
		switch {
		case strings.Contains(t, "://"):
			u, note, err := parseServer(t)
			if err != nil {
				return unusable(part, err.Error())
			}
			if note != "" {
				odd = append(odd, note)
			}
			e.stores = append(e.stores, store{server: u})
		case t != "":
			e.stores = append(e.stores, store{dir: t})
		case p.fallback == "":
			return unusable(part, "there is no default downstream store; name a folder: srv*FOLDER*"+tokens[len(tokens)-1])
		default:
			e.stores = append(e.stores, store{dir: p.fallback})
		}
	}
	if e.stores[0].server != nil {
		// A file from a server needs a folder to be in.
		if p.fallback == "" {
			return unusable(part, "there is no default downstream store; name a folder: srv*FOLDER*URL")
		}
		e.stores = slices.Insert(e.stores, 0, store{dir: p.fallback})
	}
	if !e.Remote() {
		last := e.stores[len(e.stores)-1].dir
		if err := isFolder(last); err != nil {
			odd = append(odd, fmt.Sprintf("%s: %v", last, err))
		}
	}
	e.Note = strings.Join(odd, "; ")
	return e
}

// parseServer reads the address of a server. Plain http is taken where it is
// written so: the user's own servers often have no certificate, and every file
// is checked against the image's identity; a note says that it can be forged.
// Microsoft's server is asked over https whatever is written.
func parseServer(text string) (u *url.URL, note string, err error) {
	if u, err = url.Parse(strings.TrimRight(text, "/")); err != nil {
		return nil, "", fmt.Errorf("%s: no address of a server", clip(text))
	}
	u.RawQuery, u.Fragment = "", ""
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.Host == "":
		return nil, "", fmt.Errorf("%s: the address names no server", clip(text))
	case u.Scheme == "http" && strings.EqualFold(u.Hostname(), "msdl.microsoft.com"):
		u.Scheme = "https"
	case u.Scheme == "http" && !loopback(u.Hostname()):
		note = u.Redacted() + " is not encrypted: its files can be forged on the way"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "", fmt.Errorf("%s: a symbol server is asked over https or http", clip(text))
	}
	return u, note, nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// isFolder tells why a path is no folder.
func isFolder(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return errorText(err)
	case !info.IsDir():
		return fmt.Errorf("not a folder")
	}
	return nil
}

// expand gives a path with what its parts stand for.
func expand(list []Element) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = e.expanded
	}
	return strings.Join(parts, ";")
}

// notes gives what is to be said of the elements of a path.
func notes(list []Element) (out []string) {
	for _, e := range list {
		if e.Note != "" {
			out = append(out, e.Text+": "+e.Note)
		}
	}
	return out
}
