package model

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf16"

	"gokd/model/mem"
	"gokd/model/types"
)

// Module is a loaded image.
type Module struct {
	Name     string // as kd prints it: "nt", "Ntfs"
	Image    string // base name of the image file: "ntoskrnl.exe"
	Path     string // full path as the loader has it
	Base     mem.VA
	Size     uint64 // bytes
	Entry    mem.VA
	CheckSum uint32 // of the loader entry or PE header
	Loader   mem.VA // its loader entry; 0 where there is none
	// ExceptionTable and ExceptionSize are the image's function table as the
	// loader entry names it; zero where it does not.
	ExceptionTable mem.VA
	ExceptionSize  uint32

	k         *Kernel
	timestamp uint32 // from a triage list; 0: ask the header
	once      sync.Once
	image     *types.Image
	imageErr  error
	symOnce   again
	symbols   types.Symbols
	store     types.Store // of the table that symbols come from; nil where it has none
	symErr    error
	asked     atomic.Bool // symbols, store and symErr are set
}

// End is the address after the image's last byte.
func (m *Module) End() mem.VA { return m.Base + mem.VA(m.Size) }

// Contains reports whether an address lies in the image.
func (m *Module) Contains(at mem.VA) bool { return at >= m.Base && uint64(at-m.Base) < m.Size }

// Header gives the facts of the image's PE header in memory.
func (m *Module) Header() (*types.Image, error) {
	m.once.Do(func() {
		m.image, m.imageErr = types.ParseImage(m.k.imageReader(m.Base))
	})
	return m.image, m.imageErr
}

// Timestamp gives TimeDateStamp of the image; ok is false where neither a list
// nor the header gives it.
func (m *Module) Timestamp() (uint32, bool) {
	if m.timestamp != 0 {
		return m.timestamp, true
	}
	h, err := m.Header()
	if err != nil {
		return 0, false
	}
	return h.Timestamp, true
}

// ID gives the identity of the image and its symbols, as far as it is known.
func (m *Module) ID() types.ImageID {
	id := types.ImageID{Name: m.Image, Size: uint32(m.Size)}
	id.Timestamp, _ = m.Timestamp()
	if h, _ := m.Header(); h != nil {
		id.PDB, id.GUID, id.Age = h.Debug.PDB, h.Debug.GUID, h.Debug.Age
	}
	if m.Base == m.k.Base && id.Zero() {
		id = m.k.ID
	}
	return id
}

// imageReader reads an image in memory by RVA.
func (k *Kernel) imageReader(base mem.VA) types.RVAReader {
	return types.RVAReaderFunc(func(p []byte, rva uint32) (int, error) {
		return k.Space.ReadVirtual(p, base+mem.VA(rva))
	})
}

// Symbols gives the module's names: a table that matches its identity, else
// its export table. The error says why there is none.
func (m *Module) Symbols(ctx context.Context) (types.Symbols, error) {
	m.symOnce.Do(func() {
		m.symbols, m.symErr = m.findSymbols(ctx)
		m.asked.Store(true)
		// A search that was interrupted proves nothing: the next asker looks again.
		m.symOnce.done = ctx.Err() == nil
	})
	return m.symbols, m.symErr
}

// again is a sync.Once that can be undone.
type again struct {
	mu   sync.Mutex
	done bool
}

// Do calls f, which may reset done, unless it was done.
func (o *again) Do(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.done {
		o.done = true
		f()
	}
}

// ForgetSymbols has the module's symbols looked for anew when they are next
// asked for. Nobody may be asking meanwhile.
func (m *Module) ForgetSymbols() {
	m.symOnce.mu.Lock()
	defer m.symOnce.mu.Unlock()
	m.symbols, m.store, m.symErr, m.symOnce.done = nil, nil, nil, false
	m.asked.Store(false)
}

// LoadedSymbols tells what Symbols found, without looking. asked is false where
// it was not asked yet; s is nil where it found nothing.
func (m *Module) LoadedSymbols() (s types.Symbols, asked bool) {
	if !m.asked.Load() {
		return nil, false
	}
	return m.symbols, true
}

