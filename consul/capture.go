package consul

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
)

// capture takes the body of an answer past consul/api, which would decode all of it: the transport below consul/api leaves
// it an empty array to decode. All else, from the address to the token, stays with consul/api. It also takes the headers,
// of which consul/api reads none after the first that it cannot.
type capture struct {
	body   []byte
	header http.Header // nil where there was no answer of status 200
	// statusOnly leaves the body to consul/api, and the header.
	statusOnly bool
	// status and version are those of the answer: of HTTP, 0 where there was none.
	status, version int
}

type captureKey struct{}

// captured returns a context under which the body of an answer goes into c.
func captured(ctx context.Context, c *capture) context.Context {
	return context.WithValue(ctx, captureKey{}, c)
}

// capturing is the transport that does so.
type capturing struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (t capturing) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil && isPage(resp) {
		resp.Body.Close()
		return nil, errPage
	}
	c, _ := req.Context().Value(captureKey{}).(*capture)
	if err != nil || c == nil {
		return resp, err
	}
	c.status, c.version = resp.StatusCode, resp.ProtoMajor
	if resp.StatusCode != http.StatusOK || c.statusOnly {
		return resp, nil
	}
	defer resp.Body.Close()
	if c.body, err = readAll(c.body[:0], resp.Body); err != nil {
		return nil, err
	}
	c.header = resp.Header
	resp.Body = io.NopCloser(strings.NewReader("[]"))
	return resp, nil
}

const errPage = ours("the answer is a web page: what is at the address, or before it, is not Consul")

// isPage reports whether a success is one of a proxy, such as a page to sign in on. That of a write has nothing else to be
// known by, since nobody reads its body.
func isPage(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
}

// readAll is io.ReadAll into a buffer that is there already.
func readAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, max(4096, len(b)))
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}
