package sympath

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// errNotThere says that a server does not have a file.
var errNotThere = errors.New("not on the server")

// fetcher asks symbol servers.
type fetcher struct {
	opt    Options
	misses *misses
	client func() (*http.Client, error)

	mu   sync.Mutex // protects the fields below
	down map[string]error
	tree map[string]bool // server -> files stand below two letters of their name
}

func newFetcher(opt Options) *fetcher {
	f := &fetcher{opt: opt, misses: openMisses(opt.inCache("symbol-misses"), opt.Limits.Remember)}
	f.client = sync.OnceValues(f.newClient)
	f.tryAgain()
	return f
}

// newClient makes the client. Certificates are always checked; CAFile adds to the
// roots of the system.
func (f *fetcher) newClient() (*http.Client, error) {
	var roots *x509.CertPool // nil: the system's
	if f.opt.CAFile != "" {
		var err error
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		pem, err := os.ReadFile(f.opt.CAFile)
		if err != nil {
			return nil, fmt.Errorf("root certificates: %w", err)
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("root certificates: %s has none in PEM form", f.opt.CAFile)
		}
	}
	const connect = 15 * time.Second
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 f.opt.Proxy,
			DialContext:           (&net.Dialer{Timeout: connect, KeepAlive: connect}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   connect,
			ResponseHeaderTimeout: f.opt.Limits.Stall,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   8,
			ForceAttemptHTTP2:     true,
			DisableCompression:    true, // sizes and ranges are those of the file
		},
		CheckRedirect: checkRedirect,
	}, nil
}

// close ends connections that are kept for a next question.
func (f *fetcher) close() {
	if c, err := f.client(); err == nil {
		c.CloseIdleConnections()
	}
}

// checkRedirect follows a server to another one only over https. A server of
// this machine without encryption may name itself.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) >= 10:
		return errors.New("the server sends from place to place without end")
	case next.URL.Scheme == "https":
		return nil
	case next.URL.Scheme == "http" && first.Scheme == "http" && loopback(first.Hostname()) && loopback(next.URL.Hostname()):
		return nil
	}
	return &redirectError{next.URL}
}

// redirectError says that a server sent to an unencrypted place.
type redirectError struct{ to *url.URL }

func (e *redirectError) Error() string {
	return fmt.Sprintf("the server sends to %s, which is not encrypted: refused", clip(e.to.Redacted()))
}

// userAgent names the program; some servers answer only those that name
// Microsoft's.
func (f *fetcher) userAgent() string {
	version := f.opt.Version
	if version == "" {
		version = "0"
	}
	return "gokd/" + version + " (compatible; Microsoft-Symbol-Server/10.0)"
}

// tryAgain lets servers be asked that could not be reached.
func (f *fetcher) tryAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.tree = map[string]error{}, map[string]bool{}
}

// reachable gives why a server is not asked any more: it could not be reached a
// moment ago, and each further file would wait as long.
func (f *fetcher) reachable(server *url.URL) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.down[server.Host]; err != nil {
		return fmt.Errorf("%s is not asked: it could not be reached a moment ago; .reload tries again", server.Host)
	}
	return nil
}

// failed notes that a server can't be reached.
func (f *fetcher) failed(ctx context.Context, server *url.URL, err error) {
	var net *unreachableError
	if ctx.Err() != nil || !errors.As(err, &net) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down[server.Host] = err
}

// unreachableError is a failure below HTTP: no name, no connection, no
// certificate, no answer.
type unreachableError struct{ err error }

func (e *unreachableError) Error() string { return e.err.Error() }
func (e *unreachableError) Unwrap() error { return e.err }

// twoLetters reports whether a server keeps files below two letters of their
// name, which an index2.txt in its root tells. It is asked once, and only where a
// file was not found plainly.
func (f *fetcher) twoLetters(s *search, server *url.URL) bool {
	f.mu.Lock()
	three, known := f.tree[server.String()]
	f.mu.Unlock()
	if known {
		return three
	}
	var sink discard
	err := f.get(s, server.JoinPath(indexFile), &sink, nil)
	if err != nil && !errors.Is(err, errNotThere) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tree[server.String()] = err == nil
	return err == nil
}

// isCertificate reports whether a server could not prove who it is.
func isCertificate(err error) bool {
	var invalid *tls.CertificateVerificationError
	return errors.As(err, &invalid)
}
