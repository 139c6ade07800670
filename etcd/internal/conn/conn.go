// Package conn calls the members of an etcd in turn, and checks their answers.
package conn

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/registry"
)

// Config has the settings of a connection.
type Config struct {
	Members     []string                         // host:port of each
	Credentials credentials.TransportCredentials // nil: without TLS
	NameHosts   bool                             // the certificate of a member must have the host of its endpoint

	Username string
	Password registry.Secret

	DialTimeout      time.Duration
	Timeout          time.Duration // of a call that does not wait for a change
	KeepAliveTime    time.Duration // if 0 or less, connections are not probed
	KeepAliveTimeout time.Duration

	// LookupHost finds the addresses of a host name. Default: LookupHost of [net.DefaultResolver].
	LookupHost func(ctx context.Context, host string) ([]string, error)
}

// Conn is the connection to the members of an etcd. It is safe for concurrent use.
type Conn struct {
	Config
	KV      pb.KVClient
	Leases  pb.LeaseClient
	Watches pb.WatchClient

	conn       *grpc.ClientConn
	reach      *reach
	tokens     *tokens
	reconnects reconnects
	waiting    atomic.Int64 // callers of AwaitRestart
}

// New returns a connection to the members. It does not block.
func New(c Config, o ...grpc.DialOption) (*Conn, error) {
	if c.LookupHost == nil {
		c.LookupHost = net.DefaultResolver.LookupHost
	}
	r := new(reach)
	conn, err := dial(c, r, o...)
	if err != nil {
		return nil, err
	}
	return &Conn{
		Config: c, conn: conn, reach: r,
		KV: pb.NewKVClient(conn), Leases: pb.NewLeaseClient(conn), Watches: pb.NewWatchClient(conn),
		tokens: newTokens(pb.NewAuthClient(conn), c.Username, c.Password.Reveal()),
	}, nil
}

// Close ends all calls and streams.
func (c *Conn) Close() error { return c.conn.Close() }

// Connect attempts to connect to each member. It does not block.
func (c *Conn) Connect() { c.conn.Connect() }

// ResetBackoff ends the pauses before the next attempts to connect.
func (c *Conn) ResetBackoff() { c.conn.ResetConnectBackoff() }

// Place names the members, for error texts.
func (c *Conn) Place() string { return "etcd at " + strings.Join(c.Members, ",") }

// Call makes one call, which Timeout bounds. what names it in errors.
func (c *Conn) Call(ctx context.Context, what string, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.Classify(ctx, what, c.Timeout, c.tokens.authorize(limited, f))
}

// Read makes one linearizable read.
func (c *Conn) Read(ctx context.Context, what string, r *pb.RangeRequest) (page *pb.RangeResponse, err error) {
	err = c.Call(ctx, what, func(ctx context.Context) (err error) {
		page, err = c.KV.Range(ctx, r)
		return err
	})
	return page, err
}

// OpenStream opens a stream that outlives ctx, which governs only the opening, and returns the function that ends it. A member without a
// leader ends it as well, instead of sending nothing until there is one. The caller sets late before it ends a stream because an answer is
// late, so that its member is avoided: see [Avoidance].
func OpenStream[S any](ctx context.Context, late *atomic.Bool, f func(context.Context) (S, error)) (S, context.CancelFunc, error) {
	led := metadata.AppendToOutgoingContext(context.WithValue(ctx, lateness{}, late), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(led))
	detach := context.AfterFunc(ctx, cancel)
	stream, err := f(streamCtx)
	if !detach() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
	}
	return stream, cancel, err
}

// Window is how many bytes etcd may send before they are read. It is fixed: gRPC's default is a window that grows, for which the client
// measures the connection at each answer after a pause. The two frames and the wake-up cost a third of the CPU that events took in a
// storm. Readers here are fast, so the window only bounds the speed of a list from far away: 40 MB/s if a round trip takes 100 ms.
const Window = 4 << 20

// dial returns a connection that calls the members in turn. It does not block.
//
// It uses gRPC and the types of etcd's API, not etcd's client, because that client
//
//   - requests a token before it returns, and fails if it gets none,
//   - repeats calls by itself,
//   - resumes a watch without an error on a store that was wiped or restored meanwhile,
//   - renews a lease for longer than it says.
//
// Like etcd's client, it uses no HTTP proxy from the environment.
func dial(c Config, r *reach, o ...grpc.DialOption) (*grpc.ClientConn, error) {
	members := &endpoints{
		members: c.Members, nameHosts: c.NameHosts, timeout: c.Timeout, lookup: c.LookupHost, reach: r,
	}
	creds := c.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	options := []grpc.DialOption{
		grpc.WithResolvers(members),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"` + balancerName + `":{}}]}`),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: c.DialTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)),
		grpc.WithChainUnaryInterceptor(avoidLearners, checkUnary),
		grpc.WithChainStreamInterceptor(checkStream),
		grpc.WithStaticStreamWindowSize(Window),
		grpc.WithStaticConnWindowSize(Window),
	}
	if c.KeepAliveTime > 0 {
		options = append(options, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: c.KeepAliveTime, Timeout: c.KeepAliveTimeout,
		}))
	}
	return grpc.NewClient(scheme+":///"+c.Members[0], append(options, o...)...)
}
