package consul

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// The least ACL policy that each operation needs, as the package documentation has it. %s is the name of the service.
var (
	// Register, Update and Deregister.
	policyToRegister = []string{`service "%s" { policy = "write" }`}
	// The same with Config.Sidecar, and with Config.EnableTagOverride.
	policyOfSidecar  = append([]string{`service "%s-sidecar-proxy" { policy = "write" }`}, policyToRegister...)
	policyToKeepTags = append([]string{`node_prefix "" { policy = "read" }`}, policyToRegister...)
	// Lookup and Watch. An instance is left out if its node may not be read.
	policyToRead = []string{`service "%s" { policy = "read" }`, `node_prefix "" { policy = "read" }`}
	// The same with Config.Connect, if there are sidecars, and with Config.Peer.
	policyToReadMesh = append([]string{`service "%s-sidecar-proxy" { policy = "read" }`}, policyToRead...)
	policyToReadPeer = []string{`service_prefix "" { policy = "read" }`, `node_prefix "" { policy = "read" }`}
	// Services.
	policyToList = []string{`service_prefix "" { policy = "read" }`}
	// Everything that the conformance suite does, PutValue and DeleteValue included.
	policyToConform = []string{`service_prefix "" { policy = "write" }`, `node_prefix "" { policy = "read" }`, `key_prefix "conformance-" { policy = "write" }`}
)

// clusterTrial is a cluster with ACLs, and its operator, who may do everything.
type clusterTrial struct {
	*testing.T
	*testbed.ConsulCluster
	operator *api.Client
}

func operatorOfCluster(t *testing.T, c *testbed.ConsulCluster) *clusterTrial {
	t.Helper()
	return &clusterTrial{t, c, clientOf(t, c.Agent, c.Token)}
}

