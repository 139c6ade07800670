package etcd

import (
	"errors"
	"fmt"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	valueKey    = "rollcall/config/greeter"
	storedValue = "/rollcall/_values/rollcall/config/greeter" // as docs/config.md has it
)

// putRaw writes a key as etcd's own tools do.
func putRaw(t testing.TB, operator *clientv3.Client, key, data string) {
	t.Helper()
	if _, err := operator.Put(watchtest.Context(t), key, data); err != nil {
		t.Fatal(err)
	}
}

// The keys are as in docs/config.md, so that etcd's own tools find the values.
func TestWatchValue_ReadsWhatEtcdHas(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	for prefix, stored := range map[string]string{"": storedValue, "/prod/": "/prod/_values/" + valueKey} {
		r := connect(t, Config{Endpoints: []string{server.Addr()}, Prefix: prefix})
		putRaw(t, operator, stored, "theirs")
		w := watchtest.WatchValue(t, r, valueKey)
		w.UntilData("theirs")
		watchtest.PutValue(t, r, valueKey, "ours")
		got, err := operator.Get(watchtest.Context(t), stored)
		if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "ours" {
			t.Errorf("etcd has %v, %v at %s", got, err, stored)
		}
		w.UntilData("ours")
		if _, err := operator.Delete(watchtest.Context(t), stored); err != nil {
			t.Fatal(err)
		}
		w.UntilAbsent()
	}
}

// No malformed answer of a server is an absence, and the watch recovers when the server does.
func TestWatchValue_MalformedAnswersAreNoAbsence(t *testing.T) {
	t.Parallel()
	other := etcdtest.KeyValue("/rollcall/_values/other", "x")
	for name, script := range map[string]bend{
		"list: no header":              list(func(a *pb.RangeResponse) { a.Header, a.Kvs = nil, nil }),
		"list: negative revision":      list(func(a *pb.RangeResponse) { a.Header.Revision, a.Kvs = -5, nil }),
		"list: greatest revision":      list(func(a *pb.RangeResponse) { a.Header.Revision, a.Kvs = 1<<63-1, nil }),
		"list: more, and nothing":      list(func(a *pb.RangeResponse) { a.Kvs, a.More = nil, true }),
		"list: another key":            list(func(a *pb.RangeResponse) { a.Kvs = []*mvccpb.KeyValue{other} }),
		"list: another key too":        list(func(a *pb.RangeResponse) { a.Kvs = append(a.Kvs, other) }),
		"list: no key":                 list(func(a *pb.RangeResponse) { a.Kvs = []*mvccpb.KeyValue{new(mvccpb.KeyValue)} }),
		"list: an entry of the future": list(func(a *pb.RangeResponse) { a.Kvs[0].ModRevision = 1 << 40 }),
		"watch: deletion of another key": events(&pb.WatchResponse{Header: etcdtest.Header(9),
			Events: []*mvccpb.Event{{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("/rollcall/_values/other"), ModRevision: 8}}}}),
		"watch: deletion of the future": events(&pb.WatchResponse{Header: etcdtest.Header(9),
			Events: []*mvccpb.Event{{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(storedValue), ModRevision: 1 << 50}}}}),
		"watch: an event without entry": events(&pb.WatchResponse{Header: etcdtest.Header(9), Events: []*mvccpb.Event{{Type: mvccpb.Event_DELETE}}}),
		"watch: an unknown event": events(&pb.WatchResponse{Header: etcdtest.Header(9),
			Events: []*mvccpb.Event{{Type: 9, Kv: etcdtest.KeyValue(storedValue, "")}}}),
		"watch: compacted for ever": of(func(a *pb.WatchResponse) []*pb.WatchResponse {
			a.Canceled, a.CompactRevision = true, 1<<62
			return []*pb.WatchResponse{a}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startScripted(t)
			f.put(storedValue, "1")
			w := watchtest.WatchValue(t, connect(t, Config{Endpoints: []string{f.addr}, Timeout: 2 * time.Second}), valueKey)
			w.UntilData("1")
			f.watched(t)
			f.behave(script)
			f.played(t, 3) // so the watch has yielded a failure by now
			late := watchtest.WatchValue(t, connect(t, Config{Endpoints: []string{f.addr}, Timeout: 2 * time.Second}), valueKey)
			late.Until("an error", func(p watchtest.ValuePair) bool { return errors.Is(p.Err, registry.ErrUnavailable) })
			w.UntilStale("1", registry.ErrUnavailable)
			f.put(storedValue, "2")
			f.behave(nil)
			for _, w := range []*watchtest.ValueWatcher{w, late} {
				w.UntilData("2")
				w.NeverAbsent()
			}
		})
	}
}

