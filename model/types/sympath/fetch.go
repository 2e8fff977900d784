package sympath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// fetch has a server's file in a store and gives its path. What the server does
// not have is errNotThere, and remembered.
func (f *fetcher) fetch(s *search, server *url.URL, into string) (string, error) {
	name, key := s.w.names[0], s.w.keys[0]
	if into == "" {
		return "", fmt.Errorf("%s: no folder to keep its files in", server.Redacted())
	}
	asked := server.JoinPath(name, key, name).Redacted()
	if f.misses.has(asked) {
		s.event("SYMSRV:  %s - not there when last asked", server.JoinPath(name, key, name).EscapedPath())
		return "", errNotThere
	}
	if err := f.reachable(server); err != nil {
		return "", err
	}
	path, err := f.from(s, server.JoinPath(name, key), name, into)
	if errors.Is(err, errNotThere) && len(name) >= 2 && f.twoLetters(s, server) {
		path, err = f.from(s, server.JoinPath(name[:2], name, key), name, into)
	}
	if errors.Is(err, errNotThere) {
		var refused *statusError
		if !errors.As(err, &refused) || !refused.passing() {
			f.misses.add(asked)
		}
	}
	f.failed(s.ctx, server, err)
	return path, err
}

// from asks a server's folder for the file, packed or not, and for a pointer.
func (f *fetcher) from(s *search, folder *url.URL, name, into string) (path string, err error) {
	last := []string{name, packedName(name)}
	if s.p.Flags()&FavorCompressed != 0 {
		last[0], last[1] = last[1], last[0]
	}
	for _, n := range last {
		path, err = f.file(s, folder.JoinPath(n), name, into, n != name)
		if !errors.Is(err, errNotThere) {
			return path, err
		}
	}
	text := new(discard)
	pointer := folder.JoinPath(pointerFile)
	if err := f.get(s, pointer, text, nil); err != nil {
		return "", err
	}
	to, err := pointed(string(text.kept))
	if err != nil {
		return "", fmt.Errorf("%s: %w", pointer.Redacted(), err)
	}
	// A server must not choose which files and shares of the user's network are
	// opened: it may only point to another server.
	u, _, err := parseServer(to)
	if err != nil || u.Scheme != "https" && u.Host != folder.Host {
		return "", fmt.Errorf("%s: it points to %s: only https addresses are followed from a server", pointer.Redacted(), clip(to))
	}
	return f.file(s, u, name, into, strings.HasSuffix(u.Path, "_"))
}

// file downloads one file into a store.
func (f *fetcher) file(s *search, from *url.URL, name, into string, packed bool) (string, error) {
	return s.install(into, name, func(to *os.File) error {
		if !packed {
			return f.get(s, from, to, s.w.starts)
		}
		tmp, err := os.CreateTemp("", "gokd-*.cab")
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(tmp.Name()) }()
		defer tmp.Close()
		if err := f.get(s, from, tmp, startsPacked); err != nil {
			return err
		}
		info, err := tmp.Stat()
		if err != nil {
			return err
		}
		if err := unpackFrom(to, tmp, info.Size(), f.opt.Limits.Bytes); err != nil {
			return fmt.Errorf("%s: %w", from.Redacted(), err)
		}
		return nil
	})
}

// starts tells whether a file starts as what is wanted does.
func (w *wanted) starts(head []byte) error {
	what, magic := "a program database", msfMagic
	if w.image {
		what, magic = "an image", "MZ"
	}
	return startsWith(head, what, magic)
}

func startsPacked(head []byte) error { return startsWith(head, "a cabinet", "MSCF") }

func startsWith(head []byte, what, magic string) error {
	if strings.HasPrefix(string(head), magic) {
		return nil
	}
	text := strings.ToLower(strings.TrimSpace(string(head)))
	if strings.HasPrefix(text, "<") {
		return fmt.Errorf("the answer is a web page, not %s; a proxy or sign-in page?", what)
	}
	return fmt.Errorf("the answer is not %s: it starts with %q", what, head[:min(len(head), 24)])
}

