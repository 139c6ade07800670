package grpcx

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/registry"
)

// Served tells which instance served a call. It is for one call at a time.
type Served struct {
	peer  peer.Peer
	table *served
	began *roll // of the channel when the call began
}

// WithServed returns a context for one call on a channel of [NewClient], and what will know, when that call has ended, which
// instance it went to.
//
//	ctx, served := grpcx.WithServed(ctx)
//	answer, err := greeter.Greet(ctx, question)
//	log.Print(served.Instance())
func WithServed(ctx context.Context) (context.Context, *Served) {
	s := new(Served)
	return context.WithValue(ctx, servedKey{}, s), s
}

type servedKey struct{}

// Instance returns the instance that the call went to, the last one where it was tried again; it is shared: do not change
// it. It is nil before the call has ended; for a call that went nowhere; on a channel that is not of [NewClient]; and where
// the address of the instance is a host name, since what is known of the connection is its IP address.
func (s *Served) Instance() *registry.Instance {
	if s.peer.Addr == nil || s.table == nil {
		return nil
	}
	address := s.peer.Addr.String()
	if in := s.began.find(address); in != nil {
		return in
	}
	return s.table.now.Load().find(address) // one that came while the call waited
}

// served knows the instances of one channel by their addresses.
type served struct{ now atomic.Pointer[roll] }

// roll is the instances of one state of a channel.
type roll struct {
	target    *target
	instances []*registry.Instance

	once      sync.Once // few channels are asked
	byAddress map[string]*registry.Instance
}

func (s *served) know(t *target, set []*registry.Instance) {
	s.now.Store(&roll{target: t, instances: set})
}

func (r *roll) find(address string) *registry.Instance {
	if r == nil {
		return nil
	}
	r.once.Do(func() {
		r.byAddress = make(map[string]*registry.Instance, len(r.instances))
		for _, in := range r.instances {
			if a := r.target.addressOf(in); r.byAddress[a] == nil { // as endpoints does it
				r.byAddress[a] = in
			}
		}
	})
	return r.byAddress[address]
}

// options adds to opts what a call needs whose context asks who serves it.
func (s *served) options(ctx context.Context, opts []grpc.CallOption) []grpc.CallOption {
	asks, ok := ctx.Value(servedKey{}).(*Served)
	if !ok {
		return opts
	}
	asks.table, asks.began = s, s.now.Load()
	return append(opts[:len(opts):len(opts)], grpc.Peer(&asks.peer))
}

func (s *served) unary(ctx context.Context, method string, q, a any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, q, a, cc, s.options(ctx, opts)...)
}

func (s *served) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return open(ctx, d, cc, method, s.options(ctx, opts)...)
}
