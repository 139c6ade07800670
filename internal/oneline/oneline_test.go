package oneline

import (
	"errors"
	"fmt"
	"testing"
)

func TestJoin_IsOneLineWithThePrefixOnce(t *testing.T) {
	invalid := errors.New("invalid")
	of := func(text string) error { return fmt.Errorf("%w: %s", invalid, text) }
	for _, c := range []struct {
		errs []error
		want string
	}{
		{[]error{of("a: one"), nil}, "invalid: a: one"},
		{[]error{of("a: one"), of("a: two")}, "invalid: a: one; two"},
		{[]error{of("a: one"), of("b: two")}, "invalid: a: one; b: two"},
		{[]error{errors.Join(of("one"), of("two")), of("three")}, "invalid: one; two; three"},
		{[]error{of("one"), of("one")}, "invalid: one; one"},
		{[]error{invalid, of("one")}, "invalid; invalid: one"},
		{[]error{of("a: one"), errors.New("denied: a: two")}, "invalid: a: one; denied: a: two"},
	} {
		if err := Join(c.errs...); err.Error() != c.want || !errors.Is(err, invalid) {
			t.Errorf("got %q, want %q", err, c.want)
		}
	}
	if err := Join(nil, nil); err != nil {
		t.Error(err)
	}
}
