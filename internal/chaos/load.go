package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/examples/greeting"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	callInterval = 5 * time.Millisecond // between two calls of a load
	callTimeout  = 5 * time.Second
	mostInFlight = 200 // calls of a load; more are not made
)

// load makes calls at a constant rate, each once.
type load struct {
	call func(context.Context) error

	mu       sync.Mutex
	made     int
	failures []string
}

// run makes calls until ctx ends, and waits for the last one.
func (l *load) run(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	slots := make(chan struct{}, mostInFlight)
	tick := time.NewTicker(callInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			calls.Go(func() {
				defer func() { <-slots }()
				l.once(context.WithoutCancel(ctx))
			})
		default:
		}
	}
}

func (l *load) once(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := l.call(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.made++
	if err != nil {
		l.failures = append(l.failures, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

// take returns the number of calls and the failures since the last call.
func (l *load) take() (made int, failures []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	made, failures = l.made, l.failures
	l.made, l.failures = 0, nil
	return made, failures
}

// newGRPCLoad calls the gRPC service. close ends its channel.
func newGRPCLoad(d registry.Discovery, service string) (l *load, close func(), err error) {
	conn, err := grpcx.NewClient("rollcall:///"+service, d, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	return &load{call: func(ctx context.Context) error {
		_, err := greeting.Greet(ctx, conn, "chaos", grpc.WaitForReady(false))
		return err
	}}, func() { conn.Close() }, nil
}

// newHTTPLoad calls the HTTP service. close ends its transport.
func newHTTPLoad(d registry.Discovery, service string) (l *load, close func()) {
	transport := &httpx.Transport{Discovery: d, MaxAttempts: 1}
	client := &http.Client{Transport: transport}
	return &load{call: func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+"/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}}, func() { transport.Close() }
}
