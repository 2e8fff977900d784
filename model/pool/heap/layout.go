package heap

import (
	"fmt"
	"strings"

	"gokd/model"
	"gokd/model/types"
)

// field is where an unsigned integer lies in a structure.
type field struct {
	off, size uint32 // bytes
	pos, bits uint8  // of a bit-field; bits 0: the whole
}

// get reads the field from the structure's bytes; 0 where they end before it.
func (f field) get(b []byte) uint64 {
	if uint64(f.off)+uint64(f.size) > uint64(len(b)) {
		return 0
	}
	var v uint64
	for i := range f.size {
		v |= uint64(b[f.off+i]) << (8 * i)
	}
	if f.bits > 0 {
		v = v >> f.pos & (1<<f.bits - 1)
	}
	return v
}

// is tells whether the field has those bits of the structure.
func (f field) is(at, bits uint32) bool {
	n := uint32(f.bits)
	if n == 0 {
		n = f.size * 8
	}
	return f.off*8+uint32(f.pos) == at && n == bits
}

// layout is where the fields of the heaps' structures lie in this kernel,
// resolved once so that the walks need no names. Nothing here depends on a build
// number: a kernel whose types lack a field is refused.
type layout struct {
	// _EX_POOL_HEAP_MANAGER_STATE and _EX_HEAP_POOL_NODE
	globals, numberOfPools field
	poolNode, nodeSize     uint32
	maxNodes               uint32
	heaps, heapsOfNode     uint32
	special, specials      uint32
	lookasides             uint32 // 0 lists where the types have none
	lookasidesOfNode       uint32

	heapKey, lfhKey field // _RTLP_HP_HEAP_GLOBALS

	// _EX_HEAP_SESSION_STATE, behind _MM_SESSION_SPACE.HeapState
	sessionHeap, sessionSpecial, sessionGlobals uint32
	hasSession                                  bool

	heap    heapLayout
	context contextLayout
	segment segmentLayout
	vs      vsLayout
	lfh     lfhLayout
	large   largeLayout
	lists   listLayout
}

// heapLayout is _SEGMENT_HEAP.
type heapLayout struct {
	size                           uint32
	signature, reserved, committed field
	contexts, vs, largeTree        uint32
}

// contextLayout is _HEAP_SEG_CONTEXT.
type contextLayout struct {
	size                   uint32
	mask, shift, first, of field
	list                   uint32
}

// segmentLayout is _HEAP_PAGE_SEGMENT and _HEAP_PAGE_RANGE_DESCRIPTOR.
type segmentLayout struct {
	size                           uint32
	link                           uint32
	signature                      field
	array, count, stride           uint32
	tree, unused, flags, unitCount field
}

// vsLayout is _HEAP_VS_SUBSEGMENT and _HEAP_VS_CHUNK_HEADER.
type vsLayout struct {
	header          uint32 // bytes before the first chunk
	size, signature field
	chunk           uint32 // bytes of a chunk header

	cost, unsafeSize, unsafePrev, allocated field // of the eight bytes that are encoded
	pageOffset                              field // of the chunk header
}

// lfhLayout is _HEAP_LFH_SUBSEGMENT.
type lfhLayout struct {
	offsets               uint32 // where the encoded sizes lie
	blockSize, firstBlock field  // in them
	count                 field
	bitmap                uint32
}

// largeLayout is _HEAP_LARGE_ALLOC_DATA, _RTL_RB_TREE and _RTL_BALANCED_NODE.
type largeLayout struct {
	known                  bool
	size, node             uint32
	address, unused, pages field
	root, encoded          field
	left, right, parent    field
	treeSize, balancedSize uint32
}

// listLayout is _RTL_DYNAMIC_LOOKASIDE, _RTL_LOOKASIDE and where delayed frees
// wait.
type listLayout struct {
	known           bool
	size            uint32 // of a _RTL_DYNAMIC_LOOKASIDE
	buckets, count  uint32
	stride, head    uint32
	bucketCount     field
	delayKnown      bool
	delay           uint32 // in _HEAP_VS_CONTEXT, or where slots in each of them
	slots           bool   // _HEAP_VS_AFFINITY_SLOT, which the context's map leads to
	mapRef, mask    field  // in _HEAP_VS_CONTEXT
	mapStride       uint32
	slotRef, slotOf field // in an entry of the map, in a slot
}

// resolver looks fields up and remembers what was not there.
type resolver struct {
	store types.Store
	typ   *types.Type
	err   error
}

// maxStructure bounds the size of a structure that is read whole; the largest,
// _HEAP_PAGE_SEGMENT, has 0x2000 bytes.
const maxStructure = 0x10000

func (r *resolver) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// use chooses the type that field and offset look in, and gives its size.
func (r *resolver) use(name string) uint32 {
	r.typ = &types.Type{Name: name}
	t, err := r.store.Type(name)
	if err != nil {
		r.fail("%w", err)
		return 0
	}
	r.typ = t
	return t.Size
}

