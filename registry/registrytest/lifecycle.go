package registrytest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// lifecycle comes first: it tells whether a case can end at all.
var lifecycle = []promise{
	{
		name: "close ends a watch",
		why: "Close ends every watch, with ErrClosed, though the driver is in the middle of waiting for a change. " +
			"A Next that does not heed its context hangs the shutdown of the whole program.",
		check: closeEndsAWatch,
	},
	{
		name:      "close ends a register",
		registers: true,
		why: "Register and Close may meet in any order: Register returns nil or ErrClosed, and Close returns. " +
			"Programs are stopped while they start.",
		check: closeEndsARegister,
	},
	{
		name:      "close ends a register in an outage",
		registers: true,
		needs:     "Break",
		why: "A Register that tries again and again ends with ErrClosed when the Registry is closed. " +
			"A program that cannot reach the registry must be stoppable.",
		check: closeEndsARegisterInAnOutage,
	},
	{
		name:      "calls after close",
		registers: true,
		why: "After Close every call answers ErrClosed, and at once, but for a Deregister of what Close has deregistered. None " +
			"blocks, panics or works on by half.",
		check: callsAfterClose,
	},
	{
		name:  "close twice",
		why:   "Close is idempotent, and may be called by several at once: clean-up code is written with defer, in more than one place.",
		check: closeTwice,
	},
	{
		name:      "close deregisters",
		registers: true,
		why: "Close deregisters what is still registered, and nothing else: a program whose last act is Close must not leave an " +
			"entry behind that still passes.",
		check: closeDeregisters,
	},
	{
		name:      "keep on close",
		registers: true,
		needs:     "KeepOnClose",
		why: "With KeepOnClose, Close deregisters nothing: what was registered stays until its lease expires, as if the process " +
			"had died. No client sees a restart within that time.",
		check: keepOnClose,
	},
}

func closeEndsAWatch(t *trial) {
	for i := range 10 { // Close comes before the driver has begun to wait, and later each time
		r := t.client()
		w := t.watch(r, t.all())
		w.until("a first set", known)
		for range 100 * i * i {
			runtime.Gosched()
		}
		t.close(r)
		if t.stuck != "" || !t.closes("the watch of the client that was closed", w.ended) {
			return
		}
		t.wantError(w.last().err, "watch", registry.ErrClosed)
	}
}

func closeEndsARegister(t *trial) {
	for i := range 10 {
		r := t.client()
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, err = r.Register(context.Background(), t.instance(fmt.Sprint("a", i)))
		}()
		t.close(r)
		if t.stuck != "" || !t.closes("Register on a client that was closed", done) {
			return
		}
		if err != nil && !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Register says %v, want nil or ErrClosed", err)
		}
	}
	t.sweep(t.client())
}

func closeEndsARegisterInAnOutage(t *trial) {
	r := t.client()
	w := t.watch(r, t.all())
	w.until("a first set", known)
	heal := t.outage()
	w.until("an error in the outage", failed)
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err = r.Register(context.Background(), t.instance("a"))
	}()
	t.close(r)
	if t.stuck != "" || !t.closes("Register on a client that was closed", done) {
		return
	}
	t.wantError(err, "register", registry.ErrClosed)
	heal()
	if set := t.lookup(t.all()); len(set) != 0 {
		t.Errorf("the Register that failed has left %v", ids(set))
	}
}

func callsAfterClose(t *trial) {
	r := t.client()
	g := t.register(r, t.instance("a"))
	t.close(r)
	if t.stuck != "" {
		return
	}
	ctx := context.Background()
	t.ends("one of the calls after Close", func() {
		_, err := r.Register(ctx, t.instance("b"))
		t.wantError(err, "register", registry.ErrClosed)
		_, err = r.Lookup(ctx, t.all())
		t.wantError(err, "lookup", registry.ErrClosed)
		_, err = r.Services(ctx)
		t.wantError(err, "services", registry.ErrClosed)
		t.wantError(g.Update(ctx, t.instance("a")), "update", registry.ErrClosed)
		if err := g.Deregister(ctx); err != nil {
			t.Errorf("Deregister of what Close has deregistered already: %v", err)
		}
		if err := g.Err(); !errors.Is(err, registry.ErrClosed) {
			t.Errorf("Err says %v, want ErrClosed", err)
		}
		pairs := 0
		for set, err := range r.Watch(ctx, t.all()) {
			pairs++
			t.wantError(err, "watch", registry.ErrClosed)
			if set != nil {
				t.Errorf("Watch yields %v", ids(set))
			}
		}
		if pairs != 1 {
			t.Errorf("Watch yields %d pairs, want 1", pairs)
		}
	})
	t.sweep(t.client())
}

func closeTwice(t *trial) {
	r := t.client()
	t.watch(r, t.all()).until("a first set", known)
	t.ends("one of several Close", func() {
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if err := r.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
		}
		all.Wait()
	})
	t.close(r)
}

func closeDeregisters(t *trial) {
	owner, other := t.client(), t.client()
	w := t.watch(other, t.all())
	t.register(other, t.instance("other"))
	t.register(owner, t.instance("a"))
	t.register(owner, t.instance("b"))
	w.until("the instances", exactly("a", "b", "other"))
	seen := w.count() - 1
	t.close(owner)
	if t.stuck == "" {
		t.wantGone(other, w, "a", "b")
		w.wantKept(seen, "other")
	}
}

func keepOnClose(t *trial) {
	owner, other := t.keeper(), t.client()
	w := t.watch(other, t.all())
	t.register(owner, t.instance("a"))
	w.until("the instance", exactly("a"))
	seen := w.count()
	t.close(owner)
	if t.stuck != "" {
		return
	}
	closed := time.Now()
	t.stir(other, w, 2)
	if took := time.Since(closed); took < time.Second { // a slow machine may take as long as a lease
		w.wantKept(seen, "a")
	}
	t.sweep(other)
}
