package etcd

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// trial is a registration and a watcher during a fault.
type trial struct {
	*testing.T
	server   *testbed.Etcd
	registry *registry.Registry
	given    registry.Registration
	watcher  *watchtest.Watcher
}

func newTrial(t *testing.T, c Config) *trial {
	server := testbed.StartEtcd(t)
	c.Endpoints = []string{server.Addr()}
	r := connect(t, c)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	o := &trial{T: t, server: server, registry: r, given: watchtest.Register(t, r, in), watcher: watchtest.Watch(t, r, registry.Query{Service: "s"})}
	o.watcher.Until("the instance", watchtest.Healthy(1))
	return o
}

// waitForFailure waits until the watcher and the registration report an error.
func (t *trial) waitForFailure() {
	t.Helper()
	t.watcher.Until("the last good set beside an error", func(p watchtest.Pair) bool {
		return len(p.Set) == 1 && errors.Is(p.Err, registry.ErrUnavailable)
	})
	watchtest.Eventually(t, "Err reports the outage", func() bool { return errors.Is(t.given.Err(), registry.ErrUnavailable) })
}

// waitForRecovery waits until the instance is registered and the watcher sees it. No set on the way may be empty.
func (t *trial) waitForRecovery(began time.Time) {
	t.Helper()
	watchtest.Eventually(t, "it is registered", func() bool { return t.given.Err() == nil })
	t.watcher.Until("the instance", watchtest.Healthy(1))
	t.Logf("healed after %v", time.Since(began))
	watchtest.Update(t, t.given, func(in *registry.Instance) { in.Version = "2" })
	t.watcher.Until("a later change", func(p watchtest.Pair) bool { return p.Err == nil && p.Find("a") != nil && p.Find("a").Version == "2" })
	for _, p := range t.watcher.All() {
		if len(p.Set) == 0 {
			t.Errorf("the watcher saw %v", p)
		}
	}
}

func TestOutage_ServerIsKilledAndRestarted(t *testing.T) {
	t.Parallel()
	o := newTrial(t, Config{})
	o.server.Kill()
	o.waitForFailure()
	o.server.Restart(true)
	o.waitForRecovery(time.Now())
}

// Cluster and member have the same IDs as before. Only the revision shows that the store is another one.
func TestOutage_StoreIsEmptyAfterRestart(t *testing.T) {
	t.Parallel()
	o := newTrial(t, Config{})
	for i := range 50 { // so that the revision falls
		watchtest.Update(t, o.given, func(in *registry.Instance) { in.Zone = fmt.Sprint(i) })
	}
	o.server.Kill()
	o.waitForFailure()
	o.server.Restart(false)
	o.waitForRecovery(time.Now())
}

// A registration that another process has replaced during an outage does not take the ID back.
func TestRegistration_ReplacedInAnOutage(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	older := watchtest.Register(t, connect(t, Config{Endpoints: []string{way.addr()}}), in)
	way.cut()
	watchtest.Eventually(t, "it is lost", func() bool { return older.Err() != nil })
	in.Version = "2"
	r := connect(t, Config{Endpoints: []string{server.Addr()}})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	newer := watchtest.Register(t, r, in)
	way.heal()
	watchtest.Eventually(t, "it yields", func() bool { return errors.Is(older.Err(), registry.ErrReplaced) })
	w.Until("the newer one", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Find("a").Version == "2" })
	if err := newer.Err(); err != nil {
		t.Errorf("the newer one's Err says %v", err)
	}
	if err := newer.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the older one is back", func() bool { return older.Err() == nil })
}

// The restart is faster than the client notices.
func TestOutage_StoreIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	o := newTrial(t, Config{})
	o.server.Restart(false)
	o.waitForRecovery(time.Now())
}

