package repl

import (
	"context"

	"gokd/commands/cmd"
)

func (p Program) prompt(ctx context.Context, s *cmd.Session) error { return p.pipe(ctx, s, nil) }
