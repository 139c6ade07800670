package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

const (
	afterCrash = 300             // requests to a service with a crashed instance
	deadline   = time.Second     // of a request to a service without instances
	guard      = 5 * time.Second // how long the bench waits for the end of that request
)

// http compares HTTP clients, over Consul. They run in this process, which the servers are in too.
func (b *bench) http() error {
	s, ok := b.stores["consul"]
	if !ok {
		return nil
	}
	for round := range b.Rounds {
		b.say("http, round %d of %d", round+1, b.Rounds)
		for _, part := range []func(*bench, store, int) error{(*bench).httpLatency, (*bench).httpCrash, (*bench).httpEmpty} {
			if err := part(b, s, round); err != nil {
				return fmt.Errorf("http: %w", err)
			}
		}
	}
	return nil
}

// web is a registered HTTP server.
type web struct {
	in  contender.Instance
	srv *http.Server
}

func startWeb(s store, service string, number int) (*web, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &web{contender.Instance{Number: number, Service: service, Address: lis.Addr().String()}, &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }),
	}}
	go w.srv.Serve(lis)
	return w, s.put(contender.Agent, w.in)
}

// withClients starts three servers and a client of each contender, and calls f.
func (b *bench) withClients(s store, service string, f func([]*web, map[string]*http.Client) error) error {
	var all []*web
	var addresses []string
	defer func() {
		for _, w := range all {
			w.srv.Close()
			s.remove(contender.Agent, w.in)
		}
	}()
	for number := range 3 {
		w, err := startWeb(s, service, number)
		if err != nil {
			return err
		}
		all, addresses = append(all, w), append(addresses, w.in.Address)
	}
	clients := map[string]*http.Client{}
	for _, c := range contender.AllHTTP {
		client, end, err := c.New(s.address(), addresses)
		if err != nil {
			return err
		}
		defer end()
		clients[c.Name] = client
		for range 30 {
			if err := get(context.Background(), client, service); err != nil {
				return fmt.Errorf("%s: the first requests: %w", c.Name, err)
			}
		}
	}
	return f(all, clients)
}

func get(ctx context.Context, client *http.Client, service string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service+"/", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// httpLatency makes requests to three servers. The contenders take turns.
func (b *bench) httpLatency(s store, round int) error {
	service := fmt.Sprintf("http-three-%d", round)
	return b.withClients(s, service, func(_ []*web, clients map[string]*http.Client) error {
		for range b.CallTurns {
			for _, c := range contender.AllHTTP {
				took, failed := requestsFor(clients[c.Name], service, b.Calls/time.Duration(b.CallTurns))
				if len(took) == 0 {
					return fmt.Errorf("%s: all %d requests failed", c.Name, failed)
				}
				figure := func(f, unit string, v float64) {
					b.report.add(key{"http", "consul", "three servers", f, c.Name}, unit, v)
				}
				figure("requests a second (more is better)", "", float64(len(took))/(b.Calls/time.Duration(b.CallTurns)).Seconds())
				figure("median latency", "ms", milliseconds(took[len(took)/2]))
				figure("99th percentile", "ms", milliseconds(took[len(took)*99/100]))
				figure("failed requests", "", float64(failed))
			}
		}
		return nil
	})
}

// requestsFor makes requests for a while, and returns how long each successful one took, in order, and how many failed.
func requestsFor(client *http.Client, service string, limit time.Duration) (all []time.Duration, failed int) {
	var mu sync.Mutex
	var work sync.WaitGroup
	began := time.Now()
	for range callers {
		work.Go(func() {
			var own []time.Duration
			bad := 0
			for at := time.Now(); at.Sub(began) < limit; at = time.Now() {
				if err := get(context.Background(), client, service); err != nil {
					bad++
					continue
				}
				own = append(own, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			all, failed = append(all, own...), failed+bad
		})
	}
	work.Wait()
	slices.Sort(all)
	return all, failed
}

// httpCrash ends one of three servers without deregistering it, and makes requests one after another.
func (b *bench) httpCrash(s store, round int) error {
	service := fmt.Sprintf("http-crash-%d", round)
	return b.withClients(s, service, func(all []*web, clients map[string]*http.Client) error {
		all[0].srv.Close()
		for _, c := range contender.AllHTTP {
			failed := 0
			for range afterCrash {
				ctx, cancel := context.WithTimeout(context.Background(), guard)
				if get(ctx, clients[c.Name], service) != nil {
					failed++
				}
				cancel()
			}
			b.report.add(key{"http", "consul", "one of three crashed", fmt.Sprintf("failed of %d GETs", afterCrash), c.Name}, "", float64(failed))
		}
		return nil
	})
}

// httpEmpty makes a request with a deadline to a service that has no instance.
func (b *bench) httpEmpty(s store, round int) error {
	for _, c := range contender.AllHTTP[1:] { // a static list is never empty
		client, end, err := c.New(s.address(), nil)
		if err != nil {
			return err
		}
		k := key{"http", "consul", "no instance", fmt.Sprintf("until a request with a deadline of %v fails", deadline), c.Name}
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		began, ended := time.Now(), make(chan struct{})
		go func() {
			get(ctx, client, fmt.Sprintf("http-none-%d", round))
			close(ended)
		}()
		select {
		case <-ended:
			b.report.add(k, "ms", milliseconds(time.Since(began)))
			end()
		case <-time.After(guard):
			b.report.text(k, fmt.Sprintf("not within %v", guard)) // its end might wait for the request
		}
		cancel()
	}
	return nil
}
