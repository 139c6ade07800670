package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/registry"
)

// settings are a Config that was checked, with the defaults filled in.
type settings struct {
	Config
	members []string    // host:port of each
	tls     *tls.Config // nil: without TLS
}

// resolve checks c, fills in the rest, and reads the files that it names.
func resolve(c Config) (*settings, error) {
	errs := []error{c.check()}
	s := &settings{Config: c.withDefaults()}
	schemes := map[string]bool{}
	for _, e := range s.Endpoints {
		member, scheme, err := parseEndpoint(e)
		errs = append(errs, err)
		s.members = append(s.members, member)
		if scheme != "" {
			schemes[scheme] = true
		}
	}
	secure := c.TLS != TLS{}
	if schemes["http"] && (secure || schemes["https"]) {
		errs = append(errs, invalid("Endpoints", "http", "contradicts TLS, which other endpoints or the TLS fields ask for"))
	}
	if secure || schemes["https"] {
		var err error
		s.tls, err = c.TLS.config()
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// parseEndpoint returns the host:port of text, and its scheme where it is a URL.
func parseEndpoint(text string) (member, scheme string, err error) {
	fail := func(why string) (string, string, error) {
		shown := strconv.Quote(text)
		if holdsUser(text) {
			shown = "(not shown, since it may hold a password)"
		}
		return "", "", invalid("Endpoints", shown, why)
	}
	hostPort := text
	if before, rest, ok := strings.Cut(text, "://"); ok {
		if before != "http" && before != "https" {
			return fail("is a URL of another scheme than http and https")
		}
		scheme, hostPort = before, strings.TrimSuffix(rest, "/")
	}
	u, err := url.Parse("//" + hostPort)
	switch {
	case holdsUser(hostPort):
		return fail("holds a user; user and password have fields of their own")
	case err != nil || u.Hostname() == "" || u.Host != hostPort || strings.Contains(hostPort, ","),
		strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(hostPort, "["):
		return fail("is neither host:port nor https://host:port (an IPv6 host stands in brackets)")
	}
	port := "2379"
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fail("has no port from 1 to 65535")
		}
		port = p
	}
	return net.JoinHostPort(u.Hostname(), port), scheme, nil
}

// config reads the files. The ServerName that is missing is that of each member, which the connection knows.
func (t TLS) config() (*tls.Config, error) {
	conf := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         t.ServerName,
		InsecureSkipVerify: t.InsecureSkipVerify,
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: etcd: TLS.CAFile (ca-file): %w", registry.ErrInvalid, err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, invalid("TLS.CAFile (ca-file)", strconv.Quote(t.CAFile), "holds no PEM certificate")
		}
	}
	if t.CertFile != "" && t.KeyFile != "" {
		load := func() (*tls.Certificate, error) {
			cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			return &cert, err
		}
		if _, err := load(); err != nil {
			return nil, fmt.Errorf("%w: etcd: TLS.CertFile and TLS.KeyFile (cert-file, key-file): %w", registry.ErrInvalid, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return conf, nil
}

// scrub takes the secret out of a text that somebody else wrote. etcd is not known to repeat a password; a proxy might.
func (s *settings) scrub(text string) string {
	if s.Password == "" {
		return text
	}
	return strings.ReplaceAll(text, s.Password, hidden)
}
