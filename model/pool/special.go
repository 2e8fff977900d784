package pool

import (
	"context"
	"fmt"
)

func (p *Pool) specialRanges(ctx context.Context) ([]Range, error) {
	return nil, fmt.Errorf("special pool is %w: how its pages say what they hold is not documented", ErrNotWalked)
}
