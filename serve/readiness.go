package serve

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// ServeHTTP is a readiness endpoint, for HTTP checks of Consul and readiness probes of Kubernetes. It answers 200 while at least one service
// may be called, and otherwise 503. The body is plain text and names what may not be called, and why: the service is not ready, its Instance
// has the status Critical or Maintenance, or the servers leave. With the parameter service, as in /ready?service=greeter, the answer is
// about that service alone, and 404 if there is none of that name.
//
// Whether the services are registered does not matter: a server that cannot reach the registry serves all the same. ServeHTTP asks
// neither the registry nor any server, and does not block.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, text := s.sharedState().readiness(r.URL.Query().Get("service"))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

// readiness returns the answer for one service, or for all services if service is empty.
func (s *serviceState) readiness(service string) (code int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) == 0 {
		if s.begun {
			return http.StatusServiceUnavailable, "stopped"
		}
		return http.StatusServiceUnavailable, "not serving yet"
	}
	i := slices.IndexFunc(s.runs, func(run *serviceRun) bool { return !run.left && !isClosed(run.drainAsked) })
	if i < 0 {
		return http.StatusServiceUnavailable, "leaving"
	}
	instances := s.runs[i].instances // the same in all runs
	if service != "" {
		instances = slices.DeleteFunc(slices.Clone(instances), func(in registry.Instance) bool { return in.Service != service })
		if len(instances) == 0 {
			return http.StatusNotFound, "no service of that name"
		}
	}
	var reasons []string
	for _, in := range instances {
		switch {
		case s.serves(in):
		case s.isReady(in.Service):
			reasons = append(reasons, in.Service+": the status of its Instance is "+in.Status.String())
		default:
			reasons = append(reasons, in.Service+": not ready")
		}
	}
	code, text = http.StatusOK, "ready"
	if len(reasons) == len(instances) {
		code, text = http.StatusServiceUnavailable, "not ready"
	}
	if len(reasons) > 0 {
		text += " (" + strings.Join(reasons, "; ") + ")"
	}
	return code, text
}
