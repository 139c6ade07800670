package serve

import (
	"slices"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// serviceState is shared by the methods of a Service and its runs.
type serviceState struct {
	mu       sync.Mutex
	notReady map[string]bool // by service; anyService is for all services that are not in the map
	changed  chan struct{}   // closed, and replaced, with each change of notReady
	begun    bool            // Serve was called
	runs     []*serviceRun   // the calls of Serve that have not returned
	leaving  chan struct{}   // closed when the first run begins to leave; replaced when a run begins alone
}

const anyService = ""

// creating guards the creation of states: a Service has no constructor, and may be copied before it is used.
var creating sync.Mutex

func (s *Service) sharedState() *serviceState {
	creating.Lock()
	defer creating.Unlock()
	if s.state == nil {
		s.state = &serviceState{notReady: map[string]bool{}, changed: make(chan struct{}), leaving: make(chan struct{})}
	}
	return s.state
}

// closeLeaving closes the channel of [Service.Leaving]. The caller has locked s.mu.
func (s *serviceState) closeLeaving() {
	select {
	case <-s.leaving:
	default:
		close(s.leaving)
	}
}

// begin adds a run.
func (s *serviceState) begin(run *serviceRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.leaving:
		if len(s.runs) == 0 {
			s.leaving = make(chan struct{})
		}
	default:
	}
	s.begun = true
	s.runs = append(s.runs, run)
	run.reportHealth(s)
}

// refuse is called if Serve returns an error before it has begun a run.
func (s *serviceState) refuse() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) == 0 {
		s.closeLeaving()
	}
}

// leave closes Leaving, and reports that the run leaves.
func (s *serviceState) leave(run *serviceRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLeaving()
	if !run.left {
		run.left = true
		run.reportHealth(s)
	}
}

// end removes a run.
func (s *serviceState) end(run *serviceRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = slices.DeleteFunc(s.runs, func(other *serviceRun) bool { return other == run })
}

// addRegistration records the registration of run.instances[i].
func (s *serviceState) addRegistration(run *serviceRun, i int, r *registration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	run.registered[i] = r
}

func (s *serviceState) setReady(ready bool, services []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(services) == 0 {
		clear(s.notReady)
		services = []string{anyService}
	}
	for _, name := range services {
		s.notReady[name] = !ready
	}
	for _, run := range s.runs {
		if !run.left {
			run.reportHealth(s) // before clients read the status in the registry
		}
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// isReady reports whether a service is ready. The caller has locked s.mu.
func (s *serviceState) isReady(service string) bool {
	if not, ok := s.notReady[service]; ok {
		return !not
	}
	return !s.notReady[anyService]
}

// serves reports whether clients may call an instance. The caller has locked s.mu.
func (s *serviceState) serves(in registry.Instance) bool {
	return s.isReady(in.Service) && (in.Status == registry.Passing || in.Status == registry.Warning)
}

// minStatus returns the least severe status that a service may be registered with: Passing if it is ready, and otherwise Critical. The
// channel is closed when that may have changed.
func (s *serviceState) minStatus(service string) (registry.Status, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isReady(service) {
		return registry.Passing, s.changed
	}
	return registry.Critical, s.changed
}

// reportHealth tells the servers of the run which services may be called. The caller has locked s.mu.
func (run *serviceRun) reportHealth(s *serviceState) {
	h := Health{Serving: make(map[string]bool, len(run.instances)), Leaving: run.left}
	for _, in := range run.instances {
		h.Serving[in.Service] = !run.left && s.serves(in)
	}
	for _, server := range run.servers {
		if reporter, ok := server.(HealthReporter); ok {
			run.reportHealthTo(reporter, h)
		}
	}
}

// reportHealthTo calls the reporter. If it panics, the run leaves, and Serve panics at its end.
func (run *serviceRun) reportHealthTo(reporter HealthReporter, h Health) {
	defer func() {
		if p := recover(); p != nil {
			run.fail(run.keepPanic(p, "reporting health"))
		}
	}()
	reporter.ReportHealth(h)
}
