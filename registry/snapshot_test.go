package registry_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSnapshot_ShowsWatches(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		if s := r.Snapshot(); len(s.Watches) != 0 || s.Registry != r.String() {
			t.Errorf("before the watch: %+v", s)
		}
		watchtest.Watch(t, r, web)
		watchtest.Watch(t, r, web)
		synctest.Wait()
		began := time.Now()
		w := r.Snapshot().Watches[0]
		if w.Query.Service != "web" || w.Readers != 2 || len(w.Instances) != 2 || !w.Known || w.Origin != registry.FromRegistry ||
			w.Err != nil || !w.StaleSince.IsZero() || w.Reads != 1 || w.Changes != 1 || w.ChangedAt.IsZero() || w.Failures != 0 {
			t.Errorf("a watch that works: %+v", w)
		}
		d.fail(errors.New("down"))
		time.Sleep(time.Minute)
		w = r.Snapshot().Watches[0]
		if len(w.Instances) != 2 || !errors.Is(w.Err, registry.ErrUnavailable) || w.StaleSince.Sub(began) > time.Second || w.Failures < 30 || w.Withheld {
			t.Errorf("in an outage: %+v", w)
		}
		d.lose("web", "a")
		d.lose("web", "b")
		d.fail(nil)
		time.Sleep(3 * time.Second)
		if w = r.Snapshot().Watches[0]; !w.Withheld || len(w.Instances) != 2 || w.Err == nil {
			t.Errorf("in a grace period: %+v", w)
		}
		time.Sleep(time.Minute)
		if w = r.Snapshot().Watches[0]; w.Withheld || len(w.Instances) != 0 || !w.Known || w.Err != nil || w.Changes != 2 {
			t.Errorf("after it: %+v", w)
		}
	})
}

func TestSnapshot_ShowsRegistrations(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		register := func(id string) registry.Registration {
			g := watchtest.Register(t, r, instance(id))
			return g
		}
		register("b")
		a := register("a")
		start := time.Now()
		s := r.Snapshot()
		if len(s.Registrations) != 2 || s.Registrations[0].Instance.ID != "a" || s.Registrations[1].Instance.ID != "b" {
			t.Fatalf("got %+v", s.Registrations)
		}
		if g := s.Registrations[0]; g.Err != nil || !g.Since.Equal(start) || g.Losses != 0 {
			t.Errorf("registered: %+v", g)
		}
		time.Sleep(time.Hour)
		d.fail(errors.New("down"))
		d.lose("web", "a")
		time.Sleep(time.Minute)
		g := r.Snapshot().Registrations[0]
		if !errors.Is(g.Err, registry.ErrUnavailable) || g.Since.Sub(start) < time.Hour || g.Since.Sub(start) > time.Hour+time.Second || g.Losses != 1 {
			t.Errorf("lost: %+v", g)
		}
		d.fail(nil)
		time.Sleep(time.Minute)
		if g := r.Snapshot().Registrations[0]; g.Err != nil || g.Losses != 1 || g.Since.Sub(start) < time.Hour+time.Minute {
			t.Errorf("registered again: %+v", g)
		}
		if err := a.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := r.Snapshot(); len(s.Registrations) != 1 || s.Registrations[0].Instance.ID != "b" {
			t.Errorf("after Deregister: %+v", s.Registrations)
		}
	})
}

func TestSnapshot_JSON(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		if got, err := json.Marshal(r.Snapshot()); err != nil || !strings.HasSuffix(string(got), `"watches":[],"registrations":[]}`) {
			t.Errorf("of nothing: %s, %v", got, err)
		}
		watchtest.Register(t, r, instance("a"))
		watchtest.Watch(t, r, web)
		synctest.Wait()
		d.fail(errors.New("down"))
		synctest.Wait()
		got, err := json.Marshal(r.Snapshot())
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{`"query":{"service":"web","any_status":true}`, `"readers":1`, `"known":true`, `"origin":"registry"`,
			`"error":"rollcall: watch web: unavailable: down"`, `"stale_since":"2000-`, `"registrations":[{"instance":{"id":"a"`} {
			if !strings.Contains(string(got), part) {
				t.Errorf("%s does not have %s", got, part)
			}
		}
		d.fail(nil)
	})
}

func TestSnapshot_HasNoWatchesAfterClose(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		watchtest.Watch(t, r, web)
		synctest.Wait()
		if n := len(r.Snapshot().Watches); n != 1 {
			t.Fatalf("%d watches before Close, want 1", n)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := len(r.Snapshot().Watches); n != 0 {
			t.Errorf("%d watches after Close, want none", n)
		}
	})
}
