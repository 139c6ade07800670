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
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// On most systems localhost is ::1 first, and an agent listens on 127.0.0.1 alone.
func TestNameWithAnAddressWhereNobodyListens(t *testing.T) {
	clearEnvironment(t)
	srv := httptest.NewServer(&script{t: t, answers: []answer{set("10", "a")}})
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dialer := newDialer()
	names := &nameServer{}
	dialer.Resolver = &net.Resolver{PreferGo: true, Dial: names.dial}
	d, err := dialWith(dialer, Config{Address: "both.test:" + port})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := next(t, d.Follow(registry.Query{Service: "s"})); got != "a" {
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
	_, _ = c.Write(append(length[:], m...)) // fails only where nobody wants it any more
}

// A name server that does not answer holds a dial until dialTimeout, which Close does not wait for.
func TestCloseEndsDialling(t *testing.T) {
	clearEnvironment(t)
	dials, ends := make(chan struct{}, 10), make(chan struct{}, 10)
	dialer := newDialer()
	dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		dials <- struct{}{}
		<-ctx.Done()
		ends <- struct{}{}
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
	began := time.Now()
	d.Close()
	<-ends
	if took := time.Since(began); took > dialTimeout/2 {
		t.Errorf("the dial lasted %v after Close", took)
	}
}

// What redirects is not Consul, and the host that it names is not to have the token. A write that net/http follows up with a
// read would seem to have taken place.
func TestARedirectIsNotFollowed(t *testing.T) {
	clearEnvironment(t)
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
		d, err := newDriver(Config{Address: srv.URL, Token: "0ddba11"})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		_, read := d.Follow(registry.Query{Service: "s"}).Next(t.Context())
		_, write := d.Announce(t.Context(), minimal())
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