// target takes a download; one that is cut and can't be resumed starts anew.
type target interface {
	io.Writer
	Truncate(size int64) error
	Seek(offset int64, whence int) (int64, error)
}

// discard takes a small text.
type discard struct{ kept []byte }

// Write keeps at most maxPointer bytes.
func (d *discard) Write(p []byte) (int, error) {
	d.kept = append(d.kept, p[:min(len(p), maxPointer-len(d.kept))]...)
	return len(p), nil
}

// Truncate drops everything.
func (d *discard) Truncate(int64) error { d.kept = nil; return nil }

// Seek does nothing: text is only appended.
func (d *discard) Seek(int64, int) (int64, error) { return 0, nil }

// headSize is how much of a file is seen before the rest is worth waiting for.
const headSize = 64

// transfer is one file on its way, over several requests.
type transfer struct {
	f      *fetcher
	s      *search
	from   *url.URL
	to     target
	starts func([]byte) error

	done, total int64 // total is -1 where unknown
	tag         string
	head        []byte
}

// get downloads a file. Failures that may pass are tried again, from where the
// bytes ended where the server allows it. Errors name the address.
func (f *fetcher) get(s *search, from *url.URL, to target, starts func([]byte) error) error {
	t := &transfer{f: f, s: s, from: from, to: to, starts: starts, total: -1}
	s.event("SYMSRV:  HTTPGET: /%s", strings.TrimPrefix(from.EscapedPath(), "/"))
	for try := 1; ; try++ {
		err := t.request()
		switch {
		case err == nil:
			s.event("SYMSRV:  HttpQueryInfo: 200 - HTTP_STATUS_OK")
			return nil
		case s.ctx.Err() != nil:
			return s.ctx.Err()
		case try >= f.opt.Limits.Tries || !passing(err):
			t.tell(err)
			return fmt.Errorf("%s: %w", from.Redacted(), err)
		}
		wait := f.opt.Limits.Backoff << (try - 1)
		var status *statusError
		if errors.As(err, &status) && status.after > wait {
			wait = status.after
		}
		s.event("SYMSRV:  %s: %v; trying again", from.EscapedPath(), err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
			timer.Stop()
			return s.ctx.Err()
		}
	}
}

// tell notes how a request failed.
func (t *transfer) tell(err error) {
	var status *statusError
	switch {
	case errors.As(err, &status) && status.code == http.StatusNotFound:
		t.s.event("SYMSRV:  HttpQueryInfo: 80190194 - HTTP_STATUS_NOT_FOUND")
	case errors.As(err, &status):
		t.s.event("SYMSRV:  HttpQueryInfo: %08X - %s", 0x80190000+uint32(status.code), status.text)
	default:
		t.s.event("SYMSRV:  HttpSendRequest: %v", err)
	}
}

// statusError is an answer other than the file.
type statusError struct {
	code  int
	text  string
	after time.Duration // the server wants to be left alone so long
}

// Error gives the status as the server told it.
func (e *statusError) Error() string { return e.text }

// Is makes an absent file errNotThere. A server that refuses one file may just
// not say that it is absent.
func (e *statusError) Is(target error) bool {
	return target == errNotThere && (e.code == http.StatusNotFound || e.code == http.StatusGone || e.code == http.StatusForbidden)
}

// passing reports whether asking again may help, now or tomorrow.
func (e *statusError) passing() bool {
	return e.code >= 500 || e.code == http.StatusTooManyRequests || e.code == http.StatusRequestTimeout || e.code == http.StatusForbidden
}

// permanentError is a failure that another try will not mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// passing reports whether a request is worth another try.
func passing(err error) bool {
	var status *statusError
	var permanent *permanentError
	var redirect *redirectError
	switch {
	case errors.As(err, &status):
		return status.passing() && status.code != http.StatusForbidden
	case errors.As(err, &permanent), errors.As(err, &redirect), isCertificate(err):
		return false
	}
	return true
}

var errStall = errors.New("the server stopped sending")

