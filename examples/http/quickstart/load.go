package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
)

const (
	rate        = 500 // requests a second
	maxInFlight = 64  // a request that is due while there are as many is left out
)

// load sends requests, and counts what has become of them.
type load struct {
	work sync.WaitGroup

	mu     sync.Mutex
	by     map[string]int // answered, by the address of the instance
	failed int
	first  error
}

func newLoad() *load { return &load{by: map[string]int{}} }

// start sends requests until ctx ends.
func (l *load) start(ctx context.Context, client *http.Client) {
	l.work.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		slots := make(chan struct{}, maxInFlight)
		for number := 0; ctx.Err() == nil; number++ {
			<-tick.C
			select {
			case slots <- struct{}{}:
				l.work.Go(func() {
					send(client, number%2 == 0)
					<-slots
				})
			default:
			}
		}
	})
}

// send makes one request. Observe of the Transport sees how it ends.
func send(client *http.Client, isGet bool) {
	url := "http://" + service + "/"
	var resp *http.Response
	var err error
	if isGet {
		resp, err = client.Get(url)
	} else {
		resp, err = client.Post(url, "text/plain", strings.NewReader("hello"))
	}
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body) // read to the end, so that the connection can be used again
		resp.Body.Close()
	}
}

// count is the Observe function of the Transport.
func (l *load) count(e httpx.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Err == nil {
		l.by[e.Instance.Address]++
		return
	}
	if l.failed++; l.failed == 1 {
		l.first = e.Err
	}
}

func (l *load) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// isAnsweredBy blocks until the server at an address has answered 100 requests.
func (l *load) isAnsweredBy(ctx context.Context, address string) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		l.mu.Lock()
		n := l.by[address]
		l.mu.Unlock()
		if n >= 100 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to answer requests: %w", address, ctx.Err())
		case <-tick.C:
		}
	}
}

// end waits for the last requests, and prints a table. It returns an error if more requests failed than can have been in flight to the
// crashed server.
func (l *load) end(out io.Writer) error {
	l.work.Wait()
	fmt.Fprintln(out)
	for _, address := range slices.Sorted(maps.Keys(l.by)) {
		fmt.Fprintf(out, "%8d  %s\n", l.by[address], address)
	}
	fmt.Fprintf(out, "%8d  failed\n", l.failed)
	if l.failed > maxInFlight {
		return fmt.Errorf("%d requests failed, the first with: %w", l.failed, l.first)
	}
	return nil
}
