package consul

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	agentpkg "github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{t: t, file: filepath.Join(dir, name+".pem")}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for name and its key to the files. A server's is for 127.0.0.1 too.
func (a *authority) issue(name, certFile, keyFile string) {
	a.t.Helper()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	key := newKey(a.t)
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "EC PRIVATE KEY", private)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	agenttest.WriteFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
}

// freePort returns a port that no program uses at the moment. Neither the kernel (for outgoing connections) nor the testbed (for
// its servers) assigns this port, so it is still free when a server restarts.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := 10000 + mathrand.IntN(2000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	agenttest.WriteFile(t, to, string(b))
}

// The agent requires a certificate of its clients. Both sides replace all their files during a watch and a registration.
func TestTLS_FollowsRotatedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	old, fresh := newAuthority(t, dir, "old"), newAuthority(t, dir, "new")
	copyFile(t, in("ca.pem"), old.file)
	old.issue("consul.test", in("server.pem"), in("server-key.pem"))
	old.issue("client.test", in("client.pem"), in("client-key.pem"))
	port := freePort(t)
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: fmt.Sprintf(`
		ports { https = %d }
		tls { https { ca_file = %q, cert_file = %q, key_file = %q, verify_incoming = true } }`,
		port, in("ca.pem"), in("server.pem"), in("server-key.pem"))})
	address := fmt.Sprintf("https://127.0.0.1:%d", port)
	conf := Config{Address: address, TLS: TLS{CAFile: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client-key.pem")}}

	for what, c := range map[string]Config{
		"no certificate": {Address: address, TLS: TLS{CAFile: in("ca.pem")}},
		"another name":   {Address: address, TLS: TLS{CAFile: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client-key.pem"), ServerName: "other.test"}},
		"another CA":     {Address: address, TLS: TLS{CAFile: fresh.file, CertFile: in("client.pem"), KeyFile: in("client-key.pem")}},
	} {
		_, err := open(t, c).Services(watchtest.Context(t))
		if !errors.Is(err, registry.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("with %s the error is %v", what, err)
		}
	}
	named := conf
	named.TLS.ServerName = "consul.test"
	named.TLS.CAFile, named.TLS.CAPath = "", in("cas")
	if err := os.Mkdir(in("cas"), 0o700); err != nil {
		t.Fatal(err)
	}
	copyFile(t, in("cas/ca.pem"), old.file)
	if _, err := open(t, named).Services(watchtest.Context(t)); err != nil {
		t.Errorf("with a server name and a folder of CAs: %v", err)
	}

	r := open(t, conf)
	q := registry.Query{Service: uniqueService()}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80", Version: "1"})
	w := watchtest.Watch(t, r, q)
	w.Until("the instance", watchtest.Healthy(1))

	copyFile(t, in("ca.pem"), fresh.file)
	fresh.issue("consul.test", in("server.pem"), in("server-key.pem"))
	fresh.issue("client.test", in("client.pem"), in("client-key.pem"))
	agent.Restart(true)
	watchtest.Eventually(t, "the registration survives with the new files", func() bool { return g.Err() == nil })
	watchtest.Update(t, g, func(in *registry.Instance) { in.Version = "2" })
	w.Until("a change with the new files", func(p watchtest.Pair) bool { return watchtest.Healthy(1)(p) && p.Set[0].Version == "2" })
	for _, p := range w.All() {
		if len(p.Set) != 1 {
			t.Errorf("there was a gap: %v", p)
		}
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

func TestCertificates_KeepTheLastGoodFiles(t *testing.T) {
	dir := t.TempDir()
	a := newAuthority(t, dir, "ca")
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	a.issue("one", cert, key)
	c, err := agentpkg.ReadCertificates(api.TLSConfig{CertFile: cert, KeyFile: key})
	if err != nil {
		t.Fatal(err)
	}
	var reports []string
	c.Subscribe(func(err error) { reports = append(reports, err.Error()) })
	name := func() string {
		conf, _ := c.Config()
		leaf, err := x509.ParseCertificate(conf.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	a.issue("two", cert, filepath.Join(dir, "later.pem"))
	for range 3 {
		if got := name(); got != "one" {
			t.Errorf("with the key of another certificate it is %q", got)
		}
	}
	if len(reports) != 1 || !strings.Contains(reports[0], "certificate files unusable") || !strings.Contains(reports[0], "private key does not match") {
		t.Errorf("it is reported as %q", reports)
	}
	copyFile(t, key, filepath.Join(dir, "later.pem"))
	if got := name(); got != "two" {
		t.Errorf("with both files replaced it is %q", got)
	}
}
