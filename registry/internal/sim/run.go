package sim

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

// Result is what came of a history.
type Result struct {
	Violations []string // broken promises; the later ones may follow from the first
	Trace      []string // what happened, if Run was told to note it
}

// Failed reports whether a promise was broken.
func (r Result) Failed() bool { return len(r.Violations) > 0 }

// Run carries out a history in a bubble. A violation does not fail t. However, a goroutine that never ends panics, as synctest does, after
// its stack was logged.
func Run(t *testing.T, h History, trace bool) (result Result) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(h)
		w.model.tracing = trace
		w.run()
		result = Result{w.model.violations, w.model.lines}
		if len(w.leaked) > 0 {
			t.Errorf("goroutines are left after:\n%s\n%s\n\n%s", h, strings.Join(result.Violations, "\n"), w.leaked)
		}
	})
	return result
}

// world is one run of a history.
type world struct {
	history   History
	store     *store
	faults    *faults
	model     *model
	processes []*process // that run, by number
	all       []*process
	began     time.Time
	calls     sync.WaitGroup // and loops
	running   atomic.Int64   // calls
	leaked    string         // stacks of goroutines that are left
}

// process is one start of a process.
type process struct {
	index    int
	serial   int // which start of all processes it is
	driver   *driver
	registry *registry.Registry
	crashed  bool
	closing  bool
}

func newWorld(h History) *world {
	w := &world{history: h, store: newStore(h.World.TTL), began: time.Now()}
	w.faults = newFaults(h.Seed, w.store)
	w.model = newModel(h.World, w.store, w.faults)
	w.processes = make([]*process, h.World.Processes)
	return w
}

func (w *world) run() {
	before := runtime.NumGoroutine()
	for i := range w.processes {
		w.start(i)
	}
	for _, s := range w.history.Steps {
		w.sleepUntil(s.At)
		w.model.trace("%v", s)
		w.step(s)
		synctest.Wait()
		w.model.afterStep()
	}
	w.sleepUntil(w.history.end())
	w.rest()
	for _, p := range w.processes {
		w.close(p)
	}
	w.calls.Wait()
	w.model.checkHistory()
	w.faults.close()
	w.store.close()
	synctest.Wait()
	if left := runtime.NumGoroutine() - before; left > 0 {
		w.leaked = stacks()
	}
}

// stacks returns the stacks of all goroutines.
func stacks() string {
	text := make([]byte, 1<<20)
	return string(text[:runtime.Stack(text, true)])
}

func (w *world) sleepUntil(at time.Duration) { time.Sleep(time.Until(w.began.Add(at))) }

// rest waits until everything must have converged, and checks it, and that nothing changes after that.
func (w *world) rest() {
	time.Sleep(w.history.World.settlingTime())
	synctest.Wait()
	w.model.checkCallsEnded(int(w.running.Load()))
	w.model.afterStep()
	w.model.atRest(w.all)
	before := map[string]int{}
	for _, service := range services {
		before[service] = w.store.changes(service)
		for _, p := range w.processes {
			w.lookup(p, registry.Query{Service: service, AnyStatus: true}, time.Minute)
		}
	}
	time.Sleep(2 * w.history.World.TTL)
	synctest.Wait()
	w.model.checkQuiet(before)
}

// start starts a process, unless it runs.
func (w *world) start(i int) {
	if w.processes[i] != nil {
		return
	}
	d := &driver{process: i, serial: len(w.all), world: w.history.World, store: w.store, faults: w.faults, model: w.model, crashed: make(chan struct{})}
	r, err := registry.New(d, registry.Options{
		Logger:     slog.New(slog.DiscardHandler),
		BackoffMax: w.history.World.BackoffMax, OutageGrace: w.history.World.OutageGrace, Linger: w.history.World.Linger,
	})
	if err != nil {
		panic(err)
	}
	p := &process{index: i, serial: d.serial, driver: d, registry: r}
	r.Observe(func(e registry.Event) { w.model.observes(p, e) })
	w.processes[i] = p
	w.all = append(w.all, p)
}

// call runs f beside the steps that follow. A loop ends with the history, and a call before that.
func (w *world) call(f func()) {
	w.running.Add(1)
	w.calls.Go(func() {
		defer w.running.Add(-1)
		f()
	})
}

func (w *world) step(s Step) {
	switch {
	case s.Op == Forget:
		w.store.forget(entryKey{s.Service, s.ID})
		return
	case s.Op.isFault():
		w.faults.begin(s)
		if s.Op.isFaultOfStore() {
			w.store.restart(s.Op, w.history.Seed)
		}
		return
	case s.Op == Start:
		w.start(s.Process)
		return
	}
	if p := w.processes[s.Process]; p != nil {
		w.act(p, s)
	}
}

