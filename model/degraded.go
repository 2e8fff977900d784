package model

import "gokd/model/types"

// debugStore is the types that the debugger data block itself describes: where
// in a thread, process and processor block the debugger finds what it needs on
// any build. It serves where no layout fits.
type debugStore struct {
	build uint32
	types map[string]*types.Type
}

// Type implements types.Store.
func (s *debugStore) Type(name string) (*types.Type, error) {
	if t := s.types[name]; t != nil {
		return t, nil
	}
	return nil, &types.NotFoundError{What: "type", Name: name, In: s.Origin().Source}
}

// Origin implements types.Store.
func (s *debugStore) Origin() types.Origin {
	return types.Origin{Build: s.build, Match: types.MatchNone, Source: "the debugger data block"}
}

// newDebugStore reads the block's offsets. It gives nil where the block has not
// the fields that a thread's stack needs.
func newDebugStore(d *DebugData, build uint32) *debugStore {
	u8 := &types.Type{Name: "unsigned char", Kind: types.KindInt, Size: 1}
	u16 := &types.Type{Name: "unsigned short", Kind: types.KindInt, Size: 2}
	u32 := &types.Type{Name: "unsigned long", Kind: types.KindInt, Size: 4}
	ptr := &types.Type{Name: "*void", Kind: types.KindPointer, Size: 8}
	list := structure("_LIST_ENTRY", 0x10, types.Field{Name: "Flink", Type: ptr}, types.Field{Name: "Blink", Offset: 8, Type: ptr})
	// The head of every dispatcher object never changed on x64.
	header := structure("_DISPATCHER_HEADER", 0x18, types.Field{Name: "Type", Type: u8}, types.Field{Name: "WaitListHead", Offset: 8, Type: list})
	apc := structure("_KAPC_STATE", 8, types.Field{Name: "Process", Type: ptr})
	pcb := structure("_KPROCESS", 0)
	thread := structure("_KTHREAD", 0, types.Field{Name: "Header", Type: header})
	ethread := structure("_ETHREAD", 0, types.Field{Name: "Tcb", Type: thread})
	process := structure("_EPROCESS", 0, types.Field{Name: "Pcb", Type: pcb})
	prcb := structure("_KPRCB", 0)
	for _, f := range []struct {
		in   *types.Type
		name string
		typ  *types.Type
		at   DebugField
	}{
		{thread, "NextProcessor", u32, DebugOffsetKThreadNextProcessor}, {thread, "Teb", ptr, DebugOffsetKThreadTeb},
		{thread, "KernelStack", ptr, DebugOffsetKThreadKernelStack}, {thread, "InitialStack", ptr, DebugOffsetKThreadInitialStack},
		{thread, "StackLimit", ptr, DebugOffsetKThreadStackLimit}, {thread, "StackBase", ptr, DebugOffsetKThreadStackBase},
		{thread, "ApcState", apc, DebugOffsetKThreadApcProcess}, {thread, "State", u8, DebugOffsetKThreadState},
		{thread, "WaitReason", u8, DebugOffsetKThreadWaitReason}, {ethread, "IrpList", list, DebugOffsetEThreadIrpList},
		{process, "Peb", ptr, DebugOffsetEprocessPeb}, {process, "InheritedFromUniqueProcessId", ptr, DebugOffsetEprocessParentCID},
		{pcb, "DirectoryTableBase", ptr, DebugOffsetEprocessDirectoryTableBase},
		{prcb, "CurrentThread", ptr, DebugOffsetPrcbCurrentThread}, {prcb, "IdleThread", ptr, DebugOffsetPrcbIdleThread},
		{prcb, "Number", u16, DebugOffsetPrcbNumber}, {prcb, "Context", ptr, DebugOffsetPrcbContext},
	} {
		if off, ok := d.Field(f.at); ok {
			f.in.Fields = append(f.in.Fields, types.Field{Name: f.name, Offset: uint32(off), Type: f.typ})
		}
	}
	s := &debugStore{build: build, types: map[string]*types.Type{}}
	for _, t := range []*types.Type{list, header, apc, pcb, thread, ethread, process, prcb} {
		s.types[t.Name] = t
	}
	for _, need := range []string{"KernelStack", "StackBase", "StackLimit", "State"} {
		if _, ok := thread.Field(need); !ok {
			return nil
		}
	}
	return s
}

// structure makes a type. ApcState stands for its one known member: the block
// gives the offset of the process in it, not of the whole.
func structure(name string, size uint32, fields ...types.Field) *types.Type {
	return &types.Type{Name: name, Kind: types.KindStruct, Size: size, Fields: fields}
}
