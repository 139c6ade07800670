package conn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// connectPause is the least time between two attempts to connect to a member. gRPC pauses after an attempt that failed, but not after a
// connection that was made and ended at once, such as by a proxy that accepts every connection.
const connectPause = time.Second

// balancerBuilder adds two things to gRPC's base balancer: an error that names every member, in an order that does not change, and
// a pause between connections that end at once.
type balancerBuilder struct{ balancer.Builder }

func (b balancerBuilder) Build(conn balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	m := &members{ClientConn: conn, all: map[*member]bool{}}
	return membersBalancer{b.Builder.Build(m, o), m}
}

type membersBalancer struct {
	balancer.Balancer
	members *members
}

// UpdateClientConnState implements [balancer.Balancer].
func (b membersBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	if r, ok := s.ResolverState.Attributes.Value(reachKey{}).(*reach); ok {
		r.members.Store(b.members)
	}
	return b.Balancer.UpdateClientConnState(s)
}

func (b membersBalancer) Close() {
	b.members.close()
	b.Balancer.Close()
}

// reach gives a connection access to its balancer.
type reach struct{ members atomic.Pointer[members] }

// reachKey is the key of the reach in the attributes of a resolver state.
type reachKey struct{}

// failure says why no member can be reached. It is empty if one may be reachable.
func (r *reach) failure() string {
	m := r.members.Load()
	if m == nil {
		return ""
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for one := range m.all {
		if one.failed == "" {
			return ""
		}
	}
	if err := m.failure(); err != nil {
		return err.Error()
	}
	return ""
}

// members are the connections of one balancer.
type members struct {
	balancer.ClientConn

	mu     sync.Mutex
	all    map[*member]bool
	closed bool
}

// NewSubConn implements [balancer.ClientConn].
func (m *members) NewSubConn(addresses []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	one := &member{members: m, address: addresses[0].Addr}
	tell := o.StateListener
	o.StateListener = func(s balancer.SubConnState) {
		one.note(s)
		tell(s)
	}
	//lint:ignore SA1019 gRPC has no other way yet, and there is one address in each call
	conn, err := m.ClientConn.NewSubConn(addresses, o)
	if err != nil {
		return nil, err
	}
	one.SubConn = conn
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[one] = true
	return one, nil
}

// UpdateState implements [balancer.ClientConn].
func (m *members) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.TransientFailure {
		m.mu.Lock()
		err := m.failure()
		m.mu.Unlock()
		if err != nil {
			s.Picker = base.NewErrPicker(err)
		}
	}
	m.ClientConn.UpdateState(s)
}

// failure says why no member can be reached: each reason once, with its members unless it is the reason of all. It is nil if a member may
// be reachable. The caller has locked m.mu.
func (m *members) failure() error {
	byReason := map[string][]string{}
	failed := 0
	for one := range m.all {
		if one.failed == "" {
			continue
		}
		failed++
		byReason[one.failed] = append(byReason[one.failed], one.address)
	}
	if failed == 0 {
		return nil
	}
	var reasons []string
	for reason, addresses := range byReason {
		if len(addresses) < len(m.all) {
			slices.Sort(addresses)
			reason = strings.Join(addresses, ", ") + ": " + reason
		}
		reasons = append(reasons, reason)
	}
	slices.Sort(reasons)
	of := cmp.Or(map[int]string{1: "the endpoint"}[len(m.all)], fmt.Sprintf("%d of %d endpoints", failed, len(m.all)))
	return errors.New(of + " failed: " + strings.Join(reasons, "; "))
}

func (m *members) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	for one := range m.all {
		if one.later != nil {
			one.later.Stop()
		}
	}
}

