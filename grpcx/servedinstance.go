package grpcx

import (
	"context"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/rollcall-go/rollcall/registry"
)

// Served tells which instance has served a call. Use it for one call at a time. It is safe for concurrent use.
type Served struct {
	outer *Served // of the parent context; may be nil

	mu      sync.Mutex
	address string
	table   *instanceTable
	began   *tableState // the state of the channel when the call began
}

// WithServed returns a context for one call on a channel of [NewClient], and a Served that will know which instance the call went to.
//
//	ctx, served := grpcx.WithServed(ctx)
//	answer, err := greeter.Greet(ctx, question)
//	log.Print(served.Instance())
//
// An application and its interceptors may both use it for the same call: each gets an answer.
func WithServed(ctx context.Context) (context.Context, *Served) {
	s := &Served{outer: servedIn(ctx)}
	return context.WithValue(ctx, servedKey{}, s), s
}

type servedKey struct{}

// servedIn returns the innermost Served in ctx, or nil.
func servedIn(ctx context.Context) *Served {
	s, _ := ctx.Value(servedKey{}).(*Served)
	return s
}

// Instance returns the instance that the call went to, or the last such instance if the call was repeated. It is known when the call has
// ended, also in a function of grpc.OnFinish, and for a stream when its header or first message was received. The instance is shared: do
// not change it. Instance returns nil
//
//   - before that, and if the call did not reach an instance;
//   - on a channel that was not created by [NewClient];
//   - if the address of the instance is a host name, since a connection is known by its IP address only.
func (s *Served) Instance() *registry.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.address == "" || s.table == nil {
		return nil
	}
	if in := s.began.find(s.address); in != nil {
		return in
	}
	return s.table.current.Load().find(s.address) // an instance that came while the call waited
}

// set records the server of the call in s and in all outer ones.
func (s *Served) set(p *peer.Peer, table *instanceTable, began *tableState) {
	address := ""
	if p.Addr != nil {
		address = p.Addr.String()
	}
	for ; s != nil; s = s.outer {
		s.mu.Lock()
		s.address, s.table, s.began = address, table, began
		s.mu.Unlock()
	}
}

// instanceTable finds the instances of one channel by their addresses.
type instanceTable struct{ current atomic.Pointer[tableState] }

// tableState has the instances of one state of a channel.
type tableState struct {
	target    *target
	instances []*registry.Instance

	once      sync.Once // byAddress is built on demand, since few channels need it
	byAddress map[string]*registry.Instance
}

func (t *instanceTable) set(to *target, instances []*registry.Instance) {
	t.current.Store(&tableState{target: to, instances: instances})
}

func (s *tableState) find(address string) *registry.Instance {
	if s == nil {
		return nil
	}
	s.once.Do(func() {
		s.byAddress = make(map[string]*registry.Instance, len(s.instances))
		for _, in := range s.instances {
			if a := s.target.AddressOf(in); s.byAddress[a] == nil { // the first instance of an address counts, as in endpoints
				s.byAddress[a] = in
			}
		}
	})
	return s.byAddress[address]
}

// unary is an interceptor. Both interceptors are the innermost of their channel, so that they see what other interceptors have put into the
// context.
func (t *instanceTable) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	served := servedIn(ctx)
	if served == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	var p peer.Peer
	began := t.current.Load()
	err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Peer(&p))...)
	served.set(&p, t, began)
	return err
}

// stream is an interceptor.
func (t *instanceTable) stream(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	served := servedIn(ctx)
	if served == nil {
		return open(ctx, d, cc, method, opts...)
	}
	p, began := new(peer.Peer), t.current.Load()
	ended := func(error) { served.set(p, t, began) } // gRPC has set p by then
	// gRPC calls the functions of OnFinish in this order, and outer interceptors ask for the instance in theirs.
	stream, err := open(ctx, d, cc, method, append([]grpc.CallOption{grpc.Peer(p), grpc.OnFinish(ended)}, opts...)...)
	if err != nil {
		return nil, err
	}
	return &servedStream{ClientStream: stream, opened: func(p *peer.Peer) { served.set(p, t, began) }}, nil
}

// servedStream calls opened as soon as the server of a stream is known. gRPC allows reading the peer of a stream after something was
// received.
type servedStream struct {
	grpc.ClientStream
	opened func(*peer.Peer)
	once   sync.Once
}

// Header implements [grpc.ClientStream].
func (s *servedStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	s.received(err)
	return md, err
}

// RecvMsg implements [grpc.ClientStream].
func (s *servedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.received(err)
	return err
}

func (s *servedStream) received(err error) {
	if err != nil {
		return
	}
	s.once.Do(func() {
		if p, ok := peer.FromContext(s.Context()); ok {
			s.opened(p)
		}
	})
}
