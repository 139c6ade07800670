package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// answer is one answer of a scripted agent.
type answer struct {
	status int    // 0 is 200
	index  string // "" leaves the header out
	body   string
	denied bool // Consul says that the ACLs have cut it
	cut    bool // the connection breaks before the end
	drop   bool // it breaks before the answer begins
	hang   bool // no answer at all
}

func set(index string, ids ...string) answer {
	var entries []string
	for _, id := range ids {
		entries = append(entries, fmt.Sprintf(`{"Node":{"Address":"10.0.0.1"},"Service":{"ID":%q,"Service":"s","Port":80,"Weights":{"Passing":1}},"Checks":[]}`, id))
	}
	return answer{index: index, body: "[" + strings.Join(entries, ",") + "]"}
}

// script is an agent that gives its answers in turn, and records the index of each read.
type script struct {
	t *testing.T

	mu         sync.Mutex
	answers    []answer
	asked      []string
	waits      []string // how long each read may wait
	consistent []bool   // whether each read was consistent
}

// next returns the answer to a read with that query, and false if none is left.
func (s *script) next(q url.Values) (a answer, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.waits, s.consistent = append(s.asked, q.Get("index")), append(s.waits, q.Get("wait")), append(s.consistent, q.Has("consistent"))
	if len(s.answers) == 0 {
		return a, false
	}
	a = s.answers[0]
	s.answers = s.answers[1:]
	return a, true
}

