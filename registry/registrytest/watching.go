package registrytest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

var watching = []promise{
	{
		name: "empty first set",
		why: "A watch yields once promptly even when the service has no instance, and Lookup then returns an empty slice. " +
			"A client that hears nothing cannot tell an empty service from a registry that does not answer.",
		check: emptyFirstSet,
	},
	{
		name:  "last instance leaves",
		why:   "When the last instance leaves, the watch yields the empty set. A client must not go on dialling an address that is gone.",
		check: lastInstanceLeaves,
	},
	{
		name:  "order",
		why:   "Every set is sorted by ID and has each instance once, so that two readers see the same and a comparison is cheap.",
		check: order,
	},
	{
		name: "completeness",
		why: "A set is complete or it is an error, however large it is: a reader that is given a part of it closes the " +
			"connections to the rest.",
		check: completeness,
	},
	{
		name:  "two clients",
		why:   "What one client registers every other client of the store finds, by Watch and by Lookup.",
		check: twoClients,
	},
	{
		name: "neighbours",
		why: "Names that are prefixes of one another do not mix: user, user-admin and user.admin are three services, and " +
			"instances a, a-2 and a.2 of one service are three instances, when they are read and when they are removed.",
		check: neighbours,
	},
	{
		name:  "case counts",
		why:   "Service names and IDs that differ in case alone are different, to the letter, in every backend.",
		check: caseCounts,
	},
	{
		name: "update in place",
		why: "An update is seen as one step: no set lacks the instance or has it twice, the order of updates is kept, and a " +
			"neighbour that did not change keeps its pointer, so that a balancer leaves its connection alone.",
		check: updateInPlace,
	},
	{
		name: "instances never change",
		why: "An instance that was handed out is never changed again: readers share it without a lock. A change is a new " +
			"instance, so that a reader can also tell by the pointer.",
		check: instancesNeverChange,
	},
	{
		name:  "cancel",
		why:   "A watch ends promptly, without a last pair, when its context ends while it blocks; other watches go on.",
		check: cancelInMidBlock,
	},
	{
		name:  "break",
		why:   "Breaking out of the loop ends the watch; ranging again, even in several goroutines at once, is a new watch each time.",
		check: breakAndRangeAgain,
	},
	{
		name:  "slow reader",
		why:   "A reader that is slow skips to the newest set. It neither delays others nor works through a queue of old sets.",
		check: slowReader,
	},
}

func emptyFirstSet(t *trial) {
	r := t.client()
	w := t.watch(r, t.all())
	first := w.until("a first set", func(pair) bool { return true })
	if first.err != nil || first.set == nil || len(first.set) != 0 {
		t.Errorf("the first pair is %v, want an empty set that is not nil, and no error", first)
	}
	if set := t.lookup(t.all()); len(set) != 0 {
		t.Errorf("Lookup finds %v", ids(set))
	}
	t.register(r, t.instance("a"))
	w.until("the first instance", exactly("a"))
}

func lastInstanceLeaves(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	w := t.watch(t.client(), t.all())
	w.until("the instance", exactly("a"))
	t.deregister(g)
	w.until("the empty set", exactly())
}

func order(t *trial) {
	one, two := t.client(), t.client()
	w := t.watch(one, t.all())
	scrambled := []string{"m", "b", "z", "B", "a10", "a2", "a", "0", "y-1", "y"}
	for i, id := range scrambled {
		in := t.instance(id)
		in.Address = fmt.Sprintf("10.0.0.%d:80", 200-i)
		t.register([]*registry.Registry{one, two}[i%2], in)
	}
	want := slices.Sorted(slices.Values(scrambled))
	w.until("all instances in order", exactly(want...))
	for _, p := range w.since(0) {
		if got := ids(p.set); !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("a set on the way is %q", got)
		}
	}
	if got := ids(t.lookup(t.all())); !slices.Equal(got, want) {
		t.Errorf("Lookup returns %q, want %q", got, want)
	}
}

