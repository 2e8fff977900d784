package pool

import (
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

// Owner gives the process that a block is charged to; 0 where it is charged to
// none. POOL_HEADER.ProcessBilled holds the address of its _EPROCESS plainly up
// to Windows 7; from 8.1 on it is XORed with nt!ExpPoolQuotaCookie and the
// address of the header. What comes out must be a process object, else the
// error says what was found.
func (p *Pool) Owner(b Block) (mem.VA, error) {
	if b.State != Allocated || b.Billed == 0 || !b.Large && b.Type&typeQuota == 0 {
		return 0, nil
	}
	if at := mem.VA(b.Billed); p.isProcess(at) {
		return at, nil
	}
	q := p.quotaCookie()
	if q.cookie != 0 {
		at := mem.VA(b.Billed ^ q.cookie ^ uint64(b.Header))
		if p.isProcess(at) {
			return at, nil
		}
	}
	if q.err != nil {
		return 0, q.err
	}
	return 0, fmt.Errorf("ProcessBilled %#x of the block at %#x names no process", b.Billed, uint64(b.Header))
}

func (p *Pool) isProcess(at mem.VA) bool {
	if !kernelAddress(at) || at%HeaderSize != 0 {
		return false
	}
	typ, err := p.k.Object("_EPROCESS", at).Field("Pcb.Header.Type").Uint()
	return err == nil && typ&0x7f == processObject
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
