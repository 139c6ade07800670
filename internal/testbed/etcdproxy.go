package testbed

import (
	"context"
	"net/http"
	"testing"
)

// EtcdProxy is etcd's own gRPC proxy ("etcd grpc-proxy start") in front of one etcd. It shares the watches of its clients and keeps
// answers to reads.
type EtcdProxy struct{ server }

// StartEtcdProxy starts a proxy in front of e and blocks until it is ready. It fails the test if that does not happen, and the proxy
// ends with the test.
func StartEtcdProxy(tb testing.TB, e *Etcd) *EtcdProxy {
	tb.Helper()
	p := new(EtcdProxy)
	p.server = server{
		tb: tb,
		configure: func() ([]string, error) {
			addr := loopback(p.ports[0])
			return []string{
				"grpc-proxy", "start", "--endpoints=" + e.Addr(), "--listen-addr=" + addr, "--data-dir=" + p.dataDir(),
			}, nil
		},
		ready: func(ctx context.Context) error {
			_, err := p.call(ctx, http.MethodGet, "/health", "", nil)
			return err
		},
	}
	p.launch(&etcdProgram, 1)
	return p
}
