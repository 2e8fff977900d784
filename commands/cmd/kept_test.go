package cmd

import (
	"errors"
	"testing"
)

func TestKept(t *testing.T) {
	t.Parallel()
	type key struct{}
	var s Session
	if _, err := Kept(&s, key{}, func() (int, error) { return 0, errors.New("not yet") }); err == nil {
		t.Error("the error of the first call is lost")
	}
	calls := 0
	get := func() int {
		v, err := Kept(&s, key{}, func() (int, error) { calls++; return 7, nil })
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	get()
	s.values = nil // as Reload does
	if v := get(); v != 7 || calls != 1 {
		t.Errorf("%d after %d calls", v, calls)
	}
}
