package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// closedPorts returns the addresses of ports at which nothing listens.
func closedPorts(t *testing.T, n int) (all []string) {
	t.Helper()
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		all = append(all, listener.Addr().String())
	}
	return all
}

// An outage has one text, for any number of failed attempts and any order of members.
func TestError_OneOutageHasOneText(t *testing.T) {
	endpoints := closedPorts(t, 3)
	var dials atomic.Int64
	dialer := grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	})
	d := driverFor(t, Config{Endpoints: endpoints}, dialer)
	t.Cleanup(func() { d.Close() })
	texts := map[string]int{}
	for range 20 {
		_, err := d.Services(watchtest.Context(t))
		wantKind(t, err, registry.ErrUnavailable)
		texts[err.Error()]++
		before := dials.Load()
		d.conn.ResetBackoff() // the members are then dialled in another order
		watchtest.Eventually(t, "a member was dialled again", func() bool { return dials.Load() > before })
	}
	if len(texts) != 1 {
		t.Errorf("%d texts: %v", len(texts), texts)
	}
	for text := range texts {
		if !strings.Contains(text, "3 of 3 endpoints failed: connection refused") {
			t.Errorf("the text is %s", text)
		}
	}
}

// lines counts the records of a log.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.all.Bytes(), []byte("\n"))
}

// While no member can be reached, each watch logs once and yields once.
func TestWatch_ClusterAwayIsOneRecordAndOnePair(t *testing.T) {
	const watches = 50
	log := new(lines)
	d := driverFor(t, Config{Endpoints: closedPorts(t, 3)})
	r := watchtest.NewRegistry(t, d, registry.Options{
		Logger: slog.New(slog.NewTextHandler(log, nil)), BackoffMin: 10 * time.Millisecond, BackoffMax: 50 * time.Millisecond,
	})
	var all []*watchtest.Watcher
	for i := range watches {
		all = append(all, watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("s", i)}))
	}
	for _, w := range all {
		w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	}
	watchtest.Eventually(t, "further attempts of all watches", func() bool {
		return !slices.ContainsFunc(r.Snapshot().Watches, func(w registry.WatchState) bool { return w.Failures < 3 })
	})
	for _, w := range all {
		if pairs := w.All(); len(pairs) != 1 {
			t.Errorf("a watch yields %v", pairs)
		}
	}
	if n := log.count(); n > watches {
		t.Errorf("%d records for %d watches:\n%s", n, watches, log.all.String())
	}
}

