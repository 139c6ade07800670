package httpx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// protocol is how a client and a server of a test talk.
type protocol struct {
	name   string
	scheme string
	http2  bool
}

var protocols = []protocol{{"HTTP/1.1", "http", false}, {"HTTP/1.1 with TLS", "https", false}, {"HTTP/2", "https", true}, {"HTTP/2 without TLS", "http", true}}

// loopback has servers on loopback, and a registry with them.
type loopback struct {
	*testing.T
	protocol
	reg  *memory.Registry
	cert tls.Certificate
	pool *x509.CertPool
}

// listener is a server on loopback.
type listener struct {
	*httptest.Server
	registration registry.Registration
	opened       atomic.Int64 // connections that are open
}

// onLoopback runs a test for each protocol. The certificate of the servers is for the service.
func onLoopback(t *testing.T, test func(*loopback)) {
	t.Helper()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) { onProtocol(t, p, test) })
	}
}

// onProtocol runs a test for one protocol.
func onProtocol(t *testing.T, p protocol, test func(*loopback)) {
	t.Helper()
	reg := memory.New()
	t.Cleanup(func() { reg.Close() })
	l := &loopback{T: t, protocol: p, reg: reg}
	l.cert, l.pool = certificate(t, service)
	test(l)
}

// certificate returns a certificate for a name, and a pool that accepts it.
func certificate(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// listen starts a server and registers it.
func (l *loopback) listen(handler http.HandlerFunc) *listener {
	l.Helper()
	s := &listener{Server: httptest.NewUnstartedServer(handler)}
	var states sync.Map
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			states.Store(c, true)
			s.opened.Add(1)
		case http.StateClosed, http.StateHijacked:
			if _, ok := states.LoadAndDelete(c); ok {
				s.opened.Add(-1)
			}
		}
	}
	if l.scheme == "https" {
		s.EnableHTTP2 = l.http2
		s.TLS = &tls.Config{Certificates: []tls.Certificate{l.cert}}
		s.StartTLS()
	} else {
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	}
	l.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	s.registration = watchtest.Register(l.T, l.reg, registry.Instance{Service: service, Address: s.Listener.Addr().String()})
	return s
}

// client returns a client with the fields of tr for the protocol.
func (l *loopback) client(tr *httpx.Transport) *http.Client {
	tr.Discovery = l.reg
	tr.Base = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.pool}, Protocols: new(http.Protocols)}
	switch {
	case !l.http2:
		tr.Base.Protocols.SetHTTP1(true)
	case l.scheme == "https":
		tr.Base.Protocols.SetHTTP1(true)
		tr.Base.Protocols.SetHTTP2(true)
	default:
		tr.Base.Protocols.SetUnencryptedHTTP2(true)
	}
	l.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr}
}

// url returns the URL of a path of the service.
func (l *loopback) url(path string) string { return l.scheme + "://" + service + path }

// leave deregisters a server.
func (l *loopback) leave(s *listener) {
	l.Helper()
	if err := s.registration.Deregister(watchtest.Context(l.T)); err != nil {
		l.Fatal(err)
	}
}

// waitForConnections waits until the server has n connections.
func (s *listener) waitForConnections(t *testing.T, when string, n int64) {
	t.Helper()
	watchtest.Eventually(t, when, func() bool { return s.opened.Load() == n })
}
