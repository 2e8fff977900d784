package pool

import (
	"fmt"

	"gokd/model"
	"gokd/model/types"
)

// field is where an unsigned integer lies in an entry of a table.
type field struct {
	off, size uint32 // bytes
	pos, bits uint8  // of a bit-field; bits 0: the whole
}

// get reads the field of an entry that is at least as long as its type.
func (f field) get(entry []byte) uint64 {
	var v uint64
	for i := range f.size {
		v |= uint64(entry[f.off+i]) << (8 * i)
	}
	if f.bits > 0 {
		v = v >> f.pos & (1<<f.bits - 1)
	}
	return v
}

// signed reads the field as a signed number of its size.
func (f field) signed(entry []byte) int64 {
	shift := 64 - 8*f.size
	return int64(f.get(entry)<<shift) >> shift
}

// counters are the three numbers a tracker entry has for one pool.
type counters struct{ allocs, frees, bytes field }

// layout is where the fields of the pool's structures lie in this build,
// resolved once so that the walks need no names.
type layout struct {
	trackSize       uint64 // of a _POOL_TRACKER_TABLE entry
	key             field
	nonpaged, paged counters

	bigSize                         uint64 // of a _POOL_TRACKER_BIG_PAGES entry
	bigVA, bigKey, bigType, bigSpan field
	bigBilled                       field // size 0 where the build has none
	bigFlags                        bool  // bigType is PoolFlags, from Windows 11 24H2 on

	pagePool bool
}

// maxEntry bounds the size of a table entry in bytes; real ones have 0x18 to 0x50.
const maxEntry = 0x1000

func newLayout(k *model.Kernel) (layout, error) {
	var l layout
	if k.Types == nil {
		return l, fmt.Errorf("pool: %w %d", model.ErrNoLayout, k.Build)
	}
	r := resolver{store: k.Types}
	l.trackSize = r.use("_POOL_TRACKER_TABLE")
	l.key = r.field("Key")
	l.nonpaged = counters{r.field("NonPagedAllocs"), r.field("NonPagedFrees"), r.field("NonPagedBytes")}
	l.paged = counters{r.field("PagedAllocs"), r.field("PagedFrees"), r.field("PagedBytes")}
	l.bigSize = r.use("_POOL_TRACKER_BIG_PAGES")
	l.bigVA, l.bigKey, l.bigSpan = r.field("Va"), r.field("Key"), r.field("NumberOfBytes")
	if l.bigFlags = r.has("PoolFlags") && !r.has("PoolType"); l.bigFlags {
		l.bigType = r.field("PoolFlags")
	} else {
		l.bigType = r.field("PoolType")
	}
	if r.has("ProcessBilled") { // from 20348 on
		l.bigBilled = r.field("ProcessBilled")
	}
	r.checkHeader()
	if t, err := k.Types.Type("_POOL_DESCRIPTOR"); err == nil {
		_, l.pagePool = t.Field("ListHeads")
	}
	return l, r.err
}

// resolver looks fields up; the first failure sticks.
type resolver struct {
	store types.Store
	typ   *types.Type
	err   error
}

// use makes a structure the one whose fields are asked for, and gives its size.
func (r *resolver) use(name string) uint64 {
	if r.err != nil {
		return 0
	}
	if r.typ, r.err = r.store.Type(name); r.err != nil {
		return 0
	}
	if r.typ.Size == 0 || r.typ.Size > maxEntry {
		r.err = fmt.Errorf("%s: %d bytes are no size of it", name, r.typ.Size)
	}
	return uint64(r.typ.Size)
}

func (r *resolver) has(name string) bool {
	if r.err != nil {
		return false
	}
	_, ok := r.typ.Field(name)
	return ok
}

func (r *resolver) field(name string) field {
	if r.err != nil {
		return field{}
	}
	f, ok := r.typ.Field(name)
	if !ok {
		r.err = &types.NotFoundError{What: "field", Name: name, In: r.typ.Name}
		return field{}
	}
	size := uint32(0)
	if f.Type != nil {
		size = f.Type.Size
	}
	end := uint64(f.Offset) + uint64(size)
	if size == 0 || size > 8 || end > uint64(r.typ.Size) || uint32(f.BitPos)+uint32(f.BitLen) > 8*size {
		r.err = fmt.Errorf("%s.%s: offset %#x, %d bytes: no integer inside it", r.typ.Name, name, f.Offset, size)
		return field{}
	}
	return field{f.Offset, size, f.BitPos, f.BitLen}
}

// headerBits are the bits of _POOL_HEADER's first eight bytes on every x64
// build from 2003 on; only the storage units that symbol files give them vary.
// The decoder of pages relies on them.
var headerBits = []struct {
	name      string
	pos, bits uint32
}{
	{"PreviousSize", 0, 8}, {"PoolIndex", 8, 8}, {"BlockSize", 16, 8}, {"PoolType", 24, 8}, {"PoolTag", 32, 32},
}

// checkHeader refuses a layout whose pool header is another one.
func (r *resolver) checkHeader() {
	if size := r.use("_POOL_HEADER"); r.err == nil && size != HeaderSize {
		r.err = fmt.Errorf("_POOL_HEADER: %#x bytes, an x64 kernel has %#x", size, HeaderSize)
	}
	for _, want := range headerBits {
		f := r.field(want.name)
		pos, bits := 8*f.off+uint32(f.pos), uint32(f.bits)
		if bits == 0 {
			bits = 8 * f.size
		}
		if r.err == nil && (pos != want.pos || bits != want.bits) {
			r.err = fmt.Errorf("_POOL_HEADER.%s: bits %d+%d, an x64 kernel has %d+%d", want.name, pos, bits, want.pos, want.bits)
		}
	}
}
