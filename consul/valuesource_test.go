package consul

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

const valueKey = "rollcall/config/greeter"

// putRaw writes a key as Consul's own tools do.
func putRaw(t testing.TB, operator *api.Client, key, data string) {
	t.Helper()
	if _, err := operator.KV().Put(&api.KVPair{Key: key, Value: []byte(data)}, nil); err != nil {
		t.Fatal(err)
	}
}

// The keys are as in docs/config.md, so that Consul's own tools find the values.
func TestWatchValue_ReadsWhatConsulHas(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	for prefix, stored := range map[string]string{"": valueKey, "prod": "prod/" + valueKey} {
		r := open(t, Config{Address: agent.Addr(), ValuePrefix: prefix})
		putRaw(t, operator, stored, "theirs")
		w := watchtest.WatchValue(t, r, valueKey)
		w.UntilData("theirs")
		watchtest.PutValue(t, r, valueKey, "ours")
		pair, _, err := operator.KV().Get(stored, nil)
		if err != nil || pair == nil || string(pair.Value) != "ours" {
			t.Errorf("Consul has %v, %v at %s", pair, err, stored)
		}
		w.UntilData("ours")
		if _, err := operator.KV().Delete(stored, nil); err != nil {
			t.Fatal(err)
		}
		w.UntilAbsent()
	}
}

// valueTrial is a value behind a proxy.
type valueTrial struct {
	*testing.T
	agent    *testbed.Consul
	proxy    *testbed.Proxy
	operator *api.Client
	config   Config
	watcher  *watchtest.ValueWatcher
}

func newValueTrial(t *testing.T, agent *testbed.Consul, c Config) *valueTrial {
	t.Helper()
	o := &valueTrial{T: t, agent: agent, proxy: testbed.NewProxy(t, agent.Addr()), operator: operatorOf(t, agent), config: c}
	o.config.Address = o.proxy.Addr()
	putRaw(t, o.operator, valueKey, "1")
	o.watcher = watchtest.WatchValue(t, open(t, o.config), valueKey)
	o.watcher.UntilData("1")
	return o
}

// first starts a watch in another process, which knows nothing of the value.
func (t *valueTrial) first() *watchtest.ValueWatcher {
	t.Helper()
	return watchtest.WatchValue(t, open(t, t.config), valueKey)
}

// No answer of a gateway, or of anything else that is no Consul, is an absence.
func TestWatchValue_FalseAnswersAreNoAbsence(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	index := []string{"X-Consul-Index", "12", "X-Consul-LastContact", "0", "X-Consul-KnownLeader", "true"}
	for name, answer := range map[string]http.HandlerFunc{
		"404 without a body":       says(404, ""),
		"404 of a default backend": says(404, "default backend - 404"),
		"404 page not found":       says(404, "404 page not found\n", "Content-Type", "text/plain"),
		"404 of HTML":              says(404, "<html><head><title>no</title></head></html>", "Content-Type", "text/html"),
		"404 with index 0":         says(404, "", "X-Consul-Index", "0"),
		"404 with a bad index":     says(404, "", "X-Consul-Index", "x"),
		"200 without a body":       says(200, ""),
		"200 of an empty list":     says(200, "[]"),
		"200 of null":              says(200, "null"),
		"200 empty with an index":  says(200, "[]", index...),
		"200 of HTML":              says(200, "<html></html>", index...),
		"200 of another key":       says(200, `[{"Key":"other","Value":"MQ==","ModifyIndex":9}]`, index...),
		"200 that ends early":      says(200, `[{"Key":"rollcall/config/greeter","Value":"MQ`, index...),
		"204":                      says(204, "", index...),
		"302 to another path":      says(302, "", "Location", "/elsewhere"),
		"429":                      says(429, "rate limit"),
		"500":                      says(500, "No cluster leader"),
		"503":                      says(503, "upstream connect error"),
	} {
		t.Run(name, func(t *testing.T) {
			o := newValueTrial(t, agent, Config{Wait: minWait})
			o.proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/v1/kv/") {
					return false
				}
				answer(w, r)
				return true
			})
			late := o.first()
			late.UntilUnknown(registry.ErrUnavailable)
			putRaw(t, o.operator, valueKey, "2") // ends the read that waits
			o.watcher.Until("the last good value beside an error", func(p watchtest.ValuePair) bool { return p.Value != nil && errors.Is(p.Err, registry.ErrUnavailable) })
			o.proxy.Heal()
			for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
				w.UntilData("2")
			}
			putRaw(t, o.operator, valueKey, "3")
			for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
				w.UntilData("3")
				w.NeverAbsent()
			}
		})
	}
}

