package etcd

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// trial is a fault that a watcher and an announcement go through.
type trial struct {
	*testing.T
	server   *testbed.Etcd
	registry *registry.Registry
	given    registry.Registration
	watcher  *watcher
}

func newTrial(t *testing.T, c Config) *trial {
	server := testbed.StartEtcd(t)
	c.Endpoints = []string{server.Addr()}
	r := connect(t, c)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	o := &trial{T: t, server: server, registry: r, given: register(t, r, in), watcher: follow(t, r, registry.Query{Service: "s"})}
	o.watcher.until("the instance", healthy(1))
	return o
}

// inTrouble waits until the watcher and the owner know that something is wrong.
func (t *trial) inTrouble() {
	t.Helper()
	t.watcher.until("the last good set beside an error", func(p pair) bool {
		return len(p.set) == 1 && errors.Is(p.err, registry.ErrUnavailable)
	})
	eventually(t, "Err tells of the outage", func() bool { return errors.Is(t.given.Err(), registry.ErrUnavailable) })
}

// heals waits until all is well, and watches that no empty set was seen on the way.
func (t *trial) heals(began time.Time) {
	t.Helper()
	eventually(t, "the announcement stands", func() bool { return t.given.Err() == nil })
	t.watcher.until("the instance", healthy(1))
	t.Logf("healed after %v", time.Since(began))
	update(t, t.given, func(in *registry.Instance) { in.Version = "2" })
	t.watcher.until("a later change", func(p pair) bool { return p.err == nil && p.find("a") != nil && p.find("a").Version == "2" })
	for _, p := range t.watcher.all() {
		if len(p.set) == 0 {
			t.Errorf("the watcher saw %v", p)
		}
	}
}

func TestKilledAndRestarted(t *testing.T) {
	o := newTrial(t, Config{})
	o.server.Kill()
	o.inTrouble()
	o.server.Restart(true)
	o.heals(time.Now())
}

// The cluster and the member are the same as before, and only the revision tells that it is another store.
func TestStoreComesBackWithNothing(t *testing.T) {
	o := newTrial(t, Config{})
	for i := range 50 { // so that the store is long past the revision that it begins again with
		update(t, o.given, func(in *registry.Instance) { in.Zone = fmt.Sprint(i) })
	}
	o.server.Kill()
	o.inTrouble()
	o.server.Restart(false)
	o.heals(time.Now())
}

// Whoever finds etcd again after another has announced its ID does not take the ID back.
func TestReplacedInAnOutage(t *testing.T) {
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	older := register(t, connect(t, Config{Endpoints: []string{way.addr()}}), in)
	way.cut()
	eventually(t, "it is lost", func() bool { return older.Err() != nil })
	in.Version = "2"
	r := connect(t, Config{Endpoints: []string{server.Addr()}})
	w := follow(t, r, registry.Query{Service: "s"})
	newer := register(t, r, in)
	way.heal()
	eventually(t, "it stands aside", func() bool { return errors.Is(older.Err(), registry.ErrReplaced) })
	w.until("the newer one", func(p pair) bool { return healthy(1)(p) && p.find("a").Version == "2" })
	if err := newer.Err(); err != nil {
		t.Errorf("the newer one's Err says %v", err)
	}
	if err := newer.Deregister(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the older one is back", func() bool { return older.Err() == nil })
}

// A restart that is quicker than anybody looks.
func TestStoreIsReplacedInAMoment(t *testing.T) {
	o := newTrial(t, Config{})
	o.server.Restart(false)
	o.heals(time.Now())
}

// The kernel of a stopped server goes on accepting, and nothing answers.
func TestStoppedForLongerThanTheTTL(t *testing.T) {
	o := newTrial(t, Config{TTL: minTTL, Timeout: time.Second, KeepAliveTime: minKeepAliveTime, KeepAliveTimeout: time.Second})
	o.server.Stop()
	began := time.Now()
	o.inTrouble()
	t.Logf("noticed after %v", time.Since(began))
	if rest := minTTL + time.Second - time.Since(began); rest > 0 {
		<-time.After(rest)
	}
	o.server.Continue()
	o.heals(time.Now())
}

func TestNoEtcd(t *testing.T) {
	server := testbed.StartEtcd(t)
	server.Kill()
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}})
	defer d.Close()
	began := time.Now()
	s := d.Follow(registry.Query{Service: "s"})
	defer s.Close()
	_, first := s.Next(within(t, patience))
	_, second := d.Services(within(t, patience))
	_, third := d.Announce(within(t, patience), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	for _, err := range []error{first, second, third} {
		wantKind(t, err, registry.ErrUnavailable)
	}
	if time.Since(began) > DefaultTimeout { // which is for one that hangs
		t.Errorf("three refused connections took %v", time.Since(began))
	}
}

