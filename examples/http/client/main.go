// Client sends requests to an HTTP service at a steady rate and prints which instances have answered. It logs the first request that fails,
// ends after -for, or on SIGINT or SIGTERM, and fails if no request succeeded.
//
//	go run ./examples/http/client -registry consul://127.0.0.1:8500
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// openers says what this program can open. The program has no gRPC in it; "etcd": etcd.Open would add it, since etcd speaks gRPC.
var openers = registry.Openers{"consul": consul.Open, "memory": memory.Open}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("the client failed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	registryURL := flag.String("registry", cmp.Or(os.Getenv("ROLLCALL_REGISTRY"), "consul://127.0.0.1:8500"), "URL of the registry; default from ROLLCALL_REGISTRY")
	service := flag.String("service", "web", "name of the service")
	rate := flag.Int("rate", 500, "requests a second")
	length := flag.Duration("for", time.Minute, "how long to send requests")
	flag.Parse()

	reg, err := openers.Open(ctx, *registryURL)
	if err != nil {
		return err
	}
	defer reg.Close()
	answers := answers{by: map[string]int{}}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &httpx.Transport{Discovery: reg, Observe: answers.count}}

	ctx, cancel := context.WithTimeout(ctx, *length)
	defer cancel()
	send(ctx, client, "http://"+*service+"/", *rate)
	return answers.print(os.Stdout)
}

// send sends requests until ctx ends, and returns when all have ended.
func send(ctx context.Context, client *http.Client, url string, rate int) {
	var requests sync.WaitGroup
	defer requests.Wait()
	ticker := time.NewTicker(time.Second / time.Duration(max(rate, 1)))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		requests.Go(func() {
			resp, err := client.Get(url)
			if err != nil {
				return // Observe has counted it
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body) // read to the end, so that the connection can be used again
		})
	}
}

// answers counts what has become of the requests.
type answers struct {
	mu     sync.Mutex
	by     map[string]int // by the instance
	failed int
	first  error
}

func (a *answers) count(e httpx.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e.Err == nil {
		a.by[e.Instance.ID]++
		return
	}
	if a.failed++; a.failed == 1 {
		a.first = e.Err
		slog.Warn("the first request failed", "error", e.Err)
	}
}

func (a *answers) print(w io.Writer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(a.by)) {
		fmt.Fprintf(w, "%8d  %s\n", a.by[id], id)
	}
	fmt.Fprintf(w, "%8d  failed\n", a.failed)
	if len(a.by) == 0 {
		return fmt.Errorf("none of %d requests succeeded, the first error: %w", a.failed, a.first)
	}
	return nil
}
