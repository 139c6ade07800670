// Package rolling replaces every server of a service, and changes its service config, under load, on each backend.
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
	"github.com/rollcall-go/rollcall/internal/watchtest"
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
	inFlight = 200  // limit of concurrent calls; a busy machine makes fewer calls a second
	streams  = 50   // at any time
	ofStream = 300 * time.Millisecond
)

// onEachBackend runs f with a function that opens a registry over one store.
func onEachBackend(t *testing.T, f func(t *testing.T, open func() *registry.Registry)) {
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
			t.Parallel()
			f(t, open(t))
		})
	}
}

func TestServer_LosesNoCallInRollingRestart(t *testing.T) { onEachBackend(t, rollingRestart) }

// Readers can tell a server that left on purpose from a lost server by its status in the last set that has it.
func TestServer_IsInMaintenanceBeforeItDeregisters(t *testing.T) {
	onEachBackend(t, func(t *testing.T, open func() *registry.Registry) {
		s := start(t, open())
		reg := open()
		defer reg.Close()
		ctx, cancel := context.WithTimeout(t.Context(), watchtest.Timeout)
		defer cancel()
		var last []*registry.Instance
		for set := range reg.Watch(ctx, registry.Query{Service: service, AnyStatus: true}) {
			switch {
			case len(set) == 1 && last == nil:
				s.leave()
			case len(set) == 0 && last != nil:
				if last[0].Status != registry.Maintenance {
					t.Errorf("before it was gone, its status was %v", last[0].Status)
				}
				return
			}
			if len(set) > 0 {
				last = set
			}
		}
		t.Fatal("it is not seen to go")
	})
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
	// Calls before all servers are registered may fail.
	watchtest.Watch(t, reg, registry.Query{Service: service}).Until("all servers", watchtest.Healthy(servers))
	// By default no call is repeated, so that the test sees each call that fails.
	conn, err := grpcx.NewClient("rollcall:///"+service, reg, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := &load{client: testpb.NewTestServiceClient(conn), rate: rate, open: streams}
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
		s.leave() // all at once, since the calls have ended
	}
}

// server is a server in this process.
type server struct {
	testpb.UnimplementedTestServiceServer
	answered atomic.Int64
	timeout  atomic.Int64 // of the last call, in seconds; 0 if it had none
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
	watchtest.Eventually(t, "a server to get 100 calls", func() bool { return s.answered.Load() >= before+100 })
}

func (s *server) stop(t *testing.T) {
	t.Helper()
	s.leave()
	if err := watchtest.Receive(t, "a server to stop", s.done); err != nil {
		t.Fatal(err)
	}
}

func (s *server) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	s.answered.Add(1)
	left := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		left = time.Until(deadline)
	}
	s.timeout.Store(int64(left.Round(time.Second) / time.Second))
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
	rate           int // unary calls a second, at the most
	open           int // streams at any time
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
			for due := int(time.Since(began).Seconds() * float64(l.rate)); made < due; made++ {
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
	for range l.open {
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
	ctx, cancel := context.WithTimeout(context.Background(), watchtest.Timeout)
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

// stream is open for a while, and sends messages all the time.
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
