package grpcx

import (
	"context"
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
	gs      *grpc.Server
	lis     net.Listener
	signals chan os.Signal
	served  chan error // what gs.Serve has returned
}

func (l *life) run(ctx context.Context) error {
	if len(l.Signals) > 0 {
		signal.Notify(l.signals, l.Signals...)
		defer signal.Stop(l.signals)
	}
	go func() { l.served <- l.gs.Serve(l.lis) }()
	l.setHealthy()
	l.Logger.Info("rollcall: serving")
	a := l.announce(ctx)

	var err error
	stopped := false
	select {
	case <-ctx.Done():
		l.Logger.Info("rollcall: leaving", "reason", context.Cause(ctx))
	case sig := <-l.signals:
		l.Logger.Info("rollcall: leaving", "reason", sig)
	case err = <-l.served:
		stopped = true
		l.Logger.Info("rollcall: leaving, since the server does not serve any more", "error", err)
	case err = <-a.failed:
		l.Logger.Error("rollcall: leaving, since the server can never be found", "error", err)
	}
	if l.Health != nil {
		l.Health.Shutdown()
	}
	a.end()
	if !stopped {
		l.drain()
		l.stop()
		<-l.served
	}
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

// drain serves on for a while, unless a second signal or the end of the server cuts it short.
func (l *life) drain() {
	if l.DrainDelay < 0 {
		return
	}
	t := time.NewTimer(l.DrainDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case sig := <-l.signals:
		l.Logger.Warn("rollcall: cutting the rest", "reason", sig)
		l.gs.Stop()
	case err := <-l.served: // stopped by the caller meanwhile: there is nothing left to drain
		l.served <- err
	}
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
	reason := "deadline"
	select {
	case <-graceful:
		l.Logger.Info("rollcall: stopped")
		return
	case <-t.C:
	case sig := <-l.signals:
		reason = sig.String()
	}
	l.Logger.Warn("rollcall: cutting the rest", "reason", reason)
	l.gs.Stop()
}
