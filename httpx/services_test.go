package httpx_test

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// unanswering is a Discovery that never answers.
type unanswering struct {
	registry.Discovery
	begun atomic.Int64
}

func (s *unanswering) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(func([]*registry.Instance, error) bool) {
		s.begun.Add(1)
		<-ctx.Done()
	}
}

// Services that wait for their first set must not replace one another: each would begin to wait anew, again and again.
func TestTransport_ManyNewServicesWaitSideBySide(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &unanswering{}
		tr := &httpx.Transport{Discovery: d, Base: &http.Transport{DialContext: n.dial}}
		defer tr.Close()
		client := &http.Client{Transport: tr}
		const requests = 300
		var work sync.WaitGroup
		began := time.Now()
		for i := range requests {
			work.Go(func() {
				_, err := client.Get(fmt.Sprintf("http://service-%d/", i))
				failsWith(n.T, err, registry.ErrUnavailable, "did not answer")
			})
		}
		work.Wait()
		if got := time.Since(began); got != 10*time.Second {
			n.Errorf("the requests waited %v", got)
		}
		if got := d.begun.Load(); got != requests {
			n.Errorf("%d watches for %d services", got, requests)
		}
	})
}

func TestTransport_BoundsServicesThatWait(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &unanswering{}
		tr := &httpx.Transport{Discovery: d, Base: &http.Transport{DialContext: n.dial}}
		defer tr.Close()
		client := &http.Client{Transport: tr}
		var work sync.WaitGroup
		for i := range 1000 {
			work.Go(func() { client.Get(fmt.Sprintf("http://service-%d/", i)) })
		}
		synctest.Wait()
		_, err := client.Get("http://another/")
		failsWith(n.T, err, registry.ErrUnavailable, "another", "1000 services wait")
		work.Wait()
	})
}

// The order and the repetitions of tags mean nothing, so they make no further service.
func TestTransport_TagsInAnyOrderAreOneService(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &fixed{set: passing("a:1")}
		tr := &httpx.Transport{Discovery: d, Base: &http.Transport{DialContext: n.dial}, Select: func(r *http.Request) registry.Query {
			return registry.Query{Service: r.URL.Host, Tags: r.Header["Tag"]}
		}, PanicThreshold: -1}
		defer tr.Close()
		n.listen("a:1", nil)
		for _, tags := range [][]string{{"blue", "eu"}, {"eu", "blue"}, {"eu", "eu", "blue"}} {
			req, err := http.NewRequest(http.MethodGet, "http://greeter/", nil)
			if err != nil {
				n.Fatal(err)
			}
			req.Header["Tag"] = tags
			if _, err := read(tr.RoundTrip(req)); err != nil {
				n.Error(err)
			}
		}
		if got, want := d.watched(), " [blue eu] "; got != want {
			n.Errorf("the queries are %q, want %q", got, want)
		}
	})
}

// What a Registry remembers of a watch that ended may be hours old: another service may have the address by now.
func TestTransport_DoesNotUseWhatTheRegistryRemembers(t *testing.T) {
	inANetwork(t, func(n *network) {
		store := memory.New()
		defer store.Close()
		old, err := store.Register(n.Context(), registry.Instance{Service: "greeter", ID: "old", Address: "old:1"})
		if err != nil {
			n.Fatal(err)
		}
		client := store.Client()
		defer client.Close()
		tr := &httpx.Transport{Discovery: client, Base: &http.Transport{DialContext: n.dial}}
		defer tr.Close()
		n.listen("old:1", nil)
		n.listen("new:1", nil)
		ask := func(want string) {
			n.Helper()
			if text, err := get(&http.Client{Transport: tr}); text != want {
				n.Errorf("the request gets %q, %v, want %q", text, err, want)
			}
		}
		ask("old:1")
		time.Sleep(time.Hour) // the service is let go, and its watch ends
		if err := old.Deregister(n.Context()); err != nil {
			n.Fatal(err)
		}
		if _, err := store.Register(n.Context(), registry.Instance{Service: "greeter", ID: "new", Address: "new:1"}); err != nil {
			n.Fatal(err)
		}
		before := n.dialled("old:1")
		ask("new:1")
		if got := n.dialled("old:1"); got != before {
			n.Errorf("the address from an hour ago was dialled")
		}
	})
}