// member follows a dotted name.
func (r *resolver) member(name string) (field, *types.Type) {
	f, t := field{}, r.typ
	for part := range strings.SplitSeq(name, ".") {
		if len(t.Fields) == 0 { // named only where it is a member
			if full, err := r.store.Type(t.Name); err == nil {
				t = full
			}
		}
		m, ok := t.Field(part)
		if !ok {
			r.fail("%w", &types.NotFoundError{What: "field", Name: name, In: r.typ.Name})
			return field{}, &types.Type{}
		}
		f.off += m.Offset
		f.size, f.pos, f.bits = m.Type.Size, m.BitPos, m.BitLen
		t = m.Type
	}
	return f, t
}

// field finds an integer.
func (r *resolver) field(name string) field {
	f, _ := r.member(name)
	if r.err == nil && (f.size == 0 || f.size > 8 || uint64(f.off)+uint64(f.size) > maxStructure*0x100) {
		r.fail("%s.%s is %d bytes at %#x: no integer", r.typ.Name, name, f.size, f.off)
	}
	return f
}

// offset finds where a member of any type begins.
func (r *resolver) offset(name string) uint32 {
	f, _ := r.member(name)
	return f.off
}

// array finds an array: where it begins, how many elements it has, and the size
// of one.
func (r *resolver) array(name string) (off, count, stride uint32) {
	f, t := r.member(name)
	if t.Elem == nil || t.Count == 0 || t.Elem.Size == 0 {
		r.fail("%s.%s is no array", r.typ.Name, name)
		return 0, 0, 0
	}
	return f.off, t.Count, t.Elem.Size
}

func newLayout(k *model.Kernel) (*layout, error) {
	if k.Types == nil {
		return nil, fmt.Errorf("%w for build %d", model.ErrNoLayout, k.Build)
	}
	l, r := new(layout), &resolver{store: k.Types}
	l.roots(r)
	l.structures(r)
	l.subsegments(r)
	if r.err == nil {
		r.err = l.check()
	}
	// What follows is of use where it is there, and no reason to refuse.
	l.sessions(&resolver{store: k.Types})
	l.largeTree(&resolver{store: k.Types})
	l.lookasideLists(&resolver{store: k.Types})
	return l, r.err
}

func (l *layout) roots(r *resolver) {
	r.use("_EX_POOL_HEAP_MANAGER_STATE")
	l.globals = r.field("HeapManager.Globals")
	l.numberOfPools = r.field("NumberOfPools")
	l.poolNode, l.maxNodes, l.nodeSize = r.array("PoolNode")
	l.special, l.specials, _ = r.array("SpecialHeaps")
	r.use("_EX_HEAP_POOL_NODE")
	l.heaps, l.heapsOfNode, _ = r.array("Heaps")
	r.use("_RTLP_HP_HEAP_GLOBALS")
	l.heapKey, l.lfhKey = r.field("HeapKey"), r.field("LfhKey")
}

func (l *layout) structures(r *resolver) {
	h := &l.heap
	h.size = r.use("_SEGMENT_HEAP")
	h.signature = r.field("Signature")
	h.reserved, h.committed = r.field("LargeReservedPages"), r.field("LargeCommittedPages")
	h.contexts, _, l.context.size = r.array("SegContexts")
	h.vs, h.largeTree = r.offset("VsContext"), r.offset("LargeAllocMetadata")

	c := &l.context
	r.use("_HEAP_SEG_CONTEXT")
	c.mask, c.shift, c.first, c.of = r.field("SegmentMask"), r.field("UnitShift"), r.field("FirstDescriptorIndex"), r.field("Heap")
	c.list = r.offset("SegmentListHead")

	s := &l.segment
	s.size = r.use("_HEAP_PAGE_SEGMENT")
	s.link, s.signature = r.offset("ListEntry"), r.field("Signature")
	s.array, s.count, s.stride = r.array("DescArray")
	r.use("_HEAP_PAGE_RANGE_DESCRIPTOR")
	s.tree, s.unused = r.field("TreeSignature"), r.field("UnusedBytes")
	s.flags, s.unitCount = r.field("RangeFlags"), r.field("UnitSize")
}

func (l *layout) subsegments(r *resolver) {
	v := &l.vs
	v.header = (r.use("_HEAP_VS_SUBSEGMENT") + unit - 1) &^ (unit - 1)
	v.size, v.signature = r.field("Size"), r.field("Signature")
	v.chunk = r.use("_HEAP_VS_CHUNK_HEADER")
	v.pageOffset = r.field("EncodedSegmentPageOffset")
	r.use("_HEAP_VS_CHUNK_HEADER_SIZE")
	v.cost, v.unsafeSize = r.field("MemoryCost"), r.field("UnsafeSize")
	v.unsafePrev, v.allocated = r.field("UnsafePrevSize"), r.field("Allocated")

	f := &l.lfh
	r.use("_HEAP_LFH_SUBSEGMENT")
	f.count = r.field("BlockCount")
	f.offsets, f.bitmap = r.offset("BlockOffsets"), r.offset("BlockBitmap")
	r.use("_HEAP_LFH_SUBSEGMENT_ENCODED_OFFSETS")
	f.blockSize, f.firstBlock = r.field("BlockSize"), r.field("FirstBlockOffset")
}

