package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestConfig_TTLIsHowLongAnEntryOutlivesItsOwner(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := watchtest.NewMemory(t, registry.Options{})
		owner := other.Client()
		watchtest.Register(t, owner, instance("a"))
		time.Sleep(time.Hour)
		wantThere(t, other, true)
		calls := owner.Calls()
		owner.Crash()
		closed := time.Now()
		for set, err := range other.Watch(t.Context(), web) {
			if err == nil && !time.Now().After(closed) {
				continue // the first set
			}
			var stale *registry.StaleError
			if !errors.As(err, &stale) || len(set) != 1 || !slices.Equal(stale.Withheld, []string{"a"}) {
				t.Errorf("the watch yields %d instances, %v; want the lost one, withheld", len(set), err)
			}
			break
		}
		// Its last renewal was up to a third of the TTL ago.
		if took := time.Since(closed); took < memory.DefaultTTL*2/3 || took > memory.DefaultTTL {
			t.Errorf("the entry was gone %v after its owner was closed, want from %v to %v", took, memory.DefaultTTL*2/3, memory.DefaultTTL)
		}
		if want := int(3 * time.Hour / memory.DefaultTTL); calls < want || calls > want+2 {
			t.Errorf("an hour of keeping took %d calls, want %d: one each third of the TTL", calls, want)
		}
	})
}

func TestConfig_TTLIsOfOneClient(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, err := memory.NewWith(memory.Config{TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		other := watchtest.NewMemoryClient(t, r)
		watchtest.Register(t, r, instance("a"))
		r.Crash()
		time.Sleep(59 * time.Second)
		wantThere(t, other, true)
		time.Sleep(2 * time.Second)
		wantThere(t, other, false)
	})
}

func TestConfig_IsValidated(t *testing.T) {
	for _, c := range []memory.Config{{TTL: -time.Second}, {TTL: time.Millisecond}, {Options: registry.Options{Burst: -1}}} {
		if r, err := memory.NewWith(c); r != nil || !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("NewWith(%+v) returns %v, %v", c, r, err)
		}
	}
}

// What registry.Lease says, of the driver alone: the portable layer makes up for a part of it.
func TestLease_KeepsContractOfDriver(t *testing.T) {
	register := func(t *testing.T, r *memory.Registry, version string) (lease registry.Lease, waited <-chan error) {
		t.Helper()
		in := instance("a")
		in.Version = version
		l, err := r.Driver().Register(t.Context(), &in, nil)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go func() { ended <- l.Wait(ctx) }()
		return l, ended
	}
	version := func(r *memory.Registry) string {
		set, err := r.Lookup(context.Background(), web)
		if err != nil || len(set) != 1 {
			return fmt.Sprint(len(set), " instances, error: ", err)
		}
		return set[0].Version
	}
	for name, test := range map[string]func(t *testing.T, r *memory.Registry){
		"a later registration replaces it": func(t *testing.T, r *memory.Registry) {
			older, waited := register(t, r, "older")
			newer, _ := register(t, watchtest.NewMemoryClient(t, r), "newer")
			if err := <-waited; !errors.Is(err, registry.ErrReplaced) {
				t.Errorf("Wait returns %v, want ErrReplaced", err)
			}
			if err := older.Update(t.Context(), new(registry.Instance)); !errors.Is(err, registry.ErrReplaced) {
				t.Errorf("Update returns %v, want ErrReplaced", err)
			}
			if err := older.Release(t.Context()); err != nil || version(r) != "newer" {
				t.Errorf("Release returns %v, and %s is left", err, version(r))
			}
			if err := newer.Release(t.Context()); err != nil || version(r) == "newer" {
				t.Errorf("Release of the owner returns %v, and %s is left", err, version(r))
			}
		},
		"release": func(t *testing.T, r *memory.Registry) {
			l, waited := register(t, r, "1")
			for range 2 {
				if err := l.Release(t.Context()); err != nil {
					t.Errorf("Release: %v", err)
				}
			}
			if err := <-waited; err != nil {
				t.Errorf("Wait returns %v, want nil", err)
			}
			in := instance("a")
			if err := l.Update(t.Context(), &in); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Update of what was released returns %v", err)
			}
		},
		"loss": func(t *testing.T, r *memory.Registry) {
			l, waited := register(t, r, "1")
			r.Expire("web", "a")
			if err := <-waited; !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Wait returns %v, want ErrUnavailable", err)
			}
			in := instance("a")
			if err := l.Update(t.Context(), &in); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Update of what is lost returns %v", err)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Errorf("Release of what is lost returns %v", err)
			}
		},
		"a context that has ended": func(t *testing.T, r *memory.Registry) {
			l, _ := register(t, r, "1")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			in := instance("a")
			in.Version = "2"
			_, err := r.Driver().Register(ctx, &in, nil)
			for op, err := range map[string]error{"Register": err, "Update": l.Update(ctx, &in), "Release": l.Release(ctx), "Wait": l.Wait(ctx), "Renew": l.Renew(ctx), "CheckReplaced": l.CheckReplaced(ctx)} {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s returns %v", op, err)
				}
			}
			if got := version(r); got != "1" {
				t.Errorf("after calls whose context had ended the entry is %s", got)
			}
		},
		"what it was given may change afterwards": func(t *testing.T, r *memory.Registry) {
			in := instance("a")
			in.Metadata = map[string]string{"k": "v"}
			if _, err := r.Driver().Register(t.Context(), &in, nil); err != nil {
				t.Fatal(err)
			}
			in.Metadata["k"] = "changed"
			if set, err := r.Lookup(t.Context(), web); err != nil || set[0].Metadata["k"] != "v" {
				t.Errorf("found as %v, %v", set, err)
			}
		},
		"the same content again wakes no source": func(t *testing.T, r *memory.Registry) {
			register(t, r, "1")
			src := r.Driver().Watch(web)
			defer src.Close()
			first, err := src.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			register(t, r, "1")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if set, err := src.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Next returns %v, %v", set, err)
			}
			if again, err := src.Next(t.Context()); err != nil || again.Instances[0] != first.Instances[0] {
				t.Errorf("afterwards Next returns %v, %v, want the same pointer", again, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { test(t, watchtest.NewMemory(t, registry.Options{})) })
		})
	}
}

// For the race detector: everything at once, on a few IDs.
func TestRegistry_ConcurrentUse(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	var all sync.WaitGroup
	for i := range 8 {
		c := watchtest.NewMemoryClient(t, store)
		all.Go(func() {
			for j := range 30 {
				g, err := c.Register(t.Context(), instance(fmt.Sprint("i", (i+j)%3)))
				if err != nil {
					t.Error(err)
					return
				}
				in := g.Instance()
				in.Version = fmt.Sprint(i, j)
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				g.Update(ctx, in) // it may be another's by now
				cancel()
				store.SetStatus("web", in.ID, registry.Warning)
				store.Expire("web", in.ID)
				c.DropWatches()
				c.Calls()
				if set, err := c.Lookup(t.Context(), web); err == nil {
					for _, in := range set {
						in.Clone()
					}
				}
				if err := g.Deregister(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			for set := range c.Watch(ctx, web) {
				for _, in := range set {
					in.Clone()
				}
			}
		})
	}
	all.Wait()
	wantThere(t, store, false)
	if names, err := store.Services(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("everything was deregistered, and Services returns %v, %v", names, err)
	}
}
