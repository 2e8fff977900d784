package snapshot

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"gokd/model/mem"
	"gokd/model/types"
)

const kernelFile = "ntoskrnl.exe"

// profile is what a Windows build adds to its layout: where its address space
// has what. A further build is a further profile.
type profile struct {
	build        uint32
	lab          string
	csd          string
	major, minor uint64 // of the version that user mode sees
	kdbgSize     uint32
	selfIndex    uint64 // of the top-level table's entry for itself
	kernelBase   mem.VA
	drivers      mem.VA // where images without a base go
	stacks       mem.VA
	pcrs         mem.VA // KPCRs of processors behind the first
	nonPaged     mem.VA
	paged        mem.VA
	pagedSize    uint64
	pfnDatabase  mem.VA
	tickLength   uint64
	typeIndex    map[string]uint64 // of object types, in ObTypeIndexTable
}

// profiles lists the builds. The addresses of Windows 7 are those of its fixed
// x64 address space map (Windows Internals, 6th edition, chapter 10); the type
// indices those that Volatility prints for every Windows 7 image.
var profiles = []*profile{{
	build: 7601, lab: "7601.17514.amd64fre.win7sp1_rtm.101119-1850", csd: "Service Pack 1", major: 6, minor: 1,
	kdbgSize: 0x340, selfIndex: 0x1ed,
	kernelBase: 0xfffff80002a00000, drivers: 0xfffff88000c00000, stacks: 0xfffff88002000000, pcrs: 0xfffff880009e8000,
	nonPaged: 0xfffffa8000c00000, paged: 0xfffff8a000000000, pagedSize: 0x80000000, pfnDatabase: 0xfffffa8000000000,
	tickLength: 156001,
	typeIndex: map[string]uint64{
		"Type": 2, "Directory": 3, "SymbolicLink": 4, "Token": 5, "Job": 6, "Process": 7, "Thread": 8,
		"Event": 12, "Mutant": 14, "Semaphore": 16, "Timer": 17, "Device": 25, "Driver": 26, "IoCompletion": 27, "File": 28,
	},
}}

// machine is the simulated machine while it is built.
type machine struct {
	spec    *scenario
	variant *Variant
	vars    []variable // the kernel's, see variables
	prof    *profile
	layout  *layouts
	phys    *physical
	kernel  *space
	taken   ranges
	err     error
	serial  uint32 // of automatic ids
	details *exceptionLayout

	images           []*image
	byName           map[string]*image
	nt               *image
	nonpaged, paged  *pool
	pagedDescriptors [2]mem.VA
	nonpagedBytes    uint64 // its whole size, with what is not captured

	cpus      []*processor
	procs     []*process // System first, without Idle
	idle      *process
	threads   []*thread // all but the idle ones, in the scenario's order
	objects   []*dispatcher
	resources []*resource
	names     map[string]any // what a scenario can refer to
	types     map[string]mem.VA
	sessions  map[uint64]mem.VA
	deviceMap mem.VA
	drivers   map[*image]mem.VA // device objects

	ticks, tickLength uint64
	now               uint64 // FILETIME
	memory            uint64 // bytes of the machine
}

// build makes the machine: first names and stacks, from which the images
// follow, then everything that lies in memory.
func build(s *scenario, v *Variant) (*machine, error) {
	m := &machine{spec: s, variant: v, byName: map[string]*image{}, names: map[string]any{}, types: map[string]mem.VA{}, drivers: map[*image]mem.VA{}, sessions: map[uint64]mem.VA{}}
	for _, step := range []func() error{
		m.choose, m.plan, m.planImages,
		m.memoryMap, m.placeObjects,
		m.writeObjects, m.writeImages, m.finish,
	} {
		if err := step(); err != nil {
			return nil, asScenario(err)
		}
		if m.err != nil {
			return nil, asScenario(m.err)
		}
	}
	return m, nil
}

// asScenario gives an error without a line the scenario's class.
func asScenario(err error) error {
	if _, ok := err.(*lineError); ok {
		return err
	}
	return &lineError{err: err}
}

// choose picks build, layout, sizes and clocks.
func (m *machine) choose() error {
	s := m.spec
	want := uint32(s.Build.or(uint64(profiles[0].build)))
	i := slices.IndexFunc(profiles, func(p *profile) bool { return p.build == want })
	if i < 0 {
		return wrong(s.Build.line, "build %d: only build %d is possible", s.Build.v, profiles[0].build)
	}
	m.prof = profiles[i]
	m.layout = newLayouts(types.Embedded(m.prof.build)[0].As(types.MatchSynthetic))
	m.useVariant()
	m.phys = newPhysical()
	m.kernel = newSpace(m.phys, rootFrame, m.prof.selfIndex)
	m.details = m.exceptionFrame()
	m.memory = s.Memory.or(4<<30) &^ (pageSize - 1)
	if m.memory < 64<<20 {
		return wrong(s.Memory.line, "memory of %d bytes: at least 64MB are needed", m.memory)
	}
	if s.Processors.set && s.Processors.v == 0 {
		return wrong(s.Processors.line, "processors: at least one is needed")
	}
	m.ticks = s.Clock.Ticks.or(2_000_000)
	m.tickLength = s.Clock.Length.or(m.prof.tickLength)
	if m.tickLength < 1000 || m.tickLength > 300000 || m.ticks > 1<<32-1 {
		return wrong(cmp.Or(s.Clock.Length.line, s.Clock.Ticks.line), "clock: a tick has 1000 to 300000 units of 100 ns, and there are at most %d", uint32(1<<32-1))
	}
	at, err := time.Parse(time.RFC3339, s.Time.or("2012-02-09T09:41:17Z"))
	if err != nil || at.Year() < 1970 || at.Year() > 2400 {
		return wrong(s.Time.line, "time %q: want it as 2012-02-09T09:41:17Z", s.Time.s)
	}
	m.now = fileTime(at)
	return nil
}

