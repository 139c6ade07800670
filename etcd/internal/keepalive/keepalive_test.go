package keepalive

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = 15 * time.Second

// member is an etcd that renews leases.
type member struct {
	pb.UnimplementedLeaseServer
	pb.UnimplementedKVServer
	pb.UnimplementedAuthServer

	// answer handles a request on a stream with that token. It returns the answers to send, or the error that ends the stream.
	answer func(token string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error)

	mu           sync.Mutex
	streams      int // that were opened
	open         int // that have not ended
	tokens       int // that were given out
	refusedToken string
}

func (m *member) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	m.mu.Lock()
	m.streams++
	m.open++
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.open--
	}()
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		all, err := m.answer(tokenOf(stream.Context()), r)
		if err != nil {
			return err
		}
		for _, a := range all {
			if err := stream.Send(a); err != nil {
				return err
			}
		}
	}
}

func tokenOf(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if all := md.Get(rpctypes.TokenFieldNameGRPC); len(all) > 0 {
		return all[0]
	}
	return ""
}

func (m *member) Authenticate(context.Context, *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens++
	return &pb.AuthenticateResponse{Header: &pb.ResponseHeader{}, Token: fmt.Sprint(m.tokens)}, nil
}

func (m *member) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refusedToken != "" && tokenOf(ctx) == m.refusedToken {
		return nil, rpctypes.ErrGRPCInvalidAuthToken
	}
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 1}}, nil
}

func (m *member) count(of *int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *of
}

func renewed(id int64) []*pb.LeaseKeepAliveResponse {
	return []*pb.LeaseKeepAliveResponse{{Header: &pb.ResponseHeader{}, ID: id, TTL: int64(ttl / time.Second)}}
}

func renewAll(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
	return renewed(r.ID), nil
}

// start returns streams to a member with these answers. Both end with the test.
func start(t *testing.T, m *member, c conn.Config) *Streams {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterLeaseServer(server, m)
	pb.RegisterKVServer(server, m)
	pb.RegisterAuthServer(server, m)
	var work sync.WaitGroup
	work.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); work.Wait() })
	c.Members, c.DialTimeout = []string{listener.Addr().String()}, watchtest.Timeout
	if c.Timeout == 0 {
		c.Timeout = watchtest.Timeout
	}
	connection, err := conn.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := New(connection)
	t.Cleanup(func() { connection.Close(); s.Wait() })
	return s
}

// renewSideBySide renews the leases 1 to n, and returns their errors by ID.
func renewSideBySide(t *testing.T, n int, renew func(ctx context.Context, key string, id int64, ttl time.Duration) error) map[int64]error {
	t.Helper()
	ctx := watchtest.Context(t)
	var mu sync.Mutex
	errs := map[int64]error{}
	var all sync.WaitGroup
	for id := int64(1); id <= int64(n); id++ {
		all.Go(func() {
			err := renew(ctx, fmt.Sprint("key-", id), id, ttl)
			mu.Lock()
			defer mu.Unlock()
			errs[id] = err
		})
	}
	all.Wait()
	return errs
}

func TestStreams_ShareOneStream(t *testing.T) {
	m := &member{answer: renewAll}
	s := start(t, m, conn.Config{})
	const n = 100
	for range n {
		s.Join()
	}
	for _, renew := range []func(context.Context, string, int64, time.Duration) error{s.Renew, s.RenewNow, s.Renew} {
		for id, err := range renewSideBySide(t, n, renew) {
			if err != nil {
				t.Errorf("lease %d: %v", id, err)
			}
		}
	}
	if got := m.count(&m.streams); got != 1 {
		t.Errorf("%d streams for %d leases", got, n)
	}
	for range n - 1 {
		s.Leave()
	}
	if s.usable("") == nil {
		t.Error("the stream has ended although a lease is left")
	}
	s.Leave()
	watchtest.Eventually(t, "the stream ends with the last lease", func() bool { return m.count(&m.open) == 0 })
	s.Wait()
}

// A renewal that waits for others is answered within its limit all the same.
func TestRenew_WaitsForOthersOnlyBriefly(t *testing.T) {
	s := start(t, &member{answer: renewAll}, conn.Config{Timeout: time.Second})
	const n = 2 * fewUsers
	for range n {
		s.Join()
		defer s.Leave()
	}
	if got := s.window(s.limit(ttl)); got != 100*time.Millisecond {
		t.Errorf("the window is %v", got)
	}
	for id, err := range renewSideBySide(t, n, s.Renew) {
		if err != nil {
			t.Errorf("lease %d: %v", id, err)
		}
	}
}

func TestRenew_ReportsUnknownLease(t *testing.T) {
	m := &member{answer: func(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		all := renewed(r.ID)
		if r.ID == 2 {
			all[0].TTL = 0
		}
		return all, nil
	}}
	s := start(t, m, conn.Config{})
	for id, err := range renewSideBySide(t, 3, s.Renew) {
		if conn.IsGone(err) != (id == 2) || err != nil != (id == 2) {
			t.Errorf("lease %d: %v", id, err)
		}
	}
}