func TestRequestsAreBoundedInAnOutage(t *testing.T) {
	server := testbed.StartEtcd(t)
	calls := new(meter)
	way := newNetwork(t, server.Addr())
	r := openWith(t, Config{Endpoints: []string{way.addr()}}, calls.option())
	register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := follow(t, r, registry.Query{Service: "s"})
	w.until("the instance", healthy(1))
	way.cut()
	w.until("an error", func(p pair) bool { return p.err != nil })
	before, dials := calls.sent.Load(), way.accepted()
	const outage = 5 * time.Second
	<-time.After(outage)
	sent, dialled := calls.sent.Load()-before, way.accepted()-dials
	t.Logf("in %v of an outage: %d messages, %d connections", outage, sent, dialled)
	// Two that try again, each with a backoff.
	if sent > 60 || dialled > 15 {
		t.Errorf("%d messages and %d connections in %v of an outage", sent, dialled, outage)
	}
	way.heal()
	w.until("the instance", healthy(1))
}

// Whoever asks has an attempt made at once, and a watch goes on with the connection that comes of it.
func TestAPauseEndsWhenSomebodyAsks(t *testing.T) {
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	never := backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}
	d := driverFor(t, Config{Endpoints: []string{way.addr()}, Timeout: patience}, grpc.WithConnectParams(grpc.ConnectParams{Backoff: never}))
	defer d.Close()
	s := d.Follow(registry.Query{Service: "s"})
	defer s.Close()
	way.cut()
	_, err := s.Next(within(t, patience))
	wantKind(t, err, registry.ErrUnavailable)
	way.heal()
	read := make(chan error, 1)
	go func() { _, err := s.Next(within(t, patience)); read <- err }()
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	eventually(t, "it is announced", func() bool { _, err := d.Announce(within(t, patience), in); return err == nil })
	if err := <-read; err != nil {
		t.Errorf("the watch: %v", err)
	}
	for name, ask := range map[string]func() error{
		"services": func() error { _, err := d.Services(within(t, patience)); return err },
		"a lookup": func() error {
			s := d.Follow(registry.Query{Service: "s"})
			defer s.Close()
			_, err := s.Next(within(t, patience))
			return err
		},
	} {
		way.cut()
		eventually(t, name+" fails", func() bool { return ask() != nil })
		way.heal()
		eventually(t, name+" succeeds", func() bool { return ask() == nil })
	}
}

// A watch alone leaves an etcd that is down in peace.
func TestConnectionsOfAWatchInAnOutage(t *testing.T) {
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	w := follow(t, connect(t, Config{Endpoints: []string{way.addr()}}), registry.Query{Service: "s"})
	w.until("the first set", healthy(0))
	way.cut()
	w.until("an error", func(p pair) bool { return p.err != nil })
	before := way.accepted()
	<-time.After(8 * time.Second)
	dialled := way.accepted() - before
	t.Logf("%d connections in 8 s of an outage", dialled)
	if dialled > 6 { // after 0.5, 1, 2 and 4 s, each a fifth less or more
		t.Errorf("%d connections", dialled)
	}
	way.heal()
	w.until("the set", healthy(0))
}
