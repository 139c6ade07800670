package registry

import (
	"fmt"
	"slices"
	"time"
)

// A set that has lost many instances at once is often correct and of no use: the store came back without its data, or was frozen for
// longer than leases and checks last, and the instances that live have not registered again yet. Such a set is suspect. It is withheld
// for a grace period: readers keep the last good set, without the instances that left on purpose, beside an error.

// grace is a grace period.
type grace struct {
	set     []*Instance // the newest set, which is suspect
	suspect suspicion
	outage  bool // it began after an outage
	until   time.Time
	end     *time.Timer // publishes set
}

// shortGrace returns how long instances that lost their registration take to register again: BackoffMax and a second. Leases
// that expire one by one never halve the set in one step, so a set is also compared with the sets of that time before it.
func (r *Registry) shortGrace() time.Duration {
	return min(r.opts.BackoffMax+time.Second, max(0, r.opts.OutageGrace))
}

// justRecovered reports whether an outage has just ended. Leases may expire a moment after the store is back, so the first good answer
// does not end the outage. f.mu is locked.
func (f *feed) justRecovered(now time.Time) bool {
	return !f.shrink.recovered.IsZero() && now.Sub(f.shrink.recovered) < f.r.shortGrace()
}

// findWithheld fills in the instances that readers get while set, which is suspect, is withheld: the instances of set, and the instances of
// the last good set that are missing from set or stopped passing in it, as they were. f.mu is locked.
func (f *feed) findWithheld(v *verdict, set []*Instance) {
	listed := make(map[string]*Instance, len(set))
	for _, n := range set {
		listed[n.ID] = n
	}
	kept := map[string]bool{}
	for _, o := range f.state.all.set {
		n := listed[o.ID]
		_, departed := f.shrink.departed[o.ID]
		lost := n == nil && o.Status != Maintenance || n != nil && o.passes() && !n.passes() && n.Status != Maintenance
		if lost && !departed {
			v.shown = append(v.shown, o)
			if !kept[o.ID] {
				kept[o.ID] = true
				v.withheld = append(v.withheld, o.ID)
			}
		}
	}
	for _, n := range set {
		if !kept[n.ID] {
			v.shown = append(v.shown, n)
		}
	}
	slices.SortFunc(v.shown, compareInstances)
}

// err returns the error that readers get while the set is withheld. left is the rest of the grace period.
func (v *verdict) err(outage bool, left time.Duration) error {
	what := "the set shrank suddenly"
	if outage {
		what = "the registry answers again, but the set shrank"
	}
	return fmt.Errorf("%w: %s %s; the missing ones are kept for %v", ErrUnavailable, what, v.missing, left.Round(time.Millisecond))
}

// graceFor returns how long a suspect set is withheld from now on. G is OutageGrace, and S is shortGrace.
//
//   - allGone after an outage: G, since perhaps no instance could register again yet.
//   - Any other suspect set: S.
//   - Grace periods that follow one another: at most G + S together, or S if there was no outage. Otherwise they might never end: an
//     instance that comes and goes makes the two kinds of suspicion alternate, and a registry that flaps interrupts grace periods.
//
// f.mu is locked.
func (f *feed) graceFor(s suspicion, now time.Time) time.Duration {
	long := f.r.opts.OutageGrace
	short := f.r.shortGrace()
	g := f.shrink.grace
	outage := f.justRecovered(now) || g != nil && g.outage
	began := f.shrink.suspectSince
	if began.IsZero() {
		began = now
	}
	switch {
	case !outage:
		return max(0, short-now.Sub(began))
	case s == allGone:
		return max(0, min(long, long+short-now.Sub(began)))
	}
	return max(0, min(short, long+short-now.Sub(began)))
}

// withhold keeps the last good set beside an error until the newest set, which is suspect, is published after all. f.mu is locked.
func (f *feed) withhold(set []*Instance, v verdict, now time.Time) {
	old, g := f.state, f.shrink.grace
	first := f.shrink.suspectSince.IsZero()
	if first {
		f.shrink.suspectSince = now
	}
	begins := g == nil || g.suspect != v.suspect
	if begins {
		next := &grace{suspect: v.suspect, outage: f.justRecovered(now), until: now.Add(v.grace)}
		if g != nil {
			g.end.Stop()
			next.outage = g.outage || next.outage
		}
		next.end = time.AfterFunc(v.grace, func() { f.r.startRead(func() { f.graceOver(next) }) })
		g = next
	}
	g.set = set
	f.shrink.grace = g

	next := old
	if !slices.Equal(v.shown, old.all.set) {
		f.shrink.noteReplaced(&old, now)
		next = old.withSet(v.shown)
	}
	news := begins || next.all.revision != old.all.revision || !slices.Equal(v.withheld, old.withheld)
	next.withheld = v.withheld
	if next.since.IsZero() {
		next.since = now
	}
	why := v.err(g.outage, g.until.Sub(now))
	f.report(next, why, news)
	if begins {
		f.r.emit(pendingEvent{Event: Event{Kind: SetWithheld, Service: f.query.Service, Instances: len(next.all.set), Err: f.state.err}})
	}
	if first {
		f.r.logSuspect(&f.r.withheldLog, now, "rollcall: suspect set withheld", "registry", f.r.String(), "service", f.query.Service,
			"instances", len(next.all.set), "withheld", len(v.withheld), "error", why)
	}
}

// logSuspect logs a warning about a suspect set, within the quota l: if a store has lost its data, every set is suspect.
func (r *Registry) logSuspect(l *quota, now time.Time, text string, facts ...any) {
	tell, quiet := l.allow(now)
	if !tell {
		return
	}
	if quiet > 0 {
		facts = append(facts, notLogged(quiet))
	}
	r.opts.Logger.Warn(text, facts...)
}

// graceOver publishes the suspect set at the end of its grace period.
func (f *feed) graceOver(g *grace) {
	f.mu.Lock()
	news := f.shrink.grace == g && f.ctx.Err() == nil
	if news {
		now := time.Now()
		f.r.logSuspect(&f.r.publishedLog, now, "rollcall: suspect set published after its grace period", "registry", f.r.String(),
			"service", f.query.Service, "instances", len(g.set))
		next := f.state
		if !f.shows(g.set) {
			next = next.withSet(g.set)
		}
		f.accept(next, now)
		f.shrink.forgetPeaks()
	}
	f.mu.Unlock()
	if news {
		f.save()
	}
}

// shows reports whether readers see exactly set already, so that nothing is withheld. f.mu is locked.
func (f *feed) shows(set []*Instance) bool { return slices.Equal(f.state.all.set, set) }

// endGrace ends a grace period.
func (f *feed) endGrace() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endGraceLocked()
}

// endGraceLocked ends a grace period because of another set, another error, or the end of the feed. f.mu is locked.
func (f *feed) endGraceLocked() {
	if g := f.shrink.grace; g != nil {
		g.end.Stop()
		f.shrink.grace = nil
	}
}
