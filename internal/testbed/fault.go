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

// A mode is what a Proxy does with requests for the time being. It is replaced and never changed.
type mode struct {
	fault     fault
	status    int
	body      string
	intercept func(http.ResponseWriter, *http.Request) bool
	over      chan struct{} // closed when another mode has taken its place
}

func newMode() *mode { return &mode{over: make(chan struct{})} }

// Fail answers every request with the status and body, those in flight included, until another fault or Heal.
func (p *Proxy) Fail(status int, body string) {
	m := newMode()
	m.fault, m.status, m.body = faultFail, status, body
	p.enter(m)
}

// Hang answers nothing, neither to new requests nor to those in flight, until another fault or Heal. Requests that are
// still waited for then are forwarded; an answer that came from the server meanwhile is passed on.
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

// Intercept shows each new request to f, which either answers it and returns true, or leaves w alone and returns false to
// have it forwarded. It may read the body, must not change the request, and runs in several goroutines at once. It lasts
// until another fault or Heal; requests in flight are not disturbed.
func (p *Proxy) Intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	m := newMode()
	m.fault, m.intercept = faultIntercept, f
	p.enter(m)
}

// Heal ends whatever Fail, Hang, Refuse or Intercept began: requests are forwarded again.
func (p *Proxy) Heal() { p.enter(newMode()) }

// enter replaces the mode. Where the new one spares no request, those in flight are given up.
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

// givenUp is why a request was not seen to its end. It remembers the mode that did it, since by the time that the request
// comes to know, another mode may have begun.
type givenUp struct{ mode *mode }

func (*givenUp) Error() string { return "given up for a fault" }

func (p *Proxy) present() *mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// serve answers a request as the mode has it, and as each later mode has it until there is an answer.
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

// holdAnswer keeps an answer of the server back while the proxy hangs.
func (p *Proxy) holdAnswer(answer *http.Response) error {
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

// unanswered is called for a request that has no answer from the server: because it was given up for a fault, because the
// client has gone, or because the server is down.
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
	_, _ = io.WriteString(w, m.body) // fails only when the client has gone
}

// reset closes a connection without the usual good-bye, so that the other side learns of it whatever it is doing.
func reset(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn() // its own Close says good-bye, and waits for that to be sent
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}
