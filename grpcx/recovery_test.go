package grpcx_test

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

// ending is a Discovery whose watches yield one pair each, and end.
type ending struct {
	registry.Discovery
	mu      sync.Mutex
	pairs   []said // of one watch after another; the last one for all further
	watches int
}

func (e *ending) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		e.mu.Lock()
		p := e.pairs[min(e.watches, len(e.pairs)-1)]
		e.watches++
		e.mu.Unlock()
		if p.set != nil || p.err != nil {
			yield(p.set, p.err)
		}
	}
}

func build(t *testing.T, d registry.Discovery, c grpcx.ResolverConfig) (*channel, resolver.Resolver) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	cc := new(channel)
	r, err := grpcx.NewBuilder(d, c).Build(resolver.Target{URL: *u}, cc, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cc, r
}

func TestNewBuilder_WatchesAgainWhenWatchEnds(t *testing.T) {
	refused := fmt.Errorf("%w: the store refuses it", registry.ErrInvalid)
	for name, first := range map[string][]said{
		"after an error":       {{err: refused}},
		"after a set":          {{set: instances("a:p1")}},
		"after a set, refused": {{set: instances("a:p1"), err: refused}},
		"without a word":       {{}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				d := &ending{pairs: append(first, said{err: refused}, said{set: instances("b:p1")})}
				cc, r := build(t, d, grpcx.ResolverConfig{})
				defer r.Close()
				if synctest.Wait(); first[0].set == nil {
					if _, errs := cc.told(); len(errs) == 0 {
						t.Error("the channel is not told why there is no set")
					}
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				states, _ := cc.told()
				if n := len(states); n == 0 || grpcx.InstanceFromEndpoint(states[n-1].Endpoints[0]).ID != "b" {
					t.Errorf("after 5 s the channel has %v", states)
				}
			})
		})
	}
}

// A store that refuses for long is asked seldom.
func TestNewBuilder_WatchesAgainWithBackoff(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &ending{pairs: []said{{err: registry.ErrInvalid}}}
		_, r := build(t, d, grpcx.ResolverConfig{})
		time.Sleep(time.Minute)
		r.Close()
		if d.watches < 15 || d.watches > 45 {
			t.Errorf("%d watches in a minute", d.watches)
		}
	})
}

func TestNewBuilder_StopsWhenRegistryIsClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &ending{pairs: []said{{err: &registry.Error{Op: "watch", Err: registry.ErrClosed}}}}
		_, r := build(t, d, grpcx.ResolverConfig{})
		time.Sleep(time.Minute)
		r.Close()
		if d.watches != 1 {
			t.Errorf("%d watches of a registry that is closed", d.watches)
		}
	})
}

func TestNewClient_CallsSucceedSoonAfterAnOutage(t *testing.T) {
	for _, outage := range []time.Duration{10 * time.Second, 200 * time.Second, 25 * time.Minute} {
		for _, hangs := range []bool{true, false} {
			inANetwork(t, func(n *network) {
				s := n.listen(addressIn(0))
				conn := n.client(target)
				n.says(nil, at(s, registry.Passing))
				n.says(registry.ErrUnavailable, at(s, registry.Passing))
				n.mu.Lock()
				n.hangs = hangs
				n.mu.Unlock()
				n.crash(s)
				time.Sleep(outage)
				n.listen(s.address)
				for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
					failed, err := n.call(conn, 1)
					if took := time.Since(began); failed == 0 && took <= 10*time.Second {
						return
					} else if took > 10*time.Second {
						n.Fatalf("%v after an outage of %v: %v", took, outage, err)
					}
				}
			})
		}
	}
}

func TestNewClient_RedialsWhenRegistryAnswersAgain(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		s := n.listen(addressIn(0))
		conn := n.client(target)
		n.says(nil, at(s, registry.Passing))
		n.says(registry.ErrUnavailable, at(s, registry.Passing))
		n.crash(s)
		time.Sleep(20 * time.Minute)
		n.listen(s.address)
		n.says(nil, at(s, registry.Passing))
		began := time.Now()
		if failed, err := n.call(conn, 1); failed > 0 || time.Since(began) > time.Second {
			n.Errorf("after %v: %v", time.Since(began), err)
		}
	})
}

