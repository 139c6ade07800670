package agent

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

// Limits of the transport. consul/api has none of its own: an agent that accepts a connection and never answers would keep a call for
// ever.
const (
	DialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// DialTimeoutOfSeveral is the dial timeout if there are several agents: after it a call goes on at the next one.
	DialTimeoutOfSeveral = 2 * time.Second
	keepAlive            = 15 * time.Second // finds a dead peer in about a minute, however long a blocking query waits
	idleTimeout          = 90 * time.Second
	// maxIdle is more than the connections that a process uses at once outside its blocking queries, so that a burst of calls does not
	// dial each time. consul/api keeps one connection more than the machine has processors.
	maxIdle = 32
)

// NewDialer returns the dialer of a transport. It dials each address of a name until one answers, so that localhost is found at 127.0.0.1
// if its first address is ::1.
func NewDialer() *net.Dialer { return &net.Dialer{Timeout: DialTimeout, KeepAlive: keepAlive} }

// newTransport returns a transport to the agent at a, and a function that closes its connections and stops its dialling.
//   - net/http goes on dialling after the call that needed the connection has ended. So a dial ends with the transport, not with the
//     context of a call.
//   - CloseIdleConnections leaves an HTTP/2 connection whose last stream is just ending. So the transport closes all connections.
func newTransport(dialer *net.Dialer, a Address, certs *Certificates) (*http.Transport, func()) {
	life, end := context.WithCancel(context.Background())
	dial := func(ctx context.Context, network, to string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		if a.Socket != "" {
			network, to = "unix", a.Socket
		}
		conn, err := dialer.DialContext(ctx, network, a.dialled(to))
		if err != nil {
			return nil, err
		}
		return &transportConn{conn, context.AfterFunc(life, func() { conn.Close() })}, nil
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
		// net/http turns HTTP/2 off for a dialer of ours, unless it is told not to. Over TLS one connection then carries any number of
		// blocking queries. It needs pings: if it died without a sign, all of them would stop.
		ForceAttemptHTTP2: true,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: keepAlive, PingTimeout: keepAlive},
	}
	if a.Scheme == "http" {
		// The agent counts idle connections too, and connections that net/http dials ahead.
		t.MaxConnsPerHost = maxConnections
	}
	if a.Socket != "" {
		t.Proxy = nil
	}
	return t, func() {
		end()
		t.CloseIdleConnections()
	}
}

// transportConn is a connection that is closed when its transport ends, if not before.
type transportConn struct {
	net.Conn
	detach func() bool // from the end of the transport
}

// Close implements [net.Conn].
func (c *transportConn) Close() error {
	c.detach()
	return c.Conn.Close()
}

// once is a transport that sends a request that waits for a change only once. If a connection that was used before breaks, net/http
// sends a GET again without a word. A read that waits from an index would then wait for that index at the agent that answers now: that may be a
// server that lost its data, and does not get as far for hours. Each call goes through a limited number of connections.
type once struct{ *http.Transport }

const errBroken = Fault("the connection broke while the call was waiting for an answer")

// MaxDials is how many connections one call may go through. Otherwise, a server that ends each connection before it takes a call (GOAWAY)
// would be dialled hundreds of times a second, since net/http starts over at once.
const MaxDials = 4

const errEnded = Fault("the server ended each connection before it took the call")

// RoundTrip implements [http.RoundTripper].
func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	q := req.URL.Query()
	waits := q.Has("index") || q.Has("hash")
	// Each call ends its context, and with it this one.
	ctx, giveUp := context.WithCancelCause(req.Context())
	var sent atomic.Bool
	var dials atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
		GetConn: func(string) {
			switch {
			case waits && sent.Load():
				giveUp(errBroken)
			case dials.Add(1) > MaxDials:
				giveUp(errEnded)
			}
		},
	})
	resp, err := o.Transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		giveUp(nil)
	}
	return resp, err
}

// refuseRedirect refuses to follow a redirect. Consul sends none to a program. Something before it might: net/http would then take the token
// to any host, and turn a write into a read, whose answer would pass for the answer to the write.
func refuseRedirect(to *http.Request, _ []*http.Request) error {
	return Fault(fmt.Sprintf("it redirects to %s://%s, and the token is not sent there: the address must be the one of Consul itself", to.URL.Scheme, to.URL.Host))
}

// oneByOne is a transport whose calls get their connections one after the other. If no connection has room, net/http dials once for each
// waiting request. With many watches that would be a hundred dials, and the first of these connections would carry all requests.
type oneByOne struct {
	http.RoundTripper
	connecting chan struct{} // has a token while a call has no connection yet
}

// RoundTrip implements [http.RoundTripper].
func (o oneByOne) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, ok := req.Context().Value(captureKey{}).(*Capture); !ok {
		return o.RoundTripper.RoundTrip(req) // a probe or a question for the leader: other calls wait for the answer
	}
	select {
	case o.connecting <- struct{}{}:
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	connected := sync.OnceFunc(func() { <-o.connecting })
	defer connected()
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected() }})
	return o.RoundTripper.RoundTrip(req.WithContext(ctx))
}
