package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func register(t *testing.T, r *registry.Registry, in registry.Instance) registry.Registration {
	t.Helper()
	g, err := r.Register(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestRegisterFillsInAndCopies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		meta := map[string]string{"k": "v"}
		g := register(t, r, registry.Instance{Service: "web", Address: "10.1.2.3:80", Metadata: meta, Tags: []string{}})
		meta["k"] = "changed"
		got := g.Instance()
		if got.ID != "web-10.1.2.3-80" || got.Weight != 1 || got.Metadata["k"] != "v" || got.Tags != nil {
			t.Errorf("announced as %+v", got)
		}
		got.Metadata["k"] = "changed too"
		if g.Instance().Metadata["k"] != "v" {
			t.Error("Instance hands out what it announces, not a copy")
		}
	})
}

func TestRegisterTriesAgainUntilTheRegistryIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		var log bytes.Buffer
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		time.AfterFunc(time.Hour, func() { d.fail(nil) })
		g := register(t, r, instance("a"))
		if n := strings.Count(log.String(), "is tried again"); n != 1 || !strings.Contains(log.String(), "op=register") {
			t.Errorf("an hour of one failure is logged %d times, want once:\n%s", n, &log)
		}
		if err := g.Err(); err != nil || !d.has("web", "a") {
			t.Errorf("it returned with %v, announced: %v", err, d.has("web", "a"))
		}
		if n := d.count(&d.announces); n < 1800 || n > 5400 {
			t.Errorf("%d attempts in an hour, want about 3600", n)
		}
	})
}

func TestRegisterEnds(t *testing.T) {
	down := errors.New("the server is on fire")
	for _, c := range []struct {
		name string
		fail error
		want []error
		took time.Duration
	}{
		{"with both errors when its context ends first", down, []error{context.DeadlineExceeded, down, registry.ErrUnavailable}, time.Minute},
		{"at once when the registry denies it", fmt.Errorf("%w: token", registry.ErrDenied), []error{registry.ErrDenied}, 0},
		{"at once when the registry calls it invalid", fmt.Errorf("%w: tag", registry.ErrInvalid), []error{registry.ErrInvalid}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFake()
				d.fail(c.fail)
				r := newRegistry(t, d, registry.Options{})
				start := time.Now()
				g, err := r.Register(within(t, time.Minute), instance("a"))
				if g != nil || time.Since(start) != c.took {
					t.Errorf("it returned %v after %v, want nil after %v", g, time.Since(start), c.took)
				}
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("%v is not %v", err, want)
					}
				}
				var e *registry.Error
				if !errors.As(err, &e) || e.Op != "register" || e.Service != "web" || e.ID != "a" {
					t.Errorf("%v does not say what of whom", err)
				}
			})
		})
	}
	t.Run("with ErrClosed when the Registry is closed meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			d.shut()
			r := newRegistry(t, d, registry.Options{})
			time.AfterFunc(time.Second, func() { r.Close() })
			if _, err := r.Register(t.Context(), instance("a")); !errors.Is(err, registry.ErrClosed) {
				t.Errorf("it says %v", err)
			}
		})
	})
}

func TestALostAnnouncementComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := register(t, r, instance("a"))
		for range 5 {
			time.Sleep(time.Minute)
			lost := time.Now()
			d.lose("web", "a")
			for !d.has("web", "a") {
				time.Sleep(time.Millisecond)
			}
			if took := time.Since(lost); took > registry.DefaultBackoffMin+time.Millisecond {
				t.Errorf("it came back after %v, want at most %v", took, registry.DefaultBackoffMin)
			}
			synctest.Wait()
			if err := g.Err(); err != nil {
				t.Errorf("it stands, and Err says %v", err)
			}
		}
	})
}

func TestAnOutageOfAnyLengthIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := register(t, r, instance("a"))
		d.fail(fmt.Errorf("%w: token expired", registry.ErrDenied)) // not even this ends it
		d.lose("web", "a")
		time.Sleep(24 * time.Hour)
		if err := g.Err(); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("during the outage Err says %v", err)
		}
		if n := d.count(&d.announces); n > 2*24*3600 {
			t.Errorf("%d attempts in a day, want about one a second", n)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if err := g.Err(); err != nil || !d.has("web", "a") {
			t.Errorf("after the outage: %v, announced: %v", err, d.has("web", "a"))
		}
	})
}

func TestAnAnnouncementThatNeverStandsIsMadeAtABoundedRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fickle{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		register(t, r, instance("a"))
		time.Sleep(10 * time.Minute)
		if n := d.count(&d.announces); n < 300 || n > 900 {
			t.Errorf("%d announcements in 600 s to a store that drops each at once, want about 600", n)
		}
	})
}

// fickle takes every announcement and lets none stand.
type fickle struct{ *fake }

func (d *fickle) Announce(ctx context.Context, in *registry.Instance) (registry.Lease, error) {
	l, err := d.fake.Announce(ctx, in)
	d.lose(in.Service, in.ID)
	return l, err
}

func TestDeregister(t *testing.T) {
	t.Run("removes the entry, and again is nil", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := register(t, r, instance("a"))
			for range 3 {
				if err := g.Deregister(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if d.has("web", "a") || d.count(&d.releases) != 1 {
				t.Errorf("announced: %v, after %d releases", d.has("web", "a"), d.count(&d.releases))
			}
			if err := g.Err(); !errors.Is(err, registry.ErrClosed) {
				t.Errorf("Err says %v", err)
			}
			if err := g.Update(t.Context(), instance("a")); !errors.Is(err, registry.ErrClosed) {
				t.Errorf("Update says %v", err)
			}
			r.Close()
			if err := g.Deregister(t.Context()); err != nil {
				t.Errorf("after Close it says %v, though the entry is gone", err)
			}
		})
	})
	t.Run("tries again until its context ends, and a further call goes on", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := register(t, r, instance("a"))
			d.fail(errors.New("down"))
			if err := g.Deregister(within(t, time.Minute)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("it says %v", err)
			}
			announced := d.count(&d.announces)
			d.fail(nil)
			time.Sleep(time.Hour)
			if n := d.count(&d.announces); n != announced {
				t.Error("it was announced again after Deregister")
			}
			if err := g.Deregister(t.Context()); err != nil || d.has("web", "a") {
				t.Errorf("the second call: %v, announced: %v", err, d.has("web", "a"))
			}
		})
	})
	t.Run("obeys its context while a registry hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := register(t, r, instance("a"))
			d.shut()
			start := time.Now()
			if err := g.Deregister(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("it says %v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("wins over an announcement in flight", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := register(t, r, instance("a"))
			open := d.shut()
			d.lose("web", "a")
			time.Sleep(time.Second) // the keeper is within Announce
			time.AfterFunc(time.Second, open)
			if err := g.Deregister(t.Context()); err != nil || d.has("web", "a") {
				t.Errorf("it says %v, announced: %v", err, d.has("web", "a"))
			}
			if d.count(&d.announces) != 2 {
				t.Fatal("no announcement was in flight: the test proves nothing")
			}
			time.Sleep(time.Hour)
			if d.has("web", "a") {
				t.Error("it came back")
			}
		})
	})
	t.Run("wins over an announcement in flight that outlives its context", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := register(t, r, instance("a"))
			open := d.shut()
			d.lose("web", "a")
			time.Sleep(time.Second)
			if err := g.Deregister(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it says %v", err)
			}
			open()
			synctest.Wait()
			if d.count(&d.announces) != 2 || d.has("web", "a") {
				t.Errorf("after %d announcements the entry stands: %v", d.count(&d.announces), d.has("web", "a"))
			}
			if err := g.Deregister(t.Context()); err != nil {
				t.Errorf("the second call says %v", err)
			}
		})
	})
}

// lagging is a store whose reads lag behind its writes by a second, as Consul's catalog lags behind its agents.
