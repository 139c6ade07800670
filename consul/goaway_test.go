package consul

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// goingAway is an HTTP/2 server that ends each connection before it accepts a call.
func goingAway(t *testing.T, cert, key string) (address string, connections *atomic.Int64) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			work.Go(func() { goAway(c) })
		}
	})
	t.Cleanup(func() { l.Close(); work.Wait() })
	return l.Addr().String(), connections
}

// goAway sends SETTINGS and a GOAWAY that names no stream, and waits for the client to leave.
func goAway(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(watchtest.Timeout))
	preface := make([]byte, 24)
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	_, _ = c.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})
	_, _ = c.Write([]byte{0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	_, _ = io.Copy(io.Discard, c)
}

// For each call, a server that ends its connections is dialled a few times at most, and the calls back off.
func TestTransport_BoundsConnectionsThatGoAway(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	ca.issue("consul.test", cert, key)
	address, connections := goingAway(t, cert, key)
	d, err := newDriver(Config{Address: "https://" + address, TLS: TLS{CAFile: ca.file}, Timeout: 2 * watchtest.Timeout})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, index := range []uint64{0, 10} {
		before := connections.Load()
		_, err = d.newSource(registry.Query{Service: "s"}).read(watchtest.Context(t), index, false)
		if !errors.Is(err, registry.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error is %v", err)
		}
		if n := connections.Load() - before; n > agent.MaxDials+1 {
			t.Errorf("one read took %d connections", n)
		}
	}
	_, err = d.Register(t.Context(), minimal(), nil)
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Register returns %v", err)
	}
	began := time.Now()
	w := watchtest.Watch(t, open(t, Config{Address: "https://" + address, TLS: TLS{CAFile: ca.file}}), registry.Query{Service: "s"})
	w.Until("an error", func(p watchtest.Pair) bool { return p.Err != nil })
	rate := watchtest.Rate(t, "several attempts", began, 5*agent.MaxDials, func() int { return int(connections.Load()) })
	t.Logf("%.1f connections a second of a watch", rate)
	if rate > 10*agent.MaxDials {
		t.Errorf("%.1f connections a second of a watch", rate)
	}
}