// clientOf returns a client of one agent of a cluster.
func clientOf(t testing.TB, agent *testbed.Consul, token string) *api.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	client, err := api.NewClient(&api.Config{Address: agent.Addr(), Token: token, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// in is the same cluster in another test.
func (c *clusterTrial) in(t *testing.T) *clusterTrial {
	return &clusterTrial{t, c.ConsulCluster, c.operator}
}

// policy makes a policy of the rules, for the service if they name one, and returns its ID.
func (c *clusterTrial) policy(rules []string, service string) string {
	c.Helper()
	text := strings.ReplaceAll(strings.Join(rules, "\n"), "%s", service)
	p, _, err := c.operator.ACL().PolicyCreate(&api.ACLPolicy{Name: uniqueService(), Rules: text}, nil)
	if err != nil {
		c.Fatal(err)
	}
	return p.ID
}

// token makes a token with the rules alone.
func (c *clusterTrial) token(rules []string, service string) *api.ACLToken {
	c.Helper()
	var links []*api.ACLLink
	if len(rules) > 0 {
		links = append(links, &api.ACLLink{ID: c.policy(rules, service)})
	}
	token, _, err := c.operator.ACL().TokenCreate(&api.ACLToken{Policies: links}, nil)
	if err != nil {
		c.Fatal(err)
	}
	// A call may reach any server, and a server that does not know the token yet refuses it.
	for _, s := range c.Servers {
		server := clientOf(c, s, token.SecretID)
		watchtest.Eventually(c, "a server knows the token", func() bool {
			_, _, err := server.ACL().TokenReadSelf(&api.QueryOptions{AllowStale: true})
			return err == nil
		})
	}
	return token
}

// tokenOfWatch is what a watch reads with.
type tokenOfWatch struct {
	service, policy string
	token           *api.ACLToken
}

// rewrite puts other rules into a policy.
func (c *clusterTrial) rewrite(id string, rules []string, service string) {
	c.Helper()
	p, _, err := c.operator.ACL().PolicyRead(id, nil)
	if err == nil {
		p.Rules = strings.ReplaceAll(strings.Join(rules, "\n"), "%s", service)
		_, _, err = c.operator.ACL().PolicyUpdate(p, nil)
	}
	if err != nil {
		c.Fatal(err)
	}
}

// delete deletes a token.
func (c *clusterTrial) delete(token *api.ACLToken) {
	c.Helper()
	if _, err := c.operator.ACL().TokenDelete(token.AccessorID, nil); err != nil {
		c.Fatal(err)
	}
}

// as opens a client with a token, over TLS.
func (c *clusterTrial) as(token string) *registry.Registry {
	c.Helper()
	return open(c, c.config(token))
}

func (c *clusterTrial) config(token string) Config {
	return Config{Address: "https://" + c.Agent.HTTPSAddr(), Token: registry.NewSecret(token), TLS: c.tls(), TTL: minTTL}
}

// tls returns the settings of a client that the agent accepts.
func (c *clusterTrial) tls() TLS {
	cert, key := c.ClientCertificate()
	return TLS{CAFile: c.CAFile(), CertFile: cert, KeyFile: key}
}

// register registers an instance of the service as the operator.
func (c *clusterTrial) register(service, id string) registry.Registration {
	c.Helper()
	g := watchtest.Register(c, c.as(c.Token), registry.Instance{ID: id, Service: service, Address: "10.0.0.1:80"})
	c.Cleanup(func() {
		if err := g.Deregister(watchtest.Context(c)); err != nil {
			c.Error(err)
		}
	})
	return g
}

// testLeastPolicy does each operation with the rules that it needs, and without each of them in turn.
func testLeastPolicy(c *clusterTrial) {
	service := uniqueService()
	other := c.register(service, "other")
	q := registry.Query{Service: service}
	behind := c.config(c.Token)
	behind.Sidecar = true
	meshed := uniqueService()
	inMesh := watchtest.Register(c, open(c, behind), registry.Instance{ID: "a", Service: meshed, Address: "10.0.0.1:80"})
	defer inMesh.Deregister(watchtest.Context(c))
	versions := 0
	registerAndLeave := func(r *registry.Registry) error {
		g, err := r.Register(watchtest.Context(c), registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
		if err != nil {
			return err
		}
		return g.Deregister(watchtest.Context(c))
	}
	for _, o := range []struct {
		name   string
		rules  []string
		do     func(r *registry.Registry) error
		config func(*Config)
	}{
		{"register a sidecar", policyOfSidecar, registerAndLeave, func(conf *Config) { conf.Sidecar = true }},
		{"register", policyToRegister, func(r *registry.Registry) error {
			g, err := r.Register(watchtest.Context(c), registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80"})
			if err != nil {
				return err
			}
			for _, status := range []registry.Status{registry.Critical, registry.Maintenance, registry.Passing} {
				watchtest.Update(c, g, func(in *registry.Instance) { in.Status = status })
			}
			return g.Deregister(watchtest.Context(c))
		}, nil},
		{"look up", policyToRead, func(r *registry.Registry) error {
			set, err := r.Lookup(watchtest.Context(c), q)
			if err == nil && len(set) != 1 {
				return fmt.Errorf("there are %d instances", len(set))
			}
			return err
		}, nil},
		{"watch", policyToRead, func(r *registry.Registry) error {
			versions++
			version := fmt.Sprint(versions)
			for set, err := range r.Watch(watchtest.Context(c), q) {
				switch {
				case err != nil:
					return err
				case len(set) != 1:
					return fmt.Errorf("there are %d instances", len(set))
				case set[0].Version == version: // which the agent's stream tells
					return nil
				}
				watchtest.Update(c, other, func(in *registry.Instance) { in.Version = version })
			}
			return errors.New("the watch ended")
		}, nil},
		{"look up over the mesh", policyToReadMesh, func(r *registry.Registry) error {
			set, err := r.Lookup(watchtest.Context(c), registry.Query{Service: meshed, AnyStatus: true})
			if err == nil && len(set) != 1 {
				return fmt.Errorf("there are %d instances", len(set))
			}
			return err
		}, func(conf *Config) { conf.Connect = true }},
		{"list services", policyToList, func(r *registry.Registry) error {
			names, err := r.Services(watchtest.Context(c))
			if err == nil && !strings.Contains(strings.Join(names, " ")+" ", service+" ") {
				return fmt.Errorf("there are %v", names)
			}
			return err
		}, nil},
	} {
		as := func(rules []string) *registry.Registry {
			conf := c.config("")
			of := service
			if o.config != nil {
				if o.config(&conf); conf.Connect {
					of = meshed
				}
			}
			conf.Token = registry.NewSecret(c.token(rules, of).SecretID)
			return open(c, conf)
		}
		if err := o.do(as(o.rules)); err != nil {
			c.Errorf("%s, with its policy: %v", o.name, err)
		}
		for i, rule := range o.rules {
			rest := append(append([]string(nil), o.rules[:i]...), o.rules[i+1:]...)
			if err := o.do(as(rest)); !errors.Is(err, registry.ErrDenied) {
				c.Errorf("%s, without %s: %v, want ErrDenied", o.name, rule, err)
			}
		}
	}
}

// testPolicyToKeepTags has an operator change tags, which an update with the least policy leaves alone.
func testPolicyToKeepTags(c *clusterTrial) {
	service := uniqueService()
	conf := c.config(c.token(policyToKeepTags, service).SecretID)
	conf.EnableTagOverride = true
	g := watchtest.Register(c, open(c, conf), registry.Instance{ID: "a", Service: service, Address: "10.0.0.1:80", Tags: []string{"mine"}})
	w := watchtest.Watch(c, c.as(c.Token), registry.Query{Service: service})
	w.Until("the instance", watchtest.Healthy(1))
	entries, _, err := c.operator.Health().Service(service, "", false, nil)
	if err != nil || len(entries) != 1 {
		c.Fatal(entries, err)
	}
	node, entry := entries[0].Node, entries[0].Service
	entry.Tags = []string{"theirs"}
	if _, err := c.operator.Catalog().Register(&api.CatalogRegistration{Node: node.Node, Address: node.Address, Service: entry, SkipNodeUpdate: true}, nil); err != nil {
		c.Fatal(err)
	}
	theirs := func(p watchtest.Pair) bool { return len(p.Set) == 1 && slices.Equal(p.Set[0].Tags, []string{"theirs"}) }
	w.Until("the operator's tag", theirs)
	watchtest.Update(c, g, func(in *registry.Instance) { in.Metadata = map[string]string{"k": "v"} })
	p := w.Until("the update", func(p watchtest.Pair) bool { return len(p.Set) == 1 && p.Set[0].Metadata["k"] == "v" })
	if !theirs(p) {
		c.Errorf("the update has the tags %v", p.Set[0].Tags)
	}
	if err := g.Deregister(watchtest.Context(c)); err != nil {
		c.Error(err)
	}
}
