package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

func TestPackage_DoesNotImportGRPC(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), "rollcall/registry") {
		t.Errorf("the list lacks package registry: %s", out)
	}
	for dep := range strings.Lines(string(out)) {
		if strings.Contains(dep, "google.golang.org") || strings.Contains(dep, "rollcall/grpcx") {
			t.Errorf("httpx imports %s", dep)
		}
	}
}

func TestTransport_SpreadsRequestsAndNamesTheService(t *testing.T) {
	inANetwork(t, func(n *network) {
		hosts := make(chan string, 100)
		for _, a := range []string{"a:1", "b:1", "c:1"} {
			n.listen(a, func(w http.ResponseWriter, r *http.Request) { hosts <- r.Host + r.URL.Path; fmt.Fprint(w, a) })
		}
		client := n.connected(nil, passing("a:1", "b:1", "c:1")...)
		n.same("of 30 requests", count(client, 30), map[string]int{"a:1": 10, "b:1": 10, "c:1": 10})
		for range 31 {
			if got := <-hosts; got != "greeter/hello" {
				n.Fatalf("a server got a request for %s", got)
			}
		}
		for _, a := range []string{"a:1", "b:1", "c:1"} {
			if got := n.dialled(a); got != 1 {
				n.Errorf("%s was dialled %d times, want once", a, got)
			}
		}
	})
}

func TestTransport_HostIsTheCallersIfSet(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Host, r.URL.Path) })
		client := n.connected(&httpx.Transport{Select: func(*http.Request) registry.Query { return registry.Query{Service: service} }}, passing("a:1")...)
		for host, want := range map[string]string{"": "greeter/x", "shop.example": "shop.example/x"} {
			req, err := http.NewRequest(http.MethodGet, "http://gateway:8080/x", nil)
			if err != nil {
				n.Fatal(err)
			}
			if host != "" {
				req.Host = host
			}
			resp, err := client.Do(req)
			if text, err := read(resp, err); err != nil || text != want {
				n.Errorf("with Host %q the server sees %q, %v, want %q", host, text, err, want)
			}
			if resp.Request.URL.Host != "gateway:8080" {
				n.Errorf("the request of the response is for %v", resp.Request.URL)
			}
		}
	})
}

func TestTransport_EmptyServiceFailsAtOnce(t *testing.T) {
	inANetwork(t, func(n *network) {
		client := &http.Client{Transport: n.transport(nil)}
		began := time.Now()
		_, err := n.ask(client)
		failsWith(n.T, err, registry.ErrUnavailable, "greeter", "a script", "no passing instance is registered")
		n.says(nil, critical("a:1")...)
		n.says(errors.New("the registry is away"))
		_, err = get(client)
		failsWith(n.T, err, registry.ErrUnavailable, "greeter", "a script")
		if time.Since(began) != 0 {
			n.Errorf("the requests took %v", time.Since(began))
		}
	})
}

func TestTransport_FailsWithWhatTheRegistryReports(t *testing.T) {
	inANetwork(t, func(n *network) {
		client := &http.Client{Transport: n.transport(nil)}
		failed := make(chan error)
		go func() {
			_, err := get(client)
			failed <- err
		}()
		n.pairs <- said{nil, &registry.Error{Op: "watch", Service: service, Err: fmt.Errorf("%w: no token", registry.ErrDenied)}}
		failsWith(n.T, <-failed, registry.ErrDenied, "greeter", "a script", "no token")
	})
}

func TestTransport_FirstRequestWaitsForTheFirstSet(t *testing.T) {
	inANetwork(t, func(n *network) {
		client := &http.Client{Transport: n.transport(nil)}
		began := time.Now()
		_, err := get(client)
		failsWith(n.T, err, registry.ErrUnavailable, "greeter", "a script", "did not answer")
		if got := time.Since(began); got != 10*time.Second {
			n.Errorf("the request waited %v", got)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/", nil)
		if err != nil {
			n.Fatal(err)
		}
		began = time.Now()
		if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			n.Errorf("after %v the request ends with %v", time.Since(began), err)
		}
		n.listen("a:1", nil)
		if text, err := n.ask(client, passing("a:1")...); text != "a:1" {
			n.Errorf("with the first set the request gets %q, %v", text, err)
		}
	})
}

