package serve

import (
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/advertise"
	"github.com/rollcall-go/rollcall/registry"
)

// place is a listener that has only an address.
type place struct {
	net.Listener
	addr net.Addr
}

func (p place) Addr() net.Addr { return p.addr }
func (place) Close() error     { return nil }

func at(t *testing.T, address string) net.Listener {
	t.Helper()
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return place{addr: &net.UnixAddr{Name: path, Net: "unix"}}
	}
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return place{addr: tcp}
}

type noRegistrar struct{ registry.Registrar }

func TestService_AdvertisedAddress(t *testing.T) {
	for name, c := range map[string]struct {
		service  Service
		env      map[string]string
		listener string
		want     string // "" is an error
		says     string
	}{
		"its listener's":                      {listener: "10.0.0.1:80", want: "10.0.0.1:80"},
		"of IPv6":                             {listener: "[2001:db8::1]:80", want: "[2001:db8::1]:80"},
		"a wildcard, which Register replaces": {listener: "0.0.0.0:80", want: "0.0.0.0:80"},
		"of both families too":                {listener: "[::]:80", want: "[::]:80"},
		"given whole":                         {service: Service{Instance: registry.Instance{Address: "nat.example.com:443"}}, listener: "10.0.0.1:80", want: "nat.example.com:443"},
		"given, before all else":              {service: Service{Instance: registry.Instance{Address: "nat.example.com:443"}, Interface: "lo"}, env: map[string]string{"ROLLCALL_HOST": "h"}, listener: ":80", want: "nat.example.com:443"},
		"a host alone":                        {service: Service{Instance: registry.Instance{Address: "nat.example.com:0"}}, listener: "10.0.0.1:80", want: "nat.example.com:80"},
		"a port alone":                        {service: Service{Instance: registry.Instance{Address: ":443"}}, listener: "10.0.0.1:80", want: "10.0.0.1:443"},
		"a port alone, and a pod":             {service: Service{Instance: registry.Instance{Address: ":443"}}, env: map[string]string{"POD_IP": "10.9.0.1"}, listener: ":80", want: "10.9.0.1:443"},
		"of the pod":                          {env: map[string]string{"POD_IP": "10.9.0.1"}, listener: "0.0.0.0:80", want: "10.9.0.1:80"},
		"of the pod, of IPv6":                 {env: map[string]string{"POD_IP": "2001:db8::9"}, listener: "[::]:80", want: "[2001:db8::9]:80"},
		"our variable first":                  {env: map[string]string{"POD_IP": "10.9.0.1", "ROLLCALL_HOST": "a.example.com"}, listener: ":80", want: "a.example.com:80"},
		"the pod before the card":             {service: Service{Interface: "lo"}, env: map[string]string{"POD_IP": "10.9.0.1"}, listener: ":80", want: "10.9.0.1:80"},
		"not if it listens on one address":    {env: map[string]string{"POD_IP": "10.9.0.1"}, listener: "127.0.0.1:80", want: "127.0.0.1:80"},
		"of an interface":                     {service: Service{Interface: "lo"}, listener: ":80", want: "127.0.0.1:80"},
		"no such interface":                   {service: Service{Interface: "nope0"}, listener: ":80", says: `Service.Interface: "nope0"`},
		"not needed":                          {service: Service{Interface: "nope0"}, listener: "10.0.0.1:80", want: "10.0.0.1:80"},
		"a variable that is no host":          {env: map[string]string{"POD_IP": "0.0.0.0"}, listener: ":80", says: `environment variable POD_IP: "0.0.0.0"`},
		"a socket has none":                   {listener: "unix:/run/x", says: "Service.Instance.Address is required"},
		"a socket behind a proxy":             {service: Service{Instance: registry.Instance{Address: "h:1"}}, listener: "unix:/run/x", want: "h:1"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, v := range advertise.Variables {
				t.Setenv(v, c.env[v])
			}
			c.service.Registrar, c.service.Instance.Service = noRegistrar{}, "s"
			l, err := c.service.prepare(t.Context(), new(http.Server), at(t, c.listener))
			switch {
			case c.want == "":
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("it says %v, want %s", err, c.says)
				}
			case err != nil:
				t.Error(err)
			case l.instances[0].Address != c.want:
				t.Errorf("%s is advertised, want %s", l.instances[0].Address, c.want)
			}
		})
	}
}

func TestService_RegistersServicesAndEndpoints(t *testing.T) {
	for _, v := range advertise.Variables {
		t.Setenv(v, "")
	}
	t.Setenv("POD_IP", "10.9.0.1")
	s := Service{
		Registrar: noRegistrar{}, Instance: registry.Instance{Service: "a", Endpoints: map[string]string{"http": "h:1"}},
		Services:  []registry.Instance{{Service: "b", Address: "nat:2"}},
		Endpoints: map[string]Endpoint{"admin": {Listener: at(t, "127.0.0.1:9")}, "public": {new(http.Server), at(t, ":8")}},
	}
	l, err := s.prepare(t.Context(), new(http.Server), at(t, ":80"))
	if err != nil {
		t.Fatal(err)
	}
	a, b := l.instances[0], l.instances[1]
	if a.Address != "10.9.0.1:80" || b.Address != "nat:2" || len(a.Endpoints) != 3 || len(b.Endpoints) != 2 ||
		a.Endpoints["admin"] != "127.0.0.1:9" || b.Endpoints["public"] != "10.9.0.1:8" || a.Endpoints["http"] != "h:1" {
		t.Errorf("they are registered as %+v and %+v", a, b)
	}
	if len(s.Instance.Endpoints) != 1 {
		t.Errorf("the caller's instance has become %+v", s.Instance)
	}

	s.Services = append(s.Services, registry.Instance{Service: "a"}, registry.Instance{})
	s.Endpoints["http"] = Endpoint{Listener: at(t, ":7")}
	_, err = s.prepare(t.Context(), new(http.Server), at(t, ":80"))
	for _, want := range []string{
		`Service.Services[1].Service: "a" is there twice`, "Service.Services[2].Service is required", `Service.Instance.Endpoints["http"] is given, and a listener`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it says %v, want %s", err, want)
		}
	}
	s.Endpoints = map[string]Endpoint{"x": {}}
	if _, err := s.prepare(t.Context(), new(http.Server), at(t, ":80")); err == nil || !strings.Contains(err.Error(), `Service.Endpoints["x"].Listener is nil`) {
		t.Errorf("it says %v", err)
	}
}
