package registrytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

var registration = []promise{
	{
		name:  "register is unsupported",
		needs: "Write",
		why:   "A backend that can only find says so: Register returns ErrUnsupported at once, and leaves nothing behind.",
		check: registerIsUnsupported,
	},
	{
		name:      "as registered",
		registers: true,
		why: "Registration.Instance is what was registered, with ID, address and weight filled in. The driver does not change " +
			"the instance that it is given, nor does anyone the caller's maps.",
		check: asRegistered,
	},
	{
		name:      "bad input",
		registers: true,
		why: "What no backend can store faithfully is refused with ErrInvalid, in words that name the field, before anything is " +
			"written. A name like * must not select everything, nor one with a slash reach into another service.",
		check: badInput,
	},
	{
		name:      "deregister",
		registers: true,
		why: "When Deregister returns, the entry is being removed and nothing brings it back, while the client and its other " +
			"registrations go on.",
		check: deregister,
	},
	{
		name:      "deregister twice",
		registers: true,
		why:       "Deregister is idempotent, also when several call it at once: leaving is often started from two places.",
		check:     deregisterTwice,
	},
	{
		name:      "deregister against update",
		registers: true,
		why:       "However an update and a deregistration meet, the entry is gone in the end: an update never brings it back.",
		check:     deregisterAgainstUpdate,
	},
	{
		name:  "services",
		why:   "Services lists each service that has instances, sorted, and no other.",
		check: services,
	},
	{
		name:      "deregister after a loss",
		registers: true,
		needs:     "Lose",
		why: "An entry that was lost just before Deregister does not come back after it: the keeper's repair and the " +
			"deregistration must not overtake one another.",
		check: deregisterAfterALoss,
	},
}

func registerIsUnsupported(t *trial) {
	r := t.client()
	t.ends("Register", func() {
		g, err := r.Register(context.Background(), t.instance("a"))
		t.wantError(err, "register", registry.ErrUnsupported)
		if g != nil {
			t.Errorf("beside the error %v there is a registration", err)
		}
	})
	if set := t.lookup(t.all()); len(set) != 0 {
		t.Errorf("the Register that failed has left %q", ids(set))
	}
}

func asRegistered(t *trial) {
	r := t.client()
	in := t.full("")
	in.Weight = 0
	given := in.Clone()
	g := t.register(r, in)
	want := *given.Clone()
	want.ID, want.Weight = want.Service+"-10.1.2.3-65535", 1
	got := g.Instance()
	t.wantSame(&got, &want)
	t.wantSame(&in, given)
	clear(got.Metadata)
	clear(got.Endpoints)
	got.Tags[0] = "changed by the caller"
	again := g.Instance()
	t.wantSame(&again, &want)
	p := t.watch(t.client(), t.all()).until("the instance", exactly(want.ID))
	t.wantSame(p.set[0], &want)

	want.Version = "updated"
	t.update(g, want)
	got = g.Instance()
	t.wantSame(&got, &want)

	wild := t.instance("wild")
	wild.Address = ":8080"
	got = t.register(r, wild).Instance()
	host, port, err := net.SplitHostPort(got.Address)
	if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() || port != "8080" {
		t.Errorf("%q was registered as %q, want an address of this host with the same port", wild.Address, got.Address)
	}
}

func badInput(t *trial) {
	r := t.client()
	w := t.watch(r, t.all())
	w.until("a first set", known)
	for field, spoil := range map[string]func(in *registry.Instance){
		"Service":   func(in *registry.Instance) { in.Service = "" },
		"Service ":  func(in *registry.Instance) { in.Service = "*" },
		"Service  ": func(in *registry.Instance) { in.Service += "/a" },
		"ID":        func(in *registry.Instance) { in.ID = "a/b" },
		"ID ":       func(in *registry.Instance) { in.ID = "é" },
		"Address":   func(in *registry.Instance) { in.Address = "" },
		"Address ":  func(in *registry.Instance) { in.Address = "10.0.0.1" },
		"Address  ": func(in *registry.Instance) { in.Address = "2001:db8::1:80" },
		"Endpoints": func(in *registry.Instance) { in.Endpoints = map[string]string{"http": "10.0.0.1:0"} },
		"Version":   func(in *registry.Instance) { in.Version = "\xff" },
		"Zone":      func(in *registry.Instance) { in.Zone = "\xff" },
		"Tags":      func(in *registry.Instance) { in.Tags = []string{"ok", ""} },
		"Metadata":  func(in *registry.Instance) { in.Metadata = map[string]string{"": "v"} },
		"Weight":    func(in *registry.Instance) { in.Weight = registry.Drained - 1 },
		"Status":    func(in *registry.Instance) { in.Status = registry.Maintenance + 1 },
	} {
		in := t.instance("bad")
		spoil(&in)
		g, err := r.Register(t.inTime(), in)
		t.wantError(err, "register", registry.ErrInvalid)
		if field = strings.TrimSpace(field); err != nil && !strings.Contains(err.Error(), field) {
			t.Errorf("the error %q does not name the field, %s", err, field)
		}
		if g != nil {
			t.Errorf("beside the error %q there is a registration", err)
		}
	}
	g := t.register(r, t.instance("a"))
	for _, other := range []registry.Instance{{Service: "other", Address: "10.0.0.1:1"}, {ID: "other", Address: "10.0.0.1:1"}, {Address: "none"}} {
		t.wantError(g.Update(t.inTime(), other), "update", registry.ErrInvalid)
	}
	for _, q := range []registry.Query{{}, {Service: "*"}, {Service: t.name() + "/"}, {Service: t.name(), Tags: []string{""}}} {
		_, err := r.Lookup(t.inTime(), q)
		t.wantError(err, "lookup", registry.ErrInvalid)
		bad := t.watch(r, q)
		if t.closes("a watch that can never work", bad.ended) {
			t.wantError(bad.last().err, "watch", registry.ErrInvalid)
		}
	}
	w.until("what is valid", exactly("a"))
	t.stir(r, w, 1)
	for _, p := range w.since(0) {
		if p.has("bad") || p.err != nil {
			t.Errorf("what was refused is there: %v", p)
		}
	}
	if got := g.Instance(); got.Address != t.instance("a").Address {
		t.Errorf("an update that was refused has changed the registration to %+v", got)
	}
}