func TestTransport_InvalidRequestsDoNotReachTheRegistry(t *testing.T) {
	inANetwork(t, func(n *network) {
		client := &http.Client{Transport: n.transport(nil)}
		for url, text := range map[string]string{
			"http://greeter:8080/": "port 8080", "http://a_-!b/": "Service", "http://" + strings.Repeat("x", 300) + "/": "Service",
		} {
			_, err := client.Get(url)
			failsWith(n.T, err, registry.ErrInvalid, text)
		}
		_, err := client.Transport.RoundTrip(&http.Request{})
		failsWith(n.T, err, registry.ErrInvalid, "URL")
		_, err = client.Get("ftp://greeter/")
		failsWith(n.T, err, registry.ErrInvalid, "ftp")
		if got := n.watches.Load(); got != 0 {
			n.Errorf("there are %d watches", got)
		}
	})
}

func TestTransport_NamesFieldsThatCannotBeUsed(t *testing.T) {
	d := &script{}
	for text, tr := range map[string]*httpx.Transport{
		"Discovery is required": {},
		`Policy: "first"`:       {Discovery: d, Policy: "first"},
		`TLSName: "meta."`:      {Discovery: d, TLSName: "meta."},
		"ZoneThreshold: 2":      {Discovery: d, ZoneThreshold: 2},
		"Decay: -1s":            {Discovery: d, Decay: -time.Second},
		"PanicThreshold: 1.5":   {Discovery: d, PanicThreshold: 1.5},
		"Subset: -1":            {Discovery: d, Subset: -1},
		"MaxAttempts: 6":        {Discovery: d, MaxAttempts: 6},
		"RetryBudget: 501":      {Discovery: d, RetryBudget: 501},
		"IdleTimeout: -1s":      {Discovery: d, IdleTimeout: -time.Second},
		"Base.DialTLSContext":   {Discovery: d, Base: &http.Transport{}},
	} {
		if strings.HasPrefix(text, "Base") {
			tr.Base.DialTLSContext = (&network{}).dial
		}
		_, err := (&http.Client{Transport: tr}).Get("http://greeter/")
		failsWith(t, err, registry.ErrInvalid, text)
		tr.Close()
	}
}

func TestTransport_LastGoodSetServesDuringAnOutage(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		client := n.connected(nil, passing("a:1")...)
		n.says(&registry.StaleError{Err: registry.ErrUnavailable}, passing("a:1")...)
		n.says(registry.ErrUnavailable)
		n.same("during the outage", count(client, 10), map[string]int{"a:1": 10})
	})
}

func TestTransport_EndpointByName(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:8080", nil)
		set := passing("a:1", "b:1")
		set[0].Endpoints = map[string]string{"http": "a:8080"}
		client := n.connected(&httpx.Transport{Endpoint: "http"}, set...)
		n.same("requests", count(client, 4), map[string]int{"a:8080": 4})
		n.says(nil, passing("b:1")...)
		_, err := get(client)
		failsWith(n.T, err, registry.ErrUnavailable, `endpoint "http"`)
	})
}

func TestTransport_SelectsByTagsVersionAndMetadata(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &fixed{set: passing("a:1")}
		tr := &httpx.Transport{Discovery: d, Base: &http.Transport{DialContext: n.dial}, PanicThreshold: -1, Select: func(r *http.Request) registry.Query {
			return registry.Query{Service: r.URL.Host, Version: r.Header.Get("Version"), Tags: r.Header["Tag"], Metadata: map[string]string{"shard": r.Header.Get("Shard")}}
		}}
		defer tr.Close()
		n.listen("a:1", nil)
		for _, header := range []http.Header{{"Version": {"2"}}, {"Tag": {"blue", "eu"}}, {"Shard": {"7"}}, {"Shard": {"7"}}} {
			req, err := http.NewRequest(http.MethodGet, "http://greeter/", nil)
			if err != nil {
				n.Fatal(err)
			}
			req.Header = header
			if _, err := read(tr.RoundTrip(req)); err != nil {
				n.Error(err)
			}
		}
		if got, want := d.watched(), "2 []  |  [blue eu]  |  [] 7"; got != want {
			n.Errorf("the queries are %q, want %q", got, want)
		}
	})
}

// fixed is a Discovery with the same set for each query.
type fixed struct {
	registry.Discovery
	set []*registry.Instance

	mu      sync.Mutex
	queries []registry.Query
	open    int
}

func (f *fixed) Watch(ctx context.Context, q registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		f.mu.Lock()
		f.queries = append(f.queries, q)
		f.open++
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			f.open--
			f.mu.Unlock()
		}()
		if yield(f.set, nil) {
			<-ctx.Done()
		}
	}
}

// watched returns the queries so far.
func (f *fixed) watched() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, q := range f.queries {
		all = append(all, fmt.Sprintf("%s %v %s", q.Version, q.Tags, q.Metadata["shard"]))
	}
	return strings.Join(all, " | ")
}

// openWatches returns how many watches there are.
func (f *fixed) openWatches() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}
