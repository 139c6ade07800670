package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// closeBody closes the body of a request that is not sent, as RoundTrip must.
func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // RoundTrip has an error of its own
	}
}

// closersOfMemory are the types with which http.NewRequest makes a ReadCloser of a reader.
var closersOfMemory = []reflect.Type{reflect.TypeOf(io.NopCloser(new(bytes.Reader))), reflect.TypeOf(io.NopCloser(io.LimitReader(nil, 0)))}

// isInMemory reports whether http.NewRequest has made b from a reader in memory that has as many bytes as the request says. Such a body cannot
// fail, and net/http sends it together with the header if no other type hides it.
func isInMemory(req *http.Request, b io.ReadCloser) bool {
	if req.GetBody == nil || !slices.Contains(closersOfMemory, reflect.TypeOf(b)) {
		return false
	}
	switch r := reflect.ValueOf(b).Field(0).Interface().(type) {
	case *bytes.Reader:
		return int64(r.Len()) == req.ContentLength
	case *bytes.Buffer:
		return int64(r.Len()) == req.ContentLength
	case *strings.Reader:
		return int64(r.Len()) == req.ContentLength
	}
	return false
}

// upload is a copy of a request, with a body that tells what happens to it.
type upload struct {
	request http.Request
	body    requestBody
}

// setBody makes what is sent a copy of the request with the body b of the caller.
func (c *call) setBody(b io.ReadCloser) {
	if isInMemory(c.original, b) {
		out := *c.original
		out.Body = b
		c.out, c.body = &out, nil
		return
	}
	u := &upload{request: *c.original, body: requestBody{body: b, length: -1, hasCopies: c.original.GetBody != nil}}
	if c.original.ContentLength > 0 {
		u.body.length = c.original.ContentLength
	}
	u.request.Body = &u.body
	c.out, c.body = &u.request, &u.body
}

func (c *call) hasBody() bool { return c.original.Body != nil && c.original.Body != http.NoBody }

// canRewind reports whether the body can be sent again. If it can be read only once, canRewind takes it away from the last attempt.
func (c *call) canRewind() bool {
	if c.body == nil || c.body.hasCopies {
		return true
	}
	if !c.body.detach() {
		return false
	}
	c.setBody(c.original.Body)
	return true
}

// rewind gives each attempt but the first one a body of its own, if the caller has a GetBody.
func (c *call) rewind() error {
	if c.attempts == 0 || !c.hasBody() || c.original.GetBody == nil {
		return nil
	}
	body, err := c.original.GetBody() // net/http has closed the body of the last attempt
	if err == nil && body == nil {
		err = errNoBody
	}
	if err != nil {
		return err
	}
	c.setBody(body)
	return nil
}

// requestBody is the body of one attempt. If the caller's body can be read only once, requestBody keeps it open as long as nothing was read
// of it, so that the next attempt can have it: net/http closes the body of an attempt that fails.
type requestBody struct {
	body      io.ReadCloser // the caller's
	length    int64         // that the request says; -1 if it says none
	hasCopies bool          // the next attempt has a body from GetBody

	mu       sync.Mutex
	n        int64 // how much was read
	read     bool  // something may have been read
	closed   bool  // net/http has closed it
	detached bool  // the next attempt has the body
	settled  bool  // there is no next attempt
	err      error // why the caller's body cannot be sent
}

var (
	errDetached = errors.New("the request is sent to another instance")
	errLength   = errors.New("the body has not the length in Request.ContentLength")
	errNoBody   = errors.New("it returned neither a body nor an error")
)

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.detached {
		b.mu.Unlock()
		return 0, errDetached
	}
	b.read = true
	b.mu.Unlock()
	n, err := b.body.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n += int64(n)
	switch {
	case b.closed || b.err != nil: // a read from a closed body fails, which is not the fault of the body
	case err != nil && err != io.EOF:
		b.err = err
	case b.length >= 0 && (b.n > b.length || err == io.EOF && b.n < b.length):
		b.err = errLength
	}
	return n, err
}

// failure returns why the body cannot be sent over any connection, or nil if the body has not failed.
func (b *requestBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Close implements [io.Closer].
func (b *requestBody) Close() error {
	b.mu.Lock()
	now := !b.closed && !b.detached && (b.hasCopies || b.read || b.settled)
	b.closed = true
	b.mu.Unlock()
	if now {
		return b.body.Close()
	}
	return nil
}

// detach takes the caller's body away, if nothing was read of it, and reports whether it did.
func (b *requestBody) detach() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.detached = !b.read
	return b.detached
}

// settle says that there is no further attempt. If the last attempt has failed and net/http has not closed the body, settle does.
func (b *requestBody) settle(answered bool) {
	b.mu.Lock()
	b.settled = true
	isOpen := !b.read && !b.detached && !(b.closed && b.hasCopies)
	now := isOpen && (b.closed || !answered)
	if now {
		b.closed, b.detached = true, true
	}
	b.mu.Unlock()
	if now {
		_ = b.body.Close() // the error of the request says more
	}
}

// responseBody is the body of a response. When it ends, the request counts as ended.
type responseBody struct {
	io.ReadCloser
	node    *node
	isEnded atomic.Bool
	timeout atomic.Pointer[context.CancelFunc] // ends the timeout of the service config; nil if there is none
}

// start makes b the body of resp.
func (b *responseBody) start(c *call, resp *http.Response) {
	b.node = c.node
	if resp.Body == http.NoBody {
		b.end()
		return
	}
	b.ReadCloser = resp.Body
	resp.Body = b
	if w, ok := b.ReadCloser.(io.Writer); ok { // an upgraded connection
		resp.Body = &upgraded{responseBody: b, Writer: w}
	}
}

// Read implements [io.Reader].
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end()
	}
	return n, err
}

// Close implements [io.Closer].
func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.end()
	return err
}

func (b *responseBody) end() {
	if b.isEnded.CompareAndSwap(false, true) {
		b.node.end()
		b.endTimeout()
	}
}

// endTimeoutBy has end called when the body ends, or at once if it has ended.
func (b *responseBody) endTimeoutBy(end context.CancelFunc) {
	b.timeout.Store(&end)
	if b.isEnded.Load() {
		b.endTimeout()
	}
}

func (b *responseBody) endTimeout() {
	if end := b.timeout.Load(); end != nil {
		(*end)()
	}
}

// upgraded is the body of a response 101, through which both sides write.
type upgraded struct {
	*responseBody
	io.Writer
}

// Read ends nothing: after the peer's end, this side may still write.
func (u *upgraded) Read(p []byte) (int, error) { return u.ReadCloser.Read(p) }

// CloseWrite closes one direction, if the connection can do that.
func (u *upgraded) CloseWrite() error {
	if half, ok := u.ReadCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
