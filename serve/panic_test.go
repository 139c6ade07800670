package serve_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/serve"
)

// reporter is a server whose ReportHealth panics if panics returns true.
type reporter struct {
	serve.Server
	panics func(serve.Health) bool
}

func (r reporter) ReportHealth(h serve.Health) {
	if r.panics(h) {
		panic("the reporter's panic")
	}
}

func TestServe_DeregistersBeforePanicOfReportHealth(t *testing.T) {
	for name, panics := range map[string]func(serve.Health) bool{
		"always":           func(serve.Health) bool { return true },
		"when not ready":   func(h serve.Health) bool { return !h.Leaving && !h.Serving[service] },
		"when it leaves":   func(h serve.Health) bool { return h.Leaving },
		"when it is ready": func(h serve.Health) bool { return h.Serving[service] },
	} {
		t.Run(name, func(t *testing.T) {
			store, lis := newStore(t), listen(t)
			s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{}}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan any, 1)
			go func() {
				defer func() { done <- recover() }()
				done <- s.Serve(ctx, reporter{&http.Server{Handler: hello}, panics}, lis)
			}()
			switch name {
			case "when not ready":
				registered(t, store)
				s.NotReady() // does not panic itself
			case "when it leaves":
				registered(t, store)
				cancel()
			}
			got := fmt.Sprint(watchtest.Receive(t, "Serve to end", done))
			if !strings.Contains(got, "the reporter's panic") || !strings.Contains(got, "reporter.ReportHealth") {
				t.Errorf("Serve ended with %v", got)
			}
			if set := lookup(t, store); len(set) != 0 {
				t.Errorf("the registry has %v", set)
			}
			if !refusesConnections(lis.Addr().String()) {
				t.Error("the listener is open")
			}
		})
	}
}

// closePanics is a listener whose Close panics after it has closed.
type closePanics struct{ net.Listener }

func (l closePanics) Close() error {
	l.Listener.Close()
	panic("the listener's panic")
}

func TestServe_ClosesOtherListenersIfCloseOfOnePanics(t *testing.T) {
	other := listen(t)
	s := &serve.Service{
		Registrar: newStore(t), Instance: registry.Instance{Service: service},
		Endpoints: map[string]serve.Endpoint{"other": {&http.Server{Handler: hello}, other}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // so that Serve itself closes the listeners
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		done <- s.Serve(ctx, &http.Server{Handler: hello}, closePanics{listen(t)})
	}()
	if got := fmt.Sprint(watchtest.Receive(t, "Serve to end", done)); !strings.Contains(got, "the listener's panic") {
		t.Errorf("Serve ended with %v", got)
	}
	if !refusesConnections(other.Addr().String()) {
		t.Error("the other listener is open")
	}
}

// An http.Server closes its listeners with its mutex locked.
func TestServe_EndsIfServerClosesListenerThatPanics(t *testing.T) {
	store := newStore(t)
	s := &serve.Service{Registrar: store, Instance: registry.Instance{Service: service}, DrainDelay: -1, Signals: []os.Signal{}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		done <- s.Serve(ctx, &http.Server{Handler: hello}, closePanics{listen(t)})
	}()
	registered(t, store)
	cancel()
	if got := fmt.Sprint(watchtest.Receive(t, "Serve to end", done)); !strings.Contains(got, "the listener's panic") {
		t.Errorf("Serve ended with %v", got)
	}
	deregistered(t, store)
}
