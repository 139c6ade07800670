package etcd

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

// Reconnecting is gRPC's own business, and the one thing here that is tried again without being asked. Its pauses last for as
// long as the outage has at the most, and where gRPC's default goes up to two minutes they end at 8 s: an outage of any length
// is over for a watch soon after it has ended. Whoever has something to write does not wait for them: see urge.
var reconnect = backoff.Config{BaseDelay: 600 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: 8 * time.Second}

const (
	// urgency is the least time between two attempts to connect that are made because somebody asks.
	urgency = time.Second
	// aMoment is how long such an attempt is waited for. One that takes longer is of use to the next call.
	aMoment = 250 * time.Millisecond
)

// urge makes an attempt to connect where none is connected, in place of the rest of a pause: an announcement that was lost is
// to be back before those who held on to it give it up, and a caller waits for the answer.
func (d *driver) urge(ctx context.Context) {
	if d.conn.GetState() != connectivity.TransientFailure {
		return
	}
	d.urged.mu.Lock()
	now := time.Now()
	due := now.Sub(d.urged.last) >= urgency
	if due {
		d.urged.last = now
	}
	d.urged.mu.Unlock()
	if due {
		d.conn.ResetConnectBackoff()
	}
	d.connected(ctx, aMoment)
}

// urged is when that was last done.
type urged struct {
	mu   sync.Mutex
	last time.Time
}

// connected waits until a member is connected, for no longer than limit.
func (d *driver) connected(ctx context.Context, limit time.Duration) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		switch state := d.conn.GetState(); state {
		case connectivity.Connecting, connectivity.TransientFailure:
			if !d.conn.WaitForStateChange(limited, state) {
				return
			}
		default:
			return
		}
	}
}

// perWatch is how far apart the watches of a process begin again, on average, that have waited for a connection: each reads a
// whole set, of an etcd that has just begun.
const perWatch = 2 * time.Millisecond

// reconnected waits until a member is connected, for no longer than a call may take, and a moment that others who wait make
// longer.
func (d *driver) reconnected(ctx context.Context) {
	crowd := d.waiting.Add(1)
	defer d.waiting.Add(-1)
	if d.conn.GetState() == connectivity.Ready {
		return
	}
	d.connected(ctx, d.settings.Timeout)
	moment := time.NewTimer(rand.N(time.Duration(crowd) * perWatch))
	defer moment.Stop()
	select {
	case <-moment.C:
	case <-ctx.Done():
	}
}

// maxMessage bounds an answer. A page of the list and a batch of events grow with what others wrote, which etcd bounds.
const maxMessage = 1 << 30

// window is how much etcd may send ahead of what was read. It is fixed: with a window that grows, as is gRPC's default, each answer
// that comes after a pause makes the client measure the connection: two frames and a wake, which in a storm was a third of the
// CPU that events took. Nobody reads slowly here, so what a window bounds is how fast a list comes from afar: 40 MB/s where
// an answer takes 100 ms.
const window = 4 << 20

// dial returns a connection to the members, in turn. It does not block.
//
// It is gRPC and the types of etcd's API, without etcd's client: that one asks for a token before it returns, and fails
// where it gets none; repeats calls on its own; and resumes a watch silently on a store that was wiped or restored
// meanwhile, and renews a lease for longer than it says.
func dial(s *settings, o ...grpc.DialOption) (*grpc.ClientConn, error) {
	var addresses []resolver.Address
	for _, m := range s.members {
		a := resolver.Address{Addr: m}
		if s.tls != nil && s.tls.ServerName == "" {
			a.ServerName, _, _ = net.SplitHostPort(m)
		}
		addresses = append(addresses, a)
	}
	members := manual.NewBuilderWithScheme("rollcall-etcd")
	members.InitialState(resolver.State{Addresses: addresses})

	creds := insecure.NewCredentials()
	if s.tls != nil {
		creds = credentials.NewTLS(s.tls)
	}
	options := []grpc.DialOption{
		grpc.WithResolvers(members),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: s.DialTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
	}
	if s.KeepAliveTime > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: s.KeepAliveTime, Timeout: s.KeepAliveTimeout,
		}))
	}
	return grpc.NewClient(members.Scheme()+":///"+s.members[0], append(options, o...)...)
}
