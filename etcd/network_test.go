package etcd

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
)

// network forwards connections to an etcd, and can be cut.
type network struct {
	target   string
	listener net.Listener
	work     sync.WaitGroup

	mu     sync.Mutex
	broken bool
	open   map[net.Conn]bool
	number int // of connections so far
}

// newNetwork forwards connections to target until the test ends.
func newNetwork(t testing.TB, target string) *network {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return forwardFrom(t, listener, target)
}

func forwardFrom(t testing.TB, listener net.Listener, target string) *network {
	n := &network{target: target, listener: listener, open: map[net.Conn]bool{}}
	n.work.Go(n.accept)
	t.Cleanup(func() {
		listener.Close()
		n.cut()
		n.work.Wait()
	})
	return n
}

func (n *network) addr() string { return n.listener.Addr().String() }

// cut resets all connections, and each new one, until heal.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = true
	for c := range n.open {
		n.reset(c)
	}
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = false
}

func (n *network) count() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.number++
}

// accepted returns the number of connections that the client has made, including reset ones.
func (n *network) accepted() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.number
}

func (n *network) reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
	delete(n.open, c)
}

func (n *network) accept() {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			return
		}
		n.work.Go(func() { n.forward(c) })
	}
}

// keep notes a connection. It reports false if it reset the connection.
func (n *network) keep(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken {
		n.reset(c)
		return false
	}
	n.open[c] = true
	return true
}

func (n *network) drop(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reset(c)
}

func (n *network) forward(client net.Conn) {
	n.count()
	if !n.keep(client) {
		return
	}
	defer n.drop(client)
	server, err := net.Dial("tcp", n.target)
	if err != nil || !n.keep(server) {
		return
	}
	defer n.drop(server)
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(client, server)
		n.drop(client)
	})
	io.Copy(server, client)
	n.drop(server)
	back.Wait()
}

// meter counts what a client sends: each message, and the header of each call and stream.
type meter struct {
	sent     atomic.Int64
	since    atomic.Int64 // in Unix nanoseconds; calls that began before do not count as isolated
	isolated atomic.Int64 // calls that failed because a member did not answer or had no leader
}

func (m *meter) option() grpc.DialOption { return grpc.WithStatsHandler(m) }

func (m *meter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (m *meter) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.OutHeader, *stats.OutPayload:
		m.sent.Add(1)
	case *stats.End:
		if conn.Isolated(s.Error) && s.BeginTime.UnixNano() >= m.since.Load() {
			m.isolated.Add(1)
		}
	}
}

func (m *meter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (m *meter) HandleConn(context.Context, stats.ConnStats) {}
