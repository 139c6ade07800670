package consul

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// On most systems localhost is ::1 first, and an agent listens on 127.0.0.1 alone.
func TestDriver_DialsEachAddressOfAName(t *testing.T) {
	srv := httptest.NewServer(&script{t: t, answers: []answer{set("10", "a")}})
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialer := agent.NewDialer()
	names := &nameServer{}
	dialer.Resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	d, err := dialWith(dialer, Config{Address: "both.test:" + port})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := next(t, d.Watch(registry.Query{Service: "s"})); got != "a" {
		t.Errorf("got %q", got)
	}
	names.work.Wait()
	if !names.asked[typeA] || !names.asked[typeAAAA] {
		t.Errorf("the name server was asked for %v", names.asked)
	}
}

// The types of DNS that a nameServer knows.
const (
	typeA    = 1
	typeAAAA = 28
)

// nameServer answers that every name is ::1 and 127.0.0.1.
type nameServer struct {
	work  sync.WaitGroup
	mu    sync.Mutex
	asked map[uint16]bool
}

func (n *nameServer) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	n.work.Go(func() {
		defer server.Close()
		n.answer(server)
	})
	return client, nil
}

// answer serves one question in the form that DNS has over a stream: each message after its length.
func (n *nameServer) answer(c net.Conn) {
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return
	}
	q := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(c, q); err != nil {
		return
	}
	end := 12 // of the question: labels, each after its length, then type and class
	for q[end] != 0 {
		end += 1 + int(q[end])
	}
	kind := binary.BigEndian.Uint16(q[end+1:])
	end += 5
	n.mu.Lock()
	if n.asked == nil {
		n.asked = map[uint16]bool{}
	}
	n.asked[kind] = true
	n.mu.Unlock()

	data := net.IPv4(127, 0, 0, 1).To4()
	if kind == typeAAAA {
		data = net.IPv6loopback
	}
	m := append([]byte{}, q[:2]...)                   // the ID
	m = append(m, 0x84, 0x00, 0, 1, 0, 1, 0, 0, 0, 0) // an answer with authority: a question, a record, nothing else
	m = append(m, q[12:end]...)                       // the question
	m = append(m, 0xc0, 12)                           // the name in it
	m = binary.BigEndian.AppendUint16(m, kind)
	m = append(m, 0, 1, 0, 0, 0, 60) // class and time to live
	m = binary.BigEndian.AppendUint16(m, uint16(len(data)))
	m = append(m, data...)
	binary.BigEndian.PutUint16(length[:], uint16(len(m)))
	_, _ = c.Write(append(length[:], m...)) // fails only if the client has gone
}

// A dial lasts until DialTimeout if the name server does not answer. Close cancels it.
func TestClose_EndsDialling(t *testing.T) {
	dials, ends := make(chan struct{}, 10), make(chan error, 10)
	dialer := agent.NewDialer()
	dialer.Timeout = 2 * watchtest.Timeout // longer than this test
	dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials <- struct{}{}
		<-ctx.Done()
		ends <- ctx.Err()
		return nil, ctx.Err()
	}}
	d, err := dialWith(dialer, Config{Address: "nowhere.test:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := d.Services(ctx)
		done <- err
	}()
	<-dials
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the call ended with %v", err)
	}
	d.Close()
	if err := watchtest.Receive(t, "the end of the dial", ends); !errors.Is(err, context.Canceled) {
		t.Errorf("the dial ended with %v, want that Close cancels it", err)
	}
}

// A server that redirects is not Consul, and the host that it names must not get the token. net/http would follow a write with a read,
// so that the write would seem to have succeeded.
func TestDriver_FollowsNoRedirect(t *testing.T) {
	var followed atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		followed.Add(1)
		w.Header().Set("X-Consul-Index", "10")
		fmt.Fprint(w, set("10", "a").body)
	}))
	defer elsewhere.Close()
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/checks") {
				fmt.Fprint(w, "{}") // so that there is a write
				return
			}
			http.Redirect(w, r, "http://user:s3cret@"+elsewhere.Listener.Addr().String()+r.URL.RequestURI(), code)
		}))
		defer srv.Close()
		d, err := newDriver(Config{Address: srv.URL, Token: registry.NewSecret("0ddba11")})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, read := d.Watch(registry.Query{Service: "s"}).Next(t.Context())
		_, write := d.Register(t.Context(), minimal(), nil)
		for _, err := range []error{read, write} {
			if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "redirects to "+elsewhere.URL) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("after %d the error is %v", code, err)
			}
		}
	}
	if n := followed.Load(); n != 0 {
		t.Errorf("%d redirects were followed", n)
	}
}
