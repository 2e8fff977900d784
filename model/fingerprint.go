package model

import "gokd/model/types"

// minFingerprint is how many addresses must agree before they identify a
// kernel; each is one of a million possible.
const minFingerprint = 5

// identifyByAddresses finds which known kernel this is where its image header
// is not in the dump, as in a triage dump: the debugger data block gives the
// addresses of a score of variables, and no two builds place all of them alike.
// Several updates may agree; then none is chosen.
func (k *Kernel) identifyByAddresses() {
	want := map[string]uint32{}
	for name := range debugGlobals {
		if name == "NtBuildLab" {
			continue // the block names the long form of the string on some builds
		}
		if at, ok := k.Debug.Global(name); ok && at > k.Base && uint64(at-k.Base) < maxKernelImage {
			want[name] = uint32(at - k.Base)
		}
	}
	if at := k.Source.DebugData; at > k.Base {
		want["KdDebuggerDataBlock"] = uint32(at - k.Base)
	}
	if len(want) < minFingerprint {
		return // no kernel can agree
	}
	var found []types.ImageID
	for _, id := range types.Kernels() {
		_, g, ok := types.EmbeddedByGUID(id.GUID, id.Age)
		if ok && agrees(g, want) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 0:
	case 1:
		stamp, size := k.ID.Timestamp, k.ID.Size
		k.ID = found[0]
		k.ID.Timestamp, k.ID.Size = stamp, size
		k.warn("kernel identified by the addresses in its debugger data block as %s %s: its image header is not in the dump", k.ID.PDB, k.ID.GUID)
	default:
		k.warn("the kernel's image header is not in the dump, and %d known kernels have its addresses", len(found))
	}
}

func agrees(g types.Symbols, want map[string]uint32) bool {
	same := 0
	for name, rva := range want {
		sym, ok := g.Lookup(name)
		if !ok {
			continue
		}
		if sym.RVA != rva {
			return false
		}
		same++
	}
	return same >= minFingerprint
}
