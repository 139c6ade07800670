package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

const tokenTTL = 9 * time.Second

// startWithUsers starts an etcd with authentication: writer may do everything under the prefix, reader may find service s,
// owner may announce s/a, pen may write it and not read it, member may announce s/a and find s, and browser may read every key
// there is.
func startWithUsers(t *testing.T, more ...string) *testbed.Etcd {
	t.Helper()
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: append([]string{
		"--auth-token-ttl=" + fmt.Sprint(int(tokenTTL.Seconds())), "--bcrypt-cost=4",
	}, more...)})
	operator := operatorOf(t, server)
	ctx := within(t, patience)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(name, key, end string, what clientv3.PermissionType) {
		t.Helper()
		must(operator.RoleAdd(ctx, name))
		if key != "" {
			must(operator.RoleGrantPermission(ctx, name, key, end, what))
		}
		must(operator.UserAdd(ctx, name, secret))
		must(operator.UserGrantRole(ctx, name, name))
	}
	add("root", "", "", 0)
	add("writer", DefaultPrefix, prefixEnd(DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite))
	add("reader", DefaultPrefix+"s/", DefaultPrefix+"s0", clientv3.PermissionType(clientv3.PermRead))
	add("owner", DefaultPrefix+"s/a", "", clientv3.PermissionType(clientv3.PermReadWrite))
	add("pen", DefaultPrefix+"s/a", "", clientv3.PermissionType(clientv3.PermWrite))
	add("browser", everything, everything, clientv3.PermissionType(clientv3.PermRead))
	must(operator.AuthEnable(ctx))
	server.Login("root", secret)
	return server
}

func TestTokensThatRunOut(t *testing.T) {
	t.Run("unless used", func(t *testing.T) { testTokensThatRunOut(t, startWithUsers(t)) })
	t.Run("used or not", func(t *testing.T) {
		key := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(key, []byte(rand.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		testTokensThatRunOut(t, startWithUsers(t, fmt.Sprintf("--auth-token=jwt,sign-method=HS256,priv-key=%s,ttl=%v", key, tokenTTL)))
	})
}

func testTokensThatRunOut(t *testing.T, server *testbed.Etcd) {
	as := Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: secret, TTL: tokenTTL}
	r := connect(t, as)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	g := register(t, r, in)
	w := follow(t, r, registry.Query{Service: "s"})
	w.until("the instance", healthy(1))
	// Long enough for a token to run out, and for a lease that is not renewed. Nothing but renewals uses the token meanwhile.
	for began := time.Now(); time.Since(began) < 2*tokenTTL+2*time.Second; time.Sleep(time.Millisecond) {
		if err := g.Err(); err != nil {
			t.Fatalf("after %v Err is %v", time.Since(began), err)
		}
	}
	for _, p := range w.all() {
		if p.err != nil || len(p.set) != 1 {
			t.Errorf("the watcher saw %v", p)
		}
	}
	update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.until("a change", func(p pair) bool { return p.err == nil && p.find("a").Version == "2" })
	in.ID = "b"
	register(t, r, in)
	w.until("another instance", healthy(2))
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	w.until("the end of the first", healthy(1))
}

// Each change of users or roles makes etcd refuse the tokens that it gave out before.
func TestTokensOfBeforeAChangeOfUsers(t *testing.T) {
	server := startWithUsers(t)
	root, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Addr()}, Username: "root", Password: secret, DialTimeout: patience, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: secret})
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := follow(t, r, registry.Query{Service: "s"})
	w.until("the instance", healthy(1))
	for i := range 3 {
		if _, err := root.UserAdd(within(t, patience), fmt.Sprint("user", i), secret); err != nil {
			t.Fatal(err)
		}
		version := fmt.Sprint("after change ", i)
		update(t, g, func(in *registry.Instance) { in.Version = version })
		w.until("the update", func(p pair) bool { return p.err == nil && p.find("a").Version == version })
	}
}