func completeness(t *trial) {
	const n = 150 // more than the page of any store that has pages of a hundred
	r := t.client()
	early := t.watch(r, t.all())
	early.until("a first set", known)
	var want []string
	var all []registry.Instance
	for i := range n {
		in := t.instance(fmt.Sprintf("i%03d", i))
		in.Metadata = map[string]string{"number": fmt.Sprint(i)}
		want, all = append(want, in.ID), append(all, in)
	}
	last := t.registerAll(r, all)[n-1]
	early.until("all instances", exactly(want...))
	complete := early.count()
	late := t.watch(t.client(), t.all())
	if first := late.until("a first set", known); !slices.Equal(ids(first.set), want) {
		t.Errorf("a watch that starts now yields %d of %d instances first", len(first.set), n)
	}
	for i := range 3 {
		in := t.instance(want[n-1])
		in.Version = fmt.Sprint(i)
		t.update(last, in)
		early.until("the update", having(in.ID, in.Version))
	}
	for _, p := range early.since(complete) {
		if !exactly(want...)(p) {
			t.Errorf("no instance has left, and the watch yielded %d of %d instances", len(p.set), n)
		}
	}
	if got := len(t.lookup(t.all())); got != n {
		t.Errorf("Lookup returns %d of %d instances", got, n)
	}
}

func twoClients(t *trial) {
	one, two := t.client(), t.client()
	w1, w2 := t.watch(one, t.all()), t.watch(two, t.all())
	a := t.register(one, t.instance("a"))
	t.register(two, t.instance("b"))
	for _, w := range []*watcher{w1, w2} {
		w.until("the instances of both clients", exactly("a", "b"))
	}
	if got := ids(t.lookup(t.all())); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("a third client finds %q", got)
	}
	t.deregister(a)
	for _, w := range []*watcher{w1, w2} {
		w.until("what the other client did", exactly("b"))
	}
}

func neighbours(t *trial) {
	r := t.client()
	name := t.name()
	services := []string{name, name + "-admin", name + ".admin", name + "-admin-2"}
	ids := []string{"a", "a-2", "a.2"}
	removed := map[string]registry.Registration{}
	watches := map[string]*watcher{}
	for _, service := range services {
		for _, id := range ids {
			in := t.instance(id)
			in.Service, in.Version = service, service
			g := t.register(r, in)
			if id == "a" {
				removed[service] = g
			}
		}
		watches[service] = t.watch(r, registry.Query{Service: service, AnyStatus: true})
	}
	seen := map[string]int{}
	for _, service := range services {
		p := watches[service].until("its own instances", exactly(ids...))
		for _, in := range p.set {
			if in.Service != service || in.Version != service {
				t.Errorf("%s has instance %s of service %s, version %s", service, in.ID, in.Service, in.Version)
			}
		}
		seen[service] = watches[service].count()
	}
	for _, service := range []string{name, name + ".admin"} {
		t.deregister(removed[service])
		watches[service].until("its own instances without the deregistered one", exactly(ids[1:]...))
	}
	t.stir(r, watches[name], 1)
	for _, service := range services {
		for _, id := range ids[1:] {
			watches[service].wantKept(seen[service], id)
		}
	}
	for _, service := range []string{name + "-admin", name + "-admin-2"} {
		watches[service].wantKept(seen[service], "a")
		set, err := r.Lookup(t.inTime(), registry.Query{Service: service, AnyStatus: true})
		if err != nil || len(set) != len(ids) {
			t.Errorf("instances of the neighbours of %s were removed, and it has %d of its %d now (error: %v)", service, len(set), len(ids), err)
		}
	}
}

func caseCounts(t *trial) {
	r := t.client()
	lower := t.instance("a")
	upper := t.instance("A")
	other := t.instance("a")
	other.Service = "C" + other.Service[1:]
	other.Version = "of the other service"
	t.register(r, lower)
	t.register(r, upper)
	g := t.register(r, other)
	w := t.watch(r, t.all())
	w.until("both IDs of its own service", exactly("A", "a"))
	wOther := t.watch(r, registry.Query{Service: other.Service, AnyStatus: true})
	p := wOther.until("its own instance", exactly("a"))
	if p.version("a") != other.Version {
		t.Errorf("%s has the instance of %s", other.Service, lower.Service)
	}
	seen := w.count()
	t.deregister(g)
	wOther.until("the empty set", exactly())
	t.stir(r, w, 1)
	w.wantKept(seen, "a")
	w.wantKept(seen, "A")
}

