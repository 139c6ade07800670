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

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const tokenTTL = 9 * time.Second

// startWithUsers starts an etcd with authentication and these users:
//
//   - writer may read and write all keys under the prefix,
//   - reader may find service s,
//   - owner may register s/a,
//   - pen may write s/a and not read it,
//   - member may register s/a and find s,
//   - browser may read all keys.
func startWithUsers(t *testing.T, more ...string) *testbed.Etcd {
	t.Helper()
	server := testbed.StartEtcd(t, testbed.EtcdOptions{Args: append([]string{
		"--auth-token-ttl=" + fmt.Sprint(int(tokenTTL.Seconds())), "--bcrypt-cost=4",
	}, more...)})
	operator := etcdtest.Operator(t, server)
	ctx := watchtest.Context(t)
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
	add("writer", DefaultPrefix, format.PrefixEnd(DefaultPrefix), clientv3.PermissionType(clientv3.PermReadWrite))
	add("reader", DefaultPrefix+"s/", DefaultPrefix+"s0", clientv3.PermissionType(clientv3.PermRead))
	add("owner", DefaultPrefix+"s/a", "", clientv3.PermissionType(clientv3.PermReadWrite))
	add("pen", DefaultPrefix+"s/a", "", clientv3.PermissionType(clientv3.PermWrite))
	add("browser", format.Everything, format.Everything, clientv3.PermissionType(clientv3.PermRead))
	must(operator.AuthEnable(ctx))
	server.Login("root", secret)
	return server
}

func TestCall_FetchesAnotherTokenAfterExpiry(t *testing.T) {
	t.Parallel()
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
	as := Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: registry.NewSecret(secret), TTL: tokenTTL}
	r := connect(t, as)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"}
	g := watchtest.Register(t, r, in)
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("the instance", watchtest.Healthy(1))
	// Long enough for a token to run out, and for a lease that is not renewed. Nothing but renewals uses the token meanwhile.
	for began := time.Now(); time.Since(began) < 2*tokenTTL+2*time.Second; time.Sleep(time.Millisecond) {
		if err := g.Err(); err != nil {
			t.Fatalf("after %v Err is %v", time.Since(began), err)
		}
	}
	for _, p := range w.All() {
		if p.Err != nil || len(p.Set) != 1 {
			t.Errorf("the watcher saw %v", p)
		}
	}
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.Until("a change", func(p watchtest.Pair) bool { return p.Err == nil && p.Find("a").Version == "2" })
	in.ID = "b"
	watchtest.Register(t, r, in)
	w.Until("another instance", watchtest.Healthy(2))
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	w.Until("the end of the first", watchtest.Healthy(1))
}

// Each change of users or roles makes etcd refuse the tokens that it gave out before.
func TestCall_FetchesAnotherTokenAfterUsersChange(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	root, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Addr()}, Username: "root", Password: secret, DialTimeout: watchtest.Timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: registry.NewSecret(secret)})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("the instance", watchtest.Healthy(1))
	for i := range 3 {
		if _, err := root.UserAdd(watchtest.Context(t), fmt.Sprint("user", i), secret); err != nil {
			t.Fatal(err)
		}
		version := fmt.Sprint("after change ", i)
		watchtest.Update(t, g, func(in *registry.Instance) { in.Version = version })
		w.Until("the update", func(p watchtest.Pair) bool { return p.Err == nil && p.Find("a").Version == version })
	}
}

func TestDriver_Permissions(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	as := func(user, password string) *driver {
		d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: user, Password: registry.NewSecret(password)})
		t.Cleanup(func() { d.Close() })
		return d
	}
	find := func(d *driver, service string) error {
		s := d.Watch(registry.Query{Service: service})
		defer s.Close()
		_, err := s.Next(watchtest.Context(t))
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
	register := func(d *driver, id string) error {
		in := &registry.Instance{ID: id, Service: "s", Address: "10.0.0.1:80"}
		l, err := d.Register(watchtest.Context(t), in, nil)
		if err != nil {
			return err
		}
		moment, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := keep(moment, l, time.Hour); moment.Err() == nil {
			return err
		}
		in.Version = "2"
		if err := l.Update(watchtest.Context(t), in); err != nil {
			return err
		}
		return l.Release(watchtest.Context(t))
	}
	services := func(d *driver) error {
		_, err := d.Services(watchtest.Context(t))
		return err
	}
	writer, reader, owner, pen := as("writer", secret), as("reader", secret), as("owner", secret), as("pen", secret)
	// Without a prefix, services may be anywhere.
	atRoot := func(user string) *driver {
		d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: user, Password: registry.NewSecret(secret), Format: FormatGoZero})
		t.Cleanup(func() { d.Close() })
		return d
	}
	for what, err := range map[string]error{
		"writer services": services(writer), "writer finds": find(writer, "s"), "writer registers": register(writer, "x"),
		"reader finds": find(reader, "s"), "owner registers": register(owner, "a"),
		"browser services": services(as("browser", secret)), "browser services at the root": services(atRoot("browser")),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, err := range []error{
		find(reader, "other"), register(reader, "a"), services(reader),
		find(owner, "s"), register(owner, "b"), services(owner), register(pen, "a"), services(atRoot("writer")),
		services(as("", "")), find(as("", ""), "s"), register(as("", ""), "a"),
		services(as("writer", secret+"?")), services(as("unknown", secret)),
	} {
		wantKind(t, err, registry.ErrDenied)
	}
}