// A server that replays its log, or lags behind, says with an index that it has no such key. The leader knows better.
func TestWatchValue_ServerThatLagsBehind(t *testing.T) {
	t.Parallel()
	for name, index := range map[string]uint64{"lower index": 2, "higher index": 1 << 40} {
		t.Run(name, func(t *testing.T) {
			o := newValueTrial(t, testbed.StartConsul(t), Config{Wait: minWait})
			o.proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasPrefix(r.URL.Path, "/v1/kv/") || r.URL.Query().Has("consistent") {
					return false
				}
				says(404, "", "X-Consul-Index", fmt.Sprint(index), "X-Consul-LastContact", "0", "X-Consul-KnownLeader", "true")(w, r)
				return true
			})
			late := o.first()
			late.UntilData("1")
			putRaw(t, o.operator, valueKey, "2")
			o.watcher.UntilData("2")
			late.UntilData("2")
			o.proxy.Heal()
			putRaw(t, o.operator, valueKey, "3")
			for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
				w.UntilData("3")
				w.NeverAbsent()
			}
		})
	}
}

// A store that came back without its data is withheld. If it gets the value back meanwhile, no reader gets an absence.
func TestWatchValue_WipedStore(t *testing.T) {
	t.Parallel()
	t.Run("gets the value back", func(t *testing.T) {
		t.Parallel()
		o := newValueTrial(t, testbed.StartConsul(t), Config{Wait: minWait})
		for i := range 20 { // so that the index falls
			putRaw(t, o.operator, "other", fmt.Sprint(i))
		}
		o.agent.Restart(false)
		o.watcher.UntilStale("1", registry.ErrUnavailable)
		putRaw(t, o.operator, valueKey, "2")
		o.watcher.UntilData("2")
		o.watcher.NeverAbsent()
	})
	t.Run("stays without it", func(t *testing.T) {
		t.Parallel()
		o := newValueTrial(t, testbed.StartConsul(t), Config{Wait: minWait, Options: registry.Options{OutageGrace: 2 * time.Second}})
		o.agent.Restart(false)
		o.watcher.UntilStale("1", registry.ErrUnavailable)
		o.watcher.UntilAbsent()
		o.first().UntilAbsent()
		putRaw(t, o.operator, valueKey, "2")
		o.watcher.UntilData("2")
	})
}

// A paused agent accepts connections and answers nothing.
func TestWatchValue_PausedAgent(t *testing.T) {
	t.Parallel()
	o := newValueTrial(t, testbed.StartConsul(t), Config{Wait: minWait, Timeout: time.Second})
	o.agent.Stop()
	late := o.first()
	late.UntilUnknown(registry.ErrUnavailable)
	o.watcher.UntilStale("1", registry.ErrUnavailable)
	o.agent.Continue()
	for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
		w.UntilData("1")
	}
	putRaw(t, o.operator, valueKey, "2")
	for _, w := range []*watchtest.ValueWatcher{o.watcher, late} {
		w.UntilData("2")
		w.NeverAbsent()
	}
}

func TestWatchValue_AgentIsRestarted(t *testing.T) {
	t.Parallel()
	o := newValueTrial(t, testbed.StartConsul(t), Config{Wait: minWait})
	for i := range 3 {
		o.agent.Kill()
		o.watcher.Until("the last good value beside an error", func(p watchtest.ValuePair) bool { return p.Value != nil && errors.Is(p.Err, registry.ErrUnavailable) })
		o.agent.Restart(true)
		data := fmt.Sprint(i + 2)
		putRaw(t, o.operator, valueKey, data)
		o.watcher.UntilData(data)
	}
	o.watcher.NeverAbsent()
}