// valueTrial is a value and a watch of it during a fault.
type valueTrial struct {
	*testing.T
	server   *testbed.Etcd
	operator *clientv3.Client
	config   Config
	watcher  *watchtest.ValueWatcher
}

func newValueTrial(t *testing.T, c Config) *valueTrial {
	t.Helper()
	o := &valueTrial{T: t, server: testbed.StartEtcd(t), config: c}
	o.operator = etcdtest.Operator(t, o.server)
	o.config.Endpoints = []string{o.server.Addr()}
	putRaw(t, o.operator, storedValue, "1")
	o.watcher = o.first()
	o.watcher.UntilData("1")
	return o
}

// first starts a watch in another process, which knows nothing of the value.
func (t *valueTrial) first() *watchtest.ValueWatcher {
	t.Helper()
	return watchtest.WatchValue(t, connect(t, t.config), valueKey)
}

// A store that came back without its data is withheld. If it gets the value back meanwhile, no reader gets an absence.
func TestWatchValue_WipedStore(t *testing.T) {
	t.Parallel()
	t.Run("gets the value back", func(t *testing.T) {
		t.Parallel()
		o := newValueTrial(t, Config{})
		o.server.Restart(false)
		o.watcher.UntilStale("1", registry.ErrUnavailable)
		putRaw(t, o.operator, storedValue, "2")
		o.watcher.UntilData("2")
		o.watcher.NeverAbsent()
	})
	t.Run("has a higher revision", func(t *testing.T) {
		t.Parallel()
		o := newValueTrial(t, Config{})
		o.server.Kill()
		o.watcher.UntilStale("1", registry.ErrUnavailable)
		o.server.Restart(false)
		for i := range 50 {
			putRaw(t, o.operator, "other", fmt.Sprint(i))
		}
		putRaw(t, o.operator, storedValue, "2")
		o.watcher.UntilData("2")
		o.watcher.NeverAbsent()
	})
	t.Run("stays without it", func(t *testing.T) {
		t.Parallel()
		o := newValueTrial(t, Config{Options: registry.Options{OutageGrace: 2 * time.Second}})
		o.server.Restart(false)
		o.watcher.UntilStale("1", registry.ErrUnavailable)
		o.watcher.UntilAbsent()
		o.first().UntilAbsent()
		putRaw(t, o.operator, storedValue, "2")
		o.watcher.UntilData("2")
	})
}

// A paused server accepts connections and answers nothing.
func TestWatchValue_PausedServer(t *testing.T) {
	t.Parallel()
	o := newValueTrial(t, Config{Timeout: time.Second, KeepAliveTime: minKeepAliveTime, KeepAliveTimeout: time.Second})
	o.server.Stop()
	late := o.first()
	late.UntilUnknown(registry.ErrUnavailable)
	o.watcher.UntilStale("1", registry.ErrUnavailable)
	o.server.Continue()
	for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
		w.UntilData("1")
	}
	putRaw(t, o.operator, storedValue, "2")
	for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
		w.UntilData("2")
		w.NeverAbsent()
	}
}

// After a compaction, etcd does not have all changes since the watch broke. The newest value counts.
func TestWatchValue_CompactionDuringAnOutage(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	way := newNetwork(t, server.Addr())
	putRaw(t, operator, storedValue, "1")
	w := watchtest.WatchValue(t, connect(t, Config{Endpoints: []string{way.addr()}}), valueKey)
	w.UntilData("1")
	way.cut()
	w.UntilStale("1", registry.ErrUnavailable)
	for i := range 10 {
		putRaw(t, operator, storedValue, fmt.Sprint(i))
	}
	got, err := operator.Get(watchtest.Context(t), storedValue)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := operator.Compact(watchtest.Context(t), got.Header.Revision); err != nil {
		t.Fatal(err)
	}
	way.heal()
	w.UntilData("9")
	putRaw(t, operator, storedValue, "10")
	w.UntilData("10")
	w.NeverAbsent()
}

// One member of three has no leader, and answers no linearizable read.
func TestWatchValue_NoLeader(t *testing.T) {
	t.Parallel()
	cluster := testbed.StartEtcdCluster(t)
	c := Config{Endpoints: cluster.Addrs(), Timeout: 2 * time.Second, KeepAliveTimeout: time.Second}
	r := connect(t, c)
	watchtest.PutValue(t, r, valueKey, "1")
	w := watchtest.WatchValue(t, r, valueKey)
	w.UntilData("1")
	cluster.Members[0].Kill()
	cluster.Members[1].Kill()
	w.UntilStale("1", registry.ErrUnavailable)
	late, missing := watchtest.WatchValue(t, connect(t, c), valueKey), watchtest.WatchValue(t, connect(t, c), "missing")
	late.UntilUnknown(registry.ErrUnavailable)
	missing.UntilUnknown(registry.ErrUnavailable)
	cluster.Members[0].Restart(true)
	cluster.Members[1].Restart(true)
	w.UntilData("1")
	late.UntilData("1")
	missing.UntilAbsent()
	watchtest.Eventually(t, "a write is taken", func() bool {
		_, err := r.PutValue(watchtest.Context(t), valueKey, []byte("2"), registry.PutOptions{})
		return err == nil
	})
	for _, w := range []*watchtest.ValueWatcher{w, late} {
		w.UntilData("2")
		w.NeverAbsent()
	}
}

