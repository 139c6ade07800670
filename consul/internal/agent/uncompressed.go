package agent

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// uncompressed is a transport to an agent on the same host. It asks for answers that are not compressed, since to compress one takes longer
// than to send it there. It reads compressed answers all the same, since something before the agent may compress without being asked to.
type uncompressed struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (u uncompressed) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Accept-Encoding", "identity") // otherwise, net/http asks for gzip
	resp, err := u.RoundTripper.RoundTrip(req)
	if err != nil || !strings.EqualFold(resp.Header.Get("Content-Encoding"), "gzip") {
		return resp, err
	}
	resp.Body = &gzipBody{ReadCloser: resp.Body}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	resp.ContentLength, resp.Uncompressed = -1, true
	return resp, nil
}

// gzipBody is a body that is decompressed as it is read.
type gzipBody struct {
	io.ReadCloser              // compressed
	reader        *gzip.Reader // nil before the first Read
	err           error        // of the header of gzip
}

// Read implements [io.Reader].
func (b *gzipBody) Read(p []byte) (int, error) {
	if b.reader == nil && b.err == nil {
		b.reader, b.err = gzip.NewReader(b.ReadCloser)
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.reader.Read(p)
}
