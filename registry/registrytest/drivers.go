package registrytest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// drivers is about what the portable layer makes up for, or does in failures alone: it calls the driver itself.
var drivers = []promise{
	{
		name:      "lost answers",
		registers: true,
		needs:     "NewDriver",
		why: "If the answers to Register are lost, the next attempt is given the lease of the last one, and there is one entry all the " +
			"time. Deregister removes it, and nothing of an earlier attempt comes back.",
		check: lostAnswers,
	},
	{
		name:      "lost answers of a register that gives up",
		registers: true,
		needs:     "NewDriver",
		why: "If Register gives up although an attempt was carried out, the Release of the lease that came beside the error removes " +
			"the entry: the caller has no handle to remove it with.",
		check: lostAnswersOfARegisterThatGivesUp,
	},
	{
		name:      "check replaced",
		registers: true,
		needs:     "NewDriver",
		why: "CheckReplaced returns ErrReplaced if and only if a newer registration has the ID, in this process or in another. A process " +
			"that was stopped for long overwrites a newer one otherwise, or never comes back.",
		check: checkReplaced,
	},
	{
		name:      "previous lease",
		registers: true,
		needs:     "NewDriver",
		why: "Register with a previous lease replaces its entry in one step, whether that still exists or not, and is no newer " +
			"registration to itself. Release then leaves nothing behind.",
		check: previousLease,
	},
	{
		name:      "wait",
		registers: true,
		needs:     "NewDriver",
		why: "Wait returns nil after Release, ErrReplaced if a newer registration has the ID, and the context's error if that ends, " +
			"which leaves the entry as it is.",
		check: wait,
	},
}

// driver returns a new driver, which is closed at the end.
func (t *trial) driver() registry.Driver {
	t.Helper()
	d := t.NewDriver(t.T)
	if d == nil {
		t.Fatal("Config.NewDriver returned nil")
	}
	t.Cleanup(func() {
		if t.stuck == "" {
			if err := d.Close(); err != nil {
				t.Errorf("Close of the driver: %v", err)
			}
		}
	})
	return d
}

// attempt registers in with a driver, which is released at the end.
func (t *trial) attempt(d registry.Driver, in registry.Instance, prev registry.Lease) registry.Lease {
	t.Helper()
	l, err := d.Register(t.inTime(), &in, prev)
	if err != nil || l == nil {
		t.Fatalf("Register(%s/%s) of the driver returns %v, %v", in.Service, in.ID, l, err)
	}
	t.Cleanup(func() { t.release(l) })
	return l
}

func (t *trial) release(l registry.Lease) {
	t.Helper()
	if err := l.Release(t.inTime()); err != nil {
		t.Errorf("Release: %v", err)
	}
}

// lossy is a driver the answers of which are lost: Register fails although it was carried out.
type lossy struct {
	registry.Driver
	mu   sync.Mutex
	lose int // how many answers are still to be lost
	lost int
}

func (d *lossy) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l, err := d.Driver.Register(ctx, in, prev)
	if err != nil {
		return l, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost == d.lose {
		return l, nil
	}
	d.lost++
	return l, fmt.Errorf("%w: the answer was lost", registry.ErrUnavailable)
}

// over returns a Registry over d, which is closed at the end.
func (t *trial) over(d registry.Driver) *registry.Registry {
	t.Helper()
	r, err := registry.New(d, registry.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { t.close(r) })
	return r
}

func lostAnswers(t *trial) {
	other := t.client()
	w := t.watch(t.client(), t.all())
	w.until("a first set", known)
	d := &lossy{Driver: t.NewDriver(t.T), lose: 3}
	r := t.over(d)
	g := t.register(r, t.instance("a"))
	w.until("the instance", exactly("a"))
	seen := w.count() - 1
	t.stir(other, w, 2)
	w.wantKept(seen, "a")
	if err := g.Err(); err != nil || d.lost != d.lose {
		t.Errorf("after %d lost answers Err is %v", d.lost, err)
	}
	in := t.instance("a")
	in.Version = "updated"
	t.update(g, in)
	w.until("an update", having("a", in.Version))
	t.deregister(g)
	t.wantGone(other, w, "a")
}

func lostAnswersOfARegisterThatGivesUp(t *trial) {
	other := t.client()
	w := t.watch(t.client(), t.all())
	w.until("a first set", known)
	d := &lossy{Driver: t.NewDriver(t.T), lose: 1 << 30}
	r := t.over(d)
	t.ends("Register whose answers are lost", func() {
		g, err := r.Register(t.moment(), t.instance("a"))
		t.wantError(err, "register", registry.ErrUnavailable)
		if g != nil {
			t.Errorf("beside the error %v there is a registration", err)
		}
	})
	t.close(r) // which waits for the release
	if t.stuck == "" {
		t.wantGone(other, w, "a")
	}
}

