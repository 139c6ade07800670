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
)

// remoteStore is on another host, and takes every announcement.
type remoteStore struct{ Driver }

type heldLease struct{ Lease }

func (remoteStore) Locate() string { return "10.9.9.9:8500" }
func (remoteStore) Close() error   { return nil }

func (remoteStore) Announce(context.Context, *Instance) (Lease, error) { return heldLease{}, nil }

func (heldLease) Keep(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestAHostWithoutANetworkIsNotAnnouncedElsewhereAsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(remoteStore{}, Options{Logger: slog.New(slog.DiscardHandler)})
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
		_, err := r.Register(soon, Instance{Service: "web", Address: ":80"})
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "10.9.9.9:8500") {
			t.Errorf("without a network it says %v", err)
		}
		g, err := r.Register(t.Context(), Instance{Service: "web", Address: ":80"})
		if err != nil {
			t.Fatal(err)
		}
		if in := g.Instance(); in.Address != "10.0.0.1:80" || in.ID != "web-10.0.0.1-80" {
			t.Errorf("with one it is announced as %+v", in)
		}
	})
}