// reads returns the index of each read so far.
func (s *script) reads() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/status/leader" {
		http.NotFound(w, r) // the leader is asked for after a connection broke: this is no read
		return
	}
	a, ok := s.next(r.URL.Query())
	if !ok {
		s.t.Errorf("an unexpected read: %s", r.URL)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	if a.hang {
		<-r.Context().Done()
		return
	}
	if a.drop {
		panic(http.ErrAbortHandler)
	}
	if a.index != "" {
		w.Header().Set("X-Consul-Index", a.index)
	}
	if a.status == 0 || a.index != "" {
		w.Header().Set("X-Consul-LastContact", "0") // consul/api looks for nothing else without it
	}
	if a.denied {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
	if a.status != 0 {
		w.WriteHeader(a.status)
	}
	fmt.Fprint(w, a.body)
	if a.cut {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

// scripted returns a source that reads from a script.
func scripted(t *testing.T, c Config, q registry.Query, answers ...answer) (registry.Source, *script) {
	t.Helper()
	s := &script{t: t, answers: answers}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c.Address = srv.URL
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	q.Service = "s"
	return d.Watch(q), s
}

func TestNext_ConfirmsAnswersThatMayBeWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		// The source has read a, b at index 10 and gets these answers.
		answers []answer
		// What each following Next returns: IDs, or a word of the error.
		want []string
		// The index of each read.
		asked []string
	}{
		{"changed", []answer{set("11", "a", "b", "c")}, []string{"a b c"}, []string{"10"}},
		{"backward index", []answer{set("9", "x"), set("12", "a")}, []string{"a"}, []string{"10", ""}},
		{"index 1, empty", []answer{set("1"), set("12", "a", "b")}, []string{"a b"}, []string{"10", ""}},
		{"index 0", []answer{set("0"), set("12", "a", "b")}, []string{"a b"}, []string{"10", ""}},
		{"no index", []answer{set("", "x"), set("12", "a", "b")}, []string{"a b"}, []string{"10", ""}},
		{"garbage index", []answer{set("many", "x"), set("12", "a", "b")}, []string{"a b"}, []string{"10", ""}},
		{"view not loaded, servers down", []answer{set("1"), {status: 500, body: "No known Consul servers"}, set("12", "a")},
			[]string{"No known Consul servers", "a"}, []string{"10", "", ""}},
		{"empty, confirmed", []answer{set("11"), set("11")}, []string{""}, []string{"10", ""}},
		{"empty, not true", []answer{set("11"), set("11", "a")}, []string{"a"}, []string{"10", ""}},
		{"empty, denied", []answer{set("11"), {status: 403, body: "ACL not found"}}, []string{"ACL not found"}, []string{"10", ""}},
		{"wait ended, probe", []answer{set("10", "a", "b"), set("10", "a", "b"), set("11", "a")}, []string{"a b", "a"}, []string{"10", "", "10"}},
		{"wait ended, outage", []answer{set("10", "a", "b"), {status: 500, body: "No cluster leader"}}, []string{"No cluster leader"}, []string{"10", ""}},
		{"wiped", []answer{set("4"), set("4"), set("5"), set("6", "a")}, []string{"began again", "", "a"}, []string{"10", "", "", "5"}},
		{"wiped, one is back", []answer{set("4"), set("6", "a")}, []string{"a"}, []string{"10", ""}},
		{"wiped behind a probe", []answer{set("10", "a"), set("4"), set("4"), set("5")}, []string{"began again", ""}, []string{"10", "", "", ""}},
		{"garbage everywhere", []answer{set("x"), set("x"), set("11", "a")}, []string{"no catalog has", "a"}, []string{"10", "", ""}},
		{"garbage beside a set", []answer{set("x", "y"), set("", "a"), set("11", "b")}, []string{"no catalog has", "b"}, []string{"10", "", ""}},
		{"500", []answer{{status: 500, index: "11", body: "rpc error"}, set("12", "a")}, []string{"rpc error", "a"}, []string{"10", ""}},
		{"429", []answer{{status: 429, body: "RPC rate limit"}, set("12", "a")}, []string{"RPC rate limit", "a"}, []string{"10", ""}},
		{"cut body", []answer{{index: "11", body: `[{"Node":{},`, cut: true}, set("12", "a")}, []string{"unexpected EOF", "a"}, []string{"10", ""}},
		{"dropped connection", []answer{{drop: true}, set("4", "a")}, []string{"connection broke", "a"}, []string{"10", ""}},
		{"half a body", []answer{{index: "11", body: `[{"Node":{}`}, set("12", "a")}, []string{"not a JSON array", "a"}, []string{"10", ""}},
		{"no body", []answer{{index: "11"}, set("12", "a")}, []string{"not a JSON array", "a"}, []string{"10", ""}},
		{"malformed", []answer{{index: "11", body: `oops`}, set("12", "a")}, []string{"not a JSON array", "a"}, []string{"10", ""}},
		{"null", []answer{{index: "11", body: `null`}, set("12", "a")}, []string{"not a JSON array", "a"}, []string{"10", ""}},
		{"null entry", []answer{{index: "11", body: `[null]`}, set("12", "a")}, []string{"none of its elements is an entry", "a"}, []string{"10", ""}},
		{"entry without service", []answer{{index: "11", body: `[{"Node":{}}]`}, set("12", "a")}, []string{"a"}, []string{"10", ""}},
		{"cut by ACLs", []answer{{index: "11", body: `[]`, denied: true}, set("12", "a")}, []string{"node:read", "a"}, []string{"10", ""}},
		{"partly cut by ACLs", []answer{func() answer { a := set("11", "a"); a.denied = true; return a }()}, []string{"node:read"}, []string{"10"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, s := scripted(t, Config{}, registry.Query{}, append([]answer{set("10", "a", "b")}, c.answers...)...)
			if got := next(t, src); got != "a b" {
				t.Fatalf("the first set is %q", got)
			}
			for i, want := range c.want {
				got := next(t, src)
				if got != want && (want == "" || !strings.HasPrefix(got, "error: ") || !strings.Contains(got, want)) {
					t.Errorf("Next %d gives %q, want %q", i, got, want)
				}
			}
			if got, want := s.reads(), append([]string{""}, c.asked...); !slices.Equal(got, want) {
				t.Errorf("it read with the indexes %q, want %q", got, want)
			}
		})
	}
}

// A store that began again may have a few of its instances first. That set is as suspect as an empty one.
func TestNext_FailsIfAStoreBeganAgainWithFewInstances(t *testing.T) {
	for name, fall := range map[string][]answer{
		"by the wait":  {set("4", "b"), set("5", "b")},
		"by the probe": {set("10", "a", "b", "c"), set("4", "b"), set("5", "b")},
	} {
		answers := slices.Concat([]answer{set("10", "a", "b", "c")}, fall, []answer{set("6", "b"), set("7", "a", "b", "c")})
		src, s := scripted(t, Config{}, registry.Query{}, answers...)
		if got := next(t, src); got != "a b c" {
			t.Fatalf("%s: the first set is %q", name, got)
		}
		if got := next(t, src); !strings.Contains(got, "began again") || !strings.Contains(got, "1 of the 3 instances") {
			t.Errorf("%s: the next set is %q, want an error: the set is suspect", name, got)
		}
		if got := next(t, src) + ", " + next(t, src); got != "b, a b c" ||
			!slices.Equal(s.reads(), slices.Concat([]string{"", "10"}, make([]string, len(fall)), []string{"6"})) {
			t.Errorf("%s: after a single such answer the set is %q, with reads of the indexes %q", name, got, s.reads())
		}
	}
}

// next returns the IDs of the next set, or the error.
func next(t *testing.T, src registry.Source) string {
	t.Helper()
	got, err := src.Next(watchtest.Context(t))
	if err != nil {
		return "error: " + err.Error()
	}
	var ids []string
	for _, in := range got.Instances {
		ids = append(ids, in.ID)
	}
	return strings.Join(ids, " ")
}

func TestNext_KindsOfErrors(t *testing.T) {
	for _, c := range []struct {
		answer answer
		want   error
	}{
		{answer{status: 400, body: "Bad request", index: "9"}, registry.ErrInvalid},
		{answer{status: 400, body: "Bad request"}, registry.ErrUnavailable},
		{answer{status: 401}, registry.ErrDenied},
		{answer{status: 403, body: "Permission denied"}, registry.ErrDenied},
		{answer{status: 403, body: "rpc error making call: ACL system must be bootstrapped before making any requests that require authorization: ACL not found"}, registry.ErrUnavailable},
		{answer{status: 404}, registry.ErrUnavailable},
		{answer{status: 429}, registry.ErrUnavailable},
		{answer{status: 500}, registry.ErrUnavailable},
		{answer{status: 503}, registry.ErrUnavailable},
		{answer{denied: true, index: "9", body: "[]"}, registry.ErrDenied},
		{answer{cut: true}, registry.ErrUnavailable},
	} {
		src, _ := scripted(t, Config{}, registry.Query{}, c.answer)
		_, err := src.Next(watchtest.Context(t))
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "read service s") {
			t.Errorf("%+v: the error is %v, want %v", c.answer, err, c.want)
		}
	}
}