// check refuses layouts that the decoders were not written for. Those of all
// known x64 builds pass.
func (l *layout) check() error {
	v, s := l.vs, l.segment
	switch {
	case v.chunk != unit || !v.cost.is(0, 16) || !v.unsafeSize.is(16, 16) || !v.unsafePrev.is(32, 16) || !v.allocated.is(48, 8) || !v.pageOffset.is(64, 8):
		return fmt.Errorf("_HEAP_VS_CHUNK_HEADER differs from the form that is known")
	case s.size > maxStructure || s.size < 2*pageSize || s.array != 0 || s.count != units || s.stride*s.count != s.size || s.stride < 0x10:
		return fmt.Errorf("_HEAP_PAGE_SEGMENT of %#x bytes with %d descriptors differs from the form that is known", s.size, s.count)
	case l.heap.size > maxStructure || l.context.size > maxStructure || l.nodeSize > maxStructure:
		return fmt.Errorf("_SEGMENT_HEAP of %#x bytes is larger than any known", l.heap.size)
	case !l.lfh.blockSize.is(0, 16) || !l.lfh.firstBlock.is(16, 16) || l.lfh.bitmap > 0x100 || l.lfh.offsets > 0x100:
		return fmt.Errorf("_HEAP_LFH_SUBSEGMENT differs from the form that is known")
	case v.header > 0x100 || v.size.size != 2 || v.signature.bits != 15:
		return fmt.Errorf("_HEAP_VS_SUBSEGMENT differs from the form that is known")
	}
	return nil
}

// sessions finds the heaps in a session's state. Where the type is not known,
// its members are: in the public tables of 17763 to 22000 the state is a
// _RTLP_HP_HEAP_MANAGER, a RTL_HP_ENV_HANDLE and the two pointers, one behind
// the other. A heap proves itself by its signatures in any case.
func (l *layout) sessions(r *resolver) {
	if t, err := r.store.Type("_MM_SESSION_SPACE"); err != nil {
		return
	} else if _, ok := t.Field("HeapState"); !ok {
		return
	}
	if _, err := r.store.Type("_EX_HEAP_SESSION_STATE"); err == nil {
		r.use("_EX_HEAP_SESSION_STATE")
		l.sessionGlobals = r.offset("HeapManager.Globals")
		l.sessionHeap, l.sessionSpecial = r.offset("PagedHeap"), r.offset("SpecialPoolHeap")
	} else {
		manager := r.use("_RTLP_HP_HEAP_MANAGER")
		l.sessionGlobals = r.offset("Globals")
		l.sessionHeap = manager + r.use("RTL_HP_ENV_HANDLE")
		l.sessionSpecial = l.sessionHeap + 8
	}
	l.hasSession = r.err == nil
}

func (l *layout) largeTree(r *resolver) {
	g := &l.large
	g.size = r.use("_HEAP_LARGE_ALLOC_DATA")
	g.node, g.address, g.unused, g.pages = r.offset("TreeNode"), r.field("VirtualAddress"), r.field("UnusedBytes"), r.field("AllocatedPages")
	g.treeSize = r.use("_RTL_RB_TREE")
	g.root, g.encoded = r.field("Root"), r.field("Encoded")
	g.balancedSize = r.use("_RTL_BALANCED_NODE")
	g.left, g.right, g.parent = r.field("Left"), r.field("Right"), r.field("ParentValue")
	g.known = r.err == nil && g.size <= 0x1000 && g.treeSize <= 0x1000 && g.balancedSize <= 0x1000
}

func (l *layout) lookasideLists(r *resolver) {
	n := &l.lists
	r.use("_EX_HEAP_POOL_NODE")
	l.lookasides, l.lookasidesOfNode, n.size = r.array("Lookasides")
	r.use("_RTL_DYNAMIC_LOOKASIDE")
	n.bucketCount = r.field("BucketCount")
	n.buckets, n.count, n.stride = r.array("Buckets")
	r.use("_RTL_LOOKASIDE")
	n.head = r.offset("ListHead")
	n.known = r.err == nil && n.size <= maxStructure && uint64(n.buckets)+uint64(n.count)*uint64(n.stride) <= uint64(n.size)

	d := &resolver{store: r.store}
	d.use("_HEAP_VS_CONTEXT")
	n.delay = d.offset("DelayFreeContext.ListHead")
	if n.delayKnown = d.err == nil; n.delayKnown {
		return
	}
	// From Windows 11 24H2 on a context has slots, each with lists of its own.
	d = &resolver{store: r.store}
	d.use("_HEAP_VS_CONTEXT")
	n.mapRef, n.mask = d.field("SlotMapRef"), d.field("AffinityMask")
	n.mapStride = d.use("_HEAP_VS_SLOT_MAP")
	n.slotRef = d.field("SlotRef")
	d.use("_HEAP_VS_AFFINITY_SLOT")
	n.slotOf, n.delay = d.field("VsContext"), d.offset("DelayFreeContext.ListHead")
	n.delayKnown = d.err == nil && n.mapStride > 0 && n.mapStride <= 0x40
	n.slots = n.delayKnown
}
