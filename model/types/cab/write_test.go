package cab

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"slices"
	"testing"
)

// This file makes cabinets for tests. It shares no table with the reader; what
// it makes is given to cabextract too, by TestMade.

// made is a file of a cabinet to be made.
type made struct {
	name string
	data []byte
}

// makeCabinet packs files into one folder by a method.
func makeCabinet(t testing.TB, method uint16, reserve int, files ...made) []byte {
	t.Helper()
	var all []byte
	for _, f := range files {
		all = append(all, f.data...)
	}
	packed := packBlocks(t, method, all)
	le := binary.LittleEndian
	var head []byte
	head = append(head, "MSCF\x00\x00\x00\x00SIZE\x00\x00\x00\x00FILE\x00\x00\x00\x00\x03\x01"...)
	head = le.AppendUint16(head, 1)
	head = le.AppendUint16(head, uint16(len(files)))
	flags := uint16(0)
	if reserve > 0 {
		flags = 4
	}
	head = le.AppendUint16(head, flags)
	head = append(head, 0, 0, 0, 0) // set and number
	if reserve > 0 {
		head = le.AppendUint16(head, uint16(reserve))
		head = append(head, byte(reserve), byte(reserve))
		head = append(head, make([]byte, reserve)...)
	}
	folder := len(head)
	head = append(head, "DATA"...)
	head = le.AppendUint16(head, uint16(len(packed)))
	head = le.AppendUint16(head, method)
	head = append(head, make([]byte, reserve)...)
	le.PutUint32(head[16:], uint32(len(head)))
	at := 0
	for _, f := range files {
		head = le.AppendUint32(head, uint32(len(f.data)))
		head = le.AppendUint32(head, uint32(at))
		head = append(head, 0, 0, 0x21, 0x50, 0, 0, 0x20, 0)
		head = append(append(head, f.name...), 0)
		at += len(f.data)
	}
	le.PutUint32(head[folder:], uint32(len(head)))
	for i, p := range packed {
		size := min(frame, len(all)-i*frame)
		sizes := le.AppendUint16(le.AppendUint16(nil, uint16(len(p))), uint16(size))
		sum := sumOf(sizes) ^ sumOf(p)
		head = append(le.AppendUint32(head, sum), sizes...)
		head = append(head, make([]byte, reserve)...)
		head = append(head, p...)
	}
	le.PutUint32(head[8:], uint32(len(head)))
	return head
}

// frame is what a block holds at most.
const frame = 32768

func sumOf(b []byte) uint32 {
	sum := [4]byte{}
	n := len(b) &^ 3
	for i, c := range b[:n] {
		sum[i%4] ^= c
	}
	for i, c := range b[n:] {
		sum[len(b)-n-1-i] ^= c
	}
	return binary.LittleEndian.Uint32(sum[:])
}

func packBlocks(t testing.TB, method uint16, all []byte) (out [][]byte) {
	t.Helper()
	if method&15 == 3 {
		return packLZX(all, int(method>>8), lzxPlan)
	}
	var dict []byte
	for block := range slices.Chunk(all, frame) {
		if method == 0 {
			out = append(out, block)
			continue
		}
		b := bytes.NewBufferString("CK")
		w, err := flate.NewWriterDict(b, 6, dict)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(block); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		out, dict = append(out, b.Bytes()), block
	}
	return out
}

// planned is a block of an LZX stream.
type planned struct{ kind, size int }

// lzxPlan goes through all types of blocks, over the ends of frames, with odd
// and even sizes.
var lzxPlan = []planned{{1, 5000}, {2, 40000}, {3, 4001}, {1, 70001}, {3, 33333}, {2, 999}, {3, 2}, {1, 1}, {3, 1}, {2, 32768}}

// lzxWriter packs one stream.
type lzxWriter struct {
	src    []byte // calls are made absolute
	window int
	slots  int
	recent [3]int
	out    [][]byte
	cur    []byte
	word   uint32
	have   int
	main   []int // lengths of the block before
	length []int
	seen   map[uint32]int // three bytes -> where they last stood
}

// token is a literal, or a match.
type token struct{ symbol, length, lengthSym, bits, extra, low int }