// member is the connection to one member. members.mu guards what can change.
type member struct {
	balancer.SubConn
	members *members
	address string
	proven  atomic.Bool // it has answered a call over the present connection, and has not failed since

	failed  string      // why the last attempt to connect failed; empty if none was made, or if it succeeded
	attempt time.Time   // when the last attempt began; zero if it failed, because gRPC pauses then
	later   *time.Timer // connects after a pause; nil if no attempt is pending
	cluster uint64      // the ID of its cluster, as it says over the present connection; 0 if unknown
}

// note takes a change of state into account.
func (m *member) note(s balancer.SubConnState) {
	m.members.mu.Lock()
	defer m.members.mu.Unlock()
	if s.ConnectivityState != connectivity.Ready {
		m.cluster = 0 // the next connection may lead to another cluster, which is no contradiction
		m.proven.Store(false)
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		m.failed = ""
	case connectivity.TransientFailure:
		m.failed, m.attempt = reasonOf(s.ConnectionError, m.address), time.Time{}
	case connectivity.Shutdown:
		delete(m.members.all, m)
	}
}

// Connect implements [balancer.SubConn]. It pauses after a connection that ended at once.
func (m *member) Connect() {
	m.members.mu.Lock()
	defer m.members.mu.Unlock()
	pause := time.Until(m.attempt.Add(connectPause))
	switch {
	case m.members.closed || m.later != nil:
	case pause <= 0:
		m.attempt = time.Now()
		m.SubConn.Connect()
	default:
		m.later = time.AfterFunc(pause, func() {
			m.members.mu.Lock()
			defer m.members.mu.Unlock()
			m.later = nil
			if !m.members.closed {
				m.attempt = time.Now()
				m.SubConn.Connect()
			}
		})
	}
}

// noteCluster notes the ID of m's cluster. It returns an error if another connected member belongs to another cluster: half of the reads
// and writes would then go to another store. A cluster that was replaced, or restored from a snapshot, has another ID too, but its
// members were restarted for that.
func (m *member) noteCluster(cluster uint64) error {
	if cluster == 0 {
		return nil // etcd's proxy does not say
	}
	m.members.mu.Lock()
	defer m.members.mu.Unlock()
	m.cluster = cluster
	agree := true
	for one := range m.members.all {
		agree = agree && (one.cluster == 0 || one.cluster == cluster)
	}
	if agree {
		return nil
	}
	var all []string
	for one := range m.members.all {
		if one.cluster != 0 {
			all = append(all, fmt.Sprintf("%s of %x", one.address, one.cluster))
		}
	}
	slices.Sort(all)
	return errors.New("the endpoints are members of different clusters: " + strings.Join(all, ", "))
}

// chosen is the context key of the *atomic.Pointer[member] that gets the member to which a call or a stream goes.
type chosen struct{}

// withChosen returns a context for a call, and the pointer that gets the member chosen for it.
func withChosen(ctx context.Context) (context.Context, *atomic.Pointer[member]) {
	to := new(atomic.Pointer[member])
	return context.WithValue(ctx, chosen{}, to), to
}

// checkCluster returns an error if a header names another cluster than the other members.
func checkCluster(to *atomic.Pointer[member], h *pb.ResponseHeader) error {
	if m := to.Load(); m != nil {
		return m.noteCluster(h.GetClusterId())
	}
	return nil
}

// reasonOf returns why a connection failed, without the parts that change from one attempt to the next: the address, the local port, and how
// far the attempt got.
func reasonOf(err error, address string) string {
	if err == nil {
		return "it cannot be reached"
	}
	text := strings.NewReplacer(`\"`, `"`, "dial tcp "+address+": ", "").Replace(err.Error())
	for _, noise := range []string{"connection error: desc = ", `"`, "transport: ", "Error while dialing: "} {
		text = strings.TrimPrefix(text, noise)
	}
	text = strings.TrimSuffix(text, `"`)
	for _, reason := range []string{"connection refused", "connection reset by peer", "broken pipe", "i/o timeout"} {
		if strings.HasSuffix(text, ": "+reason) && !strings.Contains(text, "lookup ") {
			return reason
		}
	}
	return text
}