func updateInPlace(t *trial) {
	for range 4 { // a fresh watch each time sees the first few changes one by one
		r := t.client()
		other := t.register(r, t.instance("neighbour"))
		g := t.register(r, t.instance("a"))
		w := t.watch(t.client(), t.all())
		before := w.until("both instances", func(p pair) bool { return known(p) && p.has("a") && p.has("neighbour") }).find("neighbour")
		seen := w.count()
		for i := range 3 {
			in := t.instance("a")
			in.Version = fmt.Sprint(i)
			in.Address = fmt.Sprintf("10.0.1.%d:8080", i+1)
			t.update(g, in)
			if got := g.Instance(); got.Version != in.Version {
				t.Errorf("after the update the registration is of version %q, want %q", got.Version, in.Version)
			}
			p := w.until("the update", having("a", in.Version))
			if got := p.find("a").Address; got != in.Address {
				t.Errorf("of an update one field has arrived without the other: the address is %s, want %s", got, in.Address)
			}
			if p.find("neighbour") != before {
				t.Error("an instance that did not change has another pointer")
			}
		}
		w.wantKept(seen, "a")
		w.wantKept(seen, "neighbour")
		t.deregister(g)
		t.deregister(other)
	}
}

func instancesNeverChange(t *trial) {
	r := t.client()
	in := t.instance("a")
	in.Metadata = map[string]string{"k": "first"}
	in.Tags = []string{"first"}
	g := t.register(r, in)
	w := t.watch(r, t.all())
	handedOut := w.until("the instance", exactly("a")).find("a")
	copied := handedOut.Clone()
	for i := range 3 {
		in.Version = fmt.Sprint(i)
		in.Metadata = map[string]string{"k": in.Version}
		in.Tags = []string{in.Version}
		t.update(g, in)
	}
	t.stir(r, w, 1)
	if !handedOut.Equal(copied) {
		t.Errorf("an instance that was handed out has changed from %+v to %+v", copied, handedOut)
	}
}

func cancelInMidBlock(t *trial) {
	r := t.client()
	w, other := t.watch(r, t.all()), t.watch(r, t.all())
	w.until("a first set", known)
	other.until("a first set", known)
	w.stop()
	if !t.closes("the watch that was cancelled", w.ended) {
		return
	}
	if n := w.count(); n != 1 {
		t.Errorf("after it was cancelled the watch yielded %v", w.last())
	}
	t.register(r, t.instance("a"))
	other.until("a later change", exactly("a"))
}

func breakAndRangeAgain(t *trial) {
	r := t.client()
	t.register(r, t.instance("a"))
	t.watch(t.client(), t.all()).until("the instance", exactly("a"))
	seq := r.Watch(context.Background(), t.all())
	var all sync.WaitGroup
	t.ends("one of the loops", func() {
		for range 4 {
			all.Go(func() {
				for range 2 {
					for set, err := range seq {
						if err != nil || len(set) != 1 {
							t.Errorf("the first pair is %v", pair{set, err})
						}
						break
					}
				}
			})
		}
		all.Wait()
	})
}

func slowReader(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	fast := t.watch(r, t.all())
	fast.until("the instance", exactly("a"))
	n := 0
	for set, err := range r.Watch(t.inTime(), t.all()) {
		n++
		if n > 1 {
			if err != nil || (pair{set, err}).version("a") != "last" {
				t.Errorf("a reader that came back late is given %v in version %q, want the newest", ids(set), pair{set, err}.version("a"))
			}
			break
		}
		// The reader is in the body of its loop while all this happens, and a reader of the same watch hears of it.
		for _, version := range []string{"1", "2", "3", "last"} {
			in := t.instance("a")
			in.Version = version
			t.update(g, in)
			fast.until("an update", having("a", version))
		}
	}
	if n != 2 {
		t.Errorf("the slow reader was given %d pairs, want 2", n)
	}
}
