package consul

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// callError is the failure of one call. It keeps the words of Consul but not the error that held them: those of net/http
// wrap the deadline that the driver set, which would look like the caller's own.
type callError struct {
	kind error
	code int // of the HTTP answer, 0 where there was none
	// unreached says that there was no connection to make the call over, so that nobody has seen anything of it.
	unreached bool
	late      bool // there was no answer in time
	text      string
}

func (e *callError) Error() string { return e.kind.Error() + ": " + e.text }
func (e *callError) Unwrap() error { return e.kind }

// ours is a failure that this package has found itself, of whose cause there is nothing to guess.
type ours string

func (o ours) Error() string { return string(o) }

// isGone reports whether err is Consul's answer that it does not have what was asked for.
func isGone(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.code == http.StatusNotFound
}

// isRefused reports whether err is the answer of an agent that has too many connections, or too much to do.
func isRefused(err error) bool {
	var e *callError
	return errors.As(err, &e) && e.code == http.StatusTooManyRequests
}

// badFilter is how Consul begins to say what is wrong with a filter expression, under status 500.
const badFilter = "Failed to create boolean expression evaluator"

// maxWords bounds what an error quotes of an answer, which may be a whole page of a proxy.
const maxWords = 300

// classify turns the error of a call made under ctx, with a limit of its own, into one of the kinds of package registry.
// The error of ctx is returned as it is where that ended the call.
func (d *driver) classify(ctx context.Context, what string, limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &callError{kind: registry.ErrUnavailable, text: err.Error()}
	var status api.StatusError
	var own ours
	var u *url.Error
	var op *net.OpError
	e.unreached = errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.As(err, &status):
		e.code = status.Code
		e.text = fmt.Sprintf("HTTP status %d: %s", status.Code, strings.Join(strings.Fields(status.Body), " "))
		switch status.Code {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			e.kind = registry.ErrInvalid
		case http.StatusUnauthorized, http.StatusForbidden:
			// Servers that have just begun know of no token, and say why.
			if !strings.Contains(status.Body, "ACL system must be bootstrapped") {
				e.kind = registry.ErrDenied
			}
		case http.StatusInternalServerError:
			if d.settings.Filter != "" && strings.Contains(status.Body, badFilter) {
				e.kind = registry.ErrInvalid
				e.text = "Filter (filter): " + e.text
			}
		}
	case errors.Is(err, context.DeadlineExceeded):
		e.late = true
		e.text = fmt.Sprintf("no answer within %v", limit)
	case errors.As(err, &own):
		e.text = own.Error()
	case errors.As(err, &u):
		// Without the URL, which says nothing more than what and where do.
		e.text = u.Err.Error()
		if strings.Contains(e.text, "readLoopPeekFailLocked") { // of net/http, whose text holds nothing else
			e.text = "the agent closed the connection before it was used"
		}
		// A server that wants a certificate ends the connection after the handshake, and its words are not always read.
		if d.agent.secure && d.settings.anonymous && !e.unreached && !strings.Contains(e.text, "certificate") {
			e.text += " (the agent may want a client certificate, and TLS.CertFile is not set)"
		}
	}
	e.text = d.settings.scrub(e.text) // before it is cut, which might leave half of a token
	if len(e.text) > maxWords {
		e.text = strings.ToValidUTF8(e.text[:maxWords], "") + "…"
	}
	e.text = fmt.Sprintf("consul at %s: %s: %s", d.settings.location, what, e.text)
	return e
}

// unavailable is the failure of a call whose answer is not to be used.
func (d *driver) unavailable(what, why string) error {
	return &callError{kind: registry.ErrUnavailable, text: fmt.Sprintf("consul at %s: %s: %s", d.settings.location, what, why)}
}
