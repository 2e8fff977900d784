package types

import (
	"bytes"
	"errors"
	"fmt"
)

// Reading an image goes page by page, each at most once: an export table has
// thousands of small parts, and a page that is missing in a dump says so once.
const (
	pageSize = 0x1000
	maxPages = 1 << 11 // 8 MB; the largest export table has under 1 MB
)

var errPages = errors.New("too many pages read")

type pages struct {
	r    RVAReader
	seen map[uint32]page
}

type page struct {
	data []byte
	err  error
}

func newPages(r RVAReader) *pages { return &pages{r: r, seen: map[uint32]page{}} }

func (c *pages) page(n uint32) page {
	if p, ok := c.seen[n]; ok {
		return p
	}
	if len(c.seen) >= maxPages {
		return page{err: errPages}
	}
	buf := make([]byte, pageSize)
	got, err := c.r.ReadRVA(buf, n*pageSize)
	if got < 0 || got > pageSize {
		got = 0
	}
	if err == nil && got < pageSize {
		err = errors.New("page read short")
	}
	p := page{data: buf[:got], err: err}
	c.seen[n] = p
	return p
}

// bytes gives n bytes at an RVA. They belong to the cache, or are a copy where
// they cross pages.
func (c *pages) bytes(rva, n uint32) ([]byte, error) {
	end := uint64(rva) + uint64(n)
	if end > 1<<32 || n > 1<<24 {
		return nil, fmt.Errorf("%#x bytes at RVA %#x: beyond the image", n, rva)
	}
	var out []byte
	for at := uint64(rva); at < end; {
		p := c.page(uint32(at / pageSize))
		low := at % pageSize
		high := min(low+end-at, pageSize)
		if high > uint64(len(p.data)) {
			return nil, fmt.Errorf("%#x bytes at RVA %#x: %w", n, rva, p.err)
		}
		if at == uint64(rva) && low+end-at <= pageSize {
			return p.data[low:high:high], nil
		}
		out = append(out, p.data[low:high]...)
		at += high - low
	}
	return out, nil
}

// text gives the NUL-terminated string at an RVA, at most max bytes long.
func (c *pages) text(rva, max uint32) (string, error) {
	var out []byte
	for at := rva; ; {
		room := min(max+1-uint32(len(out)), pageSize-at%pageSize)
		p := c.page(at / pageSize)
		low := at % pageSize
		if uint64(low) >= uint64(len(p.data)) {
			return "", fmt.Errorf("string at RVA %#x: %w", rva, p.err)
		}
		part := p.data[low:min(uint32(len(p.data)), low+room)]
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(out, part[:end]...)), nil
		}
		out = append(out, part...)
		if uint32(len(out)) > max || uint64(at)+uint64(len(part)) >= 1<<32 {
			return "", fmt.Errorf("string at RVA %#x: longer than %d bytes", rva, max)
		}
		at += uint32(len(part))
	}
}