func TestNewClient_KeepsConnectionsWhenRegistryAnswersAgain(t *testing.T) {
	forEveryPolicy(t, func(n *network, target string) {
		var set []*registry.Instance
		for i := range 20 {
			s := &node{address: addressIn(i)}
			if i%2 == 0 {
				s = n.listen(s.address)
			}
			set = append(set, at(s, registry.Passing))
		}
		conn := n.client(target)
		n.says(nil, set...)
		if failed, err := n.call(conn, 40); failed > 0 {
			n.Fatal(err)
		}
		for range 20 {
			n.says(registry.ErrUnavailable, set...)
			time.Sleep(time.Second) // some instances that are down are dialled at this moment
			n.pairs <- said{set: set}
			if failed, err := n.call(conn, 40); failed > 0 {
				n.Fatal(err)
			}
		}
		for i := 0; i < 20; i += 2 {
			if dialled := n.dialled(addressIn(i)); dialled > 1 {
				n.Errorf("%s is connected, and was dialled %d times", addressIn(i), dialled)
			}
		}
	})
}

// The registry answers again at the moment in which connections break and are given up. The race detector looks at what happens.
func TestNewClient_RedialsWhileConnectionsBreak(t *testing.T) {
	inANetwork(t, func(n *network) {
		const size = 50
		servers, set, ids := make([]*node, size), make([]*registry.Instance, size), make([]string, size)
		for i := range set {
			servers[i] = n.listen(addressIn(i))
			set[i] = at(servers[i], registry.Passing)
			ids[i] = set[i].ID
		}
		conn := n.client(target)
		for range 10 {
			n.says(nil, set...)
			n.says(&registry.StaleError{Since: time.Now(), Withheld: ids, Err: registry.ErrUnavailable}, set...)
			n.pairs <- said{set: set}
			for _, s := range servers {
				go s.gs.Stop()
			}
			synctest.Wait()
			for i, s := range servers {
				s.work.Wait()
				servers[i] = n.listen(s.address)
			}
			time.Sleep(time.Minute)
			if failed, err := n.call(conn, size); failed > 0 {
				n.Fatal(err)
			}
		}
	})
}

// stages is a Discovery that tells all of its watches one set after another.
type stages struct {
	registry.Discovery
	sets []chan struct{} // closed when the set is there
	what [][]*registry.Instance
}

func (s *stages) String() string { return "stages" }

func (s *stages) Watch(ctx context.Context, _ registry.Query) iter.Seq2[[]*registry.Instance, error] {
	return func(yield func([]*registry.Instance, error) bool) {
		for i, there := range s.sets {
			select {
			case <-there:
			case <-ctx.Done():
				return
			}
			if !yield(s.what[i], nil) {
				return
			}
		}
		<-ctx.Done()
	}
}

func TestResolverConfig_LoggerGetsOneLineForAllChannels(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := &stages{what: [][]*registry.Instance{instances("a:p1", "b:p1", "c:p1"), instances("a:p1", "b:c1", "c:c1"), instances("a:p1", "b:p1", "c:p1"), instances(), instances("a:p1")}}
		for range s.what {
			s.sets = append(s.sets, make(chan struct{}))
		}
		l := new(lines)
		logger := slog.New(slog.NewTextHandler(l, nil))
		for range 1000 {
			_, r := build(t, s, grpcx.ResolverConfig{Logger: logger})
			defer r.Close()
		}
		for i, want := range []string{"", "too few instances pass", "enough instances pass again", "no instance registered, keeping", "ending grace period"} {
			close(s.sets[i])
			time.Sleep(time.Second) // a channel takes a few states a second
			synctest.Wait()
			if len(l.all) != i || want != "" && l.with(want) != 1 {
				t.Errorf("stage %d: the log has %d lines, %d with %q", i, len(l.all), l.with(want), want)
			}
		}
	})
}

// What one channel said of itself is not said for it by another that comes after it has closed.
func TestResolverConfig_LoggerGetsLineOfLaterChannel(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := new(lines)
		logger := slog.New(slog.NewTextHandler(l, nil))
		for range 2 {
			s := &stages{sets: []chan struct{}{make(chan struct{})}, what: [][]*registry.Instance{instances("a:p1", "b:c1", "c:c1")}}
			close(s.sets[0])
			_, r := build(t, s, grpcx.ResolverConfig{Logger: logger})
			synctest.Wait()
			r.Close()
		}
		if n := l.with("too few instances pass"); n != 2 {
			t.Errorf("the log is %q", l.all)
		}
	})
}