// The permissions in docs/config.md are enough, each is necessary, and a refusal is ErrDenied and no absence.
func TestWatchValue_LeastEtcdRole(t *testing.T) {
	t.Parallel()
	server := startWithUsers(t)
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Addr()}, Username: "root", Password: secret, DialTimeout: watchtest.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := watchtest.Context(t)
	const folder = "/rollcall/_values/rollcall/config/"
	for name, grant := range map[string]func() (*clientv3.AuthRoleGrantPermissionResponse, error){
		"client": func() (*clientv3.AuthRoleGrantPermissionResponse, error) {
			return root.RoleGrantPermission(ctx, "client", storedValue, "", clientv3.PermissionType(clientv3.PermRead))
		},
		"operator": func() (*clientv3.AuthRoleGrantPermissionResponse, error) {
			return root.RoleGrantPermission(ctx, "operator", folder, clientv3.GetPrefixRangeEnd(folder), clientv3.PermissionType(clientv3.PermReadWrite))
		},
		"writeonly": func() (*clientv3.AuthRoleGrantPermissionResponse, error) {
			return root.RoleGrantPermission(ctx, "writeonly", folder, clientv3.GetPrefixRangeEnd(folder), clientv3.PermissionType(clientv3.PermWrite))
		},
		"stranger": nil,
	} {
		must(root.RoleAdd(ctx, name))
		if grant != nil {
			must(grant())
		}
		must(root.UserAdd(ctx, name, secret))
		must(root.UserGrantRole(ctx, name, name))
	}
	as := func(user string) *registry.Registry {
		return connect(t, Config{Endpoints: []string{server.Addr()}, Username: user, Password: registry.NewSecret(secret)})
	}
	client, operator, writeOnly := as("client"), as("operator"), as("writeonly")
	v := watchtest.PutValue(t, operator, valueKey, "1")
	w := watchtest.WatchValue(t, client, valueKey)
	w.UntilData("1")
	_, err = client.PutValue(ctx, valueKey, []byte("x"), registry.PutOptions{})
	wantKind(t, err, registry.ErrDenied)
	wantKind(t, client.DeleteValue(ctx, valueKey, registry.PutOptions{}), registry.ErrDenied)
	v, err = operator.PutValue(ctx, valueKey, []byte("2"), registry.PutOptions{IfRevision: v.Revision})
	must(v, err)
	w.UntilData("2")
	_, err = writeOnly.PutValue(ctx, valueKey, []byte("x"), registry.PutOptions{IfRevision: v.Revision})
	wantKind(t, err, registry.ErrDenied) // a condition reads
	watchtest.PutValue(t, writeOnly, valueKey, "3")
	w.UntilData("3")
	stranger := watchtest.WatchValue(t, as("stranger"), valueKey)
	stranger.UntilUnknown(registry.ErrDenied)
	missing := watchtest.WatchValue(t, client, "rollcall/config/missing") // a denial says nothing about the key
	missing.UntilUnknown(registry.ErrDenied)
	for _, w := range []*watchtest.ValueWatcher{w, stranger, missing} {
		w.NeverAbsent()
	}
}

// All readers of a key in a process share one read and one watch.
func TestWatchValue_ThousandReadersAreOneRead(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	operator := etcdtest.Operator(t, server)
	putRaw(t, operator, storedValue, "1")
	calls := new(meter)
	r := openWith(t, Config{Endpoints: []string{server.Addr()}}, calls.option())
	first := watchtest.WatchValue(t, r, valueKey)
	first.UntilData("1")
	before := calls.sent.Load()
	all := []*watchtest.ValueWatcher{first}
	for range 999 {
		all = append(all, watchtest.WatchValue(t, r, valueKey))
	}
	for _, w := range all {
		w.UntilData("1")
	}
	putRaw(t, operator, storedValue, "2")
	for _, w := range all {
		w.UntilData("2")
	}
	if n := calls.sent.Load() - before; n > 5 {
		t.Errorf("%d messages for 999 further readers and one change", n)
	}
}
