package heaptest

import "gokd/model/modeltest"

// SessionPool is the pool of one session.
type SessionPool struct {
	space *modeltest.Machine
}
