package conn

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestReasonOf_IsShort(t *testing.T) {
	for text, want := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:1: connect: connection refused"`:                 "connection refused",
		`connection error: desc = "error reading server preface: read tcp 10.0.0.9:4->10.0.0.1:1: read: connection reset by peer"`:    "connection reset by peer",
		`connection error: desc = "transport: failed to write client preface: write tcp 10.0.0.9:4->10.0.0.1:1: write: broken pipe"`:  "broken pipe",
		`connection error: desc = "transport: authentication handshake failed: tls: first record does not look like a TLS handshake"`: "authentication handshake failed: tls: first record does not look like a TLS handshake",
		`connection error: desc = "transport: Error while dialing: dial tcp: lookup etcd.test on 10.0.0.2:53: read udp: i/o timeout"`: "dial tcp: lookup etcd.test on 10.0.0.2:53: read udp: i/o timeout",
		`connection error: desc = "error reading server preface: http2: failed reading the frame payload: http2: frame too large"`:    "error reading server preface: http2: failed reading the frame payload: http2: frame too large",
	} {
		if got := reasonOf(errors.New(text), "10.0.0.1:1"); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	if got := reasonOf(nil, ""); got == "" {
		t.Error("a failure without a reason looks like none")
	}
}

// If a later look-up fails, the members stay.
func TestEndpoints_LookupFailsLater(t *testing.T) {
	lookups := 0
	e := &endpoints{members: []string{"etcd.test:2379"}, timeout: time.Second, reach: new(reach), lookup: func(context.Context, string) ([]string, error) {
		if lookups++; lookups == 2 {
			return nil, errors.New("no name server")
		}
		return []string{"127.0.0.1", "127.0.0.2"}, nil
	}}
	known := map[string][]string{}
	for range 3 {
		if n := len(e.state(t.Context(), known).Addresses); n != 2 {
			t.Errorf("after %d look-ups there are %d addresses", lookups, n)
		}
	}
}