// Types gives the layouts of the module's structures: for the kernel those that
// the whole model uses, for other modules those of the table that matches its
// identity. The error says why there are none; an export table tells no types.
func (m *Module) Types(ctx context.Context) (types.Store, error) {
	if m.Base == m.k.Base && m.k.Types != nil {
		return m.k.Types, nil
	}
	_, err := m.Symbols(ctx)
	switch {
	case m.store != nil:
		return m.store, nil
	case err == nil:
		err = &types.NotFoundError{What: "table with types", Name: m.Image, In: "the symbol path"}
	}
	return nil, err
}

// LoadedTypes gives the layouts that Types found, without looking; nil where it
// was not asked yet or found nothing.
func (m *Module) LoadedTypes() types.Store {
	if m.Base == m.k.Base && m.k.Types != nil {
		return m.k.Types
	}
	if !m.asked.Load() {
		return nil
	}
	return m.store
}

// SymbolOrigin tells where the module's symbols came from, without looking for
// them; false where none were loaded from a table.
func (m *Module) SymbolOrigin() (types.Origin, bool) {
	s, _ := m.LoadedSymbols()
	if o, ok := s.(interface{ Origin() types.Origin }); ok {
		return o.Origin(), true
	}
	switch {
	case s == nil:
		return types.Origin{}, false
	case m.store != nil:
		return m.store.Origin(), true
	case m.Base == m.k.Base && m.k.symbols != nil && s == m.k.symbols && m.k.Types != nil:
		return m.k.Types.Origin(), true
	}
	return types.Origin{}, false
}

func (m *Module) findSymbols(ctx context.Context) (types.Symbols, error) {
	id := m.ID()
	if m.Base == m.k.Base && m.k.symbols != nil {
		return m.k.symbols, nil
	}
	var why error = &types.NotFoundError{What: "symbol table", Name: m.Image, In: "the symbol path"}
	if m.k.Source.Symbols != nil && !id.Zero() {
		store, s, err := m.k.Source.Symbols.Resolve(ctx, id)
		if err == nil {
			m.store = store
		}
		if err == nil && s != nil {
			return s, nil
		}
		if err != nil {
			why = err
		}
	}
	switch e, err := m.exports(); {
	case err == nil:
		return e, nil
	case errors.Is(err, errExports):
		why = err
	}
	if m.Base == m.k.Base && m.k.globals != nil {
		return m.k.globals, nil
	}
	return nil, why
}

// exports reads the image's export table. An image without a name is an error.
func (m *Module) exports() (*types.Exports, error) {
	spent := &m.k.Modules.exports
	if spent.Load() > maxExports {
		return nil, fmt.Errorf("exports of %s: %w", m.Image, errExports)
	}
	h, err := m.Header()
	if err != nil {
		return nil, err
	}
	e, err := types.ParseExports(m.k.imageReader(m.Base), h)
	if e != nil {
		spent.Add(int64(e.Cost()))
	}
	if err == nil && e.Len() == 0 {
		err = types.ErrNoExports
	}
	return e, err
}

// Modules is the list of loaded images, findable by address.
type Modules struct {
	All    []*Module // in load order
	sorted []*Module // by base
	Err    error     // why the list ends early; nil where it is whole

	exports atomic.Int64 // cost of the export tables read, in bytes of memory
}

// maxExports bounds that cost. The export tables of all images of a real
// machine have a few megabytes.
const maxExports = 48 << 20

var errExports = errors.New("the export tables of the images are larger than any machine's")

// Add appends a module.
func (ms *Modules) add(m *Module) {
	ms.All = append(ms.All, m)
	i, _ := slices.BinarySearchFunc(ms.sorted, m, func(a, b *Module) int {
		return cmpVA(a.Base, b.Base)
	})
	ms.sorted = slices.Insert(ms.sorted, i, m)
}

func cmpVA(a, b mem.VA) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// At finds the module that holds an address.
func (ms *Modules) At(at mem.VA) (*Module, bool) {
	if ms == nil {
		return nil, false
	}
	i, found := slices.BinarySearchFunc(ms.sorted, at, func(m *Module, at mem.VA) int { return cmpVA(m.Base, at) })
	if !found {
		i--
	}
	// A lying list can hold overlapping modules: look at a few below.
	for j := i; j >= 0 && j > i-4; j-- {
		if ms.sorted[j].Contains(at) {
			return ms.sorted[j], true
		}
	}
	return nil, false
}

