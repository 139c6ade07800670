package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestOptions_RateLimitsAllReads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := spinning{newFake()}
		r := newRegistry(t, d, registry.Options{Rate: 5})
		for i := range 10 {
			watchtest.Watch(t, r, registry.Query{Service: fmt.Sprint("s", i)})
		}
		time.Sleep(10 * time.Second)
		// 5 at once, and then 5 a second.
		if n := d.count(&d.nexts); n < 53 || n > 56 {
			t.Errorf("%d reads in 10 s, want 55", n)
		}
		began := time.Now()
		if _, err := r.Services(t.Context()); err != nil || time.Since(began) == 0 {
			t.Errorf("Services returns %v after %v", err, time.Since(began))
		}
		if set, err := r.Lookup(watchtest.Within(t, time.Second), registry.Query{Service: "another"}); set != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lookup returns %v, %v", set, err)
		}
	})
}

func TestNew_RefusesANegativeRate(t *testing.T) {
	if _, err := registry.New(newFake(), registry.Options{Rate: -1}); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("New returns %v", err)
	}
}

// noisy is a driver whose failures no call returns.
type noisy struct {
	*fake
	report func(error)
}

func (d *noisy) Properties() registry.Properties {
	return registry.Properties{Name: "noisy", Subscribe: func(report func(error)) { d.report = report }}
}

func TestNew_LogsWhatTheDriverReports(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		log := new(lines)
		d := &noisy{fake: newFake()}
		newRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
		for range 180 {
			d.report(errors.New("token file: permission denied"))
			time.Sleep(time.Second)
		}
		d.report(errors.New("certificate file: it has expired"))
		if n := log.with("level=WARN", "registry=noisy", "token file: permission denied"); n != 3 {
			t.Errorf("a failure that is reported each second for 3 minutes is logged %d times, want 3", n)
		}
		if n := log.with("it has expired"); n != 1 {
			t.Errorf("another failure is logged %d times", n)
		}
	})
}
