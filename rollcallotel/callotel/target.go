package callotel

import (
	"net/url"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// target is what the target of a channel says.
type target struct {
	service string
	query   string // as from selection
}

// maxTargets bounds the targets that are remembered.
const maxTargets = 1000

// targets remembers parsed targets, since each call needs one.
type targets struct {
	mu    sync.RWMutex
	known map[string]*target
}

// parsed returns nil for a target that does not belong to grpcx.NewClient.
func (t *targets) parsed(text string) *target {
	if !strings.HasPrefix(text, grpcx.Scheme+":") {
		return nil
	}
	t.mu.RLock()
	to := t.known[text]
	t.mu.RUnlock()
	if to != nil {
		return to
	}
	if to = parseTarget(text); to == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = map[string]*target{}
	}
	if len(t.known) < maxTargets {
		t.known[text] = to
	}
	return to
}

// parseTarget parses the target of a channel, which grpcx.NewClient has accepted.
func parseTarget(text string) *target {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	q := registry.Query{Service: resolver.Target{URL: *u}.Endpoint()}
	p := urlparam.Parse(u.RawQuery)
	p.Strings("tag", &q.Tags)
	p.String("version", &q.Version)
	p.Prefixed("meta.", &q.Metadata)
	p.Bool("any-status", &q.AnyStatus)
	return &target{service: q.Service, query: selection(q)}
}

// selection returns q without its service, in the form of the parameters of a target. It is the same for queries that select the same.
func selection(q registry.Query) string {
	values := url.Values{}
	for _, tag := range slices.Compact(slices.Sorted(slices.Values(q.Tags))) {
		values.Add("tag", tag)
	}
	if q.Version != "" {
		values.Set("version", q.Version)
	}
	for key, value := range q.Metadata {
		values.Set("meta."+key, value)
	}
	if q.AnyStatus {
		values.Set("any-status", "true")
	}
	return values.Encode()
}
