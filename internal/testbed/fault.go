package testbed

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
)

type fault int

const (
	faultNone fault = iota
	faultFail
	faultHang
	faultRefuse
	faultIntercept
)

// A mode is what a Proxy currently does with requests. It is replaced and never changed.
type mode struct {
	fault     fault
	status    int
	body      string
	intercept func(http.ResponseWriter, *http.Request) bool
	over      chan struct{} // closed when another mode has replaced it
}

func newMode() *mode { return &mode{over: make(chan struct{})} }

// Fail answers every request, also in flight, with the status and body, until another fault or Heal.
func (p *Proxy) Fail(status int, body string) {
	m := newMode()
	m.fault, m.status, m.body = faultFail, status, body
	p.enter(m)
}

// Hang answers no request, new or in flight, until another fault or Heal. Then the proxy forwards the requests whose clients still
// wait, and passes on the answers that came from the server meanwhile.
func (p *Proxy) Hang() {
	m := newMode()
	m.fault = faultHang
	p.enter(m)
}

// Refuse resets all connections, and each new one at once, until another fault or Heal.
func (p *Proxy) Refuse() {
	m := newMode()
	m.fault = faultRefuse
	p.enter(m)
}

// Intercept calls f for each new request, until another fault or Heal. Requests in flight are not disturbed.
//
//   - f either answers the request and returns true, or does not use w and returns false. Then the proxy forwards the request.
//   - f may read the body and must not change the request.
//   - f runs in several goroutines at once.
func (p *Proxy) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	m := newMode()
	m.fault, m.intercept = faultIntercept, f
	p.enter(m)
}

// Heal ends the effect of Fail, Hang, Refuse or Intercept: requests are forwarded again.
func (p *Proxy) Heal() { p.enter(newMode()) }

// enter replaces the mode. If the new mode fails or refuses all requests, the requests in flight are given up.
func (p *Proxy) enter(m *mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.mode.over)
	p.mode = m
	if m.fault == faultFail || m.fault == faultRefuse {
		for x := range p.exchanges {
			x.giveUp(&givenUp{m})
		}
	}
	if m.fault == faultRefuse {
		for c := range p.connections {
			reset(c)
		}
	}
}

// givenUp is the cause of a request that was given up. It has the mode that gave the request up, since another mode may have begun
// before the request's goroutine learns of it.
type givenUp struct{ mode *mode }

func (*givenUp) Error() string { return "given up for a fault" }

func (p *Proxy) present() *mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// serve answers a request according to the mode, and to each later mode until there is an answer.
func (p *Proxy) serve(w http.ResponseWriter, x *exchange) {
	for {
		m := p.present()
		switch m.fault {
		case faultFail:
			m.fail(w)
			return
		case faultRefuse:
			panic(http.ErrAbortHandler)
		case faultHang:
			select {
			case <-m.over:
				continue
			case <-x.request.Context().Done():
				p.unanswered(w, x.request, nil)
				return
			}
		case faultIntercept:
			if m.intercept(w, x.again()) {
				return
			}
		}
		p.forwarder.ServeHTTP(w, x.again())
		return
	}
}

// delayAnswer delays an answer of the server while the proxy hangs.
func (p *Proxy) delayAnswer(answer *http.Response) error {
	ctx := answer.Request.Context()
	for m := p.present(); m.fault == faultHang; m = p.present() {
		select {
		case <-m.over:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
	}
	return ctx.Err()
}

// unanswered is called for a request without an answer from the server: it was given up for a fault, its client has disconnected,
// or the server is down.
func (p *Proxy) unanswered(w http.ResponseWriter, r *http.Request, _ error) {
	var g *givenUp
	if errors.As(context.Cause(r.Context()), &g) && g.mode.fault == faultFail {
		g.mode.fail(w)
		return
	}
	panic(http.ErrAbortHandler)
}

func (m *mode) fail(w http.ResponseWriter) {
	w.WriteHeader(m.status)
	_, _ = io.WriteString(w, m.body) // fails only if the client has disconnected
}

// reset closes a connection with a TCP reset, which the other side notices at once in any state.
func reset(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn() // its own Close sends an alert first, and waits until that is sent
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
