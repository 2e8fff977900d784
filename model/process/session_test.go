package process_test

import (
	"testing"

	"gokd/model/mem"
	"gokd/model/modeltest"
	"gokd/model/process"
	"gokd/model/types"
)

// store changes what a layout says of some types; nil: it has none of that name.
type store struct {
	types.Store
	other map[string]*types.Type
}

func (s store) Type(name string) (*types.Type, error) {
	if t, ok := s.other[name]; ok {
		if t == nil {
			return nil, &types.NotFoundError{What: "type", Name: name, In: "the test"}
		}
		return t, nil
	}
	return s.Store.Type(name)
}

// TestSession24H2 reads sessions and device maps as Windows 11 24H2 has them: the
// structure of a session has another name and no members, and the device map
// counts references in its low bits.
func TestSession24H2(t *testing.T) {
	t.Parallel()
	m := modeltest.New(t, types.Embedded(22000)[0])
	at := m.Process(0x344, 4, "csrss.exe")
	session := m.Alloc(0x100)
	m.Put64(session+8, 1)
	m.Set(at, uint64(session), "_EPROCESS", "Session")
	m.Set(at, 0xffff900000008aab, "_EPROCESS", "DeviceMap")
	k := m.Open()
	whole, err := k.Types.Type("_EPROCESS")
	if err != nil {
		t.Fatal(err)
	}
	fast := &types.Type{Name: "_EX_FAST_REF", Kind: types.KindStruct, Size: 8}
	process24 := *whole
	process24.Fields = nil
	for _, f := range whole.Fields {
		if f.Name == "DeviceMap" {
			f.Type = fast
		}
		process24.Fields = append(process24.Fields, f)
	}
	known := k.Types
	k.Types = store{known, map[string]*types.Type{"_MM_SESSION_SPACE": nil, "_EPROCESS": &process24}}
	p, err := process.At(k, at)
	if err != nil || !p.HasSession || p.Session != 1 || p.DeviceMap != 0xffff900000008aa0 {
		t.Errorf("process: %v, %+v", err, p)
	}
	// A structure that tells where the number is goes first.
	named := &types.Type{Name: "_PSP_SESSION_SPACE", Kind: types.KindStruct, Size: 0x40, Fields: []types.Field{
		{Name: "SessionId", Offset: 0x10, Type: &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}}}}
	k.Types = store{known, map[string]*types.Type{"_MM_SESSION_SPACE": nil, "_PSP_SESSION_SPACE": named}}
	if id, err := process.SessionID(k, k.Space, session); err != nil || id != 0 {
		t.Errorf("a structure with members: session %d, %v", id, err)
	}
	k.Types = store{known, map[string]*types.Type{"_MM_SESSION_SPACE": nil}}
	m.Put64(session+8, 0xffffa800)
	if id, err := process.SessionID(k, k.Space, session); err == nil {
		t.Errorf("%#x is taken for a session", id)
	}
	if _, err := process.SessionID(k, k.Space, mem.VA(0xffff9abc00000000)); err == nil {
		t.Error("no memory, no error")
	}
}
