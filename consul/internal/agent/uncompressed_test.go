package agent

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestAddress_IsOnThisHost(t *testing.T) {
	for _, c := range []struct {
		address Address
		want    bool
	}{
		{Address{Scheme: "http", HostPort: "127.0.0.1:8500"}, true},
		{Address{Scheme: "https", HostPort: "[::1]:8501"}, true},
		{Address{Scheme: "http", HostPort: "localhost:8500"}, true},
		{Address{Scheme: "http", HostPort: "unix", Socket: "/run/consul.sock"}, true},
		{Address{Scheme: "http", HostPort: "consul:8500", ip: netip.MustParseAddr("127.0.0.2")}, true},
		{Address{Scheme: "http", HostPort: "consul:8500"}, false},
		{Address{Scheme: "http", HostPort: "10.0.0.1:8500"}, false},
		{Address{Scheme: "http", HostPort: "localhost.example:8500"}, false},
	} {
		if got := c.address.isOnThisHost(); got != c.want {
			t.Errorf("%+v is on this host: %v, want %v", c.address, got, c.want)
		}
	}
}

func TestUncompressed_ReadsWhatIsCompressedAllTheSame(t *testing.T) {
	const text = "[]"
	for _, compresses := range []bool{false, true} {
		var accepts string
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			accepts = r.Header.Get("Accept-Encoding")
			if !compresses {
				_, _ = io.WriteString(w, text)
				return
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = io.WriteString(z, text)
			_ = z.Close()
		}))
		resp, err := uncompressed{http.DefaultTransport}.RoundTrip(httptest.NewRequest(http.MethodGet, srv.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if string(body) != text || err != nil || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("compressed %v: the answer is %q, %v with %v", compresses, body, err, resp.Header)
		}
		resp.Body.Close()
		srv.Close()
		if accepts != "identity" {
			t.Errorf("the request accepts %q", accepts)
		}
	}
}
