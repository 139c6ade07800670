package consul

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the transport. consul/api has none of its own: an agent that accepts a connection and never answers would
// hold a call for ever.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// dialTimeoutOfSeveral is for each of several agents: a call goes on at the next one after that.
	dialTimeoutOfSeveral = 2 * time.Second
	keepAlive            = 15 * time.Second // finds a dead peer in about a minute, however long a blocking query waits
	idleTimeout          = 90 * time.Second
	// maxIdle is above what a process has in use at once outside its blocking queries, so that a burst of calls does not
	// dial each time. consul/api keeps one connection more than the machine has processors.
	maxIdle = 32
)

// newDialer returns the dialler of a transport. A name with several addresses is dialled at each until one answers, so that
// localhost is found on 127.0.0.1 also where it is ::1 first.
func newDialer() *net.Dialer { return &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive} }

// newTransport returns a transport of one driver alone, and a function that ends it: its connections are closed, and dialling
// stops. net/http lets a dial go on after the call that wanted it has gone, thus life and not the context of a call is what
// ends one; and it does not take a connection of HTTP/2 for idle on which the last stream is just ending.
func newTransport(dialer *net.Dialer, a address, certs *certificates) (*http.Transport, func()) {
	life, end := context.WithCancel(context.Background())
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		if a.socket != "" {
			network, to = "unix", a.socket
		}
		conn, err := dialer.DialContext(ctx, network, to)
		if err != nil {
			return nil, err
		}
		return &mortal{conn, context.AfterFunc(life, func() { conn.Close() })}, nil
	}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		DialTLSContext:      certs.dialer(dial),
		TLSClientConfig:     certs.forProxy(),
		TLSHandshakeTimeout: handshakeTimeout,
		IdleConnTimeout:     idleTimeout,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		// A dialler of our own turns HTTP/2 off unless it is asked for. Over TLS it carries any number of blocking
		// queries on one connection, which then needs pings, since one that died silently would stop them all.
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: keepAlive},
	}
	if a.scheme == "http" {
		// Idle ones and those that net/http dials ahead count for the agent too.
		t.MaxConnsPerHost = crowdMost
	}
	if a.socket != "" {
		t.Proxy = nil
	}
	return t, func() {
		end()
		t.CloseIdleConnections()
	}
}

// mortal is a connection that is closed when the life of its transport ends, if not before.
type mortal struct {
	net.Conn
	spare func() bool // it has been closed already
}

// Close implements [net.Conn].
func (m *mortal) Close() error {
	m.spare()
	return m.Conn.Close()
}

// once is a transport that sends a request that waits for a change once. Where a connection breaks that was used before,
// net/http sends a GET again without a word; one that waits from an index would then wait for it at whoever answers now,
// which may be a server that lost its data and will not have that index for hours.
type once struct{ *http.Transport }

const errBroken = ours("the connection broke while the call was waiting for an answer")

// RoundTrip implements [http.RoundTripper].
func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	if q := req.URL.Query(); !q.Has("index") && !q.Has("hash") {
		return o.Transport.RoundTrip(req)
	}
	// The driver ends the context of each of its calls, and with it this one.
	ctx, giveUp := context.WithCancelCause(req.Context())
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
		GetConn: func(string) {
			if sent.Load() {
				giveUp(errBroken)
			}
		},
	})
	resp, err := o.Transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		giveUp(nil)
	}
	return resp, err
}

// stayHere refuses to follow a redirect. Consul sends none to a program; something before it might, and net/http would take the
// token along to any host, and make a read of a write, whose answer would pass for that of the write.
func stayHere(to *http.Request, _ []*http.Request) error {
	return ours(fmt.Sprintf("it redirects to %s://%s, where the token is not taken: an address has to be that of Consul itself", to.URL.Scheme, to.URL.Host))
}

// oneByOne is a transport whose calls get their connections one after the other. Where there is none with room, net/http dials
// once for each request that waits, and would do so a hundred times in a crowd, for the first of those connections to carry all.
type oneByOne struct {
	http.RoundTripper
	turn chan struct{} // holds a token while a call has no connection yet
}

// RoundTrip implements [http.RoundTripper].
func (o oneByOne) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := req.Context().Value(captureKey{}).(*capture); !ok {
		return o.RoundTripper.RoundTrip(req) // a probe or a look for a leader: others wait for what it finds out
	}
	select {
	case o.turn <- struct{}{}:
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	next := sync.OnceFunc(func() { <-o.turn })
	defer next()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { next() }})
	return o.RoundTripper.RoundTrip(req.WithContext(ctx))
}
