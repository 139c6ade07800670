package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// Error is the failure of one call. It keeps the words of Consul but not the error that had them: an error of net/http wraps the
// deadline of the call, which would look like the deadline of the caller.
type Error struct {
	Code int // the status of the HTTP answer, or 0 if there was none

	kind      error
	unreached bool // there was no connection to make the call over, so that Consul has seen nothing of it
	timeout   bool // there was no answer in time
	notFound  bool // Consul said that it does not have the entry
	foreign   bool // something before Consul refused the call
	text      string
}

// Error returns the text, which is one line without secrets.
func (e *Error) Error() string { return e.kind.Error() + ": " + e.text }

// Unwrap returns the error of package registry that says of which kind e is.
func (e *Error) Unwrap() error { return e.kind }

// Fault is a failure that this program has found itself, so that nothing need be guessed of its cause.
type Fault string

// Error returns the text.
func (f Fault) Error() string { return string(f) }

// IsUnreached reports whether err says that there was no connection for the call, so that Consul has seen nothing of it.
func IsUnreached(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.unreached
}

// IsAnswered reports whether err is an HTTP answer, so that the call is over for the agent too.
func IsAnswered(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code != 0
}

// IsNotFound reports whether err is Consul's answer that it does not have the entry. A gateway without Consul behind it answers 404 too, in
// other words, and knows nothing about the entry.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.notFound
}

// IsRefused reports whether err is the answer of an agent that has too many connections, or too much to do.
func IsRefused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == http.StatusTooManyRequests
}

// IsTimeout reports whether err says that there was no answer in time.
func IsTimeout(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.timeout
}

// isAgents reports whether another agent may do better. What Consul says about another datacenter or a peer, it would say everywhere.
func (e *Error) isAgents(elsewhere bool) bool {
	if e.foreign {
		return true
	}
	switch e.Code {
	case 0, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return e.kind == registry.ErrUnavailable && !(elsewhere && (e.timeout || LacksLeader(e)))
	case http.StatusInternalServerError:
		return !elsewhere && (strings.Contains(e.text, "No known Consul servers") || LacksLeader(e) ||
			strings.Contains(e.text, "rpc error getting client"))
	}
	return false
}

// isNotFoundByConsul reports whether an answer is Consul's own that it does not have a service or a check with an ID.
func isNotFoundByConsul(status api.StatusError) bool {
	body := strings.ToLower(strings.TrimSpace(status.Body))
	return status.Code == http.StatusNotFound && (strings.HasPrefix(body, "unknown service id") || strings.HasPrefix(body, "unknown check id"))
}

// isForeign reports whether a refusal is not Consul's: Consul's are plain text, and proxies and gateways send HTML or JSON, or plain text
// without Consul's headers. A 401 is the answer to the user that was sent, or for want of one.
func (c *Config) isForeign(status api.StatusError, unmarked bool) bool {
	if status.Code == http.StatusUnauthorized && c.HasUser {
		return false
	}
	body := strings.TrimSpace(status.Body)
	return status.Code == http.StatusNotFound && !isNotFoundByConsul(status) || strings.HasPrefix(body, "<") || strings.HasPrefix(body, "{") ||
		unmarked && !(status.Code == http.StatusForbidden && (body == "" || consulsDenial.MatchString(body)))
}

// consulsDenial matches Consul's words for a denial. A proxy may have removed the headers.
var consulsDenial = regexp.MustCompile(`(?i)permission denied|\bACL\b|endpoint is blocked`)

// Hints that follow the text of an error.
const (
	ForeignHint = " (these are not Consul's words: a proxy or gateway before it answered)"

	timeoutHint     = " (a proxy ended the call: its idle limit may be below Wait (wait), which then has to be lower)"
	schemeHint      = " (the port of the address is for https, and the scheme is http)"
	certificateHint = " (the agent may want a client certificate, and TLS.CertFile is not set)"
)

const (
	// plainOverTLS is what net/http answers to http on an https port.
	plainOverTLS = "Client sent an HTTP request to an HTTPS server"
	// badFilter is how Consul begins to say what is wrong with a filter expression, with status 500.
	badFilter = "Failed to create boolean expression evaluator"
	// notBootstrapped is the answer of a server that has just begun and knows no token yet.
	notBootstrapped = "ACL system must be bootstrapped"
	// serversAway is in the denial of an agent that cannot ask the servers what a token allows, and has no answer of theirs in its cache.
	serversAway = "'primary-dc-down'"
)

// mayWantCertificate reports whether text may come from a connection that the server ended after the handshake for want of a certificate:
// the words of the server are not always read. A failure of HTTP/2 comes later, and has other causes.
func mayWantCertificate(text string) bool {
	if strings.Contains(text, "client conn could not be established") { // of a connection that ended before its first request
		return true
	}
	for _, other := range []string{"certificate", "http2", "HTTP/2", "GOAWAY", "stream error"} {
		if strings.Contains(text, other) {
			return false
		}
	}
	for _, end := range []string{"EOF", "connection reset", "broken pipe", "closed the connection", "remote error: tls"} {
		if strings.Contains(text, end) {
			return true
		}
	}
	return false
}