// request asks once and takes what comes.
func (t *transfer) request() error {
	client, err := t.f.client()
	if err != nil {
		return &permanentError{&unreachableError{err}}
	}
	ctx, cancel := context.WithCancelCause(t.s.ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.from.String(), nil)
	if err != nil {
		return &permanentError{err}
	}
	req.Header.Set("User-Agent", t.f.userAgent())
	if t.done > 0 && t.tag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.done))
		req.Header.Set("If-Range", t.tag)
	}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err // the address is told by get
		}
		return &unreachableError{err}
	}
	defer resp.Body.Close()
	if err := t.begin(resp); err != nil {
		return err
	}
	return t.take(ctx, cancel, resp)
}

// begin reads the head of an answer.
func (t *transfer) begin(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != t.done {
			return &permanentError{fmt.Errorf("asked for bytes from %d on, got %q", t.done, clip(resp.Header.Get("Content-Range")))}
		}
	case http.StatusOK:
		if err := t.restart(); err != nil {
			return &permanentError{err}
		}
		t.total = resp.ContentLength
		t.tag = resp.Header.Get("ETag")
		if strings.HasPrefix(t.tag, "W/") { // says nothing of single bytes
			t.tag = ""
		}
		if t.tag == "" {
			t.tag = resp.Header.Get("Last-Modified")
		}
	case http.StatusRequestedRangeNotSatisfiable:
		t.tag = "" // from the start, next time
		return errors.New(resp.Status)
	default:
		after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &statusError{resp.StatusCode, clip(resp.Status), min(time.Duration(max(after, 0))*time.Second, t.f.opt.Limits.Stall)}
	}
	if t.total > t.f.opt.Limits.Bytes {
		return &permanentError{fmt.Errorf("%d bytes, at most %d", t.total, t.f.opt.Limits.Bytes)}
	}
	return nil
}

// restart drops what has come so far.
func (t *transfer) restart() error {
	t.done, t.head = 0, nil
	if err := t.to.Truncate(0); err != nil {
		return err
	}
	_, err := t.to.Seek(0, io.SeekStart)
	return err
}

// take reads the body. A server that sends nothing for a while is given up.
func (t *transfer) take(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response) error {
	stall := t.f.opt.Limits.Stall
	timer := time.AfterFunc(stall, func() { cancel(errStall) })
	defer timer.Stop()
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		timer.Reset(stall)
		if n > 0 {
			if err := t.write(buf[:n]); err != nil {
				return &permanentError{err}
			}
		}
		switch {
		case err == io.EOF && t.total >= 0 && t.done < t.total:
			return fmt.Errorf("%d bytes of %d: %w", t.done, t.total, io.ErrUnexpectedEOF)
		case err == io.EOF:
			return t.end()
		case context.Cause(ctx) == errStall:
			return &unreachableError{fmt.Errorf("%d bytes of %d: %w for %v", t.done, t.total, errStall, stall)}
		case err != nil:
			return fmt.Errorf("%d bytes of %d: %w", t.done, t.total, err)
		}
	}
}

func (t *transfer) write(p []byte) error {
	if t.starts != nil && len(t.head) < headSize {
		t.head = append(t.head, p[:min(len(p), headSize-len(t.head))]...)
		if len(t.head) == headSize {
			if err := t.starts(t.head); err != nil {
				return err
			}
		}
	}
	if t.done += int64(len(p)); t.done > t.f.opt.Limits.Bytes {
		return fmt.Errorf("more than %d bytes", t.f.opt.Limits.Bytes)
	}
	if _, err := t.to.Write(p); err != nil {
		return err
	}
	if t.f.opt.Progress != nil && t.starts != nil {
		t.f.opt.Progress("downloading "+t.s.w.names[0], uint64(t.done), uint64(max(t.total, 0)))
	}
	return nil
}

// end looks at a file too short to have been looked at before.
func (t *transfer) end() error {
	if t.starts != nil && len(t.head) < headSize {
		if err := t.starts(t.head); err != nil {
			return &permanentError{err}
		}
	}
	return nil
}
