// Package vm has the commands about virtual memory as a whole: how much there
// is, what takes it, and the lists and sessions of the memory manager.
package vm

import (
	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/pool"
)

// Commands lists the group.
func Commands() []*cmd.Command {
	return []*cmd.Command{vmCommand, session, lookaside, frag}
}

// state is what the group keeps for the session: the pools of the target, whose
// walks are kept too.
type state struct {
	kernel *model.Kernel
	pool   *pool.Pool
}

type stateKey struct{}

// pools gives the pools of the target that is open now.
func pools(s *cmd.Session) (*pool.Pool, error) {
	st, err := cmd.Cached(s, stateKey{}, func() (*state, error) { return &state{}, nil })
	if err != nil {
		return nil, err
	}
	if st.kernel != s.Kernel {
		p, err := pool.Open(s.Kernel)
		if err != nil {
			return nil, err
		}
		st.kernel, st.pool = s.Kernel, p
	}
	return st.pool, nil
}
