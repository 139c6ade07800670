package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// eventLog collects events. Attempted events are left out unless they are wanted.
type eventLog struct {
	mu  sync.Mutex
	all []registry.Event
}

func (l *eventLog) add(e registry.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

func (l *eventLog) of(attempted bool) (events []registry.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.all {
		if (e.Kind == registry.Attempted) == attempted {
			events = append(events, e)
		}
	}
	return events
}

// text returns the events as one line each: kind, service or ID, and what came and went.
func (l *eventLog) text() (lines []string) {
	for _, e := range l.of(false) {
		line := fmt.Sprint(e.Kind, " ", e.Service, e.ID)
		for _, part := range []struct {
			sign string
			set  []*registry.Instance
		}{{"+", e.Added}, {"-", e.Removed}, {"~", e.Changed}} {
			for _, in := range part.set {
				line += " " + part.sign + in.ID
			}
		}
		if e.Err != nil {
			line += " !"
		}
		lines = append(lines, line)
	}
	return lines
}

func wantEvents(t *testing.T, l *eventLog, want ...string) {
	t.Helper()
	if got := l.text(); !slices.Equal(got, want) {
		t.Errorf("events:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestObserve_TellsWhatHappensToAWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"), instance("b"))
		r := newRegistry(t, d, registry.Options{})
		var log eventLog
		r.Observe(log.add)
		watchtest.Watch(t, r, web)
		synctest.Wait()
		d.put(instance("c"))
		time.Sleep(time.Minute)
		d.fail(errors.New("down"))
		time.Sleep(time.Minute)
		d.fail(nil)
		time.Sleep(time.Minute)
		d.lose("web", "a")
		d.lose("web", "b")
		d.lose("web", "c")
		time.Sleep(time.Minute)
		wantEvents(t, &log,
			"set_changed web +a +b",
			"set_changed web +c",
			"watch_failed web !",
			"watch_recovered web",
			"set_withheld web !",
			"set_changed web -a -b -c",
			"watch_recovered web",
		)
		recovered := log.of(false)[3]
		if recovered.Took < time.Minute || recovered.Took > 62*time.Second {
			t.Errorf("the outage of a minute lasted %v", recovered.Took)
		}
		if last := log.of(false)[5]; last.Instances != 0 {
			t.Errorf("%d instances are left", last.Instances)
		}
	})
}

func TestObserve_TellsWhatHappensToARegistration(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{})
		var log eventLog
		r.Observe(log.add)
		g := watchtest.Register(t, r, instance("a"))
		d.fail(errors.New("down"))
		d.lose("web", "a")
		time.Sleep(time.Minute)
		d.fail(nil)
		time.Sleep(time.Minute)
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantEvents(t, &log, "registered weba", "registration_lost weba !", "reregistered weba", "deregistered weba")
		if took := log.of(false)[2].Took; took < time.Minute || took > 62*time.Second {
			t.Errorf("the entry was lost for %v, want a minute", took)
		}
		ops := map[string]int{}
		for _, e := range log.of(true) {
			if e.Err != nil {
				ops[e.Op+" failed"]++
			} else {
				ops[e.Op]++
			}
		}
		if ops["register"] != 2 || ops["register failed"] == 0 || ops["deregister"] != 1 {
			t.Errorf("attempts: %v", ops)
		}
	})
}

// A slow observer delays nothing. It loses the oldest events, and is told how many.
func TestObserve_ASlowObserverLosesTheOldest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r := newRegistry(t, d, registry.Options{Burst: 1 << 20})
		gate := make(chan struct{})
		var log eventLog
		r.Observe(func(e registry.Event) {
			if e.Kind == registry.SetChanged {
				<-gate
				log.add(e)
			}
		})
		watchtest.Watch(t, r, web)
		const changes = 2 * registry.MaxPendingEvents
		for i := range changes {
			in := instance("a")
			in.Version = fmt.Sprint(i)
			d.put(in)
			synctest.Wait()
		}
		close(gate)
		synctest.Wait()
		var lost uint64
		for _, e := range log.of(false) {
			lost += e.Lost
		}
		all := log.of(false)
		if len(all)+int(lost) < changes || lost == 0 {
			t.Errorf("%d events and %d lost ones, of %d", len(all), lost, changes)
		}
		if last := all[len(all)-1]; last.Changed[0].Version != fmt.Sprint(changes-1) {
			t.Errorf("the newest event has version %s: the oldest are to be lost", last.Changed[0].Version)
		}
	})
}

func TestObserve_StopEndsIt(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		var log eventLog
		stop := r.Observe(log.add)
		stop()
		stop()
		watchtest.Register(t, r, instance("a"))
		synctest.Wait()
		wantEvents(t, &log)
	})
}

func TestObserve_CloseDeliversWhatItCauses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		var log eventLog
		r.Observe(log.add)
		watchtest.Register(t, r, instance("a"))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		wantEvents(t, &log, "registered weba", "deregistered weba")
		r.Observe(log.add)() // of a closed Registry: nothing to see, and nothing to stop
	})
}

func TestObserve_CloseWaitsForAStuckObserverOnlyForAWhile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newRegistry(t, newFake(), registry.Options{})
		stuck := make(chan struct{})
		r.Observe(func(registry.Event) { <-stuck })
		watchtest.Register(t, r, instance("a"))
		start := time.Now()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("Close took %v", took)
		}
		close(stuck)
	})
}

func TestObserve_AnObserverMayCallTheRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		r := newRegistry(t, d, registry.Options{})
		var seen []int
		var stop func()
		stop = r.Observe(func(e registry.Event) {
			seen = append(seen, len(r.Snapshot().Watches))
			stop()
		})
		watchtest.Watch(t, r, web)
		synctest.Wait()
		if !slices.Equal(seen, []int{1}) {
			t.Errorf("got %v", seen)
		}
	})
}

func TestEvent_JSON(t *testing.T) {
	e := registry.Event{Kind: registry.SetWithheld, Time: time.Unix(0, 0).UTC(), Service: "web", Took: 1500 * time.Millisecond, Err: registry.ErrUnavailable}
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"kind":"set_withheld","time":"1970-01-01T00:00:00Z","service":"web","took":1.5,"error":"unavailable"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for k := registry.SetChanged; k <= registry.Attempted; k++ {
		text, err := k.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back registry.EventKind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Errorf("%v reads back as %v, %v", k, back, err)
		}
	}
	var k registry.EventKind
	if err := k.UnmarshalText([]byte("nonsense")); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if _, err := registry.EventKind(99).MarshalText(); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
