package registry_test

import (
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

// churn makes the fake fail with another text every second, until d.fail(nil).
func churn(d *fake, seconds int) {
	for i := range seconds {
		d.fail(fmt.Errorf("%w: read tcp 127.0.0.1:%d->127.0.0.1:8500: connection reset by peer", registry.ErrUnavailable, 40000+i))
		time.Sleep(time.Second)
	}
}

func TestWatch_TellsOneOutageOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.put(instance("a"))
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		w := watchtest.Watch(t, r, web)
		synctest.Wait()
		churn(d, 50)
		if got := w.All(); len(got) != 2 {
			t.Errorf("%d pairs, want 2: the set, and one error", len(got))
		}
		if n := log.with("level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, &log.text)
		}
		if _, err := r.Lookup(t.Context(), web); err == nil || strings.Contains(err.Error(), ":40000->") {
			t.Errorf("a Lookup late in the outage is told the first reason: %v", err)
		}
		churn(d, 590)
		if n := log.with("level=WARN"); n != 5 || log.with("level=WARN", "watches=1 attempts=") != 5 {
			t.Errorf("%d warnings after 640 s, want the first and reminders after 1, 2, 4 and 8 minutes:\n%s", n, &log.text)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if got := w.All(); len(got) != 3 || got[2].Err != nil {
			t.Errorf("%d pairs after the outage, want 3", len(got))
		}
		if n := log.with("level=INFO", "watch recovered", "lasted=", "watches=1"); n != 1 {
			t.Errorf("the log says %s", &log.text)
		}
	})
}

func TestWatch_ManyTellOneOutageOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		var ws []*watchtest.Watcher
		for i := range 50 {
			ws = append(ws, watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("web", i)}))
		}
		synctest.Wait()
		churn(d, 130)
		if n := log.with("level=WARN"); n > 4 || log.with("level=WARN", "watches=50") < 2 {
			t.Errorf("%d warnings of 50 watches in 130 s, want the first, one with the number of watches, and two reminders:\n%s", n, &log.text)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if n := log.with("level=INFO"); n != 1 || log.with("level=INFO", "watches=50") != 1 {
			t.Errorf("the end is told in %d lines, want 1:\n%s", n, &log.text)
		}
		for _, w := range ws {
			if got := w.All(); len(got) != 3 || got[2].Err != nil {
				t.Fatalf("%d pairs, want 3: the set, the error, the set", len(got))
			}
		}
	})
}

func TestWatch_LogsOutageBesideEndlessOne(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &choosy{fake: newFake(), refuse: "broken"}
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		watchtest.Watch(t, r, registry.Query{Service: "broken"})
		for i := range 10 {
			watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("web", i)})
		}
		time.Sleep(5 * time.Hour)
		for range 2 {
			before := log.with("level=WARN")
			d.fail(errors.New("down"))
			time.Sleep(15 * time.Second)
			if log.with("level=WARN") == before || log.with("watches=11") == 0 {
				t.Errorf("an outage is not told beside an older one:\n%s", &log.text)
			}
			d.fail(nil)
			time.Sleep(time.Minute)
		}
	})
}

// choosy is a fake that cannot be read for one service.
type choosy struct {
	*fake
	refuse string
}

func (d *choosy) Watch(q registry.Query) registry.Source {
	if q.Service == d.refuse {
		broken := newFake()
		broken.fail(errors.New("500 Internal Server Error"))
		return broken.Watch(q)
	}
	return d.fake.Watch(q)
}

func TestWatch_LogsADenialForEachQuery(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		d.fail(fmt.Errorf("%w: no permission", registry.ErrDenied))
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		for _, service := range []string{"one", "two"} {
			watchtest.Watch(t, r, registry.Query{Service: service})
		}
		time.Sleep(30 * time.Second)
		for _, service := range []string{"one", "two"} {
			if n := log.with("level=WARN", "service="+service, "no permission"); n != 1 {
				t.Errorf("%d warnings about %s, want 1:\n%s", n, service, &log.text)
			}
		}
	})
}

func TestWatch_FlappingRegistryIsToldOnceAMinute(t *testing.T) {
	for name, err := range map[string]error{
		"unavailable": errors.New("connection reset by peer"),
		"denied":      fmt.Errorf("%w: no permission", registry.ErrDenied),
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				log := new(lines)
				r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
				watchtest.Watch(t, r, web)
				synctest.Wait()
				for range 120 {
					d.fail(err)
					time.Sleep(2 * time.Second)
					d.fail(nil)
					time.Sleep(3 * time.Second)
				}
				warned, recovered := log.with("level=WARN", "watch failed"), log.with("level=INFO", "watch recovered")
				if warned < 9 || warned > 11 || recovered != warned {
					t.Errorf("120 outages in ten minutes are told in %d warnings and %d recoveries, want one of each a minute", warned, recovered)
				}
				d.fail(err)
				time.Sleep(2 * time.Minute)
				if n := log.with("level=WARN", "watch failed"); n == warned {
					t.Errorf("an outage that begins soon after others is never told:\n%s", &log.text)
				}
			})
		})
	}
}

// A token that is revoked has every query denied.
func TestWatch_LogsAFewDenialsOfMany(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		log := new(lines)
		r := newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		for i := range 50 {
			watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("web", i)})
		}
		synctest.Wait()
		d.fail(fmt.Errorf("%w: no permission", registry.ErrDenied))
		time.Sleep(30 * time.Second)
		if n := log.with("level=WARN", "no permission"); n != 10 {
			t.Errorf("%d lines about 50 queries, want 10:\n%s", n, &log.text)
		}
		time.Sleep(10*time.Minute - 30*time.Second)
		if n := log.with("level=WARN", "no permission"); n > 60 || log.with("not_logged_before=") == 0 {
			t.Errorf("%d lines about 50 queries in ten minutes, want at most ten for the first failures and ten for each reminder:\n%s", n, &log.text)
		}
		d.fail(nil)
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		if n := log.with("level=INFO", "watch recovered"); n != 10 {
			t.Errorf("%d lines tell the end, want 10", n)
		}
	})
}
