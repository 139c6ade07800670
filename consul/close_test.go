package consul

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Close ends a watch and a registration at once although their reads wait for minutes, over every kind of connection. It leaves no
// goroutine and no connection.
func TestClose_EndsBlockingQueries(t *testing.T) {
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
		"failover":       {plain, Config{Address: plain.Addr(), Failover: []string{"dc2"}}},
	} {
		t.Run(name, func(t *testing.T) {
			// A Close that waits for the end of a read, or for its own deadline, waits for longer than this test.
			c.config.Wait, c.config.Options.CloseTimeout = maxWait, 2*watchtest.Timeout
			before := goleak.IgnoreCurrent()
			r := open(t, c.config)
			q := registry.Query{Service: uniqueService()}
			w := watchtest.Watch(t, r, q)
			watchtest.Register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
			w.Until("the instance", watchtest.Healthy(1))
			wait := func(parameter string) func(*http.Request) bool {
				return func(r *http.Request) bool {
					return r.URL.Query().Has(parameter) && r.URL.Query().Get("wait") == fmt.Sprintf("%dms", maxWait.Milliseconds())
				}
			}
			watchtest.Eventually(t, "both reads wait", func() bool { return c.proxy.InFlight(wait("index")) == 1 && c.proxy.InFlight(wait("hash")) == 1 })

			closesAtOnce(t, r)
			p := w.Until("the end", func(p watchtest.Pair) bool { return p.Err != nil })
			if !errors.Is(p.Err, registry.ErrClosed) {
				t.Errorf("the watch ended with %v", p)
			}
			watchtest.Eventually(t, "no connection is left", func() bool { return c.proxy.Connections() == 0 && c.proxy.InFlight(nil) == 0 })
			var left error
			defer func() {
				if left != nil {
					t.Log(left)
				}
			}()
			// The proxy keeps its own connections for a second.
			watchtest.Eventually(t, "no goroutine is left", func() bool { left = goleak.Find(before); return left == nil })
		})
	}
}

// closesAtOnce reports an error if Close returns one, and fails the test if Close waits for something that outlasts the test.
func closesAtOnce(t *testing.T, r *registry.Registry) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- r.Close() }()
	if err := watchtest.Receive(t, "the end of Close", closed); err != nil {
		t.Errorf("Close: %v", err)
	}
}
