package httpx

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rollcall-go/rollcall/internal/choose"
	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/registry"
)

// node is an address in use: its instance, its connections and its load. It has an http.Transport of its own, whose connections all go to that
// address.
type node struct {
	load.Node // the requests and their latency

	service  *service
	key      nodeKey
	instance atomic.Pointer[registry.Instance]

	pool      atomic.Pointer[http.Transport] // made for the first request
	makePool  sync.Mutex
	ctx       context.Context // ends when the instance has left, for dials, which outlive the request that needs them first
	cancel    context.CancelFunc
	isRetired atomic.Bool  // the instance has left
	isEjected atomic.Bool  // left out, since it could not be dialled
	probeAt   atomic.Int64 // when a request may try the node while it is left out; on load.Clock
	isProbed  atomic.Bool  // a request tries it
	may       atomic.Int32 // a permission

	// These are guarded by service.mu.
	restriction choose.Restriction
	link        choose.Link
	conns       map[*conn]struct{}
	failures    int // how often it was left out in a row
}

// permission says whether a node may be dialled.
type permission = int32

const (
	mayDial     permission = iota
	mustWait               // for one of its connections
	mustNotDial            // and has no connection that could be used
)

func newNode(s *service, key nodeKey) *node {
	n := &node{service: s, key: key, conns: map[*conn]struct{}{}}
	n.Init()
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// update gives n its instance of the newest set. service.mu is locked.
func (n *node) update(in *registry.Instance, restriction choose.Restriction) {
	old := n.instance.Swap(in)
	if old != nil && (old.ID != in.ID || old.Status != registry.Passing && in.Status == registry.Passing) {
		n.forgetFailures() // it has started again, or passes again
		n.ResetFaults()
	}
	n.restriction = restriction
	if restriction == choose.None {
		n.link.Late = false
	}
}

// permit decides whether n may be dialled. service.mu is locked.
func (n *node) permit(p permission) { n.may.Store(p) }

// transport returns the http.Transport of n.
func (n *node) transport() *http.Transport {
	if t := n.pool.Load(); t != nil {
		return t
	}
	n.makePool.Lock()
	defer n.makePool.Unlock()
	if t := n.pool.Load(); t != nil {
		return t
	}
	t := n.newTransport()
	n.pool.Store(t)
	return t
}

// begin counts a request, unless n has left. Each call of begin that returns true needs a call of end.
func (n *node) begin() bool {
	n.Start()
	if n.isRetired.Load() {
		n.end()
		return false
	}
	return true
}

// end counts the end of a request. The last request of an instance that has left closes the connections.
func (n *node) end() {
	n.End()
	if n.isRetired.Load() && n.Outstanding() == 0 {
		n.closeAll()
	}
}

// retire closes the connections when the instance has left: idle ones at once, and busy ones when their request ends.
func (n *node) retire() {
	n.service.core.leaves(n)
	n.isRetired.Store(true)
	n.cancel()
	n.closeIdle()
	if n.Outstanding() == 0 {
		n.closeAll()
	}
}

func (n *node) closeIdle() {
	if t := n.pool.Load(); t != nil {
		t.CloseIdleConnections()
	}
}

// closeAll closes all connections.
func (n *node) closeAll() {
	n.closeIdle()
	n.service.Lock()
	conns := slices.Collect(maps.Keys(n.conns))
	n.service.Unlock()
	for _, c := range conns {
		_ = c.Close() // it may be closed already
	}
	n.service.core.hasLeft(n)
}

// opened records a new connection. It reports false if n has left meanwhile.
func (n *node) opened(c *conn) bool {
	s := n.service
	s.Lock()
	defer s.Unlock()
	if n.isRetired.Load() {
		return false
	}
	n.conns[c] = struct{}{}
	n.link.Ready++
	n.link.Broke, s.connected = false, true
	ejected := n.isEjected.Load()
	n.forgetFailures()
	s.linkChanged(ejected)
	return true
}

// closed records the end of a connection. lost says that this side did not close it.
func (n *node) closed(c *conn, lost bool) {
	s := n.service
	s.Lock()
	defer s.Unlock()
	if _, ok := n.conns[c]; !ok {
		return // crypto/tls closes a connection whose handshake was interrupted
	}
	delete(n.conns, c)
	n.link.Ready--
	n.link.Broke = n.link.Broke || lost
	s.linkChanged(false)
}

// linkChanged makes the picker again if the connections matter to it. Locked.
func (s *service) linkChanged(always bool) {
	if always || len(s.state.Used().Restrictions) > 0 {
		s.rebuild()
	}
}