// The kernel of a stopped server still accepts connections, but nothing answers.
func TestOutage_ServerHangsLongerThanTheTTL(t *testing.T) {
	t.Parallel()
	o := newTrial(t, Config{TTL: minTTL, Timeout: time.Second, KeepAliveTime: minKeepAliveTime, KeepAliveTimeout: time.Second})
	o.server.Stop()
	began := time.Now()
	o.waitForFailure()
	t.Logf("noticed after %v", time.Since(began))
	watchtest.Lasts(t, began, minTTL+time.Second)
	o.server.Continue()
	o.waitForRecovery(time.Now())
}

func TestDriver_NoEtcd(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	server.Kill()
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}})
	defer d.Close()
	began := time.Now()
	s := d.Watch(registry.Query{Service: "s"})
	defer s.Close()
	_, first := s.Next(watchtest.Context(t))
	_, second := d.Services(watchtest.Context(t))
	_, third := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}, nil)
	for _, err := range []error{first, second, third} {
		wantKind(t, err, registry.ErrUnavailable)
	}
	if time.Since(began) > DefaultTimeout { // a timeout is for a server that hangs
		t.Errorf("three refused connections took %v", time.Since(began))
	}
}

func TestOutage_RequestsAreBounded(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	calls := new(meter)
	way := newNetwork(t, server.Addr())
	r := openWith(t, Config{Endpoints: []string{way.addr()}}, calls.option())
	watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("the instance", watchtest.Healthy(1))
	way.cut()
	w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	// A watch and a registration try again, each with a backoff.
	began, before := time.Now(), calls.sent.Load()
	dials := watchtest.Rate(t, "connections in the outage", began, 3, way.accepted)
	messages := float64(calls.sent.Load()-before) / time.Since(began).Seconds()
	t.Logf("%.1f messages and %.1f connections a second in an outage", messages, dials)
	if messages > 12 || dials > 3 {
		t.Errorf("%.1f messages and %.1f connections a second in an outage", messages, dials)
	}
	way.heal()
	w.Until("the instance", watchtest.Healthy(1))
}

// A call connects at once, and a waiting watch then uses that connection.
func TestReconnectNow_EndsThePause(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	never := backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}
	d := driverFor(t, Config{Endpoints: []string{way.addr()}, Timeout: watchtest.Timeout}, grpc.WithConnectParams(grpc.ConnectParams{Backoff: never}))
	defer d.Close()
	s := d.Watch(registry.Query{Service: "s"})
	defer s.Close()
	way.cut()
	_, err := s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
	way.heal()
	read := make(chan error, 1)
	go func() { _, err := s.Next(watchtest.Context(t)); read <- err }()
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	watchtest.Eventually(t, "it is registered", func() bool { _, err := d.Register(watchtest.Context(t), in, nil); return err == nil })
	if err := <-read; err != nil {
		t.Errorf("the watch: %v", err)
	}
	for name, call := range map[string]func() error{
		"services": func() error { _, err := d.Services(watchtest.Context(t)); return err },
		"a lookup": func() error {
			s := d.Watch(registry.Query{Service: "s"})
			defer s.Close()
			_, err := s.Next(watchtest.Context(t))
			return err
		},
	} {
		way.cut()
		watchtest.Eventually(t, name+" fails", func() bool { return call() != nil })
		way.heal()
		watchtest.Eventually(t, name+" succeeds", func() bool { return call() == nil })
	}
}

// A watch alone connects rarely during an outage.
func TestOutage_ConnectionsOfAWatchAreBounded(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	way := newNetwork(t, server.Addr())
	w := watchtest.Watch(t, connect(t, Config{Endpoints: []string{way.addr()}}), registry.Query{Service: "s"})
	w.Until("the first set", watchtest.Healthy(0))
	way.cut()
	w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	dials := watchtest.Rate(t, "connections in the outage", time.Now(), 3, way.accepted)
	t.Logf("%.2f connections a second in an outage", dials)
	if dials > 1.2 { // after 0.5, 1, 2 and 4 s, each a fifth less or more
		t.Errorf("%.2f connections a second in an outage", dials)
	}
	way.heal()
	w.Until("the set", watchtest.Healthy(0))
}
