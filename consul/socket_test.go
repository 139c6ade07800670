package consul

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestDriver_OverAUnixSocket(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "rollcall") // the path of a socket has room for some hundred bytes, which the paths of a test may exceed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "http.sock")
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: fmt.Sprintf("addresses { http = \"127.0.0.1 unix://%s\" }", socket)})

	u := configtest.ParseURL(t, "consul:///?address=unix://"+socket)
	byURL, err := Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer byURL.Close()
	if byURL.String() != "consul unix://"+socket {
		t.Errorf("it is %q", byURL)
	}
	q := registry.Query{Service: uniqueService()}
	w := watchtest.Watch(t, open(t, Config{Address: "unix://" + socket}), q)
	w.Until("no instance", watchtest.Healthy(0))
	g := watchtest.Register(t, byURL, registry.Instance{ID: "a", Service: q.Service, Address: "127.0.0.1:80"}) // loopback: the agent is on this host
	w.Until("the instance", watchtest.Healthy(1))
	watchtest.Watch(t, open(t, Config{Address: agent.Addr()}), q).Until("the instance over TCP", watchtest.Healthy(1))
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
	w.Until("the instance is gone", watchtest.Healthy(0))

	_, err = open(t, Config{Address: "unix:///no/such/socket"}).Services(watchtest.Context(t))
	if err == nil || !strings.Contains(err.Error(), "consul at unix:///no/such/socket") {
		t.Errorf("without a socket the error is %v", err)
	}
}