func packLZX(src []byte, bits int, plan []planned) [][]byte {
	slots := map[int]int{15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}[bits]
	w := &lzxWriter{
		src: absoluteCalls(src), window: 1 << bits, slots: slots, recent: [3]int{1, 1, 1},
		main: make([]int, 256+8*slots), length: make([]int, 249), seen: map[uint32]int{},
	}
	w.put(1, 1)
	w.put(callFile>>16, 16)
	w.put(callFile&0xffff, 16)
	for at, i := 0, 0; at < len(src); i++ {
		p := plan[i%len(plan)]
		p.size = min(p.size, len(src)-at)
		w.put(p.kind, 3)
		w.put(p.size>>8, 16)
		w.put(p.size&0xff, 8)
		if p.kind == 3 {
			w.raw(at, p.size)
		} else {
			w.block(p.kind, at, p.size)
		}
		at += p.size
	}
	w.endFrame()
	return w.out
}

// callFile is the size that calls are translated for.
const callFile = 0x123456

func absoluteCalls(src []byte) []byte {
	out := slices.Clone(src)
	for start := 0; start < len(out); start += frame {
		f := out[start:min(start+frame, len(out))]
		for i := 0; i < len(f)-10; i++ {
			if f[i] != 0xe8 {
				continue
			}
			here := int32(start + i)
			v := int32(binary.LittleEndian.Uint32(f[i+1:]))
			switch {
			case v >= -here && v < callFile-here:
				v += here
			case v >= callFile-here && v < callFile:
				v -= callFile
			}
			binary.LittleEndian.PutUint32(f[i+1:], uint32(v))
			i += 4
		}
	}
	return out
}

func (w *lzxWriter) put(v, n int) {
	for n--; n >= 0; n-- {
		w.word = w.word<<1 | uint32(v>>n&1)
		if w.have++; w.have == 16 {
			w.cur = binary.LittleEndian.AppendUint16(w.cur, uint16(w.word))
			w.word, w.have = 0, 0
		}
	}
}

func (w *lzxWriter) align() {
	if w.have > 0 {
		w.put(0, 16-w.have)
	}
}

func (w *lzxWriter) endFrame() {
	w.align()
	if len(w.cur) > 0 {
		w.out, w.cur = append(w.out, w.cur), nil
	}
}

func (w *lzxWriter) raw(at, size int) {
	if w.have == 0 {
		w.put(0, 16)
	}
	w.align()
	for _, r := range w.recent {
		w.cur = binary.LittleEndian.AppendUint32(w.cur, uint32(r))
	}
	for i := range size {
		w.cur = append(w.cur, w.src[at+i])
		w.remember(at + i)
		if i == size-1 && size%2 == 1 {
			w.cur = append(w.cur, 0)
		}
		if (at+i+1)%frame == 0 {
			w.endFrame()
		}
	}
}

func (w *lzxWriter) remember(at int) {
	if at+3 <= len(w.src) {
		w.seen[w.three(at)] = at
	}
}

func (w *lzxWriter) three(at int) uint32 {
	return uint32(w.src[at]) | uint32(w.src[at+1])<<8 | uint32(w.src[at+2])<<16
}

func (w *lzxWriter) block(kind, at, size int) {
	var tokens []token
	mainCount, lengthCount, lowCount := make([]int, len(w.main)), make([]int, 249), make([]int, 8)
	for pos := at; pos < at+size; {
		t := w.token(kind, pos, min(at+size, (pos/frame+1)*frame))
		tokens = append(tokens, t)
		mainCount[t.symbol]++
		if t.lengthSym >= 0 {
			lengthCount[t.lengthSym]++
		}
		if t.low >= 0 {
			lowCount[t.low]++
		}
		for range t.length {
			w.remember(pos)
			pos++
		}
	}
	lowLengths := codeLengths(lowCount, 7)
	if kind == 2 {
		for _, n := range lowLengths {
			w.put(n, 3)
		}
	}
	mainLengths, lengthLengths := codeLengths(mainCount, 16), codeLengths(lengthCount, 16)
	w.tree(w.main[:256], mainLengths[:256])
	w.tree(w.main[256:], mainLengths[256:])
	w.tree(w.length, lengthLengths)
	w.main, w.length = mainLengths, lengthLengths
	mainCodes, lengthCodes, lowCodes := codes(mainLengths), codes(lengthLengths), codes(lowLengths)
	pos := at
	for _, t := range tokens {
		w.put(mainCodes[t.symbol], mainLengths[t.symbol])
		if t.lengthSym >= 0 {
			w.put(lengthCodes[t.lengthSym], lengthLengths[t.lengthSym])
		}
		w.put(t.extra, t.bits)
		if t.low >= 0 {
			w.put(lowCodes[t.low], lowLengths[t.low])
		}
		if pos += t.length; pos%frame == 0 {
			w.endFrame()
		}
	}
}

