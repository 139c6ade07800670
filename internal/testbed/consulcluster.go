package testbed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// ConsulClusterOptions configures a cluster. The zero value is a cluster of three servers in datacenter dc1.
type ConsulClusterOptions struct {
	Datacenter string // default: dc1
	Servers    int    // default: 3
	// MutualTLS makes HTTPS ask clients for a certificate: see ClientCertificate.
	MutualTLS bool
	// Config is further configuration of each agent, in HCL or JSON. It overrides the testbed's.
	Config string
	// Primary is a cluster of another datacenter. This one is joined to it by WAN, and uses its ACLs and its CA.
	Primary *ConsulCluster
}

// ConsulCluster is a Consul as it runs in production: servers, and a client agent that applications talk to. ACLs are on
// and deny by default, and everything between the agents is under mutual TLS. Addr of an agent speaks plain HTTP, and
// HTTPSAddr the same over TLS.
//
// Each agent can be killed, stopped and restarted by itself. A restarted agent is ready when the cluster has a leader and
// accepts the agent's writes. But a client agent that is restarted between KillServers and RestartServers is ready when it
// answers at all.
type ConsulCluster struct {
	Servers []*Consul
	Agent   *Consul // the client agent
	// Token is an ACL token with all permissions.
	Token string

	tb      testing.TB
	options ConsulClusterOptions
	ca      *authority

	serversKilled bool // by KillServers
}

// clusterPorts is the number of an agent's ports. After the consulPorts come ports for HTTPS, for gossip between datacenters, and
// for peerings.
const clusterPorts = consulPorts + 3

// StartConsulCluster starts a cluster, and blocks until all of its agents are ready. It fails the test if they do not get ready. The
// agents end with the test. No more than one ConsulClusterOptions may be given.
func StartConsulCluster(tb testing.TB, o ...ConsulClusterOptions) *ConsulCluster {
	tb.Helper()
	if len(o) > 1 {
		tb.Fatalf("testbed: StartConsulCluster takes one ConsulClusterOptions, not %d", len(o))
	}
	options := append(o, ConsulClusterOptions{})[0]
	if options.Datacenter == "" {
		options.Datacenter = "dc1"
	}
	if options.Servers == 0 {
		options.Servers = 3
	}
	executable, err := consulProgram.executable()
	if err != nil {
		tb.Fatalf("testbed: %v", err)
	}
	for attempt := 1; ; attempt++ {
		c, err := newConsulCluster(tb, executable, options)
		if err == nil {
			err = sideBySide(append([]*Consul{c.Agent}, c.Servers...), (*Consul).start)
		}
		if err == nil {
			return c
		}
		if !errors.Is(err, errAddressInUse) || attempt == 5 {
			tb.Fatalf("testbed: consul cluster: %v", err)
		}
	}
}