// ByName finds a module by kd's name or image name, whatever its case.
func (ms *Modules) ByName(name string) (*Module, bool) {
	if ms == nil {
		return nil, false
	}
	for _, m := range ms.All {
		if strings.EqualFold(m.Name, name) || strings.EqualFold(m.Image, name) {
			return m, true
		}
	}
	return nil, false
}

// loaderEntry is where the members of the loader's entry for a driver lie.
type loaderEntry struct {
	links, exception, exceptionSize, base, entry, size, path, name, sum uint32
}

// ldrDllBase serves while there are no types yet.
const ldrDllBase = 0x30

// maxLoaderEntry bounds an offset in the loader's entry; real ones have 0xa0 bytes.
const maxLoaderEntry = 0x1000

// loaderEntry gives the places that the types tell, else those of every 64-bit
// build from XP to 11 (_KLDR_DATA_TABLE_ENTRY of the public type tables), so
// that modules can be listed without a layout.
func (k *Kernel) loaderEntry() loaderEntry {
	e := loaderEntry{0, 0x10, 0x18, ldrDllBase, 0x38, 0x40, 0x48, 0x58, 0x78}
	for _, f := range []struct {
		to   *uint32
		name string
	}{
		{&e.links, "InLoadOrderLinks"}, {&e.exception, "ExceptionTable"}, {&e.exceptionSize, "ExceptionTableSize"},
		{&e.base, "DllBase"}, {&e.entry, "EntryPoint"}, {&e.size, "SizeOfImage"}, {&e.path, "FullDllName"},
		{&e.name, "BaseDllName"}, {&e.sum, "CheckSum"},
	} {
		*f.to = k.OffsetOr(*f.to, maxLoaderEntry, "_KLDR_DATA_TABLE_ENTRY", f.name)
	}
	return e
}

// bytes is how much of an entry is read at once, strings apart.
func (e loaderEntry) bytes() int {
	return int(max(e.exception, e.exceptionSize, e.base, e.entry, e.size, e.sum)) + 8
}

const (
	maxModuleSize = 1 << 31
	kernelHalf    = mem.VA(0xffff800000000000) // of the address space
)

// loadModules fills k.Modules from PsLoadedModuleList or from the list of a
// triage dump.
func (k *Kernel) loadModules(ctx context.Context) {
	k.Modules = &Modules{}
	if t := k.Source.Crash.Triage; t != nil && len(t.Drivers) > 0 {
		for _, d := range t.Drivers {
			if d.Base == 0 {
				continue
			}
			k.Modules.add(k.named(&Module{
				Path: d.Path, Image: baseName(d.Path), Base: d.Base, Size: uint64(d.Size),
				Entry: d.Entry, CheckSum: d.CheckSum, timestamp: d.Timestamp, k: k,
			}))
		}
		return
	}
	head, err := k.Global("PsLoadedModuleList")
	if err != nil {
		k.Modules.Err = err
		return
	}
	entry := k.loaderEntry()
	for at, err := range k.links(ctx, head, MaxModules) {
		if err != nil {
			k.Modules.Err = err
			break
		}
		if m, err := k.readLoaderEntry(entry, at-mem.VA(entry.links)); err == nil {
			k.Modules.add(m)
		} else {
			k.warn("module list: entry at %#x: %v", uint64(at), err)
		}
	}
	k.addKernel()
}

// addKernel adds the kernel where no entry of the list could be read: its image
// was found another way, and most of what a dump shows refers to it.
func (k *Kernel) addKernel() {
	if len(k.Modules.All) > 0 || k.Base == 0 {
		return
	}
	if k.Modules.Err == nil {
		k.Modules.Err = errors.New("no entry of the list is of a known form; the symbols of this kernel tell its form")
	}
	m := &Module{k: k, Base: k.Base, Image: k.ID.Name, Path: k.ID.Name, Size: uint64(k.ID.Size)}
	if h, err := m.Header(); err == nil {
		m.Size, m.CheckSum, m.Entry = uint64(h.Size), h.CheckSum, k.Base+mem.VA(h.EntryPoint)
	}
	k.Modules.add(k.named(m))
}

