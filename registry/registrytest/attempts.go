package registrytest

import (
	"errors"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// attempts is about calls of Register and Update that fail, and what they may leave in the store.
var attempts = []promise{
	{
		name:      "attempt whose answer is lost",
		registers: true,
		needs:     "LoseAnswers Break NewDriver",
		why: "An attempt that fails may have been carried out. Register then returns a lease beside the error, with which the entry is " +
			"removed or registered again: otherwise an instance that never came up is called until its entry expires.",
		check: attemptWhoseAnswerIsLost,
	},
	{
		name:      "update whose answer is lost",
		registers: true,
		needs:     "LoseAnswers NewDriver",
		why: "An Update that fails may have been carried out. The next Update with the same content succeeds, and the lease keeps " +
			"its entry: Registry calls Update until it succeeds.",
		check: updateWhoseAnswerIsLost,
	},
	{
		name:      "failed attempt to register again",
		registers: true,
		needs:     "RefuseWrites Break NewDriver",
		why: "If attempts to register again fail, the lease of the last one removes what the registration still has in the store. " +
			"Registry keeps no other lease.",
		check: failedAttemptToRegisterAgain,
	},
	{
		name:      "failed attempt of another registration",
		registers: true,
		needs:     "RefuseWrites Break NewDriver",
		why: "The release of an attempt that wrote nothing leaves the entry of an earlier registration of the ID alone, also one of the " +
			"same process: that is still registered.",
		check: failedAttemptOfAnotherRegistration,
	},
}

// writeFaults are the hooks that let attempts fail: with an answer of the store, and before they reach it.
func (t *trial) writeFaults() []func(*testing.T) (heal func()) {
	return []func(*testing.T) (heal func()){t.RefuseWrites, t.Break}
}

// fails makes an attempt to register in, which must fail, and returns the lease that Registry keeps then: the lease beside the error, or
// prev if there is none.
func (t *trial) fails(d registry.Driver, in registry.Instance, prev registry.Lease) registry.Lease {
	t.Helper()
	l, err := d.Register(t.inTime(), &in, prev)
	if err == nil {
		t.Fatalf("Register(%s/%s) of the driver succeeds, though a hook of Config lets it fail", in.Service, in.ID)
	}
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Register(%s/%s) of the driver returns %v, want ErrUnavailable", in.Service, in.ID, err)
	}
	if l == nil {
		return prev
	}
	return l
}

// releaseSoon releases l, which may be nil, after a fault has ended. A driver may need an attempt or two to reconnect.
func (t *trial) releaseSoon(l registry.Lease) {
	t.Helper()
	if l != nil {
		t.eventually("Release succeeds", func() bool { return l.Release(t.inTime()) == nil })
	}
}

func attemptWhoseAnswerIsLost(t *trial) {
	d := t.driver()
	r := t.client()
	w := t.watch(t.client(), t.all())
	t.stir(r, w, 1)

	heal := t.once(t.LoseAnswers(t.T))
	l := t.fails(d, t.inVersion("1"), nil)
	w.until("the entry, though the answer was lost", having("a", "1"))
	heal()
	t.releaseSoon(l)
	t.wantGone(r, w, "a")

	heal = t.once(t.LoseAnswers(t.T))
	l = t.fails(d, t.inVersion("2"), nil)
	l = t.fails(d, t.inVersion("3"), l)
	w.until("the entry again, though the answer was lost", func(p pair) bool { return known(p) && p.has("a") })
	heal()
	seen := w.count() - 1
	l = t.attempt(d, t.inVersion("4"), l)
	w.until("the newest content", having("a", "4"))
	w.wantKept(seen, "a")
	t.wantNotReplaced("after attempts without an answer", l)
	t.release(l)
	t.wantGone(r, w, "a")

	heal = t.once(t.LoseAnswers(t.T))
	l = t.fails(d, t.inVersion("5"), nil)
	w.until("the entry once more", having("a", "5"))
	heal()
	heal = t.once(t.Break(t.T))
	l = t.fails(d, t.inVersion("6"), l) // does not reach the store
	heal()
	t.releaseSoon(l)
	t.wantGone(r, w, "a")
}

func updateWhoseAnswerIsLost(t *trial) {
	r := t.client()
	w := t.watch(t.client(), t.all())
	l := t.attempt(t.driver(), t.inVersion("1"), nil)
	w.until("the entry", having("a", "1"))
	seen := w.count() - 1
	heal := t.once(t.LoseAnswers(t.T))
	in := t.inVersion("2")
	if err := l.Update(t.inTime(), &in); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Update returns %v though the answer was lost, want ErrUnavailable", err)
	}
	w.until("the new content, though the answer was lost", having("a", "2"))
	heal()
	if err := l.Update(t.inTime(), &in); err != nil {
		t.Errorf("the next Update returns %v", err)
	}
	t.wantNotReplaced("after an Update without an answer", l)
	t.stir(r, w, 1)
	w.wantKept(seen, "a")
	t.release(l)
	t.wantGone(r, w, "a")
}

func failedAttemptToRegisterAgain(t *trial) {
	d := t.driver()
	r := t.client()
	w := t.watch(t.client(), t.all())
	t.stir(r, w, 1)
	for _, fault := range t.writeFaults() {
		l := t.attempt(d, t.inVersion("1"), nil)
		w.until("the entry", having("a", "1"))
		heal := t.once(fault(t.T))
		l = t.fails(d, t.inVersion("2"), l)
		l = t.fails(d, t.inVersion("3"), l)
		heal()
		t.releaseSoon(l)
		t.wantGone(r, w, "a")
	}
}

func failedAttemptOfAnotherRegistration(t *trial) {
	d := t.driver()
	r := t.client()
	w := t.watch(t.client(), t.all())
	for _, fault := range t.writeFaults() {
		l := t.attempt(d, t.inVersion("registered"), nil)
		w.until("the entry", having("a", "registered"))
		heal := t.once(fault(t.T))
		failed := t.fails(d, t.inVersion("of a failed attempt"), nil)
		failed = t.fails(d, t.inVersion("of another failed attempt"), failed)
		heal()
		seen := w.count()
		t.releaseSoon(failed)
		t.stir(r, w, 2)
		for _, p := range w.since(seen) {
			if known(p) && p.version("a") != "registered" {
				t.Errorf("after the release of an attempt that failed, the entry of an earlier registration is not as it was: the watch yields %v", p)
				break
			}
		}
		t.eventually("CheckReplaced returns nil after the release of an attempt of another registration", func() bool {
			err := l.CheckReplaced(t.inTime()) // may have to reconnect
			if errors.Is(err, registry.ErrReplaced) {
				t.Fatalf("an attempt of another registration failed and was released, and CheckReplaced returns %v", err)
			}
			return err == nil
		})
		t.release(l)
		t.wantGone(r, w, "a")
	}
}
