package registry

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
)

// remoteStore is on another host, and accepts every registration.
type remoteStore struct{ Driver }

type acceptedLease struct {
	Lease
	updates chan<- *Instance
}

func (remoteStore) Properties() Properties {
	return Properties{Name: "remote", Address: "10.9.9.9:8500"}
}
func (remoteStore) Close() error { return nil }

func (remoteStore) Register(context.Context, *Instance, Lease) (Lease, error) {
	return acceptedLease{}, nil
}

func (acceptedLease) Wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (acceptedLease) TTL() time.Duration            { return 0 }
func (acceptedLease) Release(context.Context) error { return nil }

func (l acceptedLease) Update(_ context.Context, in *Instance) error {
	l.updates <- in
	return nil
}

// roaming is a remoteStore whose updates can be seen.
type roaming struct {
	remoteStore
	updates chan *Instance
}

func (d roaming) Register(context.Context, *Instance, Lease) (Lease, error) {
	return acceptedLease{updates: d.updates}, nil
}

func TestRegister_WaitsForANetwork(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, err := New(remoteStore{}, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		begin := time.Now()
		r.route = func(_ context.Context, _, to string) (local, peer netip.Addr, err error) {
			if time.Since(begin) < time.Hour {
				return local, peer, errors.New("network is unreachable")
			}
			return netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort(to).Addr(), nil
		}
		soon, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		_, err = r.Register(soon, Instance{Service: "web", Address: ":80"})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10.9.9.9:8500") {
			t.Errorf("without a network it says %v", err)
		}
		g, err := r.Register(t.Context(), Instance{Service: "web", Address: ":80"})
		if err != nil {
			t.Fatal(err)
		}
		if in := g.Instance(); in.Address != "10.0.0.1:80" || in.ID != "web-10.0.0.1-80" {
			t.Errorf("with one it is registered as %+v", in)
		}
	})
}

func TestUpdate_IsNotLostOnAHostWithoutANetwork(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := roaming{updates: make(chan *Instance, 1)}
		r, err := New(d, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		begin := time.Now()
		r.route = func(_ context.Context, _, to string) (local, peer netip.Addr, err error) {
			if time.Since(begin) < time.Hour {
				return local, peer, errors.New("network is unreachable")
			}
			return netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort(to).Addr(), nil
		}
		g, err := r.Register(t.Context(), Instance{ID: "a", Service: "web", Address: "10.0.0.9:80"})
		if err != nil {
			t.Fatal(err)
		}
		soon, end := context.WithTimeout(t.Context(), time.Minute)
		defer end()
		if err := g.Update(soon, Instance{Address: ":80", Version: "new"}); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrUnavailable) {
			t.Errorf("without a network Update returns %v", err)
		}
		if got := g.Instance().Version; got != "new" || g.Err() == nil {
			t.Errorf("Instance has version %q; Err returns %v", got, g.Err())
		}
		if in := <-d.updates; in.Address != "10.0.0.1:80" || in.Version != "new" {
			t.Errorf("with a network it is updated to %+v", in)
		}
		synctest.Wait()
		if in := g.Instance(); in.Address != "10.0.0.1:80" || g.Err() != nil {
			t.Errorf("Instance returns %+v, Err %v", in, g.Err())
		}
	})
}

// With a registry on this host a wildcard becomes 127.0.0.1 if there is no network. A context that has ended is no such case.
func TestUpdate_WithAnEndedContextFindsTheAddressLater(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := roaming{updates: make(chan *Instance, 1)}
		r, err := New(local{d}, Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		r.route = func(ctx context.Context, _, to string) (local, peer netip.Addr, err error) {
			if ctx.Err() != nil {
				return local, peer, ctx.Err()
			}
			return netip.MustParseAddr("10.0.0.1"), netip.MustParseAddrPort(to).Addr(), nil
		}
		g, err := r.Register(t.Context(), Instance{ID: "a", Service: "web", Address: "10.0.0.9:80"})
		if err != nil {
			t.Fatal(err)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		in := Instance{Address: ":80", Endpoints: map[string]string{"http": ":81"}, Version: "new"}
		if err := g.Update(ended, in); !errors.Is(err, context.Canceled) {
			t.Errorf("Update returns %v", err)
		}
		if got := <-d.updates; got.Address != "10.0.0.1:80" || got.Endpoints["http"] != "10.0.0.1:81" || got.Version != "new" {
			t.Errorf("it is updated to %+v", got)
		}
		synctest.Wait()
		if got := g.Instance(); got.Address != "10.0.0.1:80" || g.Err() != nil {
			t.Errorf("Instance returns %+v, Err %v", got, g.Err())
		}
	})
}

// local is a roaming store on this host.
type local struct{ roaming }

func (local) Properties() Properties { return Properties{Name: "local", Address: "127.0.0.1:8500"} }
