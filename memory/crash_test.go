package memory_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestRegistry_CloseDeregisters(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		other := watchtest.NewMemory(t, registry.Options{})
		owner := watchtest.NewMemoryClient(t, other)
		watchtest.Register(t, owner, instance("a"))
		if err := owner.Close(); err != nil {
			t.Fatal(err)
		}
		wantThere(t, other, false)
	})
}

func TestRegistry_CrashLeavesEntriesToExpire(t *testing.T) {
	for name, fault := range map[string]func(r *memory.Registry){
		"":                     func(*memory.Registry) {},
		"in an outage":         func(r *memory.Registry) { r.Fail(errors.New("down")) },
		"cut off":              func(r *memory.Registry) { r.Hang() },
		"of a store that lost": func(r *memory.Registry) { r.Fail(errors.New("down")); synctest.Wait(); r.Hang() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				owner, err := memory.NewWith(memory.Config{Options: registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
				if err != nil {
					t.Fatal(err)
				}
				other := watchtest.NewMemoryClient(t, owner)
				g := watchtest.Register(t, owner, instance("a"))
				w := watchtest.Watch(t, owner, web)
				reading := make(chan error, 1)
				synctest.Wait()
				fault(owner)
				time.Sleep(registry.DefaultBackoffMax)
				go func() {
					_, err := owner.Register(context.Background(), instance("b"))
					reading <- err
				}()
				synctest.Wait()
				if name == "" {
					if err := <-reading; err != nil {
						t.Fatal(err)
					}
					log.Reset()
				}
				start := time.Now()
				owner.Crash()
				if took := time.Since(start); took != 0 {
					t.Errorf("Crash took %v", took)
				}
				if name == "" && log.Len() > 0 {
					t.Errorf("a process that died has logged %s", &log)
				}
				if name != "" {
					if err := <-reading; !errors.Is(err, registry.ErrClosed) {
						t.Errorf("Register returns %v", err)
					}
				}
				synctest.Wait()
				if got := w.All(); !errors.Is(got[len(got)-1].Err, registry.ErrClosed) {
					t.Errorf("the watch has yielded %v", got)
				}
				if err := g.Err(); !errors.Is(err, registry.ErrClosed) {
					t.Errorf("Err returns %v", err)
				}
				wantThere(t, other, true)
				time.Sleep(memory.DefaultTTL)
				wantThere(t, other, false)
				owner.Heal() // nothing comes back to life
				time.Sleep(time.Hour)
				wantThere(t, other, false)
			})
		})
	}
}

func TestRegistry_RefuseWrites(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := watchtest.NewMemory(t, registry.Options{})
		g := watchtest.Register(t, r, instance("a"))
		full := errors.New("no space")
		r.RefuseWrites(full)
		second, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Register(second, instance("b")); !errors.Is(err, full) || !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("Register returns %v", err)
		}
		in := instance("a")
		in.Version = "2"
		if err := g.Update(second, in); err == nil {
			t.Error("Update succeeds")
		}
		time.Sleep(time.Hour) // the entry is renewed
		wantThere(t, r, true)
		if err := g.Deregister(t.Context()); err != nil {
			t.Errorf("Deregister returns %v", err)
		}
		wantThere(t, r, false)
		r.Heal()
		watchtest.Register(t, r, instance("b"))
	})
}
