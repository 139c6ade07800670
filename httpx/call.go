package httpx

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/load"
	"github.com/rollcall-go/rollcall/registry"
)

// call is one request, from RoundTrip to the end of its response body. It is one allocation.
type call struct {
	service  *service
	asked    *http.Request // as it was passed to RoundTrip
	original *http.Request // asked, or a copy with the service as the host
	out      *http.Request // what is sent: original, or a copy with another body
	body     *requestBody  // the body of out; nil if original has none, or a body in memory, which cannot fail
	most     int           // how often it may be sent

	began    time.Duration // on load.Clock
	attempts int           // on how many nodes it was tried
	sent     int           // how often it was or may have been sent
	tried    []*node       // nodes that could not be connected to, or have lost the request
	few      [4]*node      // the memory of tried, mostly

	node, loser *node         // of the attempt
	sentAt      time.Duration // when the attempt began

	response responseBody
}

// roundTrip sends req, which is asked or a copy of it, to an instance. It returns errGone if the service was let go before anything was tried.
func (s *service) roundTrip(asked, req *http.Request) (*http.Response, error) {
	req, end, most := s.withPolicy(req)
	c := &call{service: s, asked: asked, original: req, out: req, most: most, began: load.Clock()}
	c.tried = c.few[:0]
	s.touch(c.began)
	if c.hasBody() && !isInMemory(req, req.Body) {
		c.setBody(req.Body)
	}
	resp, err := c.run(req.Context())
	switch {
	case end == nil:
	case err != nil:
		end()
	default:
		c.response.endTimeoutBy(end)
	}
	if err == errGone { // nothing was tried
		return nil, err
	}
	c.finish(resp, err)
	return resp, err
}

// run tries one instance after another.
func (c *call) run(ctx context.Context) (*http.Response, error) {
	var last error
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p, err := c.service.current(ctx)
		switch {
		case err != nil:
			return nil, err
		case p.err != nil && last != nil:
			return nil, last
		case p.err != nil:
			return nil, p.err
		}
		if !c.pick(p) {
			if last == nil { // every node has left since the picker was made
				continue
			}
			return nil, last
		}
		if err := c.rewind(); err != nil {
			c.node.end()
			return nil, fmt.Errorf("%w; sending the request again: GetBody: %w", last, err)
		}
		resp, err := c.attempt(ctx, p.restricted)
		if err == nil {
			return resp, nil
		}
		if last = c.explained(err); !c.maySendAgain(ctx, err) {
			if ctx.Err() != nil && !errors.Is(last, ctx.Err()) && !errors.Is(last, context.Cause(ctx)) { // it ended in the pause before another attempt
				last = fmt.Errorf("%w; the last attempt before that: %w", context.Cause(ctx), last)
			}
			return nil, last
		}
	}
}

// pick picks a node and counts the request there. It returns false if there is no further node.
func (c *call) pick(p *picker) bool {
	for {
		n, loser := p.pick(c.tried, load.Clock())
		if n == nil && c.onlyLost() { // the only instances have lost the connection, and may have a new one
			n, loser = p.pick(nil, load.Clock())
		}
		if n == nil {
			return false
		}
		if n.begin() {
			c.node, c.loser = n, loser
			return true
		}
		c.tried = append(c.tried, n)
	}
}

// attempt sends the request to the picked node.
func (c *call) attempt(ctx context.Context, restricted bool) (*http.Response, error) {
	out := c.out
	if http1 := needsHTTP1(out); restricted || http1 {
		ended := make(chan struct{})
		defer close(ended)
		out = out.WithContext(context.WithValue(ctx, attemptKey{}, attempt{ended: ended, http1: http1}))
	}
	c.attempts++
	c.sentAt = load.Clock()
	resp, err := c.node.transport().RoundTrip(out)
	if err != nil {
		c.failed(ctx, err)
		c.node.end()
		return nil, err
	}
	c.answered(resp.StatusCode)
	c.response.start(c, resp)
	return resp, nil
}

// attempt is what a dialer needs to know about the request.
type attempt struct {
	ended <-chan struct{} // closed when the attempt has ended
	http1 bool            // the request cannot be sent by HTTP/2
}

type attemptKey struct{}

// attemptIn returns the attempt in ctx, or the zero attempt.
func attemptIn(ctx context.Context) attempt {
	a, _ := ctx.Value(attemptKey{}).(attempt)
	return a
}

// answered judges the node by a response.
func (c *call) answered(status int) {
	n, now := c.node, load.Clock()
	n.worked()
	c.service.budget.responded()
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		c.fault(now)
		return
	}
	n.Observe(now-c.sentAt, now, c.service.core.decay)
	if n.HasFaults() {
		n.Judge(load.Works)
	}
}

