package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// failWithOtherTexts makes every call fail, each second with another text, as a source port makes it.
func (d *fake) failWithOtherTexts(t *testing.T) (heal func()) {
	ctx, cancel := context.WithCancel(t.Context())
	fail := func(i int) { d.fail(fmt.Errorf("read tcp 127.0.0.1:%d: connection reset", 40000+i)) }
	fail(0)
	var done sync.WaitGroup
	done.Go(func() {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for i := 1; ctx.Err() == nil; i++ {
			fail(i)
			select {
			case <-second.C:
			case <-ctx.Done():
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
		d.fail(nil)
	}
}

// logged returns a Registry over d, and its log.
func logged(t *testing.T, d registry.Driver) (*registry.Registry, *lines) {
	log := new(lines)
	return watchtest.NewRegistry(t, d, registry.Options{Logger: slog.New(slog.NewTextHandler(log, nil)), KeepOnClose: true}), log
}

func TestRegistration_OutageIsOneRecordWithDifferentTexts(t *testing.T) {
	for _, n := range []int{1, 50} {
		t.Run(fmt.Sprint(n, " registrations"), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				r, log := logged(t, d)
				var all []registry.Registration
				for i := range n {
					all = append(all, watchtest.Register(t, r, instance(fmt.Sprint(i))))
				}
				synctest.Wait()
				heal := d.failWithOtherTexts(t)
				for i := range n {
					d.lose("web", fmt.Sprint(i))
				}
				time.Sleep(30 * time.Second)
				want := min(n, 2) // one at once, and one with the number of all
				if got := log.with(""); got != want || log.with("registration lost, re-registering", "connection reset") != want {
					t.Errorf("30 s of outage are %d records, want %d:\n%s", got, want, log.text.String())
				}
				if log.with(fmt.Sprintf("registrations=%d attempts=", n)) != 1 {
					t.Errorf("no record has the number of registrations that fail:\n%s", log.text.String())
				}
				time.Sleep(18 * time.Minute)            // a reminder comes with the next failure after it is due
				if got := log.with(""); got != want+5 { // after 1, 2, 4, 8 and 16 minutes
					t.Errorf("18 minutes of outage are %d records, want %d:\n%s", got, want+5, log.text.String())
				}
				heal()
				time.Sleep(registry.DefaultBackoffMax)
				synctest.Wait()
				if log.with("registered again", fmt.Sprintf("registrations=%d", n)) != 1 || log.with("") != want+6 {
					t.Errorf("the end of the outage is not one record:\n%s", log.text.String())
				}
				for _, g := range all {
					if err := g.Err(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestRegistration_AnotherKindOfFailureIsNews(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := newFake()
		r, log := logged(t, d)
		g := watchtest.Register(t, r, instance("a"))
		synctest.Wait()
		d.fail(errors.New("down"))
		d.lose("web", "a")
		time.Sleep(10 * time.Second)
		d.fail(fmt.Errorf("%w: token expired", registry.ErrDenied))
		time.Sleep(10 * time.Second)
		if log.with("") != 2 || log.with("token expired") != 1 {
			t.Errorf("the records are\n%s", log.text.String())
		}
		d.fail(errors.New("down again"))
		time.Sleep(2 * registry.DefaultBackoffMax)
		if err := g.Err(); err == nil || err.Error() != "rollcall: renew web/a: unavailable: down again" {
			t.Errorf("Err returns %v, want the newest failure", err)
		}
	})
}

func TestRegistration_FlappingStoreIsToldOnceAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r, log := logged(t, &fickle{fake: newFake()})
		watchtest.Register(t, r, instance("a"))
		time.Sleep(10 * time.Minute)
		if n := log.with(""); n < 10 || n > 30 {
			t.Errorf("10 minutes of a store that drops each entry at once are %d records:\n%s", n, log.text.String())
		}
	})
}

func TestRegister_LogsEachMinuteWhileTheRegistryIsDown(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T, d *fake){
		"refusing":  func(t *testing.T, d *fake) { d.failWithOtherTexts(t) },
		"hanging":   func(_ *testing.T, d *fake) { d.shut() },
		"in a herd": func(t *testing.T, d *fake) { d.failWithOtherTexts(t) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := newFake()
				begin(t, d)
				r, log := logged(t, d)
				n := 1
				if name == "in a herd" {
					n = 50
				}
				for i := range n {
					go r.Register(watchtest.Within(t, time.Hour), instance(fmt.Sprint(i)))
				}
				if name == "hanging" {
					time.Sleep(10 * time.Second)
				}
				synctest.Wait()
				if got := log.with("op=register"); got != 1 {
					t.Errorf("it begins with %d records, want one", got)
				}
				for i := range 10 {
					time.Sleep(time.Minute)
					synctest.Wait()
					// In a herd a second record says how many there are, and its time shifts the others.
					if got, least := log.with("op=register"), i+2; got < least || got > least+1 {
						t.Errorf("after %d minutes there are %d records:\n%s", i+1, got, log.text.String())
					}
				}
			})
		})
	}
}