// etcd's own proxy answers each lease on its own.
func TestRenew_AcceptsAnswersInAnyOrder(t *testing.T) {
	const n = 5
	var got []*pb.LeaseKeepAliveResponse
	m := &member{answer: func(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		if got = append(renewed(r.ID), got...); len(got) < n {
			return nil, nil
		}
		return got, nil
	}}
	s := start(t, m, conn.Config{})
	for id, err := range renewSideBySide(t, n, s.RenewNow) {
		if err != nil {
			t.Errorf("lease %d: %v", id, err)
		}
	}
}

// A member ends the stream for the sake of one lease. The renewals behind it are made again.
func TestRenew_FailsForItsOwnLeaseOnly(t *testing.T) {
	const n, denied = 5, 1
	together := make(chan struct{}) // closed when all but the first are behind it
	m := &member{answer: func(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		if r.ID == denied {
			<-together
			return nil, rpctypes.ErrGRPCPermissionDenied
		}
		return renewed(r.ID), nil
	}}
	s := start(t, m, conn.Config{})
	var first sync.WaitGroup
	first.Go(func() {
		if err := s.RenewNow(watchtest.Context(t), "key", denied, ttl); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("the denied lease: %v", err)
		}
	})
	waiting := func() int {
		st := s.usable("")
		if st == nil {
			return 0
		}
		st.mu.Lock()
		defer st.mu.Unlock()
		return len(st.waiting)
	}
	watchtest.Eventually(t, "the first renewal is sent", func() bool { return waiting() == 1 })
	var others sync.WaitGroup
	for id := int64(denied + 1); id <= n; id++ {
		others.Go(func() {
			if err := s.RenewNow(watchtest.Context(t), "key", id, ttl); err != nil {
				t.Errorf("lease %d: %v", id, err)
			}
		})
	}
	watchtest.Eventually(t, "the others are behind it", func() bool { return waiting() == n })
	close(together)
	first.Wait()
	others.Wait()
}

func TestRenew_EndsAStreamThatHangs(t *testing.T) {
	const limit = 200 * time.Millisecond
	var mu sync.Mutex
	hangs := true
	m := &member{answer: func(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		if hangs {
			return nil, nil
		}
		return renewed(r.ID), nil
	}}
	s := start(t, m, conn.Config{Timeout: limit})
	for id, err := range renewSideBySide(t, 3, s.RenewNow) {
		if !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("lease %d: %v", id, err)
		}
	}
	mu.Lock()
	hangs = false
	mu.Unlock()
	watchtest.Eventually(t, "another stream works", func() bool { return s.RenewNow(watchtest.Context(t), "key", 1, ttl) == nil })
}

// The answer to a renewal whose caller has gone must not count for the next renewal of that lease.
func TestRenew_IgnoresTheAnswerToAnAbandonedOne(t *testing.T) {
	arrived, release := make(chan struct{}, 2), make(chan struct{})
	seen := 0
	m := &member{answer: func(_ string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		all := renewed(r.ID)
		if seen++; seen == 2 {
			all[0].TTL = 0
		}
		arrived <- struct{}{}
		<-release
		return all, nil
	}}
	s := start(t, m, conn.Config{})
	s.Join()
	defer s.Leave()
	ctx, cancel := context.WithCancel(watchtest.Context(t))
	end := make(chan error, 2)
	go func() { end <- s.RenewNow(ctx, "key", 1, ttl) }()
	watchtest.Receive(t, "the first request", arrived)
	cancel()
	if err := watchtest.Receive(t, "the end of the first", end); !errors.Is(err, context.Canceled) {
		t.Errorf("the first ended with %v", err)
	}
	go func() { end <- s.RenewNow(watchtest.Context(t), "key", 1, ttl) }()
	close(release)
	if err := watchtest.Receive(t, "the end of the second", end); !conn.IsGone(err) {
		t.Errorf("the second ended with %v, which is the answer to the first", err)
	}
}

func TestRenew_FetchesOneTokenForAll(t *testing.T) {
	const n = 20
	m := &member{refusedToken: "1"}
	m.answer = func(token string, r *pb.LeaseKeepAliveRequest) ([]*pb.LeaseKeepAliveResponse, error) {
		if token == m.refusedToken {
			return nil, rpctypes.ErrGRPCInvalidAuthToken
		}
		return renewed(r.ID), nil
	}
	s := start(t, m, conn.Config{Username: "u", Password: registry.NewSecret("p")})
	for id, err := range renewSideBySide(t, n, s.RenewNow) {
		if err != nil {
			t.Errorf("lease %d: %v", id, err)
		}
	}
	if got := m.count(&m.tokens); got != 2 {
		t.Errorf("%d tokens were fetched, want 2", got)
	}
}
