package consul

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// twoStores are two stores behind one address. The right one has the instances a, b and c.
type twoStores struct {
	wrong func(read int64) bool // whether the wrong store answers a read, by its number
	set   answer                // of the wrong store
	reads atomic.Int64
}

// ServeHTTP implements [http.Handler].
func (s *twoStores) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/status/leader" {
		fmt.Fprint(w, `"10.0.0.1:8300"`)
		return
	}
	a := set("10", "a", "b", "c")
	if s.wrong(s.reads.Add(1)) {
		a = s.set
	}
	q := r.URL.Query()
	if asked, has := number(q.Get("index")), number(a.index); asked >= has {
		wait, err := time.ParseDuration(q.Get("wait"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		over := time.NewTimer(wait)
		defer over.Stop()
		select {
		case <-over.C:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("X-Consul-Index", a.index)
	w.Header().Set("X-Consul-LastContact", "0")
	fmt.Fprint(w, a.body)
}

// number returns the number in text, or 0 if there is none.
func number(text string) uint64 {
	n, _ := strconv.ParseUint(text, 10, 64)
	return n
}

// A read of the right store with an index of the wrong one waits for as long as it may.
func TestWatch_PublishesNoSetOfAnotherStore(t *testing.T) {
	t.Parallel()
	none, one := set("1000"), set("1000", "a")
	until := func(last int64) func(int64) bool {
		return func(read int64) bool { return read > 1 && read <= last }
	}
	for name, s := range map[string]*twoStores{
		"an empty set twice":           {wrong: until(3), set: none},
		"an empty set three times":     {wrong: until(4), set: none},
		"an empty set four times":      {wrong: until(5), set: none},
		"an empty set in even reads":   {wrong: func(read int64) bool { return read == 3 || read%2 == 0 }, set: none},
		"an empty set in odd reads":    {wrong: func(read int64) bool { return read == 2 || read > 1 && read%2 == 1 }, set: none},
		"one of three instances once":  {wrong: until(2), set: one},
		"one of three instances twice": {wrong: until(3), set: one},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(s)
			t.Cleanup(srv.Close)
			w := watchtest.Watch(t, open(t, Config{Address: srv.URL, Wait: maxWait}), registry.Query{Service: "s"})
			w.Until("that the set is withheld", func(p watchtest.Pair) bool { return p.Err != nil })
			w.Until("the right set", watchtest.Healthy(3)) // long before a read of maxWait ends
			for _, p := range w.All() {
				if p.Err == nil && len(p.Set) != 3 {
					t.Errorf("the watch published %v", p)
				}
			}
		})
	}
}

func TestNext_WaitsBrieflyWhileTheSetIsSuspect(t *testing.T) {
	long, brief := DefaultWait.String(), minConfirmWait.String()
	for _, c := range []struct {
		name    string
		answers []answer
		want    []string // of each Next
		waits   []string // of each read
	}{
		{"empty, and not true", []answer{set("1000"), set("1000"), set("10", "a", "b", "c"), set("10", "a", "b", "c"), set("11", "a")},
			[]string{"", "a b c", "a"}, []string{"", long, "", brief, "", long}},
		{"more than half are gone", []answer{set("11", "a"), set("12", "a", "b"), set("13", "a", "b", "c")},
			[]string{"a", "a b", "a b c"}, []string{"", long, brief, long}},
		{"fewer are gone", []answer{set("11", "a", "b"), set("12", "a"), set("13", "a", "b")},
			[]string{"a b", "a", "a b"}, []string{"", long, long, long}},
		{"the store began again", []answer{set("4"), set("5"), set("5"), set("6", "a", "b")},
			[]string{"error: ", "", "a b"}, []string{"", long, "", "", brief}},
		{"the answers contradict each other", []answer{set("1000"), set("1000"), set("10", "a", "b", "c"), set("1000"), set("10", "a", "b", "c")},
			[]string{"", "a b c"}, []string{"", long, "", brief, "", ""}},
		{"none passes", []answer{critical("11", "a", "b", "c"), set("12", "a", "b", "c"), set("13", "a", "b", "c")},
			[]string{"a b c", "a b c", "a b c"}, []string{"", long, brief, long}},
	} {
		t.Run(c.name, func(t *testing.T) {
			src, s := scripted(t, Config{}, registry.Query{AnyStatus: true}, append([]answer{set("10", "a", "b", "c")}, c.answers...)...)
			for i, want := range append([]string{"a b c"}, c.want...) {
				if got := next(t, src); got != want && (want != "error: " || !strings.HasPrefix(got, want)) {
					t.Errorf("Next %d gives %q, want %q", i, got, want)
				}
			}
			if got := s.waited(t); !slices.Equal(got, c.waits) {
				t.Errorf("the reads waited for %q, want %q", got, c.waits)
			}
		})
	}
}

// critical is like set, with a critical check of each instance.
func critical(index string, ids ...string) answer {
	a := set(index, ids...)
	a.body = strings.ReplaceAll(a.body, `"Checks":[]`, `"Checks":[{"CheckID":"c","Status":"critical"}]`)
	return a
}

// waited returns how long each read was allowed to wait, as a text of [time.Duration], or "" for a read that does not wait.
func (s *script) waited(t *testing.T) (waits []string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.waits {
		if text != "" {
			wait, err := time.ParseDuration(text)
			if err != nil {
				t.Error(err)
			}
			text = wait.Round(minConfirmWait).String()
		}
		waits = append(waits, text)
	}
	return waits
}

// A service that lost all of its instances must not be read often for long.
func TestMostWait_RisesUntilASmallSetIsNotSuspect(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &source{reader: reader{d: &driver{settings: &settings{Config: Config{}.withDefaults()}}}}
		s.noteSize(size{all: 3, passing: 3})
		if got := s.mostWait(); got != DefaultWait {
			t.Errorf("after the first set a read waits for %v", got)
		}
		began := time.Now()
		var waits []time.Duration
		for s.noteSize(size{}); s.suspect(); s.noteSize(size{}) {
			waits = append(waits, s.mostWait())
			time.Sleep(s.mostWait())
		}
		want := []time.Duration{500 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}
		if !slices.Equal(waits, want) {
			t.Errorf("the reads waited for %v, want %v", waits, want)
		}
		if got := s.mostWait(); got != DefaultWait {
			t.Errorf("after %v a read waits for %v", time.Since(began), got)
		}
	})
}

