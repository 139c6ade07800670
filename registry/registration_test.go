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

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegister_FillsInAndCopies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		meta := map[string]string{"k": "v"}
		g := watchtest.Register(t, r, registry.Instance{Service: "web", Address: "10.1.2.3:80", Metadata: meta, Tags: []string{}})
		meta["k"] = "changed"
		got := g.Instance()
		if got.ID != "web-10.1.2.3-80" || got.Weight != 1 || got.Metadata["k"] != "v" || got.Tags != nil {
			t.Errorf("registered as %+v", got)
		}
		got.Metadata["k"] = "changed too"
		if g.Instance().Metadata["k"] != "v" {
			t.Error("Instance hands out what it registers, not a copy")
		}
	})
}

func TestRegister_RetriesUntilTheRegistryIsBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(errors.New("down"))
		var log bytes.Buffer
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		time.AfterFunc(time.Hour, func() { d.fail(nil) })
		g, err := r.Register(t.Context(), instance("a"))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(log.String(), "operation failed, retrying"); n < 60 || n > 62 || !strings.Contains(log.String(), "op=register") {
			t.Errorf("an hour of one failure is logged %d times, want once a minute:\n%s", n, &log)
		}
		if err := g.Err(); err != nil || !d.has("web", "a") {
			t.Errorf("it returned %v, registered: %v", err, d.has("web", "a"))
		}
		if n := d.count(&d.registers); n < 1800 || n > 5400 {
			t.Errorf("%d attempts in an hour, want about 3600", n)
		}
	})
}

func TestRegister_Ends(t *testing.T) {
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
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				d.fail(c.fail)
				r := newRegistry(t, d, registry.Options{})
				start := time.Now()
				g, err := r.Register(watchtest.Within(t, time.Minute), instance("a"))
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
		bubble.Test(t, func(t *testing.T) {
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

func TestRegistration_ComesBackAfterALoss(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
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
				t.Errorf("it is registered, and Err says %v", err)
			}
		}
	})
}

func TestRegistration_SurvivesAnOutageOfAnyLength(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		d.fail(fmt.Errorf("%w: token expired", registry.ErrDenied)) // not even this ends it
		d.lose("web", "a")
		time.Sleep(24 * time.Hour)
		if err := g.Err(); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("during the outage Err says %v", err)
		}
		if n := d.count(&d.registers); n > 2*24*3600 {
			t.Errorf("%d attempts in a day, want about one a second", n)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if err := g.Err(); err != nil || !d.has("web", "a") {
			t.Errorf("after the outage: %v, registered: %v", err, d.has("web", "a"))
		}
	})
}

func TestRegistration_IsRetriedAtABoundedRateIfItIsAlwaysLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &fickle{fake: newFake()}
		r := newRegistry(t, d, registry.Options{})
		watchtest.Register(t, r, instance("a"))
		time.Sleep(10 * time.Minute)
		if n := d.count(&d.registers); n < 300 || n > 900 {
			t.Errorf("%d calls of Register in 600 s to a store that drops each entry at once, want about 600", n)
		}
	})
}

// fickle accepts every registration and loses it at once.
type fickle struct{ *fake }

func (d *fickle) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.fake.Register(ctx, in, prev)
	d.lose(in.Service, in.ID)
	return l, err
}

func TestDeregister_RemovesInstance(t *testing.T) {
	t.Run("removes the entry, and again is nil", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			for range 3 {
				if err := g.Deregister(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if d.has("web", "a") || d.count(&d.releases) != 1 {
				t.Errorf("registered: %v, after %d releases", d.has("web", "a"), d.count(&d.releases))
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
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			d.fail(errors.New("down"))
			if err := g.Deregister(watchtest.Within(t, time.Minute)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("it says %v", err)
			}
			registers := d.count(&d.registers)
			d.fail(nil)
			time.Sleep(time.Hour)
			if n := d.count(&d.registers); n != registers {
				t.Error("it was registered again after Deregister")
			}
			if err := g.Deregister(t.Context()); err != nil || d.has("web", "a") {
				t.Errorf("the second call: %v, registered: %v", err, d.has("web", "a"))
			}
		})
	})
	t.Run("obeys its context while a registry hangs", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{KeepOnClose: true})
			g := watchtest.Register(t, r, instance("a"))
			d.shut()
			start := time.Now()
			if err := g.Deregister(watchtest.Within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("it says %v after %v", err, time.Since(start))
			}
		})
	})
	t.Run("wins over a Register in flight", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			open := d.shut()
			d.lose("web", "a")
			time.Sleep(time.Second) // the keeper is within Register
			time.AfterFunc(time.Second, open)
			if err := g.Deregister(t.Context()); err != nil || d.has("web", "a") {
				t.Errorf("it says %v, registered: %v", err, d.has("web", "a"))
			}
			if d.count(&d.registers) != 2 {
				t.Fatal("no Register was in flight: the test proves nothing")
			}
			time.Sleep(time.Hour)
			if d.has("web", "a") {
				t.Error("it came back")
			}
		})
	})
	t.Run("wins over a Register in flight that outlives its context", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			open := d.shut()
			d.lose("web", "a")
			time.Sleep(time.Second)
			if err := g.Deregister(watchtest.Within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("it says %v", err)
			}
			open()
			synctest.Wait()
			if d.count(&d.registers) != 2 || d.has("web", "a") {
				t.Errorf("after %d calls of Register the entry is there: %v", d.count(&d.registers), d.has("web", "a"))
			}
			if err := g.Deregister(t.Context()); err != nil {
				t.Errorf("the second call says %v", err)
			}
		})
	})
}

// lagging is a store whose reads lag behind its writes by a second, as Consul's catalog lags behind its agents.