func deregister(t *trial) {
	r := t.client()
	t.register(r, t.instance("b"))
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("both instances", exactly("a", "b"))
	if err := g.Err(); err != nil {
		t.Errorf("while it is registered, Err says %v", err)
	}
	seen := w.count()
	t.deregister(g)
	if err := g.Err(); !errors.Is(err, registry.ErrClosed) {
		t.Errorf("after Deregister, Err says %v, want ErrClosed", err)
	}
	t.wantError(g.Update(t.inTime(), t.instance("a")), "update", registry.ErrClosed)
	t.wantGone(r, w, "a")
	w.wantKept(seen, "b")
}

func deregisterTwice(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(r, t.all())
	w.until("the instance", exactly("a"))
	t.ends("one of several Deregister", func() {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := g.Deregister(t.inTime()); err != nil {
					t.Errorf("Deregister at the same time as another: %v", err)
				}
			})
		}
		all.Wait()
	})
	t.wantGone(r, w, "a")
	if err := g.Deregister(t.inTime()); err != nil {
		t.Errorf("Deregister long after: %v", err)
	}
}

func deregisterAgainstUpdate(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	var raced []string
	for i := range 6 {
		in := t.instance(fmt.Sprint("a", i))
		raced = append(raced, in.ID)
		g := t.register(r, in)
		t.ends("Update or Deregister", func() {
			var both sync.WaitGroup
			defer both.Wait()
			both.Go(func() {
				in.Version = "updated"
				if err := g.Update(context.Background(), in); err != nil {
					t.wantError(err, "update", registry.ErrClosed)
				}
			})
			if err := g.Deregister(t.inTime()); err != nil {
				t.Errorf("Deregister: %v", err)
			}
		})
	}
	t.wantGone(r, w, raced...)
}

func services(t *trial) {
	r := t.client()
	var want []string
	var registrations []registry.Registration
	for i, suffix := range []string{"-b", "", "-a", ".c", "-A"} {
		in := t.instance(fmt.Sprint("a", i))
		in.Service += suffix
		want = append(want, in.Service)
		registrations = append(registrations, t.register(r, in))
		second := in
		second.ID = "second"
		t.register(r, second)
	}
	other := t.client()
	ours := func() []string {
		names, err := other.Services(t.inTime())
		if err != nil {
			t.Fatalf("Services: %v", err)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Errorf("Services returns %q, which is not sorted or has one twice", names)
		}
		return slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, t.name()) })
	}
	slices.Sort(want)
	t.eventually(fmt.Sprintf("Services lists %q", want), func() bool { return slices.Equal(ours(), want) })
	gone := t.instance("x")
	gone.Service += "-gone"
	g := t.register(r, gone)
	t.eventually(gone.Service+" is listed", func() bool { return slices.Contains(ours(), gone.Service) })
	t.deregister(g)
	t.deregister(registrations[0])
	t.eventually(fmt.Sprintf("Services lists %q again, without the service whose last instance left", want), func() bool {
		return slices.Equal(ours(), want)
	})
}

func deregisterAfterALoss(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	var lost []string
	for i := range 6 {
		in := t.instance(fmt.Sprint("a", i))
		lost = append(lost, in.ID)
		g := t.register(r, in)
		t.Lose(t.T, g.Instance())
		t.deregister(g)
	}
	t.wantGone(r, w, lost...)
}
