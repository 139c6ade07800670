package grpcx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// life is one run of a Server, whose fields have their defaults filled in.
type life struct {
	Server
	gs       *grpc.Server
	lis      net.Listener
	signals  chan os.Signal
	served   chan struct{} // closed when gs.Serve has returned
	serveErr error         // what it returned; set before served is closed
}

func (l *life) run(ctx context.Context) error {
	if len(l.Signals) > 0 {
		signal.Notify(l.signals, l.Signals...)
		defer signal.Stop(l.signals)
	}
	go func() {
		defer close(l.served)
		l.serveErr = l.gs.Serve(l.lis)
	}()
	l.setHealthy()
	l.Logger.Info("rollcall: serving")
	a := l.announce(ctx)

	var err error
	stopped := l.served // closed when nobody is served any more
	select {
	case <-ctx.Done():
		l.Logger.Info("rollcall: leaving", "reason", context.Cause(ctx))
	case sig := <-l.signals:
		l.Logger.Info("rollcall: leaving", "reason", sig)
	case <-l.served:
		err = l.serveErr
		if err == nil || errors.Is(err, grpc.ErrServerStopped) {
			l.Logger.Info("rollcall: leaving, since the server was stopped")
			break
		}
		stopped = nil // gRPC goes on with the connections that it has
		l.Logger.Error("rollcall: leaving, since the listener failed", "error", err)
	case err = <-a.failed:
		l.Logger.Error("rollcall: leaving, since the server can never be found", "error", err)
	}
	if l.Health != nil {
		l.Health.Shutdown()
	}
	if l.withdraw(a) && l.drain(stopped) {
		l.stop()
	}
	<-l.served
	if err != nil {
		return fmt.Errorf("rollcall: serve %s: %w", l.Instance.Service, err)
	}
	return nil
}

// setHealthy names each service: a client that asks for the health of one that was never named fails every call.
func (l *life) setHealthy() {
	if l.Health == nil {
		return
	}
	for name := range l.gs.GetServiceInfo() {
		l.Health.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	l.Health.SetServingStatus(l.Instance.Service, healthpb.HealthCheckResponse_SERVING)
	l.Health.SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
}

// drain serves on for a while. It reports false where nothing is left to stop: a signal has cut it short, or the caller
// has stopped the server.
func (l *life) drain(stopped <-chan struct{}) bool {
	select {
	case <-stopped:
		return false
	default:
	}
	if l.DrainDelay < 0 {
		return true
	}
	t := time.NewTimer(l.DrainDelay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case sig := <-l.signals:
		l.cut(sig.String())
	case <-stopped:
	}
	return false
}

// stop lets calls finish, and cuts what does not. It does not wait for GracefulStop after Stop: that waits for handlers,
// and one that heeds no context would hold the process.
func (l *life) stop() {
	if l.StopTimeout < 0 {
		l.gs.Stop()
		return
	}
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		l.gs.GracefulStop()
	}()
	t := time.NewTimer(l.StopTimeout)
	defer t.Stop()
	select {
	case <-graceful:
		l.Logger.Info("rollcall: stopped")
	case <-t.C:
		l.cut("deadline")
	case sig := <-l.signals:
		l.cut(sig.String())
	}
}

func (l *life) cut(reason string) {
	l.Logger.Warn("rollcall: cutting the rest", "reason", reason)
	l.gs.Stop()
}
