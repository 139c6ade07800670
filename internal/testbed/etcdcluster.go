package testbed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// EtcdCluster is an etcd of several members. Each of them can be killed, stopped and restarted by itself. A restarted member is
// ready when the cluster has a leader.
type EtcdCluster struct {
	Members []*Etcd
	tb      testing.TB
	name    string
	proxies map[*Etcd]*Proxy // in front of the port that each member has for its peers; nil if the cluster is not separable
}

// StartEtcdCluster starts an etcd of three members, and blocks until all of them are ready. It fails the test if they do not get
// ready. The members end with the test. No more than one EtcdClusterOptions may be given.
func StartEtcdCluster(tb testing.TB, o ...EtcdClusterOptions) *EtcdCluster {
	tb.Helper()
	if len(o) > 1 {
		tb.Fatalf("testbed: StartEtcdCluster takes one EtcdClusterOptions, not %d", len(o))
	}
	options := append(o, EtcdClusterOptions{})[0]
	executable, err := etcdProgram.executable()
	if err != nil {
		tb.Fatalf("testbed: %v", err)
	}
	for attempt := 1; ; attempt++ {
		c := newEtcdCluster(tb, executable, options)
		if err = c.start(); err == nil {
			return c
		}
		if !errors.Is(err, errAddressInUse) || attempt == 5 {
			tb.Fatalf("testbed: etcd cluster: %v", err)
		}
	}
}

func newEtcdCluster(tb testing.TB, executable string, o EtcdClusterOptions) *EtcdCluster {
	tb.Helper()
	c := &EtcdCluster{tb: tb, name: uniqueName()}
	if o.Separable {
		c.proxies = map[*Etcd]*Proxy{}
	}
	for i := range 3 {
		e := &Etcd{name: fmt.Sprintf("%s-%d", c.name, i)}
		e.server = server{
			tb: tb, executable: executable, name: etcdProgram.name, dir: tb.TempDir(),
			configure: func() ([]string, error) { return c.configure(e) },
			ready:     func(ctx context.Context) error { return c.ready(ctx, e) },
		}
		var err error
		if e.ports, err = reservePorts(2); err != nil {
			tb.Fatalf("testbed: etcd cluster: %v", err)
		}
		if o.Separable {
			c.proxies[e] = NewProxy(tb, loopback(e.ports[1]))
		}
		tb.Cleanup(e.end)
		c.Members = append(c.Members, e)
	}
	return c
}

// start starts all members side by side, since no member is ready before two of them run.
func (c *EtcdCluster) start() error {
	results := make(chan error, len(c.Members))
	for _, e := range c.Members {
		go func() { results <- e.start() }()
	}
	var errs []error
	for range c.Members {
		errs = append(errs, <-results)
	}
	return errors.Join(errs...)
}

func (c *EtcdCluster) configure(e *Etcd) ([]string, error) {
	var members []string
	for _, m := range c.Members {
		members = append(members, m.name+"="+c.peerURL(m))
	}
	args, err := e.configure()
	return append(args, "--initial-advertise-peer-urls="+c.peerURL(e), "--initial-cluster="+strings.Join(members, ","),
		"--initial-cluster-token="+c.name), err
}

// peerURL returns the URL at which the other members reach e.
func (c *EtcdCluster) peerURL(e *Etcd) string {
	if p := c.proxies[e]; p != nil {
		return "http://" + p.Addr()
	}
	return "http://" + loopback(e.ports[1])
}

// ready checks that a member knows a leader, and that the member reads and writes.
func (c *EtcdCluster) ready(ctx context.Context, e *Etcd) error {
	if _, err := c.leaderAsSeenBy(ctx, e); err != nil {
		return err
	}
	return e.readsAndWrites(ctx)
}

// leaderAsSeenBy reports whether e leads. It returns an error if e knows no leader, or is a member of another cluster.
func (c *EtcdCluster) leaderAsSeenBy(ctx context.Context, e *Etcd) (leads bool, err error) {
	var status struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
		Leader string
	}
	if err := e.rpc(ctx, "/v3/maintenance/status", nil, &status); err != nil {
		return false, err
	}
	// The gateway omits a number that is zero.
	if status.Leader == "" || status.Leader == "0" {
		return false, errors.New("there is no leader")
	}
	var list struct{ Members []struct{ Name string } }
	if err := e.rpc(ctx, "/v3/cluster/member/list", nil, &list); err != nil {
		return false, err
	}
	for _, m := range list.Members {
		if !strings.HasPrefix(m.Name, c.name) {
			return false, fmt.Errorf("%q is a member of another cluster", m.Name)
		}
	}
	return status.Leader == status.Header.MemberID, nil
}

// Addrs are the host:port of all members.
func (c *EtcdCluster) Addrs() []string {
	var addrs []string
	for _, e := range c.Members {
		addrs = append(addrs, e.Addr())
	}
	return addrs
}

// Leader returns the member that leads. If there is none, it waits for one. All members must run.
func (c *EtcdCluster) Leader() *Etcd {
	c.tb.Helper()
	leader := (*Etcd)(nil)
	if !soon(func() bool { leader = c.leader(); return leader != nil }) {
		c.tb.Fatal("testbed: the etcd cluster has no leader")
	}
	return leader
}

func (c *EtcdCluster) leader() *Etcd {
	for _, e := range c.Members {
		if leads, err := c.leaderAsSeenBy(context.Background(), e); err == nil && leads {
			return e
		}
	}
	return nil
}
