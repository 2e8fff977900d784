package pool

import (
	"errors"
	"fmt"

	"gokd/model"
	"gokd/model/mem"
)

// typeQuota is the bit of PoolType that marks a block charged to a process.
const typeQuota = 8

// processObject is _DISPATCHER_HEADER.Type of a process (_KOBJECTS).
const processObject = 3

// quota is how ProcessBilled is to be read.
type quota struct {
	cookie uint64 // nt!ExpPoolQuotaCookie; 0 where the build has none
	err    error  // why the cookie is not known
}

// ErrNoOwner says that what a block names as the process that it is charged to
// is none.
var ErrNoOwner = errors.New("no process object")

// Owner gives the process that a block is charged to; 0 where it is charged to
// none. POOL_HEADER.ProcessBilled holds the address of its _EPROCESS plainly up
// to Windows 7; from 8.1 on it is XORed with nt!ExpPoolQuotaCookie and the
// address of the header. Entries of the big-page table have the member from
// 20348 on; whether it is hidden there is not public, so both forms are tried,
// the second with the address of the allocation. What comes out must be a
// process object: an error of ErrNoOwner tells what was found instead, such as
// the remains of a process that is gone.
func (p *Pool) Owner(b Block) (mem.VA, error) {
	if b.State != Allocated || b.Billed == 0 || b.Place == InSpecial || !b.Large && b.Type&typeQuota == 0 {
		return 0, nil
	}
	plain := mem.VA(b.Billed)
	q := p.quotaCookie()
	if q.cookie == 0 {
		if p.isProcess(plain) {
			return plain, nil
		}
		if q.err != nil {
			return 0, q.err
		}
		return 0, fmt.Errorf("ProcessBilled of the block at %#x: %#x is %w", uint64(b.Header), b.Billed, ErrNoOwner)
	}
	hidden := mem.VA(b.Billed ^ q.cookie ^ uint64(b.Header))
	for _, at := range []mem.VA{hidden, plain} {
		if p.isProcess(at) {
			return at, nil
		}
	}
	return 0, fmt.Errorf("ProcessBilled of the block at %#x: %#x, decoded %#x, is %w", uint64(b.Header), b.Billed, uint64(hidden), ErrNoOwner)
}

// isProcess reports whether a process object lies at an address: by the type in
// its dispatcher header, and by its number, which is a multiple of four.
func (p *Pool) isProcess(at mem.VA) bool {
	if !kernelAddress(at) || at%HeaderSize != 0 {
		return false
	}
	o := p.k.Object("_EPROCESS", at)
	typ, err := o.Field("Pcb.Header.Type").Uint()
	if err != nil || typ&0x7f != processObject {
		return false
	}
	id, err := o.Field("UniqueProcessId").Uint()
	return err == nil && id%4 == 0 && id < 1<<32
}

func (p *Pool) quotaCookie() quota {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.quota == nil {
		v, err := p.k.GlobalPointer("ExpPoolQuotaCookie")
		var unknown *model.GlobalError
		if _, other := p.k.Global("PoolBigPageTable"); asGlobal(err, &unknown) && other == nil {
			err = nil // the kernel's variables are known and this is none of them
		}
		p.quota = &quota{uint64(v), err}
	}
	return *p.quota
}
