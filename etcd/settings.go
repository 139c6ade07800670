package etcd

import (
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/internal/urlparam"
)

// settings are a valid Config, with the defaults filled in.
type settings struct {
	Config
	members []string        // host:port of each
	tls     *tls.Config     // of the files when they were read first; nil without TLS
	files   *tlsfiles.Files // nil without TLS
}

// resolve checks c, fills in the rest, and reads the files that it names.
func resolve(c Config) (*settings, error) {
	c.Endpoints = slices.Clone(c.Endpoints) // which stay the caller's
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
	secure := tlsfiles.Settings(c.TLS).On()
	if schemes["http"] && (secure || schemes["https"]) {
		errs = append(errs, invalid("Endpoints (endpoint)", "http", "contradicts TLS, which other endpoints or the fields of TLS turn on"))
	}
	if secure || schemes["https"] {
		errs = append(errs, s.readFiles())
	}
	if err := oneline.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// parseEndpoint returns the host:port of text, and its scheme if it is a URL.
func parseEndpoint(text string) (member, scheme string, err error) {
	fail := func(why string) (string, string, error) {
		shown := urlparam.Address(text)
		if mayHaveUser(text) {
			shown = "(not shown, since it may have a password)"
		}
		return "", "", invalid("Endpoints (endpoint)", shown, why)
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
	case mayHaveUser(hostPort):
		return fail("has a user; user and password have fields of their own")
	case err != nil || u.Hostname() == "" || u.Host != hostPort || strings.Contains(hostPort, ",") || urlparam.MayHaveSecret(hostPort),
		strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(hostPort, "["):
		return fail("is neither host:port nor https://host:port (an IPv6 host needs brackets)")
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

// scrub hides the password in a text that a server wrote. etcd is not known to repeat a password; a proxy might.
func (s *settings) scrub(text string) string { return scrub.Text(text, s.Password.Reveal()) }