func TestDriver_FailsWithoutAnAgent(t *testing.T) {
	srv := httptest.NewServer(nil)
	srv.Close()
	d, err := newDriver(Config{Address: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Watch(registry.Query{Service: "s"}).Next(t.Context())
	if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	in := minimal()
	if _, err = d.Register(t.Context(), in, nil); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestDriver_ReportsItsOwnTimeoutAsUnavailable(t *testing.T) {
	src, _ := scripted(t, Config{Timeout: 20 * time.Millisecond}, registry.Query{}, answer{hang: true})
	_, err := src.Next(t.Context())
	if !errors.Is(err, registry.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no answer within 20ms") {
		t.Errorf("got %v", err)
	}
}

func TestDriver_ReturnsTheCallersDeadline(t *testing.T) {
	src, _ := scripted(t, Config{}, registry.Query{}, answer{hang: true})
	_, err := src.Next(watchtest.Within(t, 20*time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestWaitLimit_IsAboveTheServers(t *testing.T) {
	for _, wait := range []time.Duration{minWait, DefaultWait, maxWait} {
		if got := waitLimit(wait); got <= wait*17/16+7*time.Second || got > wait*17/16+10*time.Second {
			t.Errorf("for %v it is %v", wait, got)
		}
	}
}

func TestStale_ConfirmsAnEmptySet(t *testing.T) {
	src, s := scripted(t, Config{Stale: true}, registry.Query{}, set("10"), set("12", "a"))
	if got := next(t, src); got != "a" || len(s.reads()) != 2 {
		t.Errorf("got %q", got)
	}
}

func TestLimit_TakesTheNearestThatMatch(t *testing.T) {
	src, _ := scripted(t, Config{Limit: 2, Near: "_agent"}, registry.Query{Metadata: map[string]string{"k": "v"}},
		answer{index: "9", body: `[
			{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"z","Port":80,"Service":"s","Meta":{"k":"v"}}},
			{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"y","Port":80,"Service":"S","Meta":{"k":"v"}}},
			{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"x","Port":80,"Service":"s"}},
			{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"b","Port":80,"Service":"s","Meta":{"k":"v"}}},
			{"Node":{"Address":"10.0.0.1"},"Service":{"ID":"a","Port":80,"Service":"s","Meta":{"k":"v"}}}]`})
	if got := next(t, src); got != "z b" {
		t.Errorf("got %q", got)
	}
}
