package grpcx_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// serveHTTP serves b through an http.Server.
func serveHTTP(t *testing.T, s *grpcx.Server, b *backend) (leave func(), done chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done = make(chan error, 1)
	served := make(chan struct{})
	h := newHTTPServer(b.gs, http.NotFoundHandler())
	s.Signals = []os.Signal{}
	go func() {
		defer close(served)
		done <- s.Serve(ctx, h, b.lis)
	}()
	t.Cleanup(func() { cancel(); h.Stop(); <-served })
	return cancel, done
}

func TestServe_HTTPHandlerFinishesCalls(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	b.gs = grpc.NewServer()
	h := &stubborn{entered: make(chan struct{}), release: make(chan struct{})}
	testpb.RegisterTestServiceServer(b.gs, h)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, StopTimeout: time.Hour}
	leave, done := serveHTTP(t, s, b)
	registered(t, store)
	conn := direct(t, b.address())
	inFlight := make(chan error, 1)
	var calls sync.WaitGroup
	defer calls.Wait()
	calls.Go(func() {
		_, err := call(watchtest.Context(t), conn)
		inFlight <- err
	})
	<-h.entered
	leave()
	watchtest.Eventually(t, "it to stop listening", func() bool {
		c, err := net.Dial("tcp", b.address())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Errorf("it returned %v while a call was in flight", err)
	case err := <-inFlight:
		t.Errorf("the call was cut: %v", err)
	default:
	}
	close(h.release)
	if err := <-inFlight; err != nil {
		t.Errorf("the call in flight says %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Serve returned %v", err)
	}
}

func TestServe_CutsHTTPHandlerAfterStopTimeout(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	b.gs = grpc.NewServer()
	h := &stubborn{entered: make(chan struct{}), release: make(chan struct{})}
	testpb.RegisterTestServiceServer(b.gs, h)
	s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, StopTimeout: 50 * time.Millisecond}
	leave, done := serveHTTP(t, s, b)
	conn := direct(t, b.address())
	inFlight := make(chan error, 1)
	go func() {
		_, err := call(watchtest.Context(t), conn, grpc.WaitForReady(true))
		inFlight <- err
	}()
	<-h.entered
	registered(t, store)
	leave()
	if err := watchtest.Receive(t, "Serve to return", done); err != nil {
		t.Errorf("Serve returned %v", err)
	}
	if err := <-inFlight; err == nil {
		t.Error("the call succeeded")
	}
	close(h.release)
}

// All servers are replaced under load, and no call fails.
func TestServe_LosesNoCallInRollingRestartOfHTTPHandlers(t *testing.T) {
	store := newStore(t)
	type running struct {
		*backend
		leave func()
		done  chan error
	}
	start := func() running {
		b := newBackend(t)
		s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: 20 * time.Millisecond}
		leave, done := serveHTTP(t, s, b)
		return running{b, leave, done}
	}
	servers := []running{start(), start(), start()}
	conn := dial(t, target, store, grpc.WithDisableRetry())
	for _, s := range servers {
		answers(t, conn, s.address())
	}
	stop := make(chan struct{})
	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := call(watchtest.Context(t), conn); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i, s := range servers {
		s.leave()
		if err := <-s.done; err != nil {
			t.Error(err)
		}
		servers[i] = start()
		answers(t, conn, servers[i].address())
	}
	close(stop)
	callers.Wait()
}

func TestServe_RefusesHTTPServerThatWasShutDown(t *testing.T) {
	b := newBackend(t)
	h := newHTTPServer(b.gs, http.NotFoundHandler())
	if err := h.http.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := grpcx.Server{Registrar: unasked(t), Instance: registry.Instance{Service: service}}
	if err := s.Serve(t.Context(), h, b.lis); !errors.Is(err, registry.ErrClosed) || !strings.Contains(err.Error(), "stopped before Serve") {
		t.Errorf("it returned %v", err)
	}
}
