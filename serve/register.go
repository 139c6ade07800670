package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-go/rollcall/internal/sleep"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// retryPause is the pause after a failed attempt to register that may succeed later. ErrDenied is retried too: the token may reach the
	// registry a moment later, and a fleet must not go down with its token.
	retryPause = 5 * time.Second
	// reminderInterval is how often a server that is not registered yet logs that.
	reminderInterval = time.Minute
	// attemptGrace is how long a call of Register in progress may go on when the server leaves. If its answer is on its way, the
	// registration succeeds and is removed; an attempt that is cut off may leave an entry that stays until it expires.
	attemptGrace = 500 * time.Millisecond
)

// registrationTasks are the tasks of one run. Each task registers one instance and removes it again in one goroutine, so that an attempt
// that succeeds after the wait for it is over is removed too.
type registrationTasks struct {
	cancel         context.CancelFunc // ends the attempts, and the updates of the status
	leave          chan struct{}      // closed when the tasks must remove their registrations
	leaveCtx       context.Context    // governs the removal; set before leave is closed
	maintenanceSet atomic.Bool        // the registry has the status Maintenance of at least one registration
	done           chan struct{}      // closed when all tasks have ended
}

// registrationTask registers one instance.
type registrationTask struct {
	*registrationTasks
	run      *serviceRun
	log      *slog.Logger
	index    int // in run.instances
	instance registry.Instance
}

// register starts the tasks in the background: a registry that is down delays registering, not serving.
func (run *serviceRun) register(ctx context.Context) *registrationTasks {
	ctx, cancel := context.WithCancel(ctx)
	tasks := &registrationTasks{cancel: cancel, leave: make(chan struct{}), done: make(chan struct{})}
	var work sync.WaitGroup
	for i, in := range run.instances {
		log := run.baseLogger.With("service", in.Service, "address", in.Address)
		task := &registrationTask{registrationTasks: tasks, run: run, log: log, index: i, instance: in}
		work.Go(func() { task.execute(ctx) })
	}
	go func() {
		work.Wait()
		close(tasks.done)
	}()
	return tasks
}

func (t *registrationTask) execute(ctx context.Context) {
	select {
	case <-t.run.accepting: // clients call the server as soon as it is registered
	case <-ctx.Done():
		return
	}
	var r *registration
	t.keepPanic(func() { r = t.register(ctx) })
	if r == nil {
		return
	}
	t.keepPanic(func() { t.syncStatus(ctx, r) })
	<-t.leave
	t.remove(r)
}

// keepPanic calls f. If f panics, so does Serve once the server has left: the registrar is the caller's.
func (t *registrationTask) keepPanic(f func()) {
	defer func() {
		if p := recover(); p != nil {
			t.run.fail(t.run.keepPanic(p, "registering "+t.instance.Service))
		}
	}()
	f()
}

// register retries until the instance is registered. It returns nil if ctx ends first, or if registering can never succeed.
func (t *registrationTask) register(ctx context.Context) *registration {
	began := time.Now()
	var failed atomic.Pointer[error] // of the newest attempt
	defer t.remind(began, &failed)()
	for {
		minStatus, changed := t.run.state.minStatus(t.instance.Service)
		r, outdated, err := t.attempt(ctx, minStatus, changed)
		switch {
		case err == nil && r == nil:
			t.run.fail(fmt.Errorf("%w: %s.Registrar has returned neither a registration nor an error", registry.ErrInvalid, t.run.names.Type))
			return nil
		case errors.Is(err, registry.ErrInvalid), errors.Is(err, registry.ErrUnsupported), errors.Is(err, registry.ErrClosed) && ctx.Err() == nil:
			t.run.fail(err)
			return nil
		case err == nil:
			g := newRegistration(r, t.instance, minStatus)
			t.run.state.addRegistration(t.run, t.index, g)
			in := r.Instance()
			t.log.Info("rollcall: registered", "id", in.ID, "advertised", in.Address, "took", time.Since(began))
			return g
		case ctx.Err() != nil:
			return nil
		case outdated:
			continue
		}
		if last := failed.Swap(&err); last == nil || errors.Is(err, registry.ErrDenied) != errors.Is(*last, registry.ErrDenied) {
			t.log.Error("rollcall: registering failed, retrying", "error", err)
		}
		if !sleep.For(ctx, retryPause) {
			return nil
		}
	}
}

// remind logs in intervals that the instance is not registered, until stop is called. Register may retry for hours, and its caller cannot
// see why.
func (t *registrationTask) remind(began time.Time, failed *atomic.Pointer[error]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		for sleep.For(ctx, reminderInterval) {
			args := []any{"waited", time.Since(began).Round(time.Second)}
			if err := failed.Load(); err != nil {
				args = append(args, "error", *err)
			}
			t.log.Warn("rollcall: not registered yet", args...)
		}
	})
	return func() { cancel(); work.Wait() }
}

// attempt calls Register once, with the more severe of minStatus and the status of the instance. When ctx ends or changed is
// closed, the call may go on for attemptGrace. outdated reports that the attempt was ended because changed was closed.
func (t *registrationTask) attempt(ctx context.Context, minStatus registry.Status, changed <-chan struct{}) (r registry.Registration, outdated bool, err error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() {
		defer cancel()
		select {
		case <-own.Done():
			return
		case <-ctx.Done():
		case <-changed:
		}
		sleep.For(own, attemptGrace)
	})
	defer work.Wait()
	defer cancel()
	in := *t.instance.Clone()
	in.Status = max(in.Status, minStatus)
	r, err = t.run.Registrar.Register(own, in)
	return r, own.Err() != nil, err
}

// syncStatus writes the status to the registry whenever the readiness of the service changes, until ctx ends.
func (t *registrationTask) syncStatus(ctx context.Context, r *registration) {
	var failed error
	for written := r.minStatus; ; {
		minStatus, changed := t.run.state.minStatus(t.instance.Service)
		var retry <-chan time.Time
		if minStatus != written {
			err := r.setMinStatus(ctx, minStatus)
			switch {
			case err == nil:
				written, failed = minStatus, nil
				t.log.Info("rollcall: status registered", "status", r.Instance().Status)
			case ctx.Err() != nil, errors.Is(err, registry.ErrClosed): // the caller has deregistered it
				return
			case failed == nil || failed.Error() != err.Error():
				failed = err
				t.log.Error("rollcall: registering status failed, retrying", "status", minStatus, "error", err)
				fallthrough
			default:
				retry = time.After(retryPause)
			}
		}
		select {
		case <-changed:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}