func newConsulCluster(tb testing.TB, executable string, o ConsulClusterOptions) (*ConsulCluster, error) {
	c := &ConsulCluster{tb: tb, options: o}
	if o.Primary != nil {
		c.Token, c.ca = o.Primary.Token, o.Primary.ca
	} else {
		ca, err := newAuthority(tb.TempDir())
		if err != nil {
			return nil, err
		}
		c.Token, c.ca = newUUID(), ca
	}
	name := uniqueName()
	for i := range o.Servers + 1 {
		a := &Consul{node: fmt.Sprintf("%s-%d", name, i), options: ConsulOptions{Token: c.Token, Config: o.Config}}
		id, isServer := newUUID(), i < o.Servers
		a.server = server{
			tb: tb, executable: executable, name: consulProgram.name, dir: tb.TempDir(),
			configure: func() ([]string, error) { return c.configure(a, id, isServer) },
			ready:     func(ctx context.Context) error { return c.ready(ctx, a) },
		}
		if isServer {
			c.Servers = append(c.Servers, a)
		} else {
			c.Agent = a
		}
		tb.Cleanup(a.end) // after TempDir, hence before the folder is removed
		var err error
		if a.ports, err = reservePorts(clusterPorts); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// sideBySide calls do for several agents at once, since no server is ready before most of them run.
func sideBySide(agents []*Consul, do func(*Consul) error) error {
	results := make(chan error, len(agents))
	for _, a := range agents {
		go func() {
			err := do(a)
			if err != nil {
				err = fmt.Errorf("%s: %w%s", a.node, err, a.logTail())
			}
			results <- err
		}()
	}
	var errs []error
	for range agents {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func (c *ConsulCluster) configure(a *Consul, id string, isServer bool) ([]string, error) {
	o := c.options
	cert, key, err := c.ca.issue(a.node, "server."+o.Datacenter+".consul")
	if err != nil {
		return nil, err
	}
	s := a.settings()
	s["datacenter"] = o.Datacenter
	s["node_id"] = id // with a new ID, an agent without its data would be refused, since its name would be another node's
	s["server"] = isServer
	delete(s, "bootstrap_expect")
	ports := s["ports"].(map[string]int)
	ports["https"] = a.ports[3]
	s["retry_interval"], s["retry_interval_wan"] = "250ms", "250ms"
	s["retry_join"] = serfAddrs(c.Servers, 2)
	primary := o.Datacenter
	tokens := map[string]string{"agent": c.Token}
	if o.Primary != nil {
		primary = o.Primary.options.Datacenter
		tokens["replication"] = c.Token
	} else if isServer {
		tokens["initial_management"] = c.Token
	}
	if isServer {
		s["bootstrap_expect"] = o.Servers
		ports["serf_wan"], ports["grpc_tls"] = a.ports[4], a.ports[5]
		if o.Primary != nil {
			s["retry_join_wan"] = serfAddrs(o.Primary.Servers, 4)
		}
	}
	s["primary_datacenter"] = primary
	s["acl"] = map[string]any{
		"enabled": true, "default_policy": "deny", "tokens": tokens, "enable_token_replication": o.Primary != nil,
		// The permissions of a token are read for each request. By default an agent caches them for 30 s.
		"token_ttl": "0s", "policy_ttl": "0s", "role_ttl": "0s",
	}
	s["tls"] = map[string]any{
		"defaults":     map[string]any{"ca_file": c.CAFile(), "cert_file": cert, "key_file": key, "verify_outgoing": true},
		"internal_rpc": map[string]any{"verify_incoming": true, "verify_server_hostname": true},
		"https":        map[string]any{"verify_incoming": o.MutualTLS},
	}
	return a.arguments(s)
}

func serfAddrs(agents []*Consul, port int) (addrs []string) {
	for _, a := range agents {
		addrs = append(addrs, loopback(a.ports[port]))
	}
	return addrs
}

func (c *ConsulCluster) ready(ctx context.Context, a *Consul) error {
	if a != c.Agent || !c.serversKilled {
		return a.ready(ctx)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Addr()+"/v1/status/leader", nil)
	if err != nil {
		return err
	}
	resp, err := probe.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// HTTPSAddr is the host:port of an agent of a cluster that serves clients over TLS.
func (c *Consul) HTTPSAddr() string { return loopback(c.ports[3]) }

// KillServers kills all servers. The client agent still runs, with what it knows.
func (c *ConsulCluster) KillServers() {
	c.tb.Helper()
	c.serversKilled = true
	for _, s := range c.Servers {
		s.Kill()
	}
}

// RestartServers starts all servers again with their data, and blocks until each is ready.
func (c *ConsulCluster) RestartServers() {
	c.tb.Helper()
	c.KillServers()
	c.serversKilled = false
	if err := sideBySide(c.Servers, (*Consul).start); err != nil {
		c.tb.Fatalf("testbed: consul cluster: %v", err)
	}
}

// Leader returns the server that leads. If there is none, it waits for one.
func (c *ConsulCluster) Leader() *Consul {
	c.tb.Helper()
	leader := (*Consul)(nil)
	if !soon(func() bool { leader = c.leader(); return leader != nil }) {
		c.tb.Fatal("testbed: the consul cluster has no leader")
	}
	return leader
}

func (c *ConsulCluster) leader() *Consul {
	for _, s := range c.Servers {
		answer, err := s.call(context.Background(), http.MethodGet, "/v1/status/leader", "", nil)
		if err != nil {
			continue
		}
		for _, l := range c.Servers {
			if strings.TrimSpace(string(answer)) == strconv.Quote(loopback(l.ports[1])) {
				return l
			}
		}
	}
	return nil
}

// CAFile returns the PEM file of the authority that has issued the certificates of the agents.
func (c *ConsulCluster) CAFile() string { return c.ca.file() }

// ClientCertificate issues a certificate that the agents trust, and returns its PEM files.
func (c *ConsulCluster) ClientCertificate() (certFile, keyFile string) {
	c.tb.Helper()
	certFile, keyFile, err := c.ca.issue("client")
	if err != nil {
		c.tb.Fatalf("testbed: consul cluster: %v", err)
	}
	return certFile, keyFile
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
