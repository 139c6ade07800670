// Package rolling replaces every server of a service under load, on each backend.
package rolling

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	goleak.VerifyTestMain(m)
}

const (
	service  = "rolling"
	servers  = 5
	rate     = 2000 // unary calls a second, at the most
	inFlight = 200  // of those; a machine that is busy with something else makes fewer, and no heap of them
	streams  = 50   // at any time
	ofStream = 300 * time.Millisecond
	patience = time.Minute
)

func TestARollingRestartOfAllServers(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) func() *registry.Registry{
		"memory": func(t *testing.T) func() *registry.Registry {
			store := memory.New()
			t.Cleanup(func() { store.Close() })
			return func() *registry.Registry { return store.Client().Registry }
		},
		"consul": func(t *testing.T) func() *registry.Registry {
			agent := testbed.StartConsul(t)
			return func() *registry.Registry { return must(t)(consul.New(consul.Config{Address: agent.Addr()})) }
		},
		"etcd": func(t *testing.T) func() *registry.Registry {
			s := testbed.StartEtcd(t)
			return func() *registry.Registry { return must(t)(etcd.New(etcd.Config{Endpoints: []string{s.Addr()}})) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			rollingRestart(t, open(t))
		})
	}
}

func must(t *testing.T) func(*registry.Registry, error) *registry.Registry {
	return func(r *registry.Registry, err error) *registry.Registry {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func rollingRestart(t *testing.T, open func() *registry.Registry) {
	var fleet []*server
	for range servers {
		fleet = append(fleet, start(t, open()))
	}
	reg := open()
	defer reg.Close()
	registered(t, reg)
	// A call that fails is to be seen, and not to be made again.
	conn, err := grpcx.NewClient("rollcall:///"+service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := &load{client: testpb.NewTestServiceClient(conn)}
	began := time.Now()
	l.start()
	for _, s := range fleet {
		s.answers(t)
	}
	for i, s := range fleet {
		s.stop(t)
		fleet[i] = start(t, open())
		fleet[i].answers(t)
	}
	l.stop()
	took := time.Since(began)
	t.Logf("%d calls in %v, %.0f a second, and %d streams", l.calls.Load(), took.Round(time.Millisecond), float64(l.calls.Load())/took.Seconds(), l.streams.Load())
	for _, err := range l.failures {
		t.Error(err)
	}
	if l.calls.Load() < rate || l.streams.Load() < streams {
		t.Error("that is no load")
	}
	for _, s := range fleet {
		s.leave() // all at once, as there are no calls any more
	}
}

// registered waits until the whole service is there: calls before that may say that it is not.
func registered(t *testing.T, reg *registry.Registry) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for set := range reg.Watch(ctx, registry.Query{Service: service}) {
		if len(set) == servers {
			return
		}
	}
	t.Fatal("the servers do not register")
}

// server is one life of a server, in this process.
type server struct {
	testpb.UnimplementedTestServiceServer
	answered atomic.Int64
	leave    context.CancelFunc
	done     chan error
}

func start(t *testing.T, reg *registry.Registry) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{done: make(chan error, 1)}
	gs := grpc.NewServer()
	testpb.RegisterTestServiceServer(gs, s)
	ctx, cancel := context.WithCancel(context.Background())
	s.leave = cancel
	var work sync.WaitGroup
	work.Go(func() {
		defer reg.Close()
		life := grpcx.Server{Registrar: reg, Instance: registry.Instance{Service: service}, Signals: []os.Signal{}}
		s.done <- life.Serve(ctx, gs, lis)
	})
	t.Cleanup(func() { cancel(); gs.Stop(); work.Wait() })
	return s
}

func (s *server) answers(t *testing.T) {
	t.Helper()
	before := s.answered.Load()
	for deadline := time.Now().Add(patience); s.answered.Load() < before+100; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a server gets no calls")
		}
	}
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	s.leave()
	select {
	case err := <-s.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("a server does not stop")
	}
}

func (s *server) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	s.answered.Add(1)
	return new(testpb.Empty), nil
}

// FullDuplexCall answers each message, until the client has no more.
func (s *server) FullDuplexCall(stream grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(new(testpb.StreamingOutputCallResponse)); err != nil {
			return err
		}
	}
}

// load makes calls at a steady rate, and streams one after another.
type load struct {
	client         testpb.TestServiceClient
	calls, streams atomic.Int64
	work           sync.WaitGroup
	end            context.CancelFunc

	mu       sync.Mutex
	failures []error // the first few
}

func (l *load) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.end = cancel
	l.work.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		began, made := time.Now(), 0
		places := make(chan struct{}, inFlight)
		for ctx.Err() == nil {
			<-tick.C
			for due := int(time.Since(began).Seconds() * rate); made < due; made++ {
				select {
				case places <- struct{}{}:
					l.work.Go(func() {
						l.check(&l.calls, l.call)
						<-places
					})
				default:
				}
			}
		}
	})
	for range streams {
		l.work.Go(func() {
			for ctx.Err() == nil {
				l.check(&l.streams, l.stream)
			}
		})
	}
}

func (l *load) stop() {
	l.end()
	l.work.Wait()
}

func (l *load) check(count *atomic.Int64, f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := f(ctx)
	count.Add(1)
	if err != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.failures) < 5 {
			l.failures = append(l.failures, err)
		}
	}
}

func (l *load) call(ctx context.Context) error {
	_, err := l.client.EmptyCall(ctx, new(testpb.Empty))
	return err
}

// stream is one that lives for a while, and says so all the time.
func (l *load) stream(ctx context.Context) error {
	s, err := l.client.FullDuplexCall(ctx)
	if err != nil {
		return fmt.Errorf("opening a stream: %w", err)
	}
	tick := time.NewTicker(ofStream / 10)
	defer tick.Stop()
	for end := time.Now().Add(ofStream); time.Now().Before(end); <-tick.C {
		if err := s.Send(new(testpb.StreamingOutputCallRequest)); err != nil {
			return fmt.Errorf("sending on a stream: %w", err)
		}
		if _, err := s.Recv(); err != nil {
			return fmt.Errorf("receiving from a stream: %w", err)
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Recv(); err != io.EOF {
		return fmt.Errorf("at the end of a stream: %v", err)
	}
	return nil
}
