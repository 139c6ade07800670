package registrytest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// sharing is about one ID that is registered more than once.
var sharing = []promise{
	{
		name:      "one ID twice in one client",
		registers: true,
		why: "Registering an ID again replaces the entry in place. The older registration yields with ErrReplaced, its " +
			"Deregister leaves the newer one's entry alone, and it comes back by itself when the newer one leaves.",
		check: func(t *trial) {
			r := t.client()
			oneIDTwice(t, r, r)
		},
	},
	{
		name:      "one ID twice in two clients",
		registers: true,
		why: "Two processes that share an ID by mistake do not overwrite each other for ever: the newer one stays registered, and " +
			"the older one reports ErrReplaced and waits.",
		check: func(t *trial) { oneIDTwice(t, t.client(), t.client()) },
	},
	{
		name:      "register again",
		registers: true,
		why: "Registering an ID again, as a restarted process does, never makes it flap: no set lacks it. To deregister it " +
			"first would close every connection to it.",
		check: registerAgain,
	},
	{
		name:      "deregister against register",
		registers: true,
		why:       "When one process leaves while another takes its ID over, the newcomer's entry stays in the end, in either order.",
		check:     deregisterAgainstRegister,
	},
}

// inVersion is t.instance("a") in some version.
func (t *trial) inVersion(version string) registry.Instance {
	in := t.instance("a")
	in.Version = version
	return in
}

func oneIDTwice(t *trial, r1, r2 registry.Registrar) {
	w := t.watch(t.client(), t.all())
	older := t.register(r1, t.inVersion("older"))
	w.until("the older instance", having("a", "older"))
	seen := w.count() - 1
	newer := t.register(r2, t.inVersion("newer"))
	w.until("the newer instance", having("a", "newer"))
	t.eventually("the older registration's Err is ErrReplaced", func() bool { return errors.Is(older.Err(), registry.ErrReplaced) })
	t.stir(r1, w, 2) // time for the older one to overwrite the newer one, if it were to
	if err := newer.Err(); err != nil {
		t.Errorf("the newer registration's Err is %v", err)
	}
	w.wantKept(seen, "a")
	if got := w.last().version("a"); got != "newer" {
		t.Errorf("the entry is the %s one's, though the newer one is registered", got)
	}

	t.deregister(newer)
	w.until("the older instance again", having("a", "older"))
	t.eventually("the older registration's Err is nil", func() bool { return older.Err() == nil })

	newest := t.register(r2, t.inVersion("newest"))
	fresh := t.watch(t.client(), t.all()) // sees the first few changes one by one
	fresh.until("the newest instance", having("a", "newest"))
	seen = fresh.count() - 1
	t.deregister(older)
	t.stir(r2, fresh, 3)
	fresh.wantKept(seen, "a")
	if err := newest.Err(); err != nil {
		t.Errorf("after an older registration of its ID was deregistered, the newest one's Err is %v", err)
	}
	t.deregister(newest)
	t.wantGone(r1, fresh, "a")
}

func registerAgain(t *trial) {
	r := t.client()
	t.register(r, t.inVersion("0"))
	for i := range 4 { // a fresh watch each time sees the first few changes one by one
		w := t.watch(t.client(), t.all())
		w.until("the instance", func(p pair) bool { return known(p) && p.has("a") })
		seen := w.count() - 1
		for j := range 3 {
			version := fmt.Sprintf("%d.%d", i, j)
			if j == 1 {
				r = t.client()
			}
			t.register(r, t.inVersion(version))
			w.until("the newest version", having("a", version))
		}
		t.register(r, t.inVersion(fmt.Sprintf("%d.2", i))) // with the same content
		t.stir(r, w, 1)
		w.wantKept(seen, "a")
	}
}

func deregisterAgainstRegister(t *trial) {
	r1, r2 := t.client(), t.client()
	w := t.watch(t.client(), t.all())
	for i := range 5 {
		old := t.register(r1, t.inVersion(fmt.Sprint("old ", i)))
		var newcomer registry.Registration
		t.ends("Register or Deregister", func() {
			var both sync.WaitGroup
			defer both.Wait()
			both.Go(func() {
				var err error
				if newcomer, err = r2.Register(t.inTime(), t.inVersion(fmt.Sprint("new ", i))); err != nil {
					t.Errorf("Register: %v", err)
				}
			})
			if err := old.Deregister(t.inTime()); err != nil {
				t.Errorf("Deregister: %v", err)
			}
		})
		if newcomer == nil {
			return
		}
		w.until("the newcomer", having("a", fmt.Sprint("new ", i)))
		t.deregister(newcomer)
		w.until("the empty set", exactly())
	}
}
