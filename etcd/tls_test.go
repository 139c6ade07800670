package etcd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// authority gives out certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = template, a.newKey()
	a.cert = a.sign("ca", template, a.key)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	return key
}

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// file returns the path of the certificate (.pem) or the key (.key) of that name.
func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) sign(name string, template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	a.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.must(os.WriteFile(a.file(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.must(os.WriteFile(a.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	cert, err := x509.ParseCertificate(der)
	a.must(err)
	return cert
}

// issue makes a certificate for a DNS name, or for an IP address.
func (a *authority) issue(name string) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	a.sign(name, template, a.newKey())
}

// serve is TLS in front of target, with the certificate of that name. It demands a certificate of the client if mutual is true.
func (a *authority) serve(name, target string, mutual bool) *network {
	cert, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	a.must(err)
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
	if mutual {
		conf.ClientAuth, conf.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		conf.ClientCAs.AddCert(a.cert)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	a.must(err)
	return forwardFrom(a.t, listener, target)
}

func TestTLS_Connects(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	a := newAuthority(t)
	for _, name := range []string{"127.0.0.1", "etcd.test", "client"} {
		a.issue(name)
	}
	plain := a.serve("127.0.0.1", server.Addr(), false)
	mutual := a.serve("127.0.0.1", server.Addr(), true)
	named := a.serve("etcd.test", server.Addr(), false)
	ca, cert, key := a.file("ca.pem"), a.file("client.pem"), a.file("client.key")
	for name, c := range map[string]struct {
		way  *network
		tls  TLS
		want error
	}{
		"one-sided":                  {plain, TLS{CAFile: ca}, nil},
		"mutual":                     {mutual, TLS{CAFile: ca, CertFile: cert, KeyFile: key}, nil},
		"mutual, and no certificate": {mutual, TLS{CAFile: ca}, registry.ErrUnavailable},
		"unknown authority":          {plain, TLS{Enable: true}, registry.ErrUnavailable},
		"any name":                   {plain, TLS{InsecureSkipVerify: true}, nil},
		"another name":               {named, TLS{CAFile: ca}, registry.ErrUnavailable},
		"another name, expected":     {named, TLS{CAFile: ca, ServerName: "etcd.test"}, nil},
		"no TLS":                     {plain, TLS{}, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			d := driverFor(t, Config{Endpoints: []string{c.way.addr()}, TLS: c.tls, Timeout: 3 * time.Second})
			defer d.Close()
			_, err := d.Services(watchtest.Context(t))
			if c.want != nil {
				wantKind(t, err, c.want)
				t.Log(err)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// A member changes its authority while the program runs. A file that cannot be used is reported once, and its earlier content is kept.
func TestTLS_FilesRotate(t *testing.T) {
	t.Parallel()
	server := testbed.StartEtcd(t)
	old, fresh := newAuthority(t), newAuthority(t)
	for _, a := range []*authority{old, fresh} {
		a.issue("127.0.0.1")
		a.issue("client")
	}
	in := func(name string) string { return old.file("used-" + name) }
	use := func(a *authority) {
		for _, name := range []string{"ca.pem", "client.pem", "client.key"} {
			text, err := os.ReadFile(a.file(name))
			a.must(err)
			a.must(os.WriteFile(in(name), text, 0o600))
		}
	}
	use(old)
	before, after := old.serve("127.0.0.1", server.Addr(), true), fresh.serve("127.0.0.1", server.Addr(), true)
	var log safeLog
	conf := Config{
		Endpoints: []string{before.addr(), after.addr()}, Timeout: 3 * time.Second,
		TLS:     TLS{CAFile: in("ca.pem"), CertFile: in("client.pem"), KeyFile: in("client.key")},
		Options: registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))},
	}
	d := driverFor(t, conf)
	watchtest.NewRegistry(t, d, conf.Options)
	if _, err := d.Services(watchtest.Context(t)); err != nil {
		t.Fatal(err)
	}
	old.must(os.WriteFile(in("ca.pem"), []byte("no certificate"), 0o600))
	for range 3 {
		if conf, _ := d.settings.files.Config(); conf.RootCAs == nil {
			t.Error("the earlier content of the file is not kept")
		}
	}
	if n := strings.Count(log.String(), "certificate files unusable"); n != 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
	use(fresh)
	before.listener.Close() // what is left has certificates of the other authority alone
	before.cut()
	watchtest.Eventually(t, "a call with the new files", func() bool {
		_, err := d.Services(watchtest.Context(t))
		return err == nil
	})
}

// safeLog is a log that several goroutines write to.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