func TestPermissions(t *testing.T) {
	server := startWithUsers(t)
	as := func(user, password string) *driver {
		d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: user, Password: password})
		t.Cleanup(func() { d.Close() })
		return d
	}
	find := func(d *driver, service string) error {
		s := d.Follow(registry.Query{Service: service})
		defer s.Close()
		_, err := s.Next(within(t, patience))
		if err != nil {
			return err
		}
		moment, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err = s.Next(moment); moment.Err() != nil {
			err = nil
		}
		return err
	}
	announce := func(d *driver, id string) error {
		in := &registry.Instance{ID: id, Service: "s", Address: "10.0.0.1:80"}
		l, err := d.Announce(within(t, patience), in)
		if err != nil {
			return err
		}
		moment, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := l.Keep(moment); moment.Err() == nil {
			return err
		}
		in.Version = "2"
		if err := l.Update(within(t, patience), in); err != nil {
			return err
		}
		return l.Release(within(t, patience))
	}
	services := func(d *driver) error {
		_, err := d.Services(within(t, patience))
		return err
	}
	writer, reader, owner, pen := as("writer", secret), as("reader", secret), as("owner", secret), as("pen", secret)
	// Without a prefix, services may be anywhere.
	atRoot := func(user string) *driver {
		d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: user, Password: secret, Format: FormatGoZero})
		t.Cleanup(func() { d.Close() })
		return d
	}
	for what, err := range map[string]error{
		"writer services": services(writer), "writer finds": find(writer, "s"), "writer announces": announce(writer, "x"),
		"reader finds": find(reader, "s"), "owner announces": announce(owner, "a"),
		"browser services": services(as("browser", secret)), "browser services at the root": services(atRoot("browser")),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range []error{
		find(reader, "other"), announce(reader, "a"), services(reader),
		find(owner, "s"), announce(owner, "b"), services(owner), announce(pen, "a"), services(atRoot("writer")),
		services(as("", "")), find(as("", ""), "s"), announce(as("", ""), "a"),
		services(as("writer", secret+"?")), services(as("nobody", secret)),
	} {
		wantKind(t, err, registry.ErrDenied)
	}
}

// A user is no harm where authentication is off, and is of use as soon as it is on.
func TestUserWithoutAuthentication(t *testing.T) {
	server := testbed.StartEtcd(t)
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: "u", Password: secret})
	defer d.Close()
	if _, err := d.Services(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// The tokens of before are worth nothing to the etcd that comes back.
func TestRestartsWithAuthentication(t *testing.T) {
	server := startWithUsers(t)
	c := Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: secret}
	r := connect(t, c)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	o := &trial{T: t, server: server, registry: r, given: register(t, r, in), watcher: follow(t, r, registry.Query{Service: "s"})}
	o.watcher.until("the instance", healthy(1))
	well := func(version string) {
		t.Helper()
		o.heals(time.Now())
		update(t, o.given, func(in *registry.Instance) { in.Version = version })
		o.watcher.until("a change", func(p pair) bool { return healthy(1)(p) && p.find("a").Version == version })
	}
	server.Kill()
	o.inTrouble()
	server.Restart(true)
	well("after a crash")
	server.Restart(true) // quicker than anybody looks
	well("after a moment")
	server.Restart(false)
	well("without authentication")
}

// What an operator takes from a role by mistake is given back some day, and nobody has to restart anything then.
func TestPermissionIsTakenAndGivenBack(t *testing.T) {
	server := startWithUsers(t)
	root, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Addr()}, Username: "root", Password: secret, DialTimeout: patience, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: secret, TTL: minTTL})
	g := register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := follow(t, r, registry.Query{Service: "s"})
	w.until("the instance", healthy(1))
	if _, err := root.RoleRevokePermission(within(t, patience), "writer", DefaultPrefix, prefixEnd(DefaultPrefix)); err != nil {
		t.Fatal(err)
	}
	in := g.Instance()
	in.Version = "refused"
	wantKind(t, g.Update(within(t, patience), in), registry.ErrDenied)
	fresh := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: secret})
	late := follow(t, fresh, registry.Query{Service: "s"})
	late.until("the refusal", func(p pair) bool { return errors.Is(p.err, registry.ErrDenied) })
	// Where the entry is lost meanwhile, it cannot be brought back.
	if _, err := root.Delete(within(t, patience), DefaultPrefix+"s/a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "Err tells of the refusal", func() bool { return errors.Is(g.Err(), registry.ErrDenied) })
	if _, err := root.RoleGrantPermission(within(t, patience), "writer", DefaultPrefix, prefixEnd(DefaultPrefix),
		clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the announcement stands", func() bool { return g.Err() == nil })
	for _, w := range []*watcher{w, late} {
		w.until("the instance", healthy(1))
	}
	update(t, g, func(in *registry.Instance) { in.Version = "allowed" })
	w.until("a change", func(p pair) bool { return healthy(1)(p) && p.find("a").Version == "allowed" })
}

// A registration that was replaced comes back when the other one has gone. To see that, its own key is all that it has to read.
func TestComingBackNeedsNoOtherKey(t *testing.T) {
	server := startWithUsers(t)
	announce := func(version string) registry.Registration {
		t.Helper()
		return register(t, connect(t, Config{Endpoints: []string{server.Addr()}, Username: "owner", Password: secret}),
			registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: version})
	}
	first := announce("1")
	second := announce("2")
	eventually(t, "the first one is replaced", func() bool { return errors.Is(first.Err(), registry.ErrReplaced) })
	if err := second.Deregister(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first one is back", func() bool { return first.Err() == nil })
}
