package tlsfiles

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// issue writes a certificate for name, signed by its own key, and that key.
func issue(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfig_KeepsTheLastGoodFilesAndReportsEachReasonOnce(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	issue(t, "one", in("c.pem"), in("k.pem"))
	f, err := Open("consul", Settings{CertFile: in("c.pem"), KeyFile: in("k.pem")})
	if err != nil {
		t.Fatal(err)
	}
	var reports []string
	f.Subscribe(func(err error) { reports = append(reports, err.Error()) })
	check := func(want string, usable bool) {
		t.Helper()
		conf, err := f.Config()
		if (err == nil) != usable {
			t.Errorf("got %v", err)
		}
		leaf, parseErr := x509.ParseCertificate(conf.Certificates[0].Certificate[0])
		if parseErr != nil || leaf.Subject.CommonName != want {
			t.Errorf("the certificate is %v, %v, want %s", leaf.Subject, parseErr, want)
		}
	}
	check("one", true)
	issue(t, "two", in("c.pem"), in("later.pem"))
	for range 3 {
		check("one", false) // the key belongs to the other certificate
	}
	if len(reports) != 1 || !strings.Contains(reports[0], "certificate files unusable, keeping the last good ones: invalid: consul: TLS.CertFile and TLS.KeyFile (cert-file, key-file): ") {
		t.Errorf("it reports %q", reports)
	}
	if err := os.Rename(in("later.pem"), in("k.pem")); err != nil {
		t.Fatal(err)
	}
	check("two", true)
	write(t, in("c.pem"), "no certificate")
	check("two", false)
	if len(reports) != 2 {
		t.Errorf("it reports %q", reports)
	}
}

func TestOpen_ReadsTheAuthorities(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, folder := range []string{"cas", "cas/more", "empty", "bad"} {
		if err := os.Mkdir(in(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	issue(t, "ca", in("cas/a.pem"), in("key"))
	issue(t, "cb", in("cas/more/b.pem"), in("key"))
	write(t, in("bad/x"), "no certificate")
	if err := os.Symlink("more", in("cas/..data")); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]Settings{"a file": {CAFile: in("cas/a.pem")}, "a folder": {CAPath: in("cas")}} {
		f, err := Open("etcd", s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if conf, err := f.Config(); err != nil || conf.RootCAs == nil {
			t.Errorf("%s: %v, %v", name, conf.RootCAs, err)
		}
	}
	for want, s := range map[string]Settings{
		"TLS.CAFile (ca-file)":           {CAFile: in("none")},
		"has no PEM certificate":         {CAFile: in("bad/x")},
		"TLS.CAPath (ca-path)":           {CAPath: in("none")},
		"has no files":                   {CAPath: in("empty")},
		"bad/x":                          {CAPath: in("bad")},
		"exclude each other":             {CAFile: "a", CAPath: "b"},
		"one of them is not set":         {KeyFile: "k"},
		"TLS.CertFile and TLS.KeyFile (": {CertFile: in("none"), KeyFile: in("none")},
	} {
		if _, err := Open("etcd", s); !errors.Is(err, registry.ErrInvalid) || !strings.HasPrefix(err.Error(), "invalid: etcd: TLS.") || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", s, err, want)
		}
	}
}

func TestOpen_ServerNameMayHaveAPort(t *testing.T) {
	for text, want := range map[string]string{"": "", "h": "h", "h:8501": "h", "[::1]:8501": "::1"} {
		f, err := Open("consul", Settings{ServerName: text})
		if err != nil {
			t.Fatal(err)
		}
		if conf, _ := f.Config(); conf.ServerName != want {
			t.Errorf("%q is %q", text, conf.ServerName)
		}
	}
}

func TestExplain_NamesBothReasons(t *testing.T) {
	handshake, unusable := io.ErrUnexpectedEOF, errors.New("unusable")
	if err := Explain(handshake, unusable); !errors.Is(err, handshake) || !errors.Is(err, unusable) {
		t.Errorf("got %v", err)
	}
	if Explain(nil, unusable) != nil || Explain(handshake, nil) != handshake {
		t.Error("one reason is changed")
	}
}