// withoutRoute removes what Consul puts before an error that comes from another server. Whether it does depends on the server that was
// asked, and errors that differ only in that are one error.
func withoutRoute(text string) string {
	for {
		rest, ok := strings.CutPrefix(text, "rpc error making call: ")
		if !ok {
			return text
		}
		text = rest
	}
}

var localAddress = regexp.MustCompile(`(tcp[46]?) \S+->`)

// withoutLocalAddress removes the local address from the text of a broken connection: it is another one each time.
func withoutLocalAddress(text string) string { return localAddress.ReplaceAllString(text, "$1 ") }

// Classify turns the error of a call that was made under ctx, within limit, into one of the kinds of package registry. If ctx ended the call,
// it returns the error of ctx.
func (a *Agent) Classify(ctx context.Context, what string, limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{kind: registry.ErrUnavailable, text: err.Error()}
	hint := ""
	var status api.StatusError
	var fault Fault
	var transport *url.Error
	var op *net.OpError
	e.unreached = errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.As(err, &status):
		e.foreign = a.config.isForeign(status, errors.As(err, new(UnmarkedError)))
		hint = a.classifyStatus(e, status)
	case errors.Is(err, context.DeadlineExceeded):
		e.timeout = true
		e.text = fmt.Sprintf("no answer within %v", limit)
	case errors.As(err, &fault):
		e.text = fault.Error()
	case errors.As(err, &transport):
		e.text = transport.Err.Error() // without the URL, which says no more than what and the location do
		if strings.Contains(e.text, "readLoopPeekFailLocked") {
			e.text = "the agent closed the connection before it was used" // net/http says nothing else
		}
		if a.secure && a.config.Anonymous && !e.unreached && mayWantCertificate(e.text) {
			e.text += certificateHint
		}
	}
	// Without secrets before it is cut, which might leave half of a token, and after it is made printable, which might complete one: "\x00".
	e.text = a.config.Scrub(scrub.Line(a.config.Scrub(withoutLocalAddress(e.text))))
	e.text = fmt.Sprintf("consul at %s: %s: %s%s", a.Location, what, e.text, hint)
	return e
}

// classifyStatus completes e, the failure of a call with that answer, and returns a hint for its text.
func (a *Agent) classifyStatus(e *Error, status api.StatusError) (hint string) {
	e.Code = status.Code
	e.text = fmt.Sprintf("HTTP status %d: %s", status.Code, withoutRoute(strings.Join(strings.Fields(status.Body), " ")))
	e.notFound = isNotFoundByConsul(status)
	switch {
	case status.Code == http.StatusGatewayTimeout:
		return timeoutHint
	case strings.Contains(status.Body, plainOverTLS):
		return schemeHint
	case e.foreign:
		return ForeignHint
	case status.Code == http.StatusBadRequest, status.Code == http.StatusRequestEntityTooLarge:
		e.kind = registry.ErrInvalid
	case status.Code == http.StatusUnauthorized, status.Code == http.StatusForbidden:
		if !isTooEarly(status.Body) {
			e.kind = registry.ErrDenied
		}
	case status.Code == http.StatusInternalServerError:
		if a.config.HasFilter && strings.Contains(status.Body, badFilter) {
			e.kind = registry.ErrInvalid
			e.text = "Filter (filter): " + e.text
		}
	}
	return ""
}

// Unavailable returns the failure of a call whose answer cannot be used.
func (a *Agent) Unavailable(what, why string) error {
	return &Error{kind: registry.ErrUnavailable, text: fmt.Sprintf("consul at %s: %s: %s", a.Location, what, scrub.Line(why))}
}

// isTooEarly reports whether Consul denies a call only because it does not know yet what the token allows.
func isTooEarly(why string) bool {
	return strings.Contains(why, notBootstrapped) || strings.Contains(why, serversAway)
}

// Denied returns the failure of a call that the token does not allow, in Consul's words.
func (a *Agent) Denied(what, why string) error {
	kind := registry.ErrDenied
	if isTooEarly(why) {
		kind = registry.ErrUnavailable
	}
	return &Error{kind: kind, text: fmt.Sprintf("consul at %s: %s: %s", a.Location, what, scrub.Line(a.config.Scrub(why)))}
}

// Filtered returns the failure of a read of which the token allows only a part. Without it, that part would look like everything.
func (a *Agent) Filtered(what string) error {
	return &Error{kind: registry.ErrDenied, text: "consul at " + a.Location + ": " + what +
		": the token may not read all of it (service:read and node:read are needed)"}
}
