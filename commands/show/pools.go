package show

import (
	"gokd/commands/cmd"
	"gokd/model"
	"gokd/model/pool"
)

// pools are the pools of the target, kept for the session: what one command
// walked the next one need not.
type pools struct {
	kernel *model.Kernel
	pool   *pool.Pool
}

type poolsKey struct{}

// Pools gives the pools of the target that is open now, the same to every
// command. It fails where pool.Open does.
func Pools(s *cmd.Session) (*pool.Pool, error) {
	kept, err := cmd.Cached(s, poolsKey{}, func() (*pools, error) { return &pools{}, nil })
	if err != nil {
		return nil, err
	}
	if kept.pool == nil || kept.kernel != s.Kernel {
		p, err := pool.Open(s.Kernel)
		if err != nil {
			return nil, err
		}
		kept.kernel, kept.pool = s.Kernel, p
	}
	return kept.pool, nil
}
