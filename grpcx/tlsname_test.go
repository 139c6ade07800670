package grpcx_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// certificate returns one for names or an IP address, which is its own authority.
func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			form.IPAddresses = append(form.IPAddresses, ip)
		} else {
			form.DNSNames = append(form.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, form, form, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

func TestNewBuilder_TLSName(t *testing.T) {
	for _, c := range []struct{ certified, parameter, failure string }{
		{service, "", ""},
		{"127.0.0.1", "", service},
		{"127.0.0.1", "?tls-name=host", ""},
		{service, "?tls-name=host", "127.0.0.1"},
		{"node-7.example", "?tls-name=meta.node", ""},
		{"node-8.example", "?tls-name=meta.node", "not node-7.example"},
		{service, "?tls-name=meta.other", ""}, // which the instance does not have
		{"node-7.example", "?tls-name=meta.other", "not " + service},
	} {
		store := newStore(t)
		pair, authority := certificate(t, c.certified)
		b := newBackend(t)
		b.gs = grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&pair)))
		testpb.RegisterTestServiceServer(b.gs, b)
		b.serve(t)
		in := registry.Instance{Service: service, Address: b.address(), Metadata: map[string]string{"node": "node-7.example"}}
		if _, err := store.Register(watchtest.Context(t), in); err != nil {
			t.Fatal(err)
		}
		trusted := x509.NewCertPool()
		trusted.AddCert(authority)
		_, err := call(watchtest.Context(t), dial(t, target+c.parameter, store, grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(trusted, ""))))
		if (err == nil) != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) {
			t.Errorf("a certificate for %s with %q: %v, want %q", c.certified, c.parameter, err, c.failure)
		}
	}
}
