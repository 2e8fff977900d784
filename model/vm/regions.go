package vm

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"gokd/model"
	"gokd/model/mem"
)

// Region is a part of the system's addresses that was set aside for one use.
type Region struct {
	Name  string // as the enumeration of the kernel names it, without its prefix
	Base  mem.VA // 0 with no bytes: the machine has none
	Bytes uint64
}

// maxRegions is more kinds of regions than any build has.
const maxRegions = 64

// Regions lists the parts of system space in order of their numbers:
// _MI_VISIBLE_STATE.SystemVaRegions, from Windows 10 on. Earlier builds have
// none: ErrNotKept.
func Regions(k *model.Kernel) ([]Region, error) {
	r := newRoots(k)
	o, ok := r.objects[inVisible]
	if !ok {
		if r.resolvable[inVisible] {
			return nil, r.errs[inVisible]
		}
		return nil, fmt.Errorf("regions of system space: %w", ErrNotKept)
	}
	array := o.Field("SystemVaRegions")
	if err := array.Err(); err != nil {
		return nil, err
	}
	names := enumNames(k, "_MI_ASSIGNED_REGION_TYPES", "AssignedRegion")
	var list []Region
	for i := range min(array.Type().Count, maxRegions) {
		e := array.Index(i)
		base, err1 := e.Field("BaseAddress").Pointer()
		bytes, err2 := e.Field("NumberOfBytes").Uint()
		if err := errors.Join(err1, err2); err != nil {
			return list, err
		}
		name := names[int64(i)]
		if name == "" {
			name = fmt.Sprintf("Region %d", i)
		}
		list = append(list, Region{name, base, bytes})
	}
	return list, nil
}

// enumNames gives the names of an enumeration's values, without a prefix that
// all of them have. Of two names for one value the first by alphabet counts.
func enumNames(k *model.Kernel, typ, prefix string) map[int64]string {
	names := map[int64]string{}
	if k.Types == nil {
		return names
	}
	t, err := k.Types.Type(typ)
	if err != nil {
		return names
	}
	var all []string
	for name := range t.Consts {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, name := range all {
		v := t.Consts[name]
		if _, twice := names[v]; !twice {
			names[v] = strings.TrimPrefix(name, prefix)
		}
	}
	return names
}