// A gateway answers two reads with an index that the real agent will not reach for long.
func TestWatch_RecoversFromAnIndexThatIsTooHigh(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	operator := operatorOf(t, agent)
	proxy := testbed.NewProxy(t, agent.Addr())
	q := registry.Query{Service: uniqueService()}
	if err := operator.Agent().ServiceRegister(foreign(q.Service, 81)); err != nil {
		t.Fatal(err)
	}
	const wait = 4 * time.Second
	w := watchtest.Watch(t, open(t, Config{Address: proxy.Addr(), Wait: wait}), q)
	w.Until("the instance", watchtest.Healthy(1))

	var wrong atomic.Int64
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/service/") || wrong.Add(1) > 2 {
			return false
		}
		w.Header().Set("X-Consul-LastContact", "0")
		w.Header().Set("X-Consul-Index", "1000000")
		fmt.Fprint(w, "[]")
		return true
	})
	w.Until("that the set is withheld", func(p watchtest.Pair) bool { return p.Err != nil })
	w.Until("the instance again", watchtest.Healthy(1))
	for _, p := range w.All() {
		if len(p.Set) != 1 {
			t.Errorf("the watch yielded %v", p)
		}
	}

	if err := operator.Agent().ServiceDeregister(q.Service); err != nil {
		t.Fatal(err)
	}
	w.Until("the empty set", watchtest.Healthy(0))
	watchtest.Eventually(t, "reads wait for as long as before", func() bool {
		log := proxy.Log()
		for _, r := range slices.Backward(log) {
			if r.Query.Has("index") {
				return r.Query.Get("wait") == fmt.Sprintf("%dms", wait.Milliseconds())
			}
		}
		return false
	})
	if p := w.All(); !watchtest.Healthy(0)(p[len(p)-1]) {
		t.Errorf("the last pair is %v", p[len(p)-1])
	}
}
