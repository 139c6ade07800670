package serve

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

const (
	// returnGrace is how long a registrar may take to return after its context has ended. A registrar that heeds its context needs none
	// of it.
	returnGrace = 500 * time.Millisecond
	// maintenanceShare is the part of DeregisterTimeout for setting the status Maintenance: 1/maintenanceShare of it.
	maintenanceShare = 5
	// maxMaintenancePause bounds the pause after that, which is half of DrainDelay. A set of some thousand instances has reached every
	// watch by then.
	maxMaintenancePause = time.Second
)

// leave sends clients away: it leaves the registry, and goes on serving until the clients have learnt of it. It returns false if nothing
// is left to stop, because a signal has cut the requests.
func (run *serviceRun) leave(tasks *registrationTasks, signals <-chan os.Signal) bool {
	delay, graceful := run.deregisterAll(tasks, signals)
	if !graceful {
		return false
	}
	if delay <= 0 || isClosed(run.stopped) {
		return true
	}
	close(run.closing)
	began := time.Now()
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		// Without registrations no client knew the servers. They have waited all the same, since an attempt that was cut off may have
		// written an entry.
		if len(run.Registrations()) > 0 {
			run.Logger.Info("rollcall: drained", "took", time.Since(began))
		}
	case sig := <-signals:
		run.cut(sig.String())
		return false
	case <-run.stopped:
	}
	return true
}

// remove sets the status Maintenance, pauses so that the status reaches readers, and deregisters. A reader that sees a deregistration only
// cannot tell whether the server left on purpose or was lost.
func (t *registrationTask) remove(r *registration) {
	timeout := t.run.DeregisterTimeout
	if t.leaveCtx.Err() == nil { // otherwise the registration came too late to wait for anything
		began := time.Now()
		set := false
		t.keepPanic(func() { set = t.setMaintenance(r) })
		timeout -= time.Since(began)
		if set {
			t.maintenanceSet.Store(true)
			t.run.pause(t.leaveCtx, t.run.maintenancePause())
		}
	}
	t.keepPanic(func() { t.deregister(r, timeout) })
}

// setMaintenance makes one attempt to set the status of r to Maintenance, and reports whether the registry has it.
func (t *registrationTask) setMaintenance(r *registration) bool {
	ctx, cancel := context.WithTimeout(t.leaveCtx, t.run.DeregisterTimeout/maintenanceShare)
	defer cancel()
	err := r.setMinStatus(ctx, registry.Maintenance)
	switch {
	case err == nil:
		t.log.Info("rollcall: status registered", "status", registry.Maintenance)
	case errors.Is(err, registry.ErrUnsupported), errors.Is(err, registry.ErrClosed):
		// The backend stores no status, or the caller has deregistered it.
	default:
		t.log.Warn("rollcall: registering status failed, deregistering", "status", registry.Maintenance, "error", err)
	}
	return err == nil
}

// maintenancePause is how long the status Maintenance has to spread before the server deregisters.
func (run *serviceRun) maintenancePause() time.Duration {
	return min(run.DrainDelay/2, maxMaintenancePause)
}

// pause blocks for d, unless ctx ends or all servers are stopped before.
func (run *serviceRun) pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-run.stopped:
	}
}

func (t *registrationTask) deregister(r *registration, timeout time.Duration) {
	base := t.leaveCtx
	if base.Err() != nil { // the wait for it is over, but the entry must not outlive the server
		base, timeout = context.Background(), t.run.DeregisterTimeout
	}
	ctx, cancel := context.WithTimeout(base, timeout)
	defer cancel()
	began := time.Now()
	if err := r.Deregister(ctx); err != nil {
		t.log.Error("rollcall: deregistering failed, entry stays until it expires", "error", err)
		return
	}
	t.log.Info("rollcall: deregistered", "took", time.Since(began))
}

// deregisterAll makes the tasks remove their registrations. It returns how much of DrainDelay is left after that, and false if a signal
// has cut the calls meanwhile.
func (run *serviceRun) deregisterAll(tasks *registrationTasks, signals <-chan os.Signal) (drain time.Duration, graceful bool) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), run.DeregisterTimeout+max(0, run.maintenancePause()))
	defer cancel()
	tasks.leaveCtx = ctx
	close(tasks.leave)
	tasks.cancel() // attempts in progress end before their tasks remove what they have registered
	graceful = true
	select {
	case <-tasks.done:
	case <-ctx.Done():
	case sig := <-signals:
		graceful = false
		run.cut(sig.String())
		cancel()
	}
	t := time.NewTimer(returnGrace)
	defer t.Stop()
	select {
	case <-tasks.done:
	case <-t.C:
		run.Logger.Error("rollcall: registrar does not return, entry may stay until it expires")
	}
	drain = run.DrainDelay
	if tasks.maintenanceSet.Load() {
		drain -= run.maintenancePause()
	}
	// Leaving takes DrainDelay, DeregisterTimeout and returnGrace at most, also if the registrar does not return.
	return min(drain, run.DrainDelay+run.DeregisterTimeout+returnGrace-time.Since(began)), graceful
}
