package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestAnEntryOutlivesItsOwnerByTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := newStore(t)
		owner := other.Client()
		register(t, owner, instance("a"))
		time.Sleep(time.Hour)
		wantThere(t, other, true)
		calls := owner.Calls()
		owner.Close()
		closed := time.Now()
		for set, err := range other.Watch(t.Context(), web) {
			if err != nil {
				t.Fatal(err)
			}
			if len(set) == 0 {
				break
			}
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

func TestTTLIsTheClientsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := memory.NewWith(memory.Config{TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		other := newClient(t, r)
		register(t, r, instance("a"))
		r.Close()
		time.Sleep(59 * time.Second)
		wantThere(t, other, true)
		time.Sleep(2 * time.Second)
		wantThere(t, other, false)
	})
}

func TestConfigIsValidated(t *testing.T) {
	for _, c := range []memory.Config{{TTL: -time.Second}, {TTL: time.Millisecond}, {Options: registry.Options{Burst: -1}}} {
		if r, err := memory.NewWith(c); r != nil || !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("NewWith(%+v) returns %v, %v", c, r, err)
		}
	}
}

// What registry.Lease says, of the driver alone: the portable layer makes up for a part of it.
func TestLease(t *testing.T) {
	announce := func(t *testing.T, r *memory.Registry, version string) (registry.Lease, <-chan error) {
		t.Helper()
		in := instance("a")
		in.Version = version
		l, err := r.Driver().Announce(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		kept := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go func() { kept <- l.Keep(ctx) }()
		return l, kept
	}
	version := func(r *memory.Registry) string {
		set, err := r.Lookup(context.Background(), web)
		if err != nil || len(set) != 1 {
			return fmt.Sprint(len(set), " instances, error: ", err)
		}
		return set[0].Version
	}
	for name, test := range map[string]func(t *testing.T, r *memory.Registry){
		"a later announcement replaces it": func(t *testing.T, r *memory.Registry) {
			older, kept := announce(t, r, "older")
			newer, _ := announce(t, newClient(t, r), "newer")
			if err := <-kept; !errors.Is(err, registry.ErrReplaced) {
				t.Errorf("Keep returns %v, want ErrReplaced", err)
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
			l, kept := announce(t, r, "1")
			for range 2 {
				if err := l.Release(t.Context()); err != nil {
					t.Errorf("Release: %v", err)
				}
			}
			if err := <-kept; err != nil {
				t.Errorf("Keep returns %v, want nil", err)
			}
			in := instance("a")
			if err := l.Update(t.Context(), &in); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Update of what was released returns %v", err)
			}
		},
		"loss": func(t *testing.T, r *memory.Registry) {
			l, kept := announce(t, r, "1")
			r.Expire("web", "a")
			if err := <-kept; !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Keep returns %v, want ErrUnavailable", err)
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
			l, _ := announce(t, r, "1")
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			in := instance("a")
			in.Version = "2"
			_, err := r.Driver().Announce(ctx, &in)
			for op, err := range map[string]error{"Announce": err, "Update": l.Update(ctx, &in), "Release": l.Release(ctx), "Keep": l.Keep(ctx)} {
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
			if _, err := r.Driver().Announce(t.Context(), &in); err != nil {
				t.Fatal(err)
			}
			in.Metadata["k"] = "changed"
			if set, err := r.Lookup(t.Context(), web); err != nil || set[0].Metadata["k"] != "v" {
				t.Errorf("found as %v, %v", set, err)
			}
		},
		"the same content again wakes nobody": func(t *testing.T, r *memory.Registry) {
			announce(t, r, "1")
			src := r.Driver().Follow(web)
			defer src.Close()
			first, err := src.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			announce(t, r, "1")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if set, err := src.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Next returns %v, %v", set, err)
			}
			if again, err := src.Next(t.Context()); err != nil || again[0] != first[0] {
				t.Errorf("afterwards Next returns %v, %v, want the same pointer", again, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, newStore(t)) })
		})
	}
}

// For the race detector: everything at once, on a few IDs.
func TestConcurrentUse(t *testing.T) {
	store := newStore(t)
	var all sync.WaitGroup
	for i := range 8 {
		c := newClient(t, store)
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
