package thread

import (
	"context"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// maxWaitBlocks is MAXIMUM_WAIT_OBJECTS and the timer's block.
const maxWaitBlocks = 65

// waitObjects lists what a waiting thread waits for, through its wait blocks:
// up to 7601 a ring linked by NextWaitBlock, later an array of WaitBlockCount
// blocks.
func waitObjects(k *model.Kernel, o model.Object, g *model.Gaps) []WaitObject {
	first, err := o.Field("Tcb.WaitBlockList").Pointer()
	if !g.Set("wait_objects", err) || first == 0 {
		return nil
	}
	var list []WaitObject
	add := func(block model.Object) {
		at, err := block.Field("Object").Pointer()
		if g.Set("wait_objects", err) {
			list = append(list, describe(k, at))
		}
	}
	block := k.Object("_KWAIT_BLOCK", first)
	if !block.Has("NextWaitBlock") {
		n := min(g.Uint("wait_objects", o.Field("Tcb.WaitBlockCount")), maxWaitBlocks)
		if n == 0 && activeFor(block, o.Addr()) {
			n = 1 // some waits for one object leave the count alone
		}
		for i := range n {
			add(k.Object("_KWAIT_BLOCK", first+mem.VA(i*uint64(block.Type().Size))))
		}
		if b, ok := timeoutBlock(k, o, list); ok {
			add(b)
		}
		return list
	}
	for at := first; len(list) < maxWaitBlocks; {
		b := k.Object("_KWAIT_BLOCK", at)
		add(b)
		next, err := b.Field("NextWaitBlock").Pointer()
		if !g.Set("wait_objects", err) || next == first || next == 0 {
			return list
		}
		at = next
	}
	g.Set("wait_objects", fmt.Errorf("wait blocks at %#x: the ring does not close", uint64(first)))
	return list
}

// activeFor reports whether a wait block is in use by a thread.
func activeFor(block model.Object, thread mem.VA) bool {
	owner, err := block.Field("Thread").Pointer()
	state, err2 := block.Field("BlockState").Uint()
	return err == nil && err2 == nil && owner == thread && state == blockActive
}

// timerBlock is the place of the timer's block among those embedded in a
// thread; the wait's block count does not count it from 9600 on.
const timerBlock = 3

// blockActive is WaitBlockActive of _KWAIT_BLOCK_STATE from 9600 on.
const blockActive = 4

// timeoutBlock gives the block of the thread's own timer, where the wait has a
// time limit: the block is then active and names that timer. A wait for the
// timer itself lists it already.
func timeoutBlock(k *model.Kernel, o model.Object, list []WaitObject) (model.Object, bool) {
	block := o.Field("Tcb.WaitBlock").Index(timerBlock)
	timer := o.Field("Tcb.Timer").Addr()
	object, err := block.Field("Object").Pointer()
	state, err2 := block.Field("BlockState").Uint()
	if err != nil || err2 != nil || object != timer || state != blockActive {
		return block, false
	}
	for _, w := range list {
		if w.Address == timer {
			return block, false
		}
	}
	return block, true
}

// describe tells what kind of dispatcher object lies at an address.
func describe(k *model.Kernel, at mem.VA) WaitObject {
	w := WaitObject{Address: at, Type: "Unknown"}
	typ, err := k.Object("_DISPATCHER_HEADER", at).Field("Type").Uint()
	if err != nil {
		w.Err = err
		return w
	}
	name, ok := objectNames[uint8(typ)&^lockBit]
	if !ok {
		return w
	}
	w.Type = name
	switch uint8(typ) &^ lockBit {
	case objectSemaphore:
		v, err := k.Object("_KSEMAPHORE", at).Field("Limit").Uint()
		w.Limit, w.Err = uint32(v), err
	case objectMutant:
		w.Owner, w.Err = k.Object("_KMUTANT", at).Field("OwnerThread").Pointer()
	}
	return w
}

// Waiters gives the threads that wait on a dispatcher object, in the order of
// its wait list (_DISPATCHER_HEADER.WaitListHead of _KWAIT_BLOCK).
func Waiters(ctx context.Context, k *model.Kernel, object mem.VA, max int) (list []mem.VA, err error) {
	head := k.Object("_DISPATCHER_HEADER", object).Field("WaitListHead")
	if err := head.Err(); err != nil {
		return nil, err
	}
	for b, err := range k.List(ctx, head.Addr(), "_KWAIT_BLOCK", "WaitListEntry", max) {
		if err != nil {
			return list, err
		}
		t, err := b.Field("Thread").Pointer()
		if err != nil {
			return list, err
		}
		list = append(list, t)
	}
	return list, nil
}
