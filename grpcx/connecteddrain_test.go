package grpcx_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Neither a listener that fails nor a signal that is sent twice cuts the calls of a server that leaves.

func TestServe_CutsNoCallIfListenerFailsWhileLeaving(t *testing.T) {
	store := newStore(t)
	b := newBackend(t)
	lis := &breakable{Listener: b.lis.Listener, broken: make(chan struct{})}
	b.lis.Listener = lis
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := runOn(t, grpcx.Server{
		Registrar: store, Listeners: map[string]net.Listener{"admin": admin}, DeregisterTimeout: time.Hour, DrainDelay: -1, StopTimeout: time.Hour,
	}, b)
	registered(t, store)
	conn, stream := openStream(t, b.address())
	store.Hang()
	s.leave()
	watchtest.Eventually(t, "its health to say that it leaves", func() bool {
		return healthOf(t, s.address(), service).String() == "NOT_SERVING"
	})
	lis.breaks(t)
	watchtest.Eventually(t, "its listener to be closed", func() bool {
		c, err := net.Dial("tcp", s.address())
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	store.Heal()
	finishes(t, s.done, conn, stream)
	if err := s.ends(t); err != nil {
		t.Errorf("it returned %v", err)
	}
}

// The test repeats both ways to leave, since chance decides whether Serve sees the signal or the end of its context first.
func TestServe_CountsSignalThatEndsContextOnce(t *testing.T) {
	for i := range 12 {
		store := newStore(t)
		b := newBackend(t)
		s := grpcx.Server{
			Registrar: store, Instance: registry.Instance{Service: service}, DeregisterTimeout: time.Hour, DrainDelay: -1, StopTimeout: time.Hour,
			Signals: []os.Signal{userSignal},
		}
		ctx, end := signal.NotifyContext(context.Background(), userSignal)
		done := make(chan struct{})
		var err error
		go func() {
			defer close(done)
			err = s.Serve(ctx, b.gs, b.lis)
		}()
		registered(t, store)
		conn, stream := openStream(t, b.address())
		store.Hang()
		drained := make(chan error, 1)
		if drains := i%2 == 0; drains {
			go func() { drained <- s.Drain(watchtest.Context(t)) }()
			watchtest.Eventually(t, "it to drain", func() bool { return healthOf(t, b.address(), service).String() == "NOT_SERVING" })
		} else {
			drained <- nil
		}
		kill(t, userSignal)
		<-ctx.Done()
		store.Heal()
		finishes(t, done, conn, stream)
		<-done
		if err := errors.Join(err, <-drained); err != nil {
			t.Error(err)
		}
		end()
	}
}

// openStream opens a stream to the server at address.
func openStream(t *testing.T, address string) (*grpc.ClientConn, grpc.BidiStreamingClient[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) {
	t.Helper()
	conn := direct(t, address)
	stream, err := testpb.NewTestServiceClient(conn).FullDuplexCall(watchtest.Context(t), grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	return conn, stream
}

// finishes waits until the server refuses calls over conn, and then ends stream without an error. done is closed when Serve returns.
func finishes(t *testing.T, done <-chan struct{}, conn *grpc.ClientConn, stream grpc.BidiStreamingClient[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) {
	t.Helper()
	watchtest.Eventually(t, "clients to be told to go away", func() bool {
		_, err := call(watchtest.Context(t), conn)
		return err != nil
	})
	select {
	case <-done:
		t.Error("it returned while a stream was open")
	default:
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return
		} else if err != nil {
			t.Errorf("the stream was cut: %v", err)
			return
		}
	}
}