// A user and a password do no harm while authentication is off.
func TestCall_UserWithoutAuthentication(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	d := driverFor(t, Config{Endpoints: []string{server.Addr()}, Username: "u", Password: registry.NewSecret(secret)})
	defer d.Close()
	if _, err := d.Services(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

// An etcd that was restarted does not know the tokens from before.
func TestRegistration_SurvivesRestartsWithAuthentication(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	c := Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: registry.NewSecret(secret)}
	r := connect(t, c)
	in := registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: "1"}
	o := &trial{T: t, server: server, registry: r, given: watchtest.Register(t, r, in), watcher: watchtest.Watch(t, r, registry.Query{Service: "s"})}
	o.watcher.Until("the instance", watchtest.Healthy(1))
	well := func(version string) {
		t.Helper()
		o.waitForRecovery(time.Now())
		watchtest.Update(t, o.given, func(in *registry.Instance) { in.Version = version })
		o.watcher.Until("a change", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Find("a").Version == version })
	}
	server.Kill()
	o.waitForFailure()
	server.Restart(true)
	well("after a crash")
	server.Restart(true) // faster than the client notices
	well("after a moment")
	server.Restart(false)
	well("without authentication")
}

// If a permission is revoked and granted again, registrations and watches recover without a restart of the process.
func TestRegistration_ReturnsWithThePermission(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	root, err := clientv3.New(clientv3.Config{
		Endpoints: []string{server.Addr()}, Username: "root", Password: secret, DialTimeout: watchtest.Timeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	r := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: registry.NewSecret(secret), TTL: minTTL})
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("the instance", watchtest.Healthy(1))
	if _, err := root.RoleRevokePermission(watchtest.Context(t), "writer", DefaultPrefix, format.PrefixEnd(DefaultPrefix)); err != nil {
		t.Fatal(err)
	}
	in := g.Instance()
	in.Version = "refused"
	wantKind(t, g.Update(watchtest.Context(t), in), registry.ErrDenied)
	fresh := connect(t, Config{Endpoints: []string{server.Addr()}, Username: "writer", Password: registry.NewSecret(secret)})
	late := watchtest.Watch(t, fresh, registry.Query{Service: "s"})
	late.Until("the refusal", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrDenied) })
	// A lost entry cannot be registered again meanwhile.
	if _, err := root.Delete(watchtest.Context(t), DefaultPrefix+"s/a"); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "Err reports the refusal", func() bool { return errors.Is(g.Err(), registry.ErrDenied) })
	if _, err := root.RoleGrantPermission(watchtest.Context(t), "writer", DefaultPrefix, format.PrefixEnd(DefaultPrefix),
		clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	for _, w := range []*watchtest.Watcher{w, late} {
		w.Until("the instance", watchtest.Healthy(1))
	}
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "allowed" })
	w.Until("a change", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Find("a").Version == "allowed" })
}

// A replaced registration is registered again after the newer one was deregistered. It has to read only its own key for that.
func TestCheckReplaced_ReadsOnlyTheOwnKey(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	registerAs := func(version string) registry.Registration {
		t.Helper()
		return watchtest.Register(t, connect(t, Config{Endpoints: []string{server.Addr()}, Username: "owner", Password: registry.NewSecret(secret)}),
			registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Version: version})
	}
	first := registerAs("1")
	second := registerAs("2")
	watchtest.Eventually(t, "the first one is replaced", func() bool { return errors.Is(first.Err(), registry.ErrReplaced) })
	if err := second.Deregister(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the first one is back", func() bool { return first.Err() == nil })
}
