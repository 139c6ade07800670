//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ConsulOptions changes how an agent is set up. The zero value is an agent without ACLs in datacenter dc1.
type ConsulOptions struct {
	// Config is further configuration in HCL or JSON, which wins over that of the testbed.
	Config string
	// Token is sent with the requests that find out whether the agent is ready. It is needed where Config turns ACLs on,
	// and has to be allowed to read nodes and to write the key "testbed/ready". Config must then name an agent token too,
	// since without one the agent cannot write to the catalog, and is never ready.
	Token string
}

// runKey marks the node in the catalog with the run of the agent that wrote it.
const runKey = "testbed-run"

// Consul is a Consul agent that is its own single server.
//
// It is not a `consul agent -dev`: that one keeps nothing over a restart, prints JSON in another form, and has raft
// timeouts of some 50 ms, so that a busy machine makes it lose its leader in the middle of a test. The price is 1.5
// to 3 s at each start, of which the election takes 1 to 2.
type Consul struct {
	server
	node    string
	options ConsulOptions
}

// consulPorts are those for HTTP, for RPC between servers, and for gossip.
const consulPorts = 3

// StartConsul starts an agent and blocks until it is ready; no more than one ConsulOptions may follow. It fails the test
// where that does not come to pass, and the agent ends with the test.
func StartConsul(tb testing.TB, o ...ConsulOptions) *Consul {
	tb.Helper()
	if len(o) > 1 {
		tb.Fatalf("testbed: StartConsul takes one ConsulOptions, not %d", len(o))
	}
	c := newConsul(tb, append(o, ConsulOptions{})[0])
	c.launch(&consulProgram, consulPorts)
	return c
}

func newConsul(tb testing.TB, o ConsulOptions) *Consul {
	c := &Consul{node: uniqueName(), options: o}
	c.server = server{tb: tb, configure: c.configure, ready: c.ready}
	return c
}

// Node is the name of the agent's node in the catalog.
func (c *Consul) Node() string { return c.node }

func (c *Consul) configure() ([]string, error) { return c.arguments(c.settings()) }

// settings are those of an agent that is its own single server.
func (c *Consul) settings() map[string]any {
	return map[string]any{
		"node_name":        c.node,
		"node_meta":        map[string]string{runKey: strconv.Itoa(c.runs)},
		"data_dir":         c.dataDir(),
		"server":           true,
		"bootstrap_expect": 1,
		"bind_addr":        "127.0.0.1",
		"client_addr":      "127.0.0.1",
		"ports": map[string]int{
			"http":     c.ports[0],
			"server":   c.ports[1],
			"serf_lan": c.ports[2],
			// Each of these has a default that two agents would fight over.
			"serf_wan": -1, "https": -1, "grpc": -1, "grpc_tls": -1, "dns": -1,
		},
		// The shortest timeouts that Consul allows: with its default of 5 an election takes up to 10 s.
		"performance": map[string]int{"raft_multiplier": 1},
		// An agent that left would forget its services, and would not come back with its data.
		"leave_on_terminate":      false,
		"skip_leave_on_interrupt": true,
		// Nothing leaves the machine.
		"disable_update_check": true,
	}
}

// arguments writes the settings and the further configuration to files, and returns the arguments that name them.
func (c *Consul) arguments(settings map[string]any) ([]string, error) {
	config, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	base, further := filepath.Join(c.dir, "consul.json"), filepath.Join(c.dir, "further.hcl")
	if err := os.WriteFile(base, config, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(further, []byte(c.options.Config), 0o600); err != nil {
		return nil, err
	}
	return []string{"agent", "-config-file=" + base, "-config-file=" + further}, nil
}

// ready asks for a leader, for this very run of the agent in the catalog, and for a write.
//
// A leader alone is not enough: the agent writes its node to the catalog up to a second after it has one, and only from
// then on does a service that is registered with the agent appear in the catalog at once.
func (c *Consul) ready(ctx context.Context) error {
	header := make(http.Header)
	if c.options.Token != "" {
		header.Set("X-Consul-Token", c.options.Token)
	}
	answer, err := c.call(ctx, http.MethodGet, "/v1/status/leader", "", header)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(answer)) == `""` {
		return errors.New("there is no leader")
	}
	answer, err = c.call(ctx, http.MethodGet, "/v1/catalog/nodes", "", header)
	if err != nil {
		return err
	}
	type node struct {
		Node string
		Meta map[string]string
	}
	var nodes []node
	if err := json.Unmarshal(answer, &nodes); err != nil {
		return fmt.Errorf("the nodes of the catalog: %w", err)
	}
	isThis := func(n node) bool { return n.Node == c.node && n.Meta[runKey] == strconv.Itoa(c.runs) }
	if !slices.ContainsFunc(nodes, isThis) {
		return fmt.Errorf("the catalog does not hold run %d of the node %s: %s", c.runs, c.node, answer)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		if _, err := c.call(ctx, method, "/v1/kv/testbed/ready", "", header); err != nil {
			return err
		}
	}
	return nil
}
