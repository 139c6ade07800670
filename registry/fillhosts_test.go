package registry_test

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// located is a store at an address.
type located struct {
	*fake
	at string
}

func (d located) Properties() registry.Properties {
	return registry.Properties{Name: "located", Address: d.at}
}

func TestRegister_ReplacesAWildcardByAnAddressOfThisHost(t *testing.T) {
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
			g := watchtest.Register(t, r, registry.Instance{Service: "web", Address: address, Endpoints: map[string]string{"http": "0.0.0.0:80"}})
			in := g.Instance()
			host, port, err := net.SplitHostPort(in.Address)
			if err != nil || !own[host] || port != "8080" {
				t.Errorf("with the registry at %q, %s became %s, want an address of this host with port 8080", at, address, in.Address)
			}
			if ip := netip.MustParseAddr(host); strings.HasPrefix(address, "0.") && !ip.Is4() {
				t.Errorf("an IPv4 listener is registered as %s", in.Address)
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

func TestRegister_RefusesALoopbackAddressIfTheRegistryIsOnAnotherHost(t *testing.T) {
	for _, address := range []string{"127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9:80", "[::ffff:127.0.0.1]:80"} {
		for _, at := range []string{"", "127.0.0.1:8500", "localhost:8500", "[::1]:8500"} {
			r := newRegistry(t, located{newFake(), at}, registry.Options{})
			if g := watchtest.Register(t, r, registry.Instance{Service: "web", Address: address}); g.Instance().Address != address {
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

func TestRegister_ReplacesWildcardByHostInEnvironment(t *testing.T) {
	for name, c := range map[string]struct {
		rollcallHost, podIP string
		address             string
		want                string // "" is an error
		says                string
	}{
		"a pod":                       {podIP: "10.9.0.1", address: ":80", want: "10.9.0.1:80"},
		"a pod, of IPv6":              {podIP: "2001:db8::9", address: "[::]:80", want: "[2001:db8::9]:80"},
		"ROLLCALL_HOST before POD_IP": {rollcallHost: "a.example.com", podIP: "10.9.0.1", address: "0.0.0.0:80", want: "a.example.com:80"},
		"not if a host is given":      {rollcallHost: "a.example.com", address: "10.0.0.1:80", want: "10.0.0.1:80"},
		"no host":                     {podIP: "0.0.0.0", address: ":80", says: `environment variable POD_IP: "0.0.0.0" is not a host`},
		"no DNS name":                 {rollcallHost: "a b", address: ":80", says: `Address: "a b:80"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("ROLLCALL_HOST", c.rollcallHost)
			t.Setenv("POD_IP", c.podIP)
			r := newRegistry(t, located{newFake(), ""}, registry.Options{})
			_, port, _ := net.SplitHostPort(c.address)
			g, err := r.Register(t.Context(), registry.Instance{Service: "web", Address: c.address, Endpoints: map[string]string{"http": ":" + port}})
			if c.want == "" {
				if !errors.Is(err, registry.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("it says %v, want %s", err, c.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			in := g.Instance()
			if in.Address != c.want {
				t.Errorf("%s is registered, want %s", in.Address, c.want)
			}
			if host, _, _ := net.SplitHostPort(in.Endpoints["http"]); host != cmp.Or(c.rollcallHost, c.podIP) {
				t.Errorf("the endpoint is %s", in.Endpoints["http"])
			}
			if host, _, _ := net.SplitHostPort(in.Address); !strings.HasPrefix(in.ID, "web-"+host) {
				t.Errorf("the ID is %s", in.ID)
			}
		})
	}
}
