package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// maxBody limits the body of an answer that consul/api decodes: an entry of an agent, the names of all services.
	maxBody = 16 << 20
	// maxErrorBody limits the body of an answer with a status other than 200.
	maxErrorBody = 64 << 10
)

// Capture takes the body of an answer, so that consul/api does not decode all of it: the transport below consul/api gives consul/api an
// empty array instead. Everything else, from the address to the token, is left to consul/api.
type Capture struct {
	// Read reads the body of an answer with status 200. It need not read all of it. If it is nil, consul/api decodes the body.
	Read func(context.Context, http.Header, io.Reader) error
	// Status is the HTTP status of the answer, and Version the major version of HTTP. They are 0 if there was no answer.
	Status, Version int
}

type captureKey struct{}

// WithCapture returns a context under which the body of an answer goes into c.
func WithCapture(ctx context.Context, c *Capture) context.Context {
	return context.WithValue(ctx, captureKey{}, c)
}

// captureTransport is a transport that fills Captures. It limits every answer: its size, and the time from its header to its end.
type captureTransport struct {
	http.RoundTripper
	limit time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (t captureTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	// Each call ends its context, and with it this one.
	ctx, giveUp := context.WithCancelCause(req.Context())
	resp, err := t.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		giveUp(nil)
		return nil, err
	}
	c, _ := req.Context().Value(captureKey{}).(*Capture)
	if c != nil {
		c.Status, c.Version = resp.StatusCode, resp.ProtoMajor
	}
	slow := Fault(fmt.Sprintf("the answer began, but was not complete within %v", t.limit))
	timer := time.AfterFunc(t.limit, func() { giveUp(slow) })
	body := &limitedBody{body: resp.Body, left: maxBody, end: func() { timer.Stop(); giveUp(nil) }}
	resp.Body = body
	switch {
	case isPage(resp):
		err = errPage
	case resp.StatusCode != http.StatusOK:
		err = keepError(resp)
	case req.Method == http.MethodPut && !isMarked(resp.Header):
		err = wantNoWords(resp)
	case c != nil && c.Read != nil:
		if err = c.Read(ctx, resp.Header, body.body); err == nil {
			body.Close()
			resp.Body = io.NopCloser(strings.NewReader("[]"))
		}
	default:
		return resp, nil
	}
	if err == nil {
		return resp, nil
	}
	if context.Cause(ctx) == slow {
		err = slow
	}
	body.Close()
	return nil, err
}

// keepError reads the body of an answer that is an error, up to a limit. If a part of it cannot be read, that is no failure of its own.
func keepError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody+1))
	resp.Body.Close()
	if len(b) > maxErrorBody {
		// Classify cuts the text after secrets are hidden: a cut here might leave half of a token.
		return api.StatusError{Code: resp.StatusCode, Body: fmt.Sprintf("(more than %d bytes, which begin with) %s", maxErrorBody, b)}
	}
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusForbidden:
		if !isMarked(resp.Header) {
			return UnmarkedError{api.StatusError{Code: resp.StatusCode, Body: string(b)}}
		}
	}
	resp.Body = io.NopCloser(strings.NewReader(string(b)))
	return nil
}

const errNotConsuls = Fault("a write was answered with words that are not Consul's: a proxy or gateway before it answered")

// wantNoWords returns an error if the answer to a write has a body: Consul says nothing when it has written.
func wantNoWords(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if strings.TrimSpace(string(b)) != "" {
		return errNotConsuls
	}
	resp.Body.Close()
	resp.Body = http.NoBody
	return nil
}

// UnmarkedError is a refusal that something other than Consul has sent: it has none of the headers that each answer of Consul has.
type UnmarkedError struct{ api.StatusError }

// Unwrap returns the error as consul/api would return it.
func (e UnmarkedError) Unwrap() error { return e.StatusError }

// isMarked reports whether an answer has a header of Consul's. Each has X-Consul-Default-ACL-Policy, errors included.
func isMarked(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, "X-Consul-") {
			return true
		}
	}
	return false
}

var errTooLarge = Fault(fmt.Sprintf("the answer has more than %d bytes, and is not read", maxBody))

// limitedBody is a body that fails after so many bytes.
type limitedBody struct {
	body io.ReadCloser
	left int
	end  func()
}

// Read implements [io.Reader].
func (b *limitedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	n, err := b.body.Read(p[:min(len(p), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// Close implements [io.Closer].
func (b *limitedBody) Close() error {
	err := b.body.Close()
	b.end()
	return err
}

const errPage = Fault("the answer is a web page: what is at the address, or before it, is not Consul")

// isPage reports whether a success comes from a proxy, such as a page to sign in on. The answer to a write has nothing else to tell it by,
// since its body is not read.
func isPage(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
}

// Drain reads the rest of an answer that is not used, if it is short, so that the connection can be used again.
func Drain(r io.Reader) { _, _ = io.CopyN(io.Discard, r, maxErrorBody) }
