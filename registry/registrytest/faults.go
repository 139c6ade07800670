package registrytest

import (
	"context"
	"fmt"
	"slices"

	"github.com/rollcall-go/rollcall/registry"
)

var faults = []promise{
	{
		name:      "lost entry is noticed",
		registers: true,
		needs:     "Lose KeepOnClose",
		why:       "An entry that the store has lost, and whose owner is gone, leaves every set.",
		check:     lostEntryIsNoticed,
	},
	{
		name:      "lost registration comes back",
		registers: true,
		needs:     "Lose",
		why: "An instance that the store has lost is registered again, each time, as it was last updated. An " +
			"agent that restarted with nothing must not empty a fleet.",
		check: lostRegistrationComesBack,
	},
	{
		name:  "watch in an outage",
		needs: "Break",
		why: "In an outage a watch yields the last good set beside an error, and goes on: an error must never look like an " +
			"empty service. When it heals, a pair without an error follows, and later changes arrive.",
		check: watchInAnOutage,
	},
	{
		name:  "watch from an outage on",
		needs: "Break",
		why:   "A watch that starts in an outage reports it, and recovers. A failed first attempt must not leave it dead.",
		check: watchFromAnOutageOn,
	},
	{
		name:  "lookup in an outage",
		needs: "Break",
		why: "Lookup returns the last good set that a live watch knows beside the error, and the error alone if there is " +
			"none; Services returns the error. They make one attempt, and work again afterwards.",
		check: lookupInAnOutage,
	},
	{
		name:      "registration outlives an outage",
		registers: true,
		needs:     "Break",
		why:       "After an outage every instance is registered again without help, whether the store still had it or not.",
		check:     registrationOutlivesAnOutage,
	},
	{
		name:      "register in an outage",
		registers: true,
		needs:     "Break",
		why:       "A Register that begins in an outage succeeds when it heals: a program may start before the registry is up.",
		check:     registerInAnOutage,
	},
	{
		name:      "register gives up",
		registers: true,
		needs:     "Break",
		why: "A Register whose context ends in an outage returns the context's error and the error of the last attempt, and leaves " +
			"nothing behind: the caller has no handle to take it back with.",
		check: registerGivesUp,
	},
	{
		name:      "update in an outage",
		registers: true,
		needs:     "Break",
		why:       "An Update that its context cut off returns both errors, and its content is registered as soon as the registry allows.",
		check:     updateInAnOutage,
	},
	{
		name:      "newest of two updates",
		registers: true,
		needs:     "Break",
		why: "Of two Updates in an outage the newer one is what gets registered, though it gave up while the older one still " +
			"waits: what an Update was given counts from then on.",
		check: newestOfTwoUpdates,
	},
	{
		name:      "update refused for a while",
		registers: true,
		needs:     "RefuseWrites KeepOnClose",
		why: "While the store takes no new content but renews, an Update that gave up leaves the old content registered and " +
			"renewed, and the new content follows as soon as the store takes it. Watchers must see no gap.",
		check: updateRefusedForAWhile,
	},
	{
		name:      "deregister in an outage",
		registers: true,
		needs:     "Break",
		why: "A Deregister that its context cut off returns both errors. The entry is not renewed after that, and a further call " +
			"removes it.",
		check: deregisterInAnOutage,
	},
}

func lostEntryIsNoticed(t *trial) {
	owner, r := t.keeper(), t.client()
	t.register(owner, t.instance("a"))
	t.register(r, t.instance("b"))
	w := t.watch(r, t.all())
	w.until("both instances", exactly("a", "b"))
	t.close(owner)
	if t.stuck == "" {
		t.Lose(t.T, t.instance("a"))
		w.until("the set without the lost instance", exactly("b"))
	}
}

func lostRegistrationComesBack(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	g := t.register(r, t.instance("a"))
	in := t.instance("a")
	in.Version = "updated"
	t.update(g, in)
	w.until("the instance", having("a", "updated"))
	for range 3 {
		t.Lose(t.T, g.Instance())
		t.stir(r, w, 1) // a set from after the loss
		if p := w.last(); !p.has("a") {
			p = w.until("the lost instance", func(p pair) bool { return known(p) && p.has("a") })
			if p.version("a") != "updated" {
				t.Errorf("what came back is of version %q, want %q", p.version("a"), "updated")
			}
		}
		t.eventually("Err is nil", func() bool { return g.Err() == nil })
	}
	t.deregister(g)
	t.wantGone(r, w, "a")
}

