package registry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestUpdate_ReplacesInstance(t *testing.T) {
	v2 := registry.Instance{Address: "10.0.0.1:80", Version: "2"}
	t.Run("replaces the content in place", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			w := watchtest.Watch(t, r, web)
			synctest.Wait()
			if err := g.Update(t.Context(), v2); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if got := w.Last().Set; len(got) != 1 || got[0].Version != "2" || got[0].ID != "a" {
				t.Errorf("the watch has %v", got)
			}
			if got := g.Instance(); got.Version != "2" || got.Service != "web" {
				t.Errorf("Instance says %+v", got)
			}
		})
	})
	t.Run("refuses another service or ID", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			r := newRegistry(t, newFake(), registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			for _, in := range []registry.Instance{{Service: "other", Address: "h:1"}, {ID: "b", Address: "h:1"}, {Address: "h"}} {
				if err := g.Update(t.Context(), in); !errors.Is(err, registry.ErrInvalid) {
					t.Errorf("Update(%+v) says %v", in, err)
				}
			}
			if got := g.Instance(); got.Address != "10.0.0.1:80" {
				t.Errorf("a refused update left %+v", got)
			}
		})
	})
	t.Run("goes back when the registry refuses the content", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := &strict{fake: newFake()}
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			if err := g.Update(t.Context(), v2); !errors.Is(err, registry.ErrInvalid) {
				t.Errorf("it says %v", err)
			}
			if got := g.Instance(); got.Version != "" {
				t.Errorf("a refused update left %+v", got)
			}
			if err := g.Err(); err != nil {
				t.Errorf("the old content is registered, and Err says %v", err)
			}
		})
	})
	t.Run("waits for a lost registration to be back, with the new content", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			d.fail(errors.New("down"))
			d.lose("web", "a")
			time.AfterFunc(time.Minute, func() { d.fail(nil) })
			if err := g.Update(t.Context(), v2); err != nil {
				t.Fatal(err)
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			if got := d.entries["web"]["a"]; got == nil || got.Version != "2" {
				t.Errorf("the store has %+v", got)
			}
		})
	})
	t.Run("of the same time leave the last one", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := newFake()
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			for i := range 20 {
				go g.Update(context.Background(), registry.Instance{Address: "10.0.0.1:80", Version: fmt.Sprint(i)})
			}
			time.Sleep(time.Second)
			d.mu.Lock()
			defer d.mu.Unlock()
			if got, want := d.entries["web"]["a"].Version, g.Instance().Version; got != want {
				t.Errorf("the store has version %q, and Instance says %q", got, want)
			}
		})
	})
	t.Run("of a lost registration goes back when the registry refuses the content", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := &sealed{fake: newFake()}
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			d.fail(errors.New("down"))
			d.lose("web", "a")
			synctest.Wait()
			time.AfterFunc(time.Minute, func() { d.fail(nil) })
			if err := g.Update(watchtest.Within(t, time.Hour), v2); !errors.Is(err, registry.ErrUnsupported) {
				t.Errorf("it says %v", err)
			}
			time.Sleep(registry.DefaultBackoffMax)
			synctest.Wait()
			if err := g.Err(); err != nil || !d.has("web", "a") || g.Instance().Version != "" {
				t.Errorf("the old content is not back: Err says %v, Instance %+v", err, g.Instance())
			}
		})
	})
	t.Run("that is refused leaves the older one", func(t *testing.T) {
		bubble.Test(t, func(t *testing.T) {
			d := &sealed{fake: newFake(), but: "3"}
			r := newRegistry(t, d, registry.Options{})
			g := watchtest.Register(t, r, instance("a"))
			open := d.shut()
			for _, version := range []string{"3", "2"} {
				go g.Update(context.Background(), registry.Instance{Address: "10.0.0.1:80", Version: version})
				synctest.Wait()
			}
			open()
			time.Sleep(registry.DefaultBackoffMax)
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			if got := d.entries["web"]["a"]; got == nil || got.Version != "3" || g.Instance().Version != "3" || g.Err() != nil {
				t.Errorf("the store has %+v, Instance says %+v, Err %v", got, g.Instance(), g.Err())
			}
		})
	})
}

// sealed takes no version but one.
type sealed struct {
	*fake
	but string
}

func (d *sealed) check(in *registry.Instance) error {
	if in.Version == "" || in.Version == d.but {
		return nil
	}
	return fmt.Errorf("%w: version %s", registry.ErrUnsupported, in.Version)
}

func (d *sealed) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	if err := d.enter(ctx, &d.registers); err != nil {
		return nil, err
	}
	if err := d.check(in); err != nil {
		return nil, err
	}
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return sealedLease{l, d}, nil
}

type sealedLease struct {
	registry.Lease
	d *sealed
}

func (l sealedLease) Update(ctx context.Context, in *registry.Instance) error {
	if err := l.d.check(in); err != nil {
		return err
	}
	return l.Lease.Update(ctx, in)
}

// strict refuses every update.
type strict struct{ *fake }

func (d *strict) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.fake.Register(ctx, in, prev)
	if err != nil {
		return nil, err
	}
	return refusing{l, registry.ErrInvalid}, nil
}

type refusing struct {
	registry.Lease
	err error
}

func (l refusing) Update(context.Context, *registry.Instance) error { return l.err }
