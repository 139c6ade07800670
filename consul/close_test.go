package consul

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// Close ends a watch and an announcement in the middle of reads that would wait for a minute, whatever those go over: at once, and
// no goroutine and no connection is left.
func TestCloseInBlockingQueries(t *testing.T) {
	clearEnvironment(t)
	agent := testbed.StartConsul(t)
	dir, err := os.MkdirTemp("", "rollcall") // the path of a socket has room for some hundred bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ca := newAuthority(t, dir, "ca")
	cert, key, socket := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "http.sock")
	ca.issue("consul.test", cert, key)
	plain, secure, local := testbed.NewProxy(t, agent.Addr()), testbed.NewTLSProxy(t, agent.Addr(), cert, key), testbed.NewSocketProxy(t, agent.Addr(), socket)

	for name, c := range map[string]struct {
		proxy  *testbed.Proxy
		config Config
	}{
		"HTTP":           {plain, Config{Address: plain.Addr()}},
		"HTTP/2":         {secure, Config{Address: "https://" + secure.Addr(), TLS: TLS{CAFile: ca.file}}},
		"socket":         {local, Config{Address: "unix://" + socket}},
		"several agents": {plain, Config{Address: plain.Addr() + "," + agent.Addr()}},
		"failover":       {plain, Config{Address: plain.Addr(), Failover: "dc2"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			r := open(t, c.config)
			q := registry.Query{Service: uniqueService()}
			w := watch(t, r, q)
			register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
			w.until("the instance", healthy(1))
			wait := func(parameter string) func(*http.Request) bool {
				return func(r *http.Request) bool {
					return r.URL.Query().Has(parameter) && r.URL.Query().Get("wait") == "60000ms"
				}
			}
			eventually(t, "both reads wait", func() bool { return c.proxy.InFlight(wait("index")) == 1 && c.proxy.InFlight(wait("hash")) == 1 })

			began := time.Now()
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > slack*time.Second {
				t.Errorf("Close took %v", took)
			}
			p := w.until("the end", func(p pair) bool { return p.err != nil })
			if !errors.Is(p.err, registry.ErrClosed) {
				t.Errorf("the watch ended with %v", p)
			}
			eventually(t, "no connection is left", func() bool { return c.proxy.Connections() == 0 && c.proxy.InFlight(nil) == 0 })
			var left error
			defer func() {
				if left != nil {
					t.Log(left)
				}
			}()
			// The proxy keeps its own connections for a second.
			eventually(t, "no goroutine is left", func() bool { left = goleak.Find(before); return left == nil })
			if took := time.Since(began); took > DefaultWait/4 {
				t.Errorf("what it has left was there for %v, as long as it waited for an answer", took)
			}
			if err := operatorOf(t, agent).Agent().ServiceDeregister(serviceID(q.Service, "a")); err != nil {
				t.Error(err)
			}
		})
	}
}