func watchInAnOutage(t *trial) {
	r := t.client()
	t.register(r, t.instance("a"))
	t.register(r, t.instance("b"))
	w := t.watch(r, t.all())
	before := w.until("both instances", exactly("a", "b"))
	seen := w.count() - 1
	for i := range 2 {
		heal := t.outage()
		p := w.until("an error", failed)
		t.wantError(p.err, "watch", registry.ErrUnavailable)
		heal()
		w.until("a pair without an error", known)
		later := t.instance(fmt.Sprint("later ", i))
		later.ID = fmt.Sprint("later", i)
		t.register(r, later)
		w.until("an instance that was registered afterwards", func(p pair) bool { return known(p) && p.has(later.ID) })
	}
	for _, p := range w.since(seen) {
		// Entries may expire in an outage, if it is long; it was not.
		if failed(p) && (!p.has("a") || !p.has("b")) {
			t.Errorf("beside the error is not the last good set: %v", p)
		}
		if len(p.set) == 0 {
			t.Errorf("an outage looks like an empty service: %v", p)
		}
		if p.has("a") && p.find("a") != before.find("a") {
			t.Error("an instance that did not change has another pointer after the outage")
			break
		}
	}
}

func watchFromAnOutageOn(t *trial) {
	r := t.client()
	heal := t.outage()
	w := t.watch(r, t.all())
	p := w.until("an error", failed)
	t.wantError(p.err, "watch", registry.ErrUnavailable)
	if p.set != nil {
		t.Errorf("nothing was ever known of the service, and beside the error is %v", p)
	}
	heal()
	w.until("a set without an error", exactly())
	t.register(r, t.instance("a"))
	w.until("a later change", exactly("a"))
}

func lookupInAnOutage(t *trial) {
	r, blind := t.client(), t.client()
	t.register(r, t.instance("a"))
	w := t.watch(r, t.all())
	w.until("the instance", exactly("a"))
	heal := t.outage()
	w.until("an error", failed)
	set, err := r.Lookup(t.inTime(), t.all())
	t.wantError(err, "lookup", registry.ErrUnavailable)
	if !slices.Equal(ids(set), []string{"a"}) {
		t.Errorf("a live watch knows the last good set, and Lookup returns %v", pair{set, err})
	}
	t.ends("Lookup or Services", func() {
		_, err = blind.Lookup(context.Background(), t.all())
		t.wantError(err, "lookup", registry.ErrUnavailable)
		_, err = blind.Services(context.Background())
		t.wantError(err, "services", registry.ErrUnavailable)
	})
	heal()
	w.until("a pair without an error", exactly("a"))
	if got := ids(t.lookup(t.all())); !slices.Equal(got, []string{"a"}) {
		t.Errorf("after the outage Lookup finds %v", got)
	}
	// This client does not know yet that the outage is over: it may be about to connect again.
	t.eventually("a client that knew nothing finds the instance", func() bool {
		set, err := blind.Lookup(t.inTime(), t.all())
		return err == nil && len(set) == 1
	})
}

func registrationOutlivesAnOutage(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("the instance", exactly("a"))
	heal := t.outage()
	w.until("an error", failed)
	heal()
	w.until("the instance, without an error", exactly("a"))
	t.eventually("Err is nil", func() bool { return g.Err() == nil })
	in := t.instance("a")
	in.Version = "after the outage"
	t.update(g, in)
	w.until("an update", having("a", in.Version))
	t.deregister(g)
	t.wantGone(r, w, "a")
}

func registerInAnOutage(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	w.until("a first set", known)
	heal := t.outage()
	w.until("an error", failed)
	var g registry.Registration
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		g, err = r.Register(t.inTime(), t.instance("a"))
	}()
	// The first of these fails, so the one in the background has been tried meanwhile, or is about to be.
	_, first := r.Register(t.moment(), t.instance("b"))
	t.wantError(first, "register", registry.ErrUnavailable)
	heal()
	if !t.closes("Register after the outage", done) {
		return
	}
	if err != nil {
		t.Fatalf("Register: %v", err)
	}
	w.until("the instance", exactly("a"))
	t.deregister(g)
}

