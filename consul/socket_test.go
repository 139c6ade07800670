package consul

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func TestUnixSocket(t *testing.T) {
	clearEnvironment(t)
	dir, err := os.MkdirTemp("", "rollcall") // the path of a socket has room for some hundred bytes, which those of a test may exceed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "http.sock")
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: fmt.Sprintf("addresses { http = \"127.0.0.1 unix://%s\" }", socket)})

	u := parse(t, "consul:///?address=unix://"+socket)
	byURL, err := Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	defer byURL.Close()
	if byURL.String() != "consul unix://"+socket {
		t.Errorf("it is %q", byURL)
	}
	q := registry.Query{Service: uniqueService()}
	w := watch(t, open(t, Config{Address: "unix://" + socket}), q)
	w.until("no instance", healthy(0))
	g := register(t, byURL, registry.Instance{ID: "a", Service: q.Service, Address: "127.0.0.1:80"}) // loopback: the agent is on this host
	w.until("the instance", healthy(1))
	watch(t, open(t, Config{Address: agent.Addr()}), q).until("the instance over TCP", healthy(1))
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
	w.until("no instance any more", healthy(0))

	_, err = open(t, Config{Address: "unix:///no/such/socket"}).Services(within(t, patience))
	if err == nil || !strings.Contains(err.Error(), "consul at unix:///no/such/socket") {
		t.Errorf("without a socket the error is %v", err)
	}
}