func checkReplaced(t *trial) {
	d1, d2 := t.driver(), t.driver()
	w := t.watch(t.client(), t.all())
	older := t.attempt(d1, t.inVersion("older"), nil)
	w.until("the entry", having("a", "older"))
	t.wantNotReplaced("with its own entry", older)
	newer := t.attempt(d2, t.inVersion("newer"), nil)
	w.until("the newer entry", having("a", "newer"))
	t.wantReplaced("with the entry of another driver", older)
	t.wantNotReplaced("of the newer one", newer)
	t.release(older)
	t.stir(t.client(), w, 2)
	if got := w.last().version("a"); got != "newer" {
		t.Errorf("after the Release of the older lease the entry has version %q, want newer", got)
	}
	t.wantNotReplaced("of the newer one, after a Release of the older one", newer)
	newest := t.attempt(d2, t.inVersion("newest"), nil)
	t.wantReplaced("with a newer entry of the same driver", newer)
	t.release(newest)
	t.wantNotReplaced("without an entry", newest)
	t.wantNotReplaced("of the first one, without an entry", older)
}

// wantReplaced waits until CheckReplaced says that l was replaced: an agent may have to ask others.
func (t *trial) wantReplaced(when string, l registry.Lease) {
	t.Helper()
	t.eventually(when+" CheckReplaced returns ErrReplaced", func() bool {
		err := l.CheckReplaced(t.inTime())
		if err != nil && !errors.Is(err, registry.ErrReplaced) {
			t.Fatalf("%s CheckReplaced returns %v", when, err)
		}
		return err != nil
	})
}

// wantNotReplaced fails if CheckReplaced says even once that l was replaced: its registration would yield to nothing.
func (t *trial) wantNotReplaced(when string, l registry.Lease) {
	t.Helper()
	for range 3 {
		if err := l.CheckReplaced(t.inTime()); err != nil {
			t.Errorf("%s CheckReplaced returns %v, want nil", when, err)
			return
		}
	}
}

func previousLease(t *trial) {
	d := t.driver()
	r := t.client()
	w := t.watch(t.client(), t.all())
	l := t.attempt(d, t.inVersion("0"), nil)
	w.until("the entry", having("a", "0"))
	seen := w.count() - 1
	l = t.attempt(d, t.inVersion("0"), l)
	for _, version := range []string{"1", "2"} {
		l = t.attempt(d, t.inVersion(version), l)
		w.until("the new content", having("a", version))
		t.wantNotReplaced("after a Register with the previous lease", l)
	}
	t.stir(r, w, 2)
	w.wantKept(seen, "a")
	t.release(l)
	t.wantGone(r, w, "a")
	l = t.attempt(d, t.inVersion("3"), l) // what the previous lease had is gone
	w.until("the entry again", having("a", "3"))
	t.release(l)
	t.wantGone(r, w, "a")
}

func wait(t *trial) {
	d1, d2 := t.driver(), t.driver()
	w := t.watch(t.client(), t.all())
	l := t.attempt(d1, t.inVersion("1"), nil)
	w.until("the entry", having("a", "1"))
	ctx, cancel := context.WithCancel(t.inTime())
	ended := waiting(ctx, l)
	cancel()
	t.wantEnd("its context ended", ended, context.Canceled)

	l = t.attempt(d1, t.inVersion("2"), l)
	w.until("the entry, which was left", having("a", "2"))
	ended = waiting(t.inTime(), l)
	newer := t.attempt(d2, t.inVersion("3"), nil)
	t.wantEnd("a newer registration has the ID", ended, registry.ErrReplaced)
	w.until("the newer entry", having("a", "3"))

	ended = waiting(t.inTime(), newer)
	t.release(newer)
	t.wantEnd("its entry was released", ended, nil)
}

// waiting calls Wait, and returns a channel for what that returns.
func waiting(ctx context.Context, l registry.Lease) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- l.Wait(ctx) }()
	return ended
}

func (t *trial) wantEnd(why string, ended <-chan error, want error) {
	t.Helper()
	t.ends("Wait, when "+why, func() {
		if err := <-ended; want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("when %s, Wait returns %v, want %v", why, err, want)
		}
	})
}
