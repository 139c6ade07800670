package codec

import "testing"

func TestOwner_OrdersTheWritesOfOneClient(t *testing.T) {
	first, second := Owner{Client: "c", Lease: 1}, Owner{Client: "c", Lease: 2}
	later := second
	later.Seq++
	for _, c := range []struct {
		a, b          Owner
		newer, covers bool // a is newer than b; a covers b
	}{
		{first, first, false, true}, {second, first, true, true}, {first, second, false, false},
		{later, second, true, true}, {second, later, false, true}, {first, Owner{Client: "other", Lease: 1}, false, false},
		{first, ParseOwner(""), false, false}, {first, ParseOwner("x.1"), false, false}, {first, ParseOwner("c.a.b"), false, false},
	} {
		if got := c.a.IsNewerThan(c.b); got != c.newer {
			t.Errorf("%v is newer than %v: %v", c.a, c.b, got)
		}
		if got := c.a.Covers(c.b); got != c.covers {
			t.Errorf("%v covers %v: %v", c.a, c.b, got)
		}
		if c.a != ParseOwner(c.a.String()) {
			t.Errorf("%v is read as %v", c.a, ParseOwner(c.a.String()))
		}
	}
}