// act carries out a step of a process that runs.
func (w *world) act(p *process, s Step) {
	key := entryKey{s.Service, s.ID}
	switch s.Op {
	case Close:
		w.close(p)
	case Crash:
		w.crash(p)
	case Register:
		w.register(p, key, s)
	case Update:
		w.update(p, key, s)
	case Deregister:
		if h := w.model.newestHandle(p, key); h != nil {
			w.model.leaves(h)
			w.call(func() { w.model.left(h, within(s.For, h.registration.Deregister)) })
		}
	case Watch:
		w.watch(p, s)
	case Break, Cancel:
		w.endWatch(p, s)
	case Lookup:
		w.call(func() { w.lookup(p, registry.Query{Service: s.Service}, s.For) })
	case PutValue:
		w.call(func() {
			err := within(s.For, func(ctx context.Context) error {
				_, err := p.registry.PutValue(ctx, s.Service, []byte(s.Content), registry.PutOptions{})
				return err
			})
			w.model.trace("p%d PutValue(%s) returns %v", p.index, s.Service, err)
		})
	case DeleteValue:
		w.call(func() {
			within(s.For, func(ctx context.Context) error { return p.registry.DeleteValue(ctx, s.Service, registry.PutOptions{}) })
		})
	case WatchValue:
		w.watchValue(p, s)
	}
}

// within calls f with a context that ends after a time.
func within(d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return f(ctx)
}

func instance(key entryKey, content string, status registry.Status) registry.Instance {
	return registry.Instance{Service: key.service, ID: key.id, Address: "10.0.0.1:80", Version: content, Weight: 1, Status: status}
}

func (w *world) register(p *process, key entryKey, s Step) {
	h := w.model.registers(p, key, s.Content)
	w.call(func() {
		var g registry.Registration
		err := within(s.For, func(ctx context.Context) (err error) {
			g, err = p.registry.Register(ctx, instance(key, s.Content, registry.Passing))
			return err
		})
		w.model.registered(h, g, err)
	})
}

func (w *world) update(p *process, key entryKey, s Step) {
	h := w.model.newestHandle(p, key)
	if h == nil {
		return
	}
	var status registry.Status
	if err := status.UnmarshalText([]byte(s.Status)); err != nil {
		panic(fmt.Sprintf("step %v: %v", s, err))
	}
	u := w.model.updates(h, s.Content, status)
	w.call(func() {
		err := within(s.For, func(ctx context.Context) error {
			return h.registration.Update(ctx, instance(key, s.Content, status))
		})
		w.model.updated(h, u, err)
	})
}

func (w *world) lookup(p *process, q registry.Query, limit time.Duration) {
	if p == nil {
		return
	}
	w.model.lookupBegins(p, q.Service)
	began := time.Now()
	within(limit, func(ctx context.Context) error {
		set, err := p.registry.Lookup(ctx, q)
		w.model.lookedUp(p, q, began, set, err)
		return err
	})
}

// watch starts a loop over Watch. Every other one asks for instances of any status.
func (w *world) watch(p *process, s Step) {
	ctx, cancel := context.WithCancel(context.Background())
	one := &watch{process: p, query: registry.Query{Service: s.Service, AnyStatus: len(w.model.watches)%2 == 0}, pause: s.By, cancel: cancel}
	w.model.mu.Lock()
	w.model.watches = append(w.model.watches, one)
	w.model.mu.Unlock()
	w.calls.Go(func() {
		defer cancel()
		for set, err := range p.registry.Watch(ctx, one.query) {
			w.model.yielded(one, set, err)
			if !w.model.readerGoesOn(one) {
				break
			}
		}
		w.model.watchEnded(one)
	})
}

// readerGoesOn makes the reader's pause, and reports whether the loop goes on.
func (m *model) readerGoesOn(w *watch) bool {
	m.mu.Lock()
	leave := w.leave
	w.busy = w.pause > 0
	m.mu.Unlock()
	if leave {
		return false
	}
	if w.pause > 0 {
		time.Sleep(w.pause)
		m.mu.Lock()
		w.busy = false
		m.mu.Unlock()
	}
	return true
}

func (m *model) watchEnded(w *watch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.ended = true
	m.traceLocked("p%d watch %s ended", w.process.index, w.query.Service)
}

// endWatch ends the oldest watch of a service: by its context, or by leaving the loop at the next pair.
func (w *world) endWatch(p *process, s Step) {
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	for _, one := range w.model.watches {
		if one.process != p || one.query.Service != s.Service || one.ended || one.ending || one.leave {
			continue
		}
		if s.Op == Break {
			one.leave = true
		} else {
			one.ending = true
			one.cancel()
		}
		return
	}
}

func (w *world) watchValue(p *process, s Step) {
	ctx, cancel := context.WithCancel(context.Background())
	one := &valueWatch{process: p, key: s.Service}
	w.model.mu.Lock()
	w.model.values = append(w.model.values, one)
	w.model.mu.Unlock()
	w.calls.Go(func() {
		defer cancel()
		for v, err := range p.registry.WatchValue(ctx, one.key) {
			w.model.yieldedValue(one, v, err)
		}
		w.model.mu.Lock()
		defer w.model.mu.Unlock()
		one.ended = true
	})
}

// close closes a process, which ends its calls and loops.
func (w *world) close(p *process) {
	if p == nil {
		return
	}
	w.processes[p.index] = nil
	w.model.closing(p)
	w.call(func() {
		began := time.Now()
		err := p.registry.Close()
		w.model.closed(p, time.Since(began), err)
	})
}

// crash cuts a process off for ever, and ends it.
func (w *world) crash(p *process) {
	w.model.mu.Lock()
	p.crashed = true
	w.model.mu.Unlock()
	close(p.driver.crashed)
	w.close(p)
}
