package model

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gokd/model/mem"
)

const head = mem.VA(0xfffff80000001000)

// members gives the addresses of n list entries.
func members(n int) []mem.VA {
	list := make([]mem.VA, n)
	for i := range list {
		list[i] = 0xffffa00000000000 + mem.VA(i)*0x100
	}
	return list
}

func walk(ctx context.Context, k *Kernel, limit int) (got []mem.VA, failed error) {
	for o, err := range k.List(ctx, head, "_ERESOURCE", "SystemResourcesList", limit) {
		if err != nil {
			failed = err
			continue
		}
		got = append(got, o.Addr())
	}
	return got, failed
}

func TestList(t *testing.T) {
	t.Parallel()
	m := members(6)
	tests := []struct {
		name   string
		damage func(pages)
		limit  int
		want   []mem.VA
		err    error
	}{
		{name: "whole", damage: func(pages) {}, want: m},
		{name: "empty", damage: func(p pages) { p.link(head) }},
		{name: "loop to a member", damage: func(p pages) { p.put64(m[3], uint64(m[1])) }, want: []mem.VA{m[0], m[1], m[2], m[3], m[5], m[4]}, err: ErrLoop},
		{name: "loop to itself", damage: func(p pages) { p.put64(m[0], uint64(m[0])) }, want: []mem.VA{m[0], m[5], m[4], m[3], m[2], m[1]}, err: ErrLoop},
		{name: "wild link", damage: func(p pages) { p.put64(m[2], 0x41414141) }, want: []mem.VA{m[0], m[1], m[2], m[5], m[4], m[3]}, err: mem.ErrNotCaptured},
		{name: "null link", damage: func(p pages) { p.put64(m[4], 0) }, want: []mem.VA{m[0], m[1], m[2], m[3], m[4], m[5]}, err: mem.ErrNotCaptured},
		{name: "link back overwritten", damage: func(p pages) { p.put64(m[3]+8, 0x4242424242424242) }, want: []mem.VA{m[0], m[1], m[2], m[5], m[4], m[3]}, err: ErrBackLink},
		{name: "limit", damage: func(pages) {}, limit: 4, want: m[:4], err: ErrLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := pages{}
			p.link(append([]mem.VA{head}, m...)...)
			tt.damage(p)
			limit := tt.limit
			if limit == 0 {
				limit = 100
			}
			got, err := walk(context.Background(), fake(t, p), limit)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
			if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			var w *WalkError
			if err != nil && (!errors.As(err, &w) || w.Shown != len(got)) {
				t.Errorf("error %v does not say that %d were shown", err, len(got))
			}
		})
	}
}

func TestList_cancelled(t *testing.T) {
	t.Parallel()
	p := pages{}
	p.link(append([]mem.VA{head}, members(3)...)...)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got, err := walk(ctx, fake(t, p), 10)
	if len(got) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d members and %v after a cancel", len(got), err)
	}
}
