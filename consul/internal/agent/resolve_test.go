package agent

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/bubble"
)

// unused returns a pool of agents at these addresses, to which no call is made.
func unused(t *testing.T, hostPorts ...string) *Pool {
	t.Helper()
	var addresses []Address
	for _, hostPort := range hostPorts {
		addresses = append(addresses, Address{Scheme: "http", HostPort: hostPort})
	}
	certs, err := ReadCertificates(api.TLSConfig{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPool(addresses, &Config{API: &api.Config{}, Certs: certs, Timeout: time.Second, Token: NewToken(""), Scrub: func(text string) string { return text }}, NewDialer())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestResolve_ANameWithSeveralAddressesIsSeveralAgents(t *testing.T) {
	for what, c := range map[string]struct {
		address []string
		records []string
		want    []string
	}{
		"several":        {[]string{"consul.test:8500"}, []string{"10.0.0.1", "10.0.0.2", "10.0.0.1"}, []string{"10.0.0.1:8500", "10.0.0.2:8500"}},
		"IPv6":           {[]string{"consul.test:8500"}, []string{"2001:db8::1", "2001:db8::2"}, []string{"[2001:db8::1]:8500", "[2001:db8::2]:8500"}},
		"one of each":    {[]string{"consul.test:8500"}, []string{"10.0.0.1", "2001:db8::1"}, []string{"consul.test:8500"}},
		"two and one":    {[]string{"consul.test:8500"}, []string{"2001:db8::1", "10.0.0.1", "10.0.0.2"}, []string{"10.0.0.1:8500", "10.0.0.2:8500"}},
		"one":            {[]string{"consul.test:8500"}, []string{"10.0.0.1"}, []string{"consul.test:8500"}},
		"none":           {[]string{"consul.test:8500"}, nil, []string{"consul.test:8500"}},
		"beside another": {[]string{"10.1.1.1:8500", "consul.test:8501"}, []string{"10.0.0.1", "10.0.0.2"}, []string{"10.1.1.1:8500", "10.0.0.1:8501", "10.0.0.2:8501"}},
		"localhost":      {[]string{"localhost:8500"}, []string{"10.0.0.1", "10.0.0.2"}, []string{"localhost:8500"}},
	} {
		p := unused(t, c.address...)
		name := p.Name()
		p.Names.Lookup = agenttest.NewDNS(c.records...).Lookup
		p.resolve(t.Context())
		var got []string
		for _, a := range p.all {
			got = append(got, a.Location)
		}
		if !slices.Equal(got, c.want) || p.Name() != name {
			t.Errorf("%s: the agents are %q, want %q, and the name is %q, was %q", what, got, c.want, p.Name(), name)
		}
	}
}

func TestResolve_FollowsTheRecordsAfterAFailure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		p := unused(t, "consul.test:8500")
		server := agenttest.NewDNS("10.0.0.1", "10.0.0.2")
		p.Names.Lookup = server.Lookup
		p.resolve(t.Context())
		used := p.InUse()
		p.resolve(t.Context())
		if n := server.Lookups(); n != 1 {
			t.Errorf("without a failure there were %d lookups, want 1", n)
		}
		p.switchFrom(used)
		used = p.InUse()
		server.Set(errors.New("no answer"))
		time.Sleep(resolveInterval)
		p.resolve(t.Context())
		if p.count() != 2 || p.InUse() != used {
			t.Errorf("without an answer there are %d agents", p.count())
		}
		server.Set(nil, "10.0.0.3", "10.0.0.2")
		p.outdated.Store(true)
		p.resolve(t.Context())
		if p.all[0].Location != "10.0.0.1:8500" {
			t.Error("the name was resolved again too soon")
		}
		time.Sleep(resolveInterval)
		p.resolve(t.Context())
		if p.count() != 2 || p.InUse() != used || p.all[0].Location != "10.0.0.3:8500" {
			t.Errorf("the agents are %v, and %s is in use", p.all, p.InUse().Location)
		}
	})
}
