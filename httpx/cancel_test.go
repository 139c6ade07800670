package httpx_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
)

var errCause = errors.New("the user has left")

func TestTransport_EndsWithTheCauseOfItsContext(t *testing.T) {
	for when, prepare := range map[string]func(*network) (client *http.Client, cancelAfter time.Duration){
		"before": func(n *network) (*http.Client, time.Duration) {
			n.listen("a:1", nil)
			return n.connected(nil, passing("a:1")...), 0
		},
		"while it waits for the first set": func(n *network) (*http.Client, time.Duration) {
			return &http.Client{Transport: n.transport(nil)}, time.Second
		},
		"while it connects": func(n *network) (*http.Client, time.Duration) {
			n.listen("a:1", nil)
			client := n.connected(nil, passing("a:1")...)
			n.hang(true)
			n.says(nil, passing("b:1")...)
			return client, time.Second
		},
		"while it waits for the response": func(n *network) (*http.Client, time.Duration) {
			n.listen("a:1", func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					<-r.Context().Done()
				}
			})
			return n.connected(nil, passing("a:1")...), time.Second
		},
		"in the pause before another attempt": func(n *network) (*http.Client, time.Duration) {
			n.listen("a:1", dropConnection)
			return n.connected(nil, passing("a:1")...), 10 * time.Millisecond
		},
	} {
		t.Run(when, func(t *testing.T) {
			inANetwork(t, func(n *network) {
				client, after := prepare(n)
				began := time.Now()
				ctx, cancel := context.WithCancelCause(n.Context())
				defer cancel(nil)
				if after == 0 {
					cancel(errCause)
				} else {
					time.AfterFunc(after, func() { cancel(errCause) })
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/slow", nil)
				if err != nil {
					n.Fatal(err)
				}
				_, err = read(client.Transport.RoundTrip(req))
				if !errors.Is(err, errCause) || strings.Count(err.Error(), errCause.Error()) != 1 || time.Since(began) != after {
					n.Errorf("after %v it ends with %v", time.Since(began), err)
				}
				n.hang(false)
				synctest.Wait()
				for _, s := range client.Transport.(*httpx.Transport).Snapshot().Services {
					for _, in := range s.Instances {
						if in.Outstanding != 0 {
							n.Errorf("%s has %d outstanding requests", in.Address, in.Outstanding)
						}
					}
				}
			})
		})
	}
}

// A request that its client cancels closes an HTTP/1 connection. That is no loss: the instance may be dialled although it does not pass.
func TestTransport_CancelledRequestsBreakNoConnection(t *testing.T) {
	inANetwork(t, func(n *network) {
		s := n.listen("a:1", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-r.Context().Done()
			}
		})
		client := n.connected(nil, passing("a:1")...)
		n.says(nil, critical("a:1")...)
		ctx, cancel := context.WithTimeout(n.Context(), time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/slow", nil)
		if err != nil {
			n.Fatal(err)
		}
		if _, err := read(client.Do(req)); !errors.Is(err, context.DeadlineExceeded) {
			n.Errorf("it ends with %v", err)
		}
		synctest.Wait()
		if got := s.opened.Load(); got != 0 {
			n.Errorf("the server has %d connections", got)
		}
		if _, err := get(client); err != nil || n.dialled("a:1") != 2 {
			n.Errorf("the next request ends with %v, after %d dials", err, n.dialled("a:1"))
		}
	})
}