// failed judges the node by an attempt without a response.
func (c *call) failed(ctx context.Context, err error) {
	if errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, context.Canceled) || errors.Is(err, errLeft) || c.cannotBeSent() {
		return
	}
	c.fault(load.Clock())
}

// cannotBeSent reports whether an attempt has failed because of the request itself, to any instance.
func (c *call) cannotBeSent() bool {
	return c.body != nil && c.body.failure() != nil || !isValid(c.original)
}

// fault records that the attempt has failed by the fault of its node. For the latency of the node, it counts as an answer that took at
// least as long as the answers of loser, the other node that p2c compared.
func (c *call) fault(now time.Duration) {
	took := now - c.sentAt
	if c.loser != nil {
		took = max(took, c.loser.Latency())
	}
	c.node.Peak(took, now)
	c.node.Judge(load.AtFault)
}

// explained returns the error of an attempt as RoundTrip returns it.
func (c *call) explained(err error) error {
	var notMade *connectError
	if !errors.As(err, &notMade) {
		return err
	}
	s := c.service
	why := notMade.err
	if errors.Is(why, errNotDialled) {
		return failed(s.rules.Query.Service, fmt.Errorf("%w: %s", registry.ErrUnavailable, s.state.UnreachableReason()))
	}
	in := c.node.instance.Load()
	return &registry.Error{Op: op, Service: s.rules.Query.Service, ID: in.ID, Err: fmt.Errorf("%w: %s: %w",
		registry.ErrUnavailable, s.state.ServiceInRegistry(), why)}
}

// maySendAgain decides whether the request is tried again after err, and prepares that. See "Retries" in the doc of this package.
func (c *call) maySendAgain(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var notMade *connectError
	isMade := !errors.As(err, &notMade)
	if isMade {
		c.sent++
		if isTimeout(err) || isAnswer(err) || !isIdempotent(c.original) || c.cannotBeSent() || !c.service.budget.lost() || c.sent >= c.most {
			return false
		}
	}
	if !c.canRewind() {
		return false
	}
	isNew := !slices.Contains(c.tried, c.node)
	if isNew {
		c.tried = append(c.tried, c.node)
	}
	if isMade && !isNew { // it was the only instance
		return pause(ctx, c.sent)
	}
	return true
}

// onlyLost reports whether no attempt has failed to connect.
func (c *call) onlyLost() bool { return c.sent > 0 && c.sent == c.attempts }

// pause waits before a request is sent to the same instance again: 50 ms, then twice as long each time, times 0.8 to 1.2. It returns false if
// ctx ends.
func pause(ctx context.Context, sent int) bool {
	d := 50 * time.Millisecond << max(sent-2, 0)
	timer := time.NewTimer(d*8/10 + rand.N(d*4/10))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// isTimeout reports whether err is a timeout of net/http or of the request. A timeout of the network, such as TCP's, is a lost connection.
func isTimeout(err error) bool {
	var network *net.OpError
	var timeout interface{ Timeout() bool }
	return !errors.As(err, &network) && errors.As(err, &timeout) && timeout.Timeout()
}

// isAnswer reports whether err is about a response that began, and that net/http cannot read. It has no type for that.
func isAnswer(err error) bool {
	text := err.Error()
	for _, words := range []string{"malformed HTTP", "malformed MIME header", "response headers exceeded", "bad Content-Length", "invalid Content-Length", "transfer encoding"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

// isIdempotent reports whether the request may be executed twice.
func isIdempotent(req *http.Request) bool {
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	_, key := req.Header["Idempotency-Key"] // with or without a value, as for net/http
	_, xKey := req.Header["X-Idempotency-Key"]
	return key || xKey
}

// finish reports the end of the request to its context and to Observe, and lets the body of the request go.
func (c *call) finish(resp *http.Response, err error) {
	var in *registry.Instance
	if c.node != nil {
		in = c.node.instance.Load()
		servedIn(c.original.Context()).set(in)
	}
	if c.body != nil {
		c.body.settle(err == nil)
	} else if c.attempts == 0 {
		closeBody(c.original)
	}
	if observe := c.service.core.observe; observe != nil {
		e := Event{
			Request: c.asked, Query: c.service.query, Service: c.service.query.Service, Instance: in, Err: err, Took: load.Clock() - c.began,
			Attempts: c.attempts,
		}
		if resp != nil {
			e.Status = resp.StatusCode
		}
		observe(e)
	}
}