// The rules in docs/config.md are enough, each is necessary, and a refusal is ErrDenied and no absence.
func TestWatchValue_LeastConsulPolicy(t *testing.T) {
	t.Parallel()
	const root = "00000000-0000-0000-0000-00000000feed"
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Token: root, Config: fmt.Sprintf(`
		acl {
			enabled = true
			default_policy = "deny"
			tokens { initial_management = %[1]q, agent = %[1]q }
		}`, root)})
	operator := operatorOf(t, agent)
	operator.AddHeader("X-Consul-Token", root)
	putRaw(t, operator, valueKey, "1")
	as := func(rules string) (*registry.Registry, *api.ACLPolicy) {
		t.Helper()
		policy, _, err := operator.ACL().PolicyCreate(&api.ACLPolicy{Name: uniqueService(), Rules: rules}, nil)
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := operator.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return open(t, Config{Address: agent.Addr(), Token: registry.NewSecret(token.SecretID), Wait: minWait}), policy
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, registry.ErrDenied) {
			t.Errorf("%s returns %v, want ErrDenied", what, err)
		}
	}

	reader, policy := as(`key "rollcall/config/greeter" { policy = "read" }`)
	w := watchtest.WatchValue(t, reader, valueKey)
	w.UntilData("1")
	_, err := reader.PutValue(watchtest.Context(t), valueKey, []byte("x"), registry.PutOptions{})
	refused("PutValue of a reader", err)
	_, err = reader.PutValue(watchtest.Context(t), valueKey, make([]byte, maxTransaction+1), registry.PutOptions{})
	refused("PutValue of a large value of a reader", err)
	refused("DeleteValue of a reader", reader.DeleteValue(watchtest.Context(t), valueKey, registry.PutOptions{}))

	writer, _ := as(`key_prefix "rollcall/config/" { policy = "write" }`)
	v := watchtest.PutValue(t, writer, valueKey, "2")
	w.UntilData("2")
	if _, err := writer.PutValue(watchtest.Context(t), valueKey, []byte("3"), registry.PutOptions{IfRevision: v.Revision}); err != nil {
		t.Error(err)
	}
	w.UntilData("3")

	stranger, _ := as(`key "rollcall/config/other" { policy = "write" }`)
	other := watchtest.WatchValue(t, stranger, valueKey)
	other.UntilUnknown(registry.ErrDenied)
	missing := watchtest.WatchValue(t, stranger, "rollcall/config/missing") // a denial says nothing about the key
	missing.UntilUnknown(registry.ErrDenied)

	// The right is taken away, and given back.
	policy.Rules = ""
	if _, _, err := operator.ACL().PolicyUpdate(policy, nil); err != nil {
		t.Fatal(err)
	}
	w.UntilStale("3", registry.ErrDenied)
	putRaw(t, operator, valueKey, "4")
	policy.Rules = `key "rollcall/config/greeter" { policy = "read" }`
	if _, _, err := operator.ACL().PolicyUpdate(policy, nil); err != nil {
		t.Fatal(err)
	}
	w.UntilData("4")
	for _, w := range []*watchtest.ValueWatcher{w, other, missing} {
		w.NeverAbsent()
	}
}

// testValueWithoutLeader leaves one server of three, which has no leader.
func testValueWithoutLeader(c *clusterTrial) {
	r := open(c, c.config(c.Token))
	watchtest.PutValue(c, r, valueKey, "1")
	c.Cleanup(func() {
		if err := open(c, c.config(c.Token)).DeleteValue(watchtest.Context(c), valueKey, registry.PutOptions{}); err != nil {
			c.Error(err)
		}
	})
	conf := c.config(c.Token)
	conf.Wait = minWait
	w := watchtest.WatchValue(c, open(c, conf), valueKey)
	w.UntilData("1")
	c.Servers[0].Kill()
	c.Servers[1].Kill()
	w.UntilStale("1", registry.ErrUnavailable)
	late, missing := watchtest.WatchValue(c, open(c, conf), valueKey), watchtest.WatchValue(c, open(c, conf), "missing")
	late.UntilUnknown(registry.ErrUnavailable)
	missing.UntilUnknown(registry.ErrUnavailable)
	c.RestartServers()
	w.UntilData("1")
	late.UntilData("1")
	missing.UntilAbsent()
	watchtest.PutValue(c, r, valueKey, "2")
	w.UntilData("2")
	w.NeverAbsent()
	late.NeverAbsent()
}

// All readers of a key in a process share one read, which waits.
func TestWatchValue_ThousandReadersAreOneRead(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	putRaw(t, operator, valueKey, "1")
	r := open(t, Config{Address: proxy.Addr()})
	var all []*watchtest.ValueWatcher
	for range 1000 {
		all = append(all, watchtest.WatchValue(t, r, valueKey))
	}
	for _, w := range all {
		w.UntilData("1")
	}
	putRaw(t, operator, valueKey, "2")
	for _, w := range all {
		w.UntilData("2")
	}
	if n := proxy.Requests(); n > 5 {
		t.Errorf("%d requests for 1,000 readers of a key and one change", n)
	}
	if n := proxy.InFlight(isBlocking); n != 1 {
		t.Errorf("%d requests wait for a change", n)
	}
}