// token chooses what stands for the bytes from pos on, up to end.
func (w *lzxWriter) token(kind, pos, end int) token {
	literal := token{int(w.src[pos]), 1, -1, 0, 0, -1}
	if pos+3 > end {
		return literal
	}
	from, ok := w.seen[w.three(pos)]
	// Three bytes of the window can't be named: the last offsets take their place.
	if !ok || pos-from > w.window-3 {
		return literal
	}
	n := 0
	for n < 257 && pos+n < end && w.src[from+n] == w.src[pos+n] {
		n++
	}
	t := token{length: n, lengthSym: -1, low: -1}
	header := min(n-2, 7)
	if header == 7 {
		t.lengthSym = n - 2 - 7
	}
	slot := slices.Index(w.recent[:], pos-from)
	if slot >= 0 {
		w.recent[slot], w.recent[0] = w.recent[0], w.recent[slot]
	} else {
		w.recent = [3]int{pos - from, w.recent[0], w.recent[1]}
		formatted := pos - from + 2
		base, bits := 0, 0
		for slot = 0; ; slot++ {
			if bits = 0; slot >= 4 {
				bits = min(slot/2-1, 17)
			}
			if formatted < base+1<<bits {
				break
			}
			base += 1 << bits
		}
		t.bits, t.extra = bits, formatted-base
		if kind == 2 && bits >= 3 {
			t.low, t.extra, t.bits = t.extra&7, t.extra>>3, bits-3
		}
	}
	t.symbol = 256 + slot*8 + header
	return t
}

// tree writes code lengths as differences to those before, with runs.
func (w *lzxWriter) tree(before, lengths []int) {
	type item struct{ code, bits, extra, second int }
	var items []item
	diff := func(i int) int { return (before[i] + 17 - lengths[i]) % 17 }
	for i := 0; i < len(lengths); {
		run := 1
		for i+run < len(lengths) && lengths[i+run] == lengths[i] {
			run++
		}
		switch {
		case lengths[i] == 0 && run >= 20:
			run = min(run, 51)
			items = append(items, item{18, 5, run - 20, -1})
		case lengths[i] == 0 && run >= 4:
			run = min(run, 19)
			items = append(items, item{17, 4, run - 4, -1})
		case run >= 4:
			run = min(run, 5)
			items = append(items, item{19, 1, run - 4, diff(i)})
		default:
			run = 1
			items = append(items, item{diff(i), 0, 0, -1})
		}
		i += run
	}
	count := make([]int, 20)
	for _, it := range items {
		count[it.code]++
		if it.second >= 0 {
			count[it.second]++
		}
	}
	small := codeLengths(count, 15)
	for _, n := range small {
		w.put(n, 4)
	}
	c := codes(small)
	for _, it := range items {
		w.put(c[it.code], small[it.code])
		w.put(it.extra, it.bits)
		if it.second >= 0 {
			w.put(c[it.second], small[it.second])
		}
	}
}

// codeLengths gives the lengths of a Huffman code of at most limit bits; all of
// them are 0 where nothing is counted.
func codeLengths(count []int, limit int) []int {
	count = slices.Clone(count)
	used := 0
	for _, n := range count {
		if n > 0 {
			used++
		}
	}
	for i := 0; used == 1 && i < 2; i++ { // a code of one symbol is not complete
		count[i] = max(count[i], 1)
	}
	for {
		type node struct {
			weight int
			leaves []int
		}
		var nodes []node
		for s, n := range count {
			if n > 0 {
				nodes = append(nodes, node{n, []int{s}})
			}
		}
		lengths := make([]int, len(count))
		for len(nodes) > 1 {
			slices.SortStableFunc(nodes, func(a, b node) int { return a.weight - b.weight })
			joined := node{nodes[0].weight + nodes[1].weight, append(slices.Clone(nodes[0].leaves), nodes[1].leaves...)}
			for _, s := range joined.leaves {
				lengths[s]++
			}
			nodes = append(nodes[2:], joined)
		}
		if slices.Max(lengths) <= limit {
			return lengths
		}
		for i, n := range count {
			if n > 0 {
				count[i] = n/4 + 1
			}
		}
	}
}

// codes gives canonical codes: shorter first, then by symbol.
func codes(lengths []int) []int {
	out := make([]int, len(lengths))
	code := 0
	for n := 1; n <= 16; n++ {
		for s, l := range lengths {
			if l == n {
				out[s] = code
				code++
			}
		}
		code <<= 1
	}
	return out
}
