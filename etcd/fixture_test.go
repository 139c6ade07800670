package etcd

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/etcd/internal/etcdtest"
	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// connect returns a client that is closed with the test.
func connect(t testing.TB, c Config) *registry.Registry { return openWith(t, c) }

func openWith(t testing.TB, c Config, o ...grpc.DialOption) *registry.Registry {
	t.Helper()
	c.Options.Logger = nil
	return watchtest.NewRegistry(t, driverFor(t, c, o...), c.Options)
}

// driverFor returns a driver, which the caller closes.
func driverFor(t testing.TB, c Config, o ...grpc.DialOption) *driver {
	t.Helper()
	d, err := newDriver(c, o...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// next returns the instances of the next set.
func next(ctx context.Context, s registry.Source) ([]*registry.Instance, error) {
	set, err := s.Next(ctx)
	return set.Instances, err
}

// keep renews a lease each interval and waits for the loss of its entry, as a Registry does, and returns why it is lost.
func keep(ctx context.Context, l registry.Lease, interval time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	var renewal error
	work.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for renewal == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			limited, stop := context.WithTimeout(ctx, l.TTL()/3)
			if renewal = l.Renew(limited); ctx.Err() != nil {
				renewal = nil
			}
			stop()
		}
		cancel(renewal)
	})
	err := l.Wait(ctx)
	cancel(err)
	work.Wait()
	if renewal != nil && !errors.Is(err, registry.ErrReplaced) {
		return renewal
	}
	return err
}

// wantKind checks the kind of an error, and that it shows no secret.
func wantKind(t testing.TB, err, kind error) {
	t.Helper()
	etcdtest.WantKind(t, err, kind)
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("it shows the secret: %v", err)
	}
}

const secret = configtest.Secret