// goAway accepts connections, sends a GOAWAY frame of HTTP/2, and closes them.
func goAway(t *testing.T) (address string, accepted *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted = new(atomic.Int64)
	frame := func(kind byte, payload []byte) []byte {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))[1:]
		return append(append(head, kind, 0, 0, 0, 0, 0), payload...)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			work.Go(func() {
				defer c.Close()
				c.Write(frame(4, nil))             // SETTINGS
				c.Write(frame(7, make([]byte, 8))) // GOAWAY
				c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				for buf := make([]byte, 1024); ; {
					if _, err := c.Read(buf); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { listener.Close(); work.Wait() })
	return listener.Addr().String(), accepted
}

// gRPC itself does not pause after a connection that was made and ended at once.
func TestConnect_PausesAfterAConnectionThatEndsAtOnce(t *testing.T) {
	address, accepted := goAway(t)
	r := connect(t, Config{Endpoints: []string{address}, Timeout: time.Second})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	rate := watchtest.Rate(t, "several connections", time.Now(), 5, func() int { return int(accepted.Load()) })
	t.Logf("%.1f connections a second", rate)
	if rate > 3 {
		t.Errorf("%.1f connections a second", rate)
	}
	w.Until("an error", func(p watchtest.Pair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
}

// Endpoints of two clusters are an error while both are connected. A replaced cluster is not.
func TestCall_EndpointsOfTwoClusters(t *testing.T) {
	one, other := startScripted(t), startScripted(t)
	other.clusterID = 0xbeef
	way := newNetwork(t, other.addr)
	d := driverFor(t, Config{Endpoints: []string{one.addr, way.addr()}, Timeout: 2 * time.Second})
	t.Cleanup(func() { d.Close() })
	var err error
	watchtest.Eventually(t, "it is noticed", func() bool { _, err = d.Services(watchtest.Context(t)); return err != nil })
	wantKind(t, err, registry.ErrUnavailable)
	for range 4 {
		_, err = d.Services(watchtest.Context(t))
		if err == nil || !strings.Contains(err.Error(), ": the endpoints are members of different clusters: ") || strings.Contains(err.Error(), "malformed") || !strings.Contains(err.Error(), way.addr()+" of beef") {
			t.Fatalf("got %v", err)
		}
	}
	s := d.Watch(registry.Query{Service: "s"})
	t.Cleanup(func() { s.Close() })
	_, err = s.Next(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)

	way.cut()
	other.mu.Lock()
	other.clusterID = 1
	other.mu.Unlock()
	way.heal()
	watchtest.Eventually(t, "all calls succeed", func() bool { _, err := d.Services(watchtest.Context(t)); return err == nil })
	for range 4 {
		if _, err := d.Services(watchtest.Context(t)); err != nil {
			t.Error(err)
		}
	}
}

func TestCall_ReplacedCluster(t *testing.T) {
	f := startScripted(t)
	f.put("/rollcall/s/a", `{"address":"10.0.0.1:80"}`)
	way := newNetwork(t, f.addr)
	r := connect(t, Config{Endpoints: []string{way.addr()}, Timeout: 2 * time.Second})
	w := watchtest.Watch(t, r, registry.Query{Service: "s"})
	w.Until("the set", watchtest.Healthy(1))
	way.cut()
	f.mu.Lock()
	f.clusterID = 2
	f.mu.Unlock()
	f.put("/rollcall/s/b", `{"address":"10.0.0.2:80"}`)
	way.heal()
	w.Until("the set of the other cluster", watchtest.Healthy(2))
}

// Attempts to register use one lease ID, so each cluster has one lease at most.
func TestRegister_EndpointsOfTwoClustersKeepToOneLease(t *testing.T) {
	one, other := startScripted(t), startScripted(t)
	other.clusterID = 2
	d := driverFor(t, Config{Endpoints: []string{one.addr, other.addr}, Timeout: 2 * time.Second})
	t.Cleanup(func() { d.Close() })
	watchtest.Eventually(t, "it is noticed", func() bool { _, err := d.Services(watchtest.Context(t)); return err != nil })
	var prev registry.Lease
	for range 20 {
		failed, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}, prev)
		wantKind(t, err, registry.ErrUnavailable)
		if failed != nil {
			prev = failed
		}
	}
	for _, f := range []*scripted{one, other} {
		f.mu.Lock()
		if n := len(f.leases); n > 1 {
			t.Errorf("%d leases in one cluster", n)
		}
		f.mu.Unlock()
	}
}

// A member of another cluster does not know the lease, which does not mean that the entry is deleted.
func TestRelease_EndpointsOfTwoClusters(t *testing.T) {
	one, other := startScripted(t), startScripted(t)
	other.clusterID = 2
	for i := range 10 {
		way := newNetwork(t, other.addr)
		way.cut()
		d := driverFor(t, Config{Endpoints: []string{one.addr, way.addr()}, Timeout: 2 * time.Second})
		t.Cleanup(func() { d.Close() })
		l, err := d.Register(watchtest.Context(t), &registry.Instance{ID: fmt.Sprint(i), Service: "s", Address: "10.0.0.1:80", Weight: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		way.heal()
		watchtest.Eventually(t, "both are connected", func() bool { _, err := d.Services(watchtest.Context(t)); return err != nil })
		err = l.Release(watchtest.Context(t))
		one.mu.Lock()
		if kv := one.entries[d.keyOf("s", fmt.Sprint(i))]; err == nil && kv != nil {
			t.Errorf("it is released, and the entry is there: %s", kv.Value)
		}
		one.mu.Unlock()
	}
}

// driverResolving returns a driver for which each host name has these addresses.
func driverResolving(t *testing.T, c Config, hosts func() []string) *driver {
	t.Helper()
	s, err := resolve(c)
	if err != nil {
		t.Fatal(err)
	}
	settings := s.connection()
	settings.LookupHost = func(context.Context, string) ([]string, error) { return hosts(), nil }
	connection, err := conn.New(settings)
	if err != nil {
		t.Fatal(err)
	}
	d := driverOn(connection, s)
	t.Cleanup(func() { d.Close() })
	return d
}

// Each address of a name is a member: calls go to all of them, and one of them may be unreachable.
func TestEndpoints_NameWithSeveralAddresses(t *testing.T) {
	one := startScriptedAt(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(one.addr)
	other := startScriptedAt(t, "127.0.0.2:"+port)
	d := driverResolving(t, Config{Endpoints: []string{"etcd.test:" + port}}, func() []string { return []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} })
	watchtest.Eventually(t, "both get calls", func() bool {
		if _, err := d.Services(watchtest.Context(t)); err != nil {
			t.Fatal(err)
		}
		return one.called("Range") > 1 && other.called("Range") > 1
	})
	one.server.Stop()
	before := other.called("Range")
	watchtest.Eventually(t, "the other gets the calls", func() bool {
		_, err := d.Services(watchtest.Context(t))
		return err == nil && other.called("Range") > before+2
	})
}

// A name is looked up again after its member was replaced.
func TestEndpoints_NameIsLookedUpAgain(t *testing.T) {
	one := startScriptedAt(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(one.addr)
	var moved atomic.Bool
	d := driverResolving(t, Config{Endpoints: []string{"etcd.test:" + port}, Timeout: time.Second}, func() []string {
		if moved.Load() {
			return []string{"127.0.0.2"}
		}
		return []string{"127.0.0.1"}
	})
	if _, err := d.Services(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	startScriptedAt(t, "127.0.0.2:"+port)
	moved.Store(true)
	one.server.Stop()
	watchtest.Eventually(t, "the new address is used", func() bool { _, err := d.Services(watchtest.Context(t)); return err == nil })
}

// A name that cannot be looked up is an error at once.
func TestEndpoints_NameThatDoesNotExist(t *testing.T) {
	d := driverFor(t, Config{Endpoints: []string{"no-such-host.invalid:2379"}})
	t.Cleanup(func() { d.Close() })
	_, err := d.Services(watchtest.Context(t))
	wantKind(t, err, registry.ErrUnavailable)
	if !strings.Contains(fmt.Sprint(err), "no-such-host.invalid") {
		t.Errorf("got %v", err)
	}
}

// An attempt that was not sent leaves nothing to release.
func TestRegister_NoLeaseIfNothingWasSent(t *testing.T) {
	d := driverFor(t, Config{Endpoints: closedPorts(t, 2)})
	t.Cleanup(func() { d.Close() })
	l, err := d.Register(watchtest.Context(t), &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}, nil)
	wantKind(t, err, registry.ErrUnavailable)
	if l != nil {
		t.Errorf("there is a lease beside %v", err)
	}
}

// Go reads the environment once per process, so the test runs in another process.
func TestDial_TakesNoProxyFromTheEnvironment(t *testing.T) {
	if os.Getenv("ROLLCALL_TEST_PROXY") != "" {
		d := driverFor(t, Config{Endpoints: []string{"etcd.invalid:2379"}, Timeout: 3 * time.Second})
		defer d.Close()
		_, err := d.Services(watchtest.Context(t))
		wantKind(t, err, registry.ErrUnavailable)
		return
	}
	address, accepted := goAway(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), "ROLLCALL_TEST_PROXY=1", "HTTPS_PROXY=http://"+address, "https_proxy=http://"+address, "NO_PROXY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := accepted.Load(); n > 0 {
		t.Errorf("%d connections to the proxy", n)
	}
}

// If the deadline of the caller ends a call, the error still says why there was no answer.
func TestCall_ShortDeadlineNamesTheCause(t *testing.T) {
	d := driverFor(t, Config{Endpoints: closedPorts(t, 2)})
	t.Cleanup(func() { d.Close() })
	r := watchtest.NewRegistry(t, d, registry.Options{})
	_, err := r.Register(watchtest.Within(t, 300*time.Millisecond), registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80"})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	_, err = driverOn(d.conn, d.settings).Services(watchtest.Within(t, time.Nanosecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "connection refused") {
		t.Errorf("got %v", err)
	}
}

// Attempts that fail half-way leave one lease and not one each.
func TestRegister_HalfFailedAttemptsKeepToOneLease(t *testing.T) {
	for _, half := range []string{"Txn", "LeaseGrant"} { // the call is carried out, but its answer is lost
		t.Run(half, func(t *testing.T) {
			f := startScripted(t)
			f.fail = func(name string) error {
				if name == half {
					return errors.New("the answer is lost")
				}
				return nil
			}
			d := driverFor(t, Config{Endpoints: []string{f.addr}})
			t.Cleanup(func() { d.Close() })
			in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
			attempts := map[string]int{"Txn": 20, "LeaseGrant": 1}[half] // the next attempt is told that there is a lease
			var prev registry.Lease
			for range attempts {
				failed, err := d.Register(watchtest.Context(t), in, prev)
				wantKind(t, err, registry.ErrUnavailable)
				prev = failed
			}
			f.mu.Lock()
			if n := len(f.leases); n != 1 {
				t.Errorf("%d leases", n)
			}
			if half == "Txn" {
				f.fail = nil
			}
			f.mu.Unlock()
			l, err := d.Register(watchtest.Context(t), in, prev)
			if err != nil {
				t.Fatal(err)
			}
			if n := f.called("LeaseRevoke"); n > 0 {
				t.Errorf("%d revocations", n)
			}
			if err := l.Release(watchtest.Context(t)); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.leases)+len(f.entries) > 0 {
				t.Errorf("it leaves %v, %v", f.leases, f.entries)
			}
		})
	}
}

// The lease of a failed attempt may expire before the next attempt.
func TestRegister_LeaseOfAFailedAttemptExpired(t *testing.T) {
	f := startScripted(t)
	f.fail = func(name string) error {
		if name == "Txn" {
			return errors.New("the answer is lost")
		}
		return nil
	}
	d := driverFor(t, Config{Endpoints: []string{f.addr}})
	t.Cleanup(func() { d.Close() })
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
	failed, err := d.Register(watchtest.Context(t), in, nil)
	wantKind(t, err, registry.ErrUnavailable)
	f.mu.Lock()
	f.fail, f.leases = nil, map[int64]bool{}
	f.write(etcdtest.KeyValue("/rollcall/s/a", "")) // the entry expires with its lease
	f.mu.Unlock()
	if _, err := d.Register(watchtest.Context(t), in, failed); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.leases) != 1 || f.entries["/rollcall/s/a"] == nil {
		t.Errorf("etcd has %v, %v", f.leases, f.entries)
	}
}

// Some of the TTL of a failed attempt's lease has passed. The next attempt renews it, and later attempts resume it like any other.
func TestRegister_LeaseOfAFailedAttemptIsLikeAnyOther(t *testing.T) {
	f := startScripted(t)
	f.fail = func(name string) error {
		if name == "Txn" {
			return errors.New("the answer is lost")
		}
		return nil
	}
	d := driverFor(t, Config{Endpoints: []string{f.addr}, TTL: time.Hour})
	t.Cleanup(func() { d.Close() })
	in := &registry.Instance{ID: "a", Service: "s", Address: "10.0.0.1:80", Weight: 1}
	failed, err := d.Register(watchtest.Context(t), in, nil)
	wantKind(t, err, registry.ErrUnavailable)
	f.mu.Lock()
	f.fail = nil
	f.mu.Unlock()
	l, err := d.Register(watchtest.Context(t), in, failed)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if f.called("LeaseKeepAlive") == 0 {
		t.Error("it is not renewed before a third of its TTL")
	}
	cancel()
	l.Wait(ctx)
	writes := f.called("Txn")
	again, err := d.Register(watchtest.Context(t), in, l)
	if err != nil {
		t.Fatal(err)
	}
	if again.(*lease).id != l.(*lease).id || f.called("Txn") > writes {
		t.Errorf("lease %d and then %d, with %d further writes", l.(*lease).id, again.(*lease).id, f.called("Txn")-writes)
	}
}
