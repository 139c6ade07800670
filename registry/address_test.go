package registry_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// located is a store at an address.
type located struct {
	*fake
	at string
}

func (d located) Locate() string { return d.at }

func TestAWildcardIsReplacedByAnAddressOfThisHost(t *testing.T) {
	own := map[string]bool{}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		own[a.(*net.IPNet).IP.String()] = true
	}
	stores := []string{"", "127.0.0.1:8500", "localhost:8500"}
	if c, err := net.Dial("udp4", "192.0.2.7:8500"); err == nil {
		c.Close()
		stores = append(stores, "192.0.2.7:8500")
	}
	for _, at := range stores {
		for _, address := range []string{":8080", "0.0.0.0:8080", "[::]:8080"} {
			r := newRegistry(t, located{newFake(), at}, registry.Options{})
			g := register(t, r, registry.Instance{Service: "web", Address: address, Endpoints: map[string]string{"http": "0.0.0.0:80"}})
			in := g.Instance()
			host, port, err := net.SplitHostPort(in.Address)
			if err != nil || !own[host] || port != "8080" {
				t.Errorf("with the registry at %q, %s became %s, want an address of this host with port 8080", at, address, in.Address)
			}
			if ip := netip.MustParseAddr(host); strings.HasPrefix(address, "0.") && !ip.Is4() {
				t.Errorf("an IPv4 listener is announced as %s", in.Address)
			}
			if strings.HasPrefix(in.Endpoints["http"], "0.0.0.0") {
				t.Errorf("the endpoint is still %s", in.Endpoints["http"])
			}
			if !strings.HasPrefix(in.ID, "web-"+host) {
				t.Errorf("the ID is %s", in.ID)
			}
		}
	}
}

func TestALoopbackAddressIsRefusedWhereTheRegistryIsElsewhere(t *testing.T) {
	for _, address := range []string{"127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"} {
		for _, at := range []string{"", "127.0.0.1:8500", "localhost:8500", "[::1]:8500"} {
			r := newRegistry(t, located{newFake(), at}, registry.Options{})
			if g := register(t, r, registry.Instance{Service: "web", Address: address}); g.Instance().Address != address {
				t.Errorf("with the registry at %q, %s became %s", at, address, g.Instance().Address)
			}
		}
	}
	if _, err := net.Dial("udp", "192.0.2.7:8500"); err != nil {
		t.Log("this host has no route to others; nothing can be on another host for it")
		return
	}
	r := newRegistry(t, located{newFake(), "192.0.2.7:8500"}, registry.Options{})
	_, err := r.Register(t.Context(), registry.Instance{Service: "web", Address: "127.0.0.1:80"})
	if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), `Address: "127.0.0.1:80" is a loopback address`) || !strings.Contains(err.Error(), "192.0.2.7:8500") {
		t.Errorf("it says %v", err)
	}
}
