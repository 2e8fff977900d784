// Package pool is the group of commands about the kernel's pools.
package pool

import (
	"fmt"

	"gokd/commands/cmd"
	"gokd/commands/show"
	"gokd/model"
	"gokd/model/pool"
)

// Commands lists the group.
func Commands() []*cmd.Command {
	return []*cmd.Command{poolused, poolfind, poolCommand, poolval, poolsig, poolmap, pooltag, pooltags, poolindex}
}

// state is what the group keeps for the session: the pools of the target, and
// the descriptions of tags.
type state struct {
	kernel *model.Kernel
	pool   *pool.Pool
	tags   *pool.Descriptions

	indexes indexState
}

type stateKey struct{}

// open gives the group's state for the target that is open now.
func open(s *cmd.Session) (*state, error) {
	st, err := settings(s)
	if err != nil || st.kernel == s.Kernel {
		return st, err
	}
	p, err := show.Pools(s)
	if err != nil {
		return nil, err
	}
	st.kernel, st.pool = s.Kernel, p
	st.indexes = indexState{on: st.indexes.on}
	return st, nil
}

// settings gives what does not depend on a target.
func settings(s *cmd.Session) (*state, error) {
	t, err := tagsOf(s)
	if err != nil {
		return nil, err
	}
	return cmd.Cached(s, stateKey{}, func() (*state, error) { return &state{tags: t.tags}, nil })
}

// describe gives the description of a tag as kd spells it: the text, and the
// binary where one is known.
func describe(d pool.Description, known bool, t pool.Tag) string {
	switch {
	case !known:
		return fmt.Sprintf("UNKNOWN pooltag '%s', please update pooltag.txt", t[:])
	case d.Binary != "":
		return d.Text + " , Binary: " + d.Binary
	}
	return d.Text
}

// orNull gives the address of a string for a field that is null when empty.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