// notInNames are the characters that kd turns into underscores in the names of
// modules, since its expressions give them a meaning.
var notInNames = strings.NewReplacer("-", "_", ".", "_", " ", "_")

// named gives a module kd's name for it: the image's without extension, "nt"
// for the kernel whatever its file is called.
func (k *Kernel) named(m *Module) *Module {
	m.Name = notInNames.Replace(strings.TrimSuffix(m.Image, path.Ext(m.Image)))
	if m.Base == k.Base && k.Base != 0 || len(k.Modules.All) == 0 && kernelImage(m.Image) {
		m.Name = "nt"
	}
	return m
}

func kernelImage(name string) bool {
	switch strings.ToLower(name) {
	case "ntoskrnl.exe", "ntkrnlmp.exe", "ntkrnlpa.exe", "ntkrpamp.exe", "ntkrla57.exe":
		return true
	}
	return false
}

func (k *Kernel) readLoaderEntry(e loaderEntry, at mem.VA) (*Module, error) {
	b, err := k.Space.Bytes(at, e.bytes())
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	m := &Module{
		k: k, Base: mem.VA(le.Uint64(b[e.base:])), Size: uint64(le.Uint32(b[e.size:])),
		Entry: mem.VA(le.Uint64(b[e.entry:])), CheckSum: le.Uint32(b[e.sum:]), Loader: at,
		ExceptionTable: mem.VA(le.Uint64(b[e.exception:])), ExceptionSize: le.Uint32(b[e.exceptionSize:]),
	}
	if m.Base < kernelHalf || m.Base%mem.PageSize != 0 || m.Size > maxModuleSize {
		return nil, fmt.Errorf("image base %#x, size %#x: no module", uint64(m.Base), m.Size)
	}
	m.Path, err = k.UnicodeString(at+mem.VA(e.path), 1024)
	if err != nil {
		k.warn("module at %#x: its path cannot be read: %v", uint64(m.Base), err)
	}
	m.Image, err = k.UnicodeString(at+mem.VA(e.name), 512)
	if err != nil || m.Image == "" {
		m.Image = baseName(m.Path)
	}
	return k.named(m), nil
}

func baseName(p string) string {
	if i := strings.LastIndexAny(p, `\/`); i >= 0 {
		return p[i+1:]
	}
	return p
}

// links walks a doubly linked list of untyped links, checked like List.
func (k *Kernel) links(ctx context.Context, head mem.VA, limit int) func(func(mem.VA, error) bool) {
	return func(yield func(mem.VA, error) bool) {
		w := &listWalk{k: k, ctx: ctx, head: head, limit: limit, seen: map[mem.VA]struct{}{}}
		emit := func(at mem.VA) bool { return yield(at, nil) }
		stop, broken := w.forward(emit)
		if stop || broken == nil || !w.backward(emit) {
			return
		}
		broken.What, broken.Shown = "module", len(w.seen)
		yield(0, broken)
	}
}

var errStringSize = errors.New("length is larger than the buffer")

// ReadUnicodeString reads the 64-bit _UNICODE_STRING {Length u16, MaximumLength
// u16, Buffer +8} at an address; lengths are bytes. At most max UTF-16 units
// are read.
func ReadUnicodeString(s *mem.Space, at mem.VA, max int) (string, error) {
	b, err := s.Bytes(at, 16)
	if err != nil {
		return "", err
	}
	n, room := int(binary.LittleEndian.Uint16(b)), int(binary.LittleEndian.Uint16(b[2:]))
	if n > room {
		return "", fmt.Errorf("string at %#x: %d bytes of %d: %w", uint64(at), n, room, errStringSize)
	}
	if n = min(n/2, max); n == 0 {
		return "", nil
	}
	text, err := s.Bytes(mem.VA(binary.LittleEndian.Uint64(b[8:])), 2*n)
	units := make([]uint16, len(text)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(text[2*i:])
	}
	return string(utf16.Decode(units)), err
}
