package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestWithServed_TellsTheInstance(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		client := n.connected(nil, passing("a:1", "b:1")...)
		outerContext, outer := httpx.WithServed(n.Context())
		ctx, inner := httpx.WithServed(outerContext)
		if inner.Instance() != nil {
			n.Error("there is an instance before the request")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/", nil)
		if err != nil {
			n.Fatal(err)
		}
		for range 2 { // b is away
			if _, err := read(client.Do(req)); err != nil || inner.Instance().ID != "at-a:1" || outer.Instance() != inner.Instance() {
				n.Errorf("the instances are %v and %v, %v", inner.Instance(), outer.Instance(), err)
			}
		}
	})
}

func TestTransport_ObserveTellsOfEachRequest(t *testing.T) {
	inANetwork(t, func(n *network) {
		var events []string
		n.listen("a:1", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.WriteHeader(http.StatusTeapot)
		})
		client := n.connected(&httpx.Transport{Observe: func(e httpx.Event) {
			id := ""
			if e.Instance != nil {
				id = e.Instance.ID
			}
			events = append(events, fmt.Sprint(e.Service, " ", id, " ", e.Status, " ", e.Took, " ", e.Attempts, " ", e.Err == nil))
		}, PanicThreshold: 1}, passing("a:1")...)
		n.says(nil, passing("b:1")...)
		get(client)
		n.says(nil, passing("a:1", "b:1")...)
		get(client)
		get(client)
		want := []string{"greeter at-a:1 418 1s 1 true", "greeter at-b:1 0 0s 1 false", "greeter at-a:1 418 1s ", "greeter at-a:1 418 1s "}
		if len(events) != len(want) {
			n.Fatalf("the events are %q", events)
		}
		for i, text := range want { // the last two may have tried b first
			if !strings.HasPrefix(events[i], text) {
				n.Errorf("event %d is %q, want %q", i, events[i], text)
			}
		}
	})
}

func TestTransport_ObserveTellsOfRequestsThatAreSentNowhere(t *testing.T) {
	inANetwork(t, func(n *network) {
		var events []httpx.Event
		tr := n.transport(&httpx.Transport{Observe: func(e httpx.Event) { events = append(events, e) }})
		var closed int64
		for _, url := range []string{"http://greeter:8080/", "http://a_-!b/", "ftp://greeter/"} {
			b := newBody("hello")
			req, err := http.NewRequest(http.MethodPost, url, b)
			if err != nil {
				n.Fatal(err)
			}
			_, err = tr.RoundTrip(req)
			closed += b.closed.Load()
			last := events[len(events)-1]
			if last.Request != req || last.Err != err || !errors.Is(err, registry.ErrInvalid) || last.Attempts != 0 || last.Instance != nil {
				n.Errorf("%s: the event is %+v", url, last)
			}
		}
		tr.Close()
		_, err := get(&http.Client{Transport: tr})
		failsWith(n.T, err, registry.ErrClosed)
		if len(events) != 4 || closed != 3 {
			n.Errorf("there are %d events, and %d bodies were closed", len(events), closed)
		}
	})
}

func TestTransport_ObserveKnowsTheRequestAndItsQuery(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", nil)
		type key struct{}
		var event httpx.Event
		q := registry.Query{Service: service, Tags: []string{"blue"}, Metadata: map[string]string{"shard": "7"}}
		client := n.connected(&httpx.Transport{
			Select:  func(*http.Request) registry.Query { return q },
			Observe: func(e httpx.Event) { event = e },
		}, passing("a:1")...)
		req, err := http.NewRequestWithContext(context.WithValue(n.Context(), key{}, "of the caller"), http.MethodGet, "http://gateway/x", nil)
		if err != nil {
			n.Fatal(err)
		}
		if _, err := read(client.Do(req)); err != nil {
			n.Fatal(err)
		}
		if event.Request.Context().Value(key{}) != "of the caller" || event.Request.URL.String() != "http://gateway/x" || !reflect.DeepEqual(event.Query, q) {
			n.Errorf("the event is %+v", event)
		}
	})
}

func TestTransport_LetsUnusedServicesGo(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &fixed{set: passing("a:1")}
		s := n.listen("a:1", nil)
		tr := &httpx.Transport{Discovery: d, Base: &http.Transport{DialContext: n.dial}, IdleTimeout: time.Hour}
		defer tr.Close()
		client := &http.Client{Transport: tr}
		for range 10 {
			if _, err := get(client); err != nil {
				n.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		if got := d.openWatches(); got != 1 {
			n.Errorf("a service in use has %d watches", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := d.openWatches(); got != 0 || s.opened.Load() != 0 {
			n.Errorf("an unused service has %d watches, and %d connections", got, s.opened.Load())
		}
		if text, err := get(client); text != "a:1" {
			n.Errorf("the next request gets %q, %v", text, err)
		}
	})
}

func TestTransport_WatchesFewServicesWithoutInstances(t *testing.T) {
	inANetwork(t, func(n *network) {
		d := &fixed{}
		tr := &httpx.Transport{Discovery: d}
		defer tr.Close()
		client := &http.Client{Transport: tr}
		for i := range 1000 {
			_, err := client.Get(fmt.Sprintf("http://host-%d/", i))
			failsWith(n.T, err, registry.ErrUnavailable, fmt.Sprintf("host-%d", i))
		}
		synctest.Wait()
		if got := d.openWatches(); got != 100 {
			n.Errorf("there are %d watches of services without instances", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := d.openWatches(); got != 0 {
			n.Errorf("after a minute there are %d watches", got)
		}
	})
}

func TestTransport_ClientsShareOneWatch(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	for range 10 {
		client := httpx.NewClient(reg)
		_, err := get(client)
		failsWith(t, err, registry.ErrUnavailable, "greeter", "memory")
		defer client.Transport.(*httpx.Transport).Close()
	}
	watchtest.Eventually(t, "all clients read one watch", func() bool {
		w := reg.Snapshot().Watches
		return len(w) == 1 && w[0].Readers == 10
	})
}

func TestTransport_RegistryIsClosed(t *testing.T) {
	reg := memory.New()
	reg.Close()
	client := httpx.NewClient(reg)
	defer client.Transport.(*httpx.Transport).Close()
	_, err := get(client)
	failsWith(t, err, registry.ErrClosed, "greeter")
	if errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("the error is %v", err)
	}
}
