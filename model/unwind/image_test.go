package unwind

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"gokd/dumpfmt/dumptest/shared"
	"gokd/model"
	"gokd/model/mem"
	"gokd/model/types"
)

// realImages gives the images of real drivers among the shared test files.
func realImages(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(shared.Path(t), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".sys") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil || len(paths) == 0 {
		t.Fatalf("no real images: %v", err)
	}
	return paths
}

// loaded is an image file in memory, with a stack whose words are all one value.
type loaded struct {
	file *types.ImageFile
	word byte
}

func (l *loaded) ReadVirtual(p []byte, at mem.VA) (int, error) {
	if at >= labStack && at < labBase {
		for i := range p {
			p[i] = l.word
		}
		return len(p), nil
	}
	if at < labImage || uint64(at-labImage) >= uint64(l.file.Image.Size) {
		return 0, &mem.Fault{Kind: mem.NotCaptured, VA: at}
	}
	return l.file.ReadRVA(p, uint32(at-labImage))
}

// TestImages_epilogs holds the two ways to find an epilog against each other: in
// real drivers, the code at each epilog that version 2 lists must undo as the
// list says. It also decodes the unwind data of every function.
func TestImages_epilogs(t *testing.T) {
	t.Parallel()
	for _, path := range realImages(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			f, err := types.OpenImageFile(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			k, err := model.Load(context.Background(), model.Source{
				Machine: model.MachineX64, Virtual: &loaded{file: f},
				Crash: model.Crash{Triage: &model.Triage{Drivers: []model.TriageDriver{
					{Path: filepath.Base(path), Base: labImage, Size: f.Image.Size, Timestamp: f.Image.Timestamp},
				}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, k, k.Modules.All[0])
		})
	}
}

func checkImage(t *testing.T, k *model.Kernel, m *model.Module) {
	t.Helper()
	table, n, err := m.FunctionTable()
	if err != nil {
		t.Fatal(err)
	}
	versions, epilogs, bodies := [4]int{}, 0, 0
	for i := range n {
		f, err := m.ReadFunction(uint32(table-m.Base) + uint32(12*i))
		if err != nil {
			t.Fatal(err)
		}
		u := &undoer{k: k, m: m, rva: f.Begin}
		f, in, err := u.entry(f)
		if err != nil {
			t.Errorf("function at %#x: %v", f.Begin, err)
			continue
		}
		versions[in.version]++
		if in.version == 2 {
			epilogs += checkEpilogs(t, k, m, f, in)
		}
		// Undoing a body must move rsp by whole words.
		s := state{known: allRegs, regs: regsAt(uint64(m.Base)+uint64(f.End-1), uint64(labStack)+0x1000)}
		if in.frameReg == 0 {
			u = &undoer{k: k, m: m, state: s, rva: f.End - 1}
			if up, err := u.run(f); err != nil && in.flags&flagChained == 0 && u.regs.GPR[model.RSP] < uint64(labBase) {
				t.Errorf("function at %#x: %v", f.Begin, err)
			} else if err == nil && up.machine == 0 && (up.caller.rsp() <= labStack+0x1000 || up.caller.rsp()%8 != 0) {
				t.Errorf("function at %#x: rsp goes to %#x", f.Begin, uint64(up.caller.rsp()))
			} else if err == nil {
				bodies++
			}
		}
	}
	t.Logf("%d functions, by version %v, %d epilogs, %d bodies", n, versions[1:3], epilogs, bodies)
	if versions[1]+versions[2] != n || bodies < n/2 || versions[2] > 0 && epilogs == 0 {
		t.Errorf("only %v of %d functions, %d epilogs, %d bodies", versions, n, epilogs, bodies)
	}
}

// checkEpilogs compares both ways at the start of each listed epilog.
func checkEpilogs(t *testing.T, k *model.Kernel, m *model.Module, f model.RuntimeFunction, in *info) (n int) {
	t.Helper()
	var starts []uint32
	for i, e := range in.epilogs {
		back := uint32(e.at) | uint32(e.info)<<8
		if i == 0 {
			if e.info&1 == 0 {
				continue
			}
			back = uint32(e.at)
		}
		if back != 0 {
			starts = append(starts, f.End-back)
		}
	}
	for _, rva := range starts {
		byList := &undoer{k: k, m: m, rva: rva, state: state{known: allRegs, exact: true, regs: regsAt(uint64(m.Base)+uint64(rva), uint64(labStack)+0x1000)}}
		byCode := *byList
		done, err := byList.epilog2(f, in)
		if !done || err != nil {
			t.Errorf("epilog at %#x: not found by the list, %v", rva, err)
			continue
		}
		checkAdd(t, k, m, f, in, byList)
		done, err = byCode.epilog1(f, in)
		if err != nil || done && byCode.state != byList.state {
			t.Errorf("epilog at %#x: by code %v, rsp %#x, by list rsp %#x", rva, done, byCode.regs.GPR[model.RSP], byList.regs.GPR[model.RSP])
		}
		if done {
			n++
		} else if !byList.endsOddly() {
			t.Errorf("epilog at %#x: not found by code", rva)
		}
	}
	return n
}

// checkAdd holds what the prolog's codes undo against the instruction in front
// of the epilog that frees the fixed stack, where there is one.
func checkAdd(t *testing.T, k *model.Kernel, m *model.Module, f model.RuntimeFunction, in *info, epilog *undoer) {
	t.Helper()
	var b [7]byte
	if _, err := k.Space.ReadVirtual(b[:], m.Base+mem.VA(epilog.rva)-7); err != nil || in.frameReg != 0 {
		return
	}
	add := uint64(0)
	switch {
	case b[0] == 0x48 && b[1] == 0x81 && b[2] == 0xc4:
		add = uint64(b[3]) | uint64(b[4])<<8
	case b[3] == 0x48 && b[4] == 0x83 && b[5] == 0xc4 && b[6] < 0x80:
		add = uint64(b[6])
	default:
		return
	}
	u := &undoer{k: k, m: m, rva: epilog.rva - 8, state: state{known: allRegs, regs: regsAt(0, uint64(labStack)+0x1000)}}
	body, err := u.run(f)
	if err != nil || body.machine != 0 {
		return // a frame larger than the stack made up here
	}
	if whole, rest := body.caller.regs.GPR[model.RSP], epilog.regs.GPR[model.RSP]+8; whole != rest+add {
		t.Errorf("function at %#x: the body undoes to %#x, the epilog at %#x to %#x", f.Begin, whole, epilog.rva, rest+add)
	}
}

// endsOddly reports whether the code at an epilog ends in a way that version 1
// knows nothing of, such as a jump through a guard function.
func (u *undoer) endsOddly() bool {
	var b [maxEpilog]byte
	n, _ := u.k.Space.ReadVirtual(b[:], mem.VA(u.regs.RIP))
	c := codeReader{b: b[:n]}
	for {
		if _, ok := c.pop(); !ok {
			return !c.returns()
		}
	}
}
