package grpcx_test

import (
	"context"
	"iter"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

// script is a Discovery that says what a test tells it to.
type script struct {
	registry.Discovery
	asked chan registry.Query
	pairs chan said
}

type said struct {
	set []*registry.Instance
	err error
}

func newScript() *script { return &script{asked: make(chan registry.Query, 1), pairs: make(chan said)} }

func (s *script) String() string { return "a script" }

func (s *script) Watch(ctx context.Context, q registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		s.asked <- q
		for {
			select {
			case p := <-s.pairs:
				if !yield(p.set, p.err) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}

// instances makes one for each text: an ID, a status letter (p, w, c, m) and a weight, such as "a:p1".
func instances(texts ...string) []*registry.Instance {
	set := []*registry.Instance{}
	for _, text := range texts {
		id, rest, _ := strings.Cut(text, ":")
		in := &registry.Instance{ID: id, Service: service, Address: id + ":1", Weight: int(rest[1] - '0')}
		in.Status = map[byte]registry.Status{'p': registry.Passing, 'w': registry.Warning, 'c': registry.Critical, 'm': registry.Maintenance}[rest[0]]
		set = append(set, in)
	}
	return set
}

// resolverTrial is a resolver over a script, in a bubble.
type resolverTrial struct {
	*testing.T
	*script
	channel *channel
	counts  *counter
	lines   *lines
	res     resolver.Resolver
}

func inBubble(t *testing.T, target string, c grpcx.ResolverConfig, test func(*resolverTrial)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		o := &resolverTrial{T: t, script: newScript(), channel: new(channel), counts: &counter{got: map[string]int64{}}, lines: new(lines)}
		c.Logger = slog.New(slog.NewTextHandler(o.lines, nil))
		u, err := url.Parse(target)
		if err != nil {
			t.Fatal(err)
		}
		o.res, err = grpcx.NewBuilder(o.script, c).Build(resolver.Target{URL: *u}, o.channel, resolver.BuildOptions{MetricsRecorder: o.counts})
		if err != nil {
			t.Fatal(err)
		}
		defer o.res.Close()
		test(o)
	})
}

// says lets the registry say something, and waits until the resolver has dealt with it.
func (t *resolverTrial) says(err error, texts ...string) {
	t.pairs <- said{instances(texts...), err}
	synctest.Wait()
}

// uses checks which instances the channel has, and in which state, counted from 1.
func (t *resolverTrial) uses(state int, want string) {
	t.Helper()
	states, _ := t.channel.told()
	got := "nothing"
	if len(states) > 0 {
		var ids []string
		for _, e := range states[len(states)-1].Endpoints {
			ids = append(ids, grpcx.InstanceFromEndpoint(e).ID)
		}
		got = strings.Join(ids, " ")
	}
	if got != want || len(states) != state {
		t.Errorf("the channel uses %q in state %d, want %q in %d", got, len(states), want, state)
	}
}

// explained checks the reason that the channel was given last.
func (t *resolverTrial) explained(want string) {
	t.Helper()
	if _, errs := t.channel.told(); len(errs) == 0 || !strings.Contains(errs[len(errs)-1].Error(), want) {
		t.Errorf("the channel was told %v, want %s", errs, want)
	}
}

func (t *resolverTrial) counted(want map[string]int64) {
	t.Helper()
	for name, n := range want {
		if got := t.counts.got["rollcall.resolver."+name]; got != n {
			t.Errorf("%s is %d, want %d", name, got, n)
		}
	}
}

// reported is counted for what the resolver reports when it is asked.
func (t *resolverTrial) reported(want map[string]int64) {
	t.Helper()
	if err := t.counts.reporter.Report(t.counts); err != nil {
		t.Fatal(err)
	}
	t.counted(want)
}

// lines is a log. Its lines may be read when nothing writes.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) with(text string) int {
	n := 0
	for _, line := range l.all {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// counter is a recorder of metrics. What it got may be read when nothing is recorded.
type counter struct {
	stats.UnimplementedMetricsRecorder
	mu       sync.Mutex
	got      map[string]int64
	reporter stats.AsyncMetricReporter
	finished bool
}

func (c *counter) RecordInt64Count(h *stats.Int64CountHandle, n int64, labels ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[h.Name] += n
	c.got[labels[0]]++
}
func (c *counter) RecordInt64Gauge(h *stats.Int64GaugeHandle, n int64, _ ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[h.Name] = n
}
func (c *counter) RecordInt64AsyncGauge(h *stats.Int64AsyncGaugeHandle, n int64, _ ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got[h.Name] = n
}
func (c *counter) RegisterAsyncReporter(r stats.AsyncMetricReporter, _ ...stats.AsyncMetric) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reporter = r
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.finished = true
	}
}
