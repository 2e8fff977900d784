package dumpfmt

import (
	"container/list"
	"io"
	"sync"
)

// Files that cannot be mapped are read in blocks of blockSize bytes, of which
// the cacheBlocks used last stay in memory: 16 MiB.
const (
	blockSize   = 64 << 10
	cacheBlocks = 256
)

// blockCache keeps the blocks of a file that were read last. It is safe for
// concurrent use; two readers that miss the same block may both read it.
type blockCache struct {
	r    io.ReaderAt
	size int64
	max  int

	mu     sync.Mutex // protects the fields below
	blocks map[int64]*list.Element
	recent *list.List // of cachedBlock, the one used last in front
}

type cachedBlock struct {
	index int64
	data  []byte // never written after it was read
}

var _ File = (*blockCache)(nil)

// NewCached makes a File of a reader that cannot be mapped. It keeps at most
// 16 MiB; big reads go past the cache.
func NewCached(r io.ReaderAt, size int64) File { return newBlockCache(r, size, cacheBlocks) }

func newBlockCache(r io.ReaderAt, size int64, blocks int) *blockCache {
	return &blockCache{r: r, size: size, max: blocks, blocks: make(map[int64]*list.Element), recent: list.New()}
}

// Slice has nothing to hand out: blocks come and go.
func (c *blockCache) Slice(int64, int) ([]byte, bool) { return nil, false }

// ReadAt reads through the cache, to the contract of io.ReaderAt.
func (c *blockCache) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errNegativeOffset
	}
	if len(p) >= blockSize {
		return c.r.ReadAt(p, off)
	}
	for n < len(p) {
		at := off + int64(n)
		if at >= c.size {
			return n, io.EOF
		}
		b, err := c.block(at / blockSize)
		if err != nil {
			return n, err
		}
		in := at % blockSize
		if in >= int64(len(b)) {
			return n, io.EOF
		}
		n += copy(p[n:], b[in:])
	}
	return n, nil
}

// block gives a whole block, or the shorter last one. It must not be written.
func (c *blockCache) block(index int64) ([]byte, error) {
	c.mu.Lock()
	if e, ok := c.blocks[index]; ok {
		c.recent.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(cachedBlock).data, nil
	}
	c.mu.Unlock()

	start := index * blockSize
	data := make([]byte, max(0, min(blockSize, c.size-start)))
	n, err := c.r.ReadAt(data, start)
	if n < len(data) && err != io.EOF {
		return nil, err
	}
	data = data[:n]

	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.blocks[index]; ok { // another reader was faster
		return e.Value.(cachedBlock).data, nil
	}
	c.blocks[index] = c.recent.PushFront(cachedBlock{index, data})
	for c.recent.Len() > c.max {
		last := c.recent.Back()
		delete(c.blocks, last.Value.(cachedBlock).index)
		c.recent.Remove(last)
	}
	return data, nil
}