// fileTime counts 100 ns since 1601.
func fileTime(t time.Time) uint64 { return uint64(t.Unix()+11644473600) * 10_000_000 }

// planImages places every image: names, stacks and calls are known by now.
func (m *machine) planImages() error {
	for _, img := range m.images {
		if err := img.planCode(m.details); err != nil {
			return err
		}
		img.planImports()
		if err := img.planSections(); err != nil {
			return err
		}
		img.placeImports()
		img.identify()
	}
	for _, img := range m.images {
		if err := m.taken.add(img.base, uint64(img.size), img.file, img.spec.Base.line); err != nil {
			return err
		}
	}
	return nil
}

// loadModules makes the images of the scenario and those that every machine
// has.
func (m *machine) loadModules() error {
	list := slices.Clone(m.spec.Modules)
	for _, file := range []string{kernelFile, "hal.dll"} {
		if !slices.ContainsFunc(list, func(s moduleSpec) bool { return strings.EqualFold(s.Image.s, file) }) {
			list = append(list, moduleSpec{Image: text{s: file}})
		}
	}
	slices.SortStableFunc(list, func(a, b moduleSpec) int { return loadRank(a) - loadRank(b) })
	for _, spec := range list {
		img := newImage(spec)
		if spec.Image.s == "" || strings.ContainsAny(spec.Image.s, `/\:`) || img.name == "" {
			return wrong(spec.Image.line, "modules: image %q is no file name", spec.Image.s)
		}
		if spec.Size.v > maxImageSize {
			return wrong(spec.Size.line, "%s: at most %d MiB are possible", img.file, maxImageSize>>20)
		}
		key := strings.ToLower(img.name)
		if m.byName[key] != nil {
			return wrong(spec.Image.line, "module %s is there twice", img.name)
		}
		m.byName[key] = img
		m.images = append(m.images, img)
	}
	m.nt = m.images[0]
	return m.placeImages()
}

// loadRank puts the kernel and the HAL first, as the loader does.
func loadRank(s moduleSpec) int {
	switch strings.ToLower(s.Image.s) {
	case kernelFile:
		return 0
	case "hal.dll":
		return 1
	}
	return 2
}

// placeImages gives images without a base one behind the other; a driver
// without a size gets room for 2 MiB.
func (m *machine) placeImages() error {
	next := m.prof.drivers
	for _, img := range m.images {
		switch {
		case img.base != 0:
			if img.base%pageSize != 0 || img.base < 0xffff800000000000 || img.base > ^mem.VA(0)-maxImageSize {
				return wrong(img.spec.Base.line, "%s: base %#x: want the address of a page of the kernel", img.file, uint64(img.base))
			}
		case img.kernel():
			img.base = m.prof.kernelBase
		case img.name == "hal":
			img.base = m.nt.base - 0x400000
		default:
			for m.baseTaken(next) {
				next += 0x200000
			}
			img.base, next = next, next+0x200000
		}
	}
	return nil
}

func (m *machine) baseTaken(at mem.VA) bool {
	const room = 0x200000
	return slices.ContainsFunc(m.images, func(img *image) bool {
		return img.base != 0 && at < img.base+room && img.base < at+room
	})
}

// module finds an image by kd's name for it.
func (m *machine) module(name string, line int) (*image, error) {
	img := m.byName[strings.ToLower(name)]
	if img == nil {
		return nil, wrong(line, "there is no module %s", name)
	}
	return img, nil
}

// routine finds or makes "module!function".
func (m *machine) routine(name string, line int) (*function, error) {
	module, function, ok := strings.Cut(name, "!")
	if !ok || function == "" {
		return nil, wrong(line, "%q: want module!function", name)
	}
	img, err := m.module(module, line)
	if err != nil {
		return nil, err
	}
	return img.function(function, line), nil
}

// address gives where a routine lies, once images are planned.
func (f *function) address() mem.VA { return f.img.base + mem.VA(f.rva) }

// ranges are the parts of the address space that are given away.
type ranges []extent

type extent struct {
	at   mem.VA
	size uint64
	what string
}

// add takes a range; overlaps are errors.
func (r *ranges) add(at mem.VA, size uint64, what string, line int) error {
	if e, ok := r.hit(at, size); ok {
		return wrong(line, "%s at %#x to %#x: %s is there", what, uint64(at), uint64(at)+size, e.what)
	}
	*r = append(*r, extent{at, size, what})
	return nil
}

func (r ranges) hit(at mem.VA, size uint64) (extent, bool) {
	for _, e := range r {
		if uint64(at-e.at) < e.size || uint64(e.at-at) < size {
			return e, true
		}
	}
	return extent{}, false
}

// find takes the first free range from an address on, with a page free before
// it.
func (r *ranges) find(from mem.VA, size uint64, what string) mem.VA {
	at := from
	for {
		e, ok := r.hit(at-pageSize, size+pageSize)
		if !ok {
			*r = append(*r, extent{at, size, what})
			return at
		}
		at = (e.at + mem.VA(e.size) + 2*pageSize - 1).Page()
	}
}