func registerGivesUp(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	w.until("a first set", known)
	heal := t.outage()
	t.ends("Register whose context ended", func() {
		g, err := r.Register(t.moment(), t.instance("a"))
		t.wantError(err, "register", context.DeadlineExceeded, registry.ErrUnavailable)
		if g != nil {
			t.Errorf("beside the error %v there is a registration", err)
		}
	})
	heal()
	t.stir(r, w, 3)
	for _, p := range w.since(0) {
		if p.has("a") {
			t.Errorf("the Register that gave up has registered it: %v", p)
		}
	}
}

func updateInAnOutage(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("the instance", exactly("a"))
	heal := t.outage()
	w.until("an error", failed)
	in := t.instance("a")
	in.Version = "from the outage"
	t.ends("Update whose context ended", func() {
		t.wantError(g.Update(t.moment(), in), "update", context.DeadlineExceeded, registry.ErrUnavailable)
	})
	heal()
	w.until("the update", having("a", in.Version))
	t.eventually("Err is nil", func() bool { return g.Err() == nil })
}

func newestOfTwoUpdates(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("the instance", exactly("a"))
	heal := t.outage()
	w.until("an error", failed)
	older, newer := t.instance("a"), t.instance("a")
	older.Version, newer.Version = "older", "newer"
	first := make(chan error, 1)
	go func() { first <- g.Update(t.inTime(), older) }()
	t.eventually("the older update counts", func() bool { in := g.Instance(); return in.Version == "older" })
	t.ends("Update whose context ended", func() {
		t.wantError(g.Update(t.moment(), newer), "update", context.DeadlineExceeded, registry.ErrUnavailable)
	})
	if in := g.Instance(); in.Version != "newer" {
		t.Errorf("after an Update to %q that gave up, Instance has version %q", "newer", in.Version)
	}
	heal()
	w.until("the newer update", having("a", "newer"))
	t.ends("the older Update", func() {
		if err := <-first; err != nil {
			t.Errorf("the older Update: %v", err)
		}
	})
	seen := w.count()
	t.stir(r, w, 2)
	for _, p := range w.since(seen) {
		if p.has("a") && p.version("a") != "newer" {
			t.Errorf("the older update came after the newer one: %v", p)
		}
	}
	t.eventually("Err is nil", func() bool { return g.Err() == nil })
}

func updateRefusedForAWhile(t *trial) {
	r, other := t.client(), t.keeper()
	g := t.register(r, t.instance("a"))
	t.register(other, t.instance("expires"))
	w := t.watch(t.client(), t.all())
	w.until("both instances", exactly("a", "expires"))
	seen := w.count() - 1
	heal := t.once(t.RefuseWrites(t.T))
	in := t.instance("a")
	in.Version = "new"
	t.ends("Update whose context ended", func() {
		t.wantError(g.Update(t.moment(), in), "update", context.DeadlineExceeded, registry.ErrUnavailable)
	})
	// An entry whose client has closed shows when leases expire.
	t.close(other)
	if t.stuck != "" {
		return
	}
	w.until("the end of a lease that is not renewed", func(p pair) bool {
		return known(p) && (!p.has("expires") || p.find("expires").Status == registry.Critical)
	})
	t.wantError(g.Err(), "update", registry.ErrUnavailable)
	heal()
	w.until("the update", having("a", in.Version))
	w.wantKept(seen, "a")
	t.eventually("Err is nil", func() bool { return g.Err() == nil })
	t.sweep(r)
}

func deregisterInAnOutage(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("the instance", exactly("a"))
	heal := t.outage()
	w.until("an error", failed)
	t.ends("Deregister whose context ended", func() {
		t.wantError(g.Deregister(t.moment()), "deregister", context.DeadlineExceeded, registry.ErrUnavailable)
	})
	heal()
	t.deregister(g)
	t.wantGone(r, w, "a")
}
