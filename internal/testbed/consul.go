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

// ConsulOptions configures an agent. The zero value is an agent without ACLs in datacenter dc1.
type ConsulOptions struct {
	// Config is further configuration in HCL or JSON. It overrides the testbed's.
	Config string
	// Token is sent with the requests that check whether the agent is ready. If Config turns ACLs on, Token is required and
	// must be allowed to read nodes and to write the key "testbed/ready". Config must then name an agent token too: without
	// one the agent cannot write to the catalog, and is never ready.
	Token string
}

// runKey is the key of the node's metadata in the catalog that has the number of the run that wrote it.
const runKey = "testbed-run"

// Consul is a Consul agent that is its own single server.
//
// It is not a `consul agent -dev`, which keeps nothing over a restart, prints JSON in another form, and has raft timeouts of
// about 50 ms, so that on a busy machine it loses its leader in the middle of a test. The price is 1.5 to 3 s for each start,
// of which the election takes 1 to 2.
type Consul struct {
	server
	node    string
	options ConsulOptions
}

// consulPorts is the number of an agent's ports: for HTTP, for RPC between servers, and for gossip.
const consulPorts = 3

// StartConsul starts an agent and blocks until it is ready. It fails the test if the agent does not get ready. The agent ends with
// the test. No more than one ConsulOptions may be given.
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

// settings returns the configuration of an agent that is its own single server.
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
			// Two agents cannot both have the default of each of these.
			"serf_wan": -1, "https": -1, "grpc": -1, "grpc_tls": -1, "dns": -1,
		},
		// The shortest timeouts that Consul allows: with its default of 5 an election takes up to 10 s.
		"performance": map[string]int{"raft_multiplier": 1},
		// An agent that leaves removes its services, and does not come back with its data.
		"leave_on_terminate":      false,
		"skip_leave_on_interrupt": true,
		// Nothing leaves the machine.
		"disable_update_check": true,
	}
}

// arguments writes the settings and the further configuration to files, and returns the arguments that name them.
func (c *Consul) arguments(settings map[string]any) ([]string, error) {
	if err := forOlderConsul(settings["ports"].(map[string]int)); err != nil {
		return nil, err
	}
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

// forOlderConsul changes the ports for a Consul before 1.14, which has one gRPC port for both purposes and refuses the name grpc_tls. Only
// the environment can choose such a Consul.
func forOlderConsul(ports map[string]int) error {
	if os.Getenv(consulProgram.env) == "" {
		return nil
	}
	path, err := consulProgram.executable()
	if err != nil {
		return err
	}
	if v := consulProgram.versionOf(path); !strings.HasPrefix(v, "v1.") || minor(v) >= 14 {
		return nil
	}
	if ports["grpc_tls"] > 0 {
		ports["grpc"] = ports["grpc_tls"]
	}
	delete(ports, "grpc_tls")
	return nil
}

// minor returns 13 for "v1.13.9", and 0 for a version that has no such number.
func minor(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(parts[1])
	return n
}

// ready checks that there is a leader, that the catalog has this run of the agent, and that writes succeed.
//
// A leader alone is not enough: the agent writes its node to the catalog up to a second later. Only from then on does a service
// that is registered with the agent appear in the catalog at once.
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
		return fmt.Errorf("the catalog does not have run %d of the node %s: %s", c.runs, c.node, answer)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete} {
		if _, err := c.call(ctx, method, "/v1/kv/testbed/ready", "", header); err != nil {
			return err
		}
	}
	return nil
}
