package pdb

import (
	"fmt"

	"gokd/model/types"
)

// member adds what one entry of a field list stands for. An entry whose type
// is damaged costs its type only.
func (d *decoder) member(it fieldItem, name string, depth int) error {
	if it.value > maxTypeSize {
		switch it.leaf {
		case lfMember, lfBClass, lfBInterface, lfVFuncOff:
			return fmt.Errorf("member %q at offset %#x, at most %#x", it.name, it.value, maxTypeSize)
		}
	}
	f := types.Field{Name: name, Offset: uint32(it.value)}
	switch it.leaf {
	case lfMember:
		f.Type, f.BitPos, f.BitLen = d.memberType(it.typ, depth+1)
		d.buf = append(d.buf, f)
	case lfVFuncTab, lfVFuncOff:
		f.Name = "__VFN_table"
		f.Type, _, _ = d.memberType(it.typ, depth+1)
		d.buf = append(d.buf, f)
	case lfBClass, lfBInterface:
		return d.baseClass(it, f.Offset, depth+1)
	}
	return nil
}

// baseClass adds the members of a base class, at their place in this one.
func (d *decoder) baseClass(it fieldItem, offset uint32, depth int) error {
	t, err := d.get(it.typ, depth)
	if err != nil {
		d.buf = append(d.buf, types.Field{Name: "__BaseClass", Offset: offset, Type: unreadable(it.typ)})
		return nil
	}
	for _, f := range t.Fields {
		if err := d.spend(0); err != nil {
			return err
		}
		f.Offset += offset
		d.buf = append(d.buf, f)
	}
	return nil
}

// memberType gives the type of a member, which may be a bit-field.
func (d *decoder) memberType(ti uint32, depth int) (t *types.Type, pos, size uint8) {
	var err error
	if ti < firstType {
		t, err = baseType(ti)
	} else if n := d.nodes[byValue(ti)]; n != nil && n.state == stateWhole {
		return &n.Type, 0, 0 // nearly always, and no bit-field
	} else {
		t, pos, size, err = d.newMemberType(ti, depth)
	}
	if err != nil {
		return unreadable(ti), 0, 0
	}
	return t, pos, size
}

func (d *decoder) newMemberType(ti uint32, depth int) (t *types.Type, pos, size uint8, err error) {
	leaf, data, err := d.record(ti)
	if err != nil {
		return nil, 0, 0, err
	}
	if leaf == lfBitfield {
		r := &reader{b: data}
		of := r.u32()
		size, pos = r.u8(), r.u8()
		if r.err != nil || size == 0 || int(pos)+int(size) > 64 {
			return unreadable(of), 0, 0, nil
		}
		t, err = d.get(of, depth)
		if err != nil {
			return unreadable(of), 0, 0, nil
		}
		return t, pos, size, nil
	}
	if depth > maxDepth {
		return nil, 0, 0, errDepth
	}
	if n := d.nodes[byValue(ti)]; n != nil && n.state != stateName {
		t, err = n.result()
	} else {
		t, err = d.getRecord(ti, leaf, data, depth)
	}
	return t, 0, 0, err
}

// unreadable stands for a type whose record is damaged.
func unreadable(ti uint32) *types.Type {
	return &types.Type{Name: fmt.Sprintf("<unreadable type %#x>", ti), Kind: types.KindVoid}
}
