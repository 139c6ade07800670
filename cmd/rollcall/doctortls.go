package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// checkTLS makes a handshake with each address.
func (d *doctor) checkTLS(ctx context.Context) finding {
	if d.target.tls == nil {
		return skipped("off")
	}
	return d.eachAddress(func(address string) finding {
		if proxy := d.target.proxyOf(address); proxy != "" {
			return skipped("the proxy is asked to connect: see agent")
		}
		state, err := handshake(ctx, address, d.target.tls)
		if err != nil {
			return tlsFailure(err)
		}
		return d.tlsFinding(state)
	})
}

// handshake connects to address, and returns the state of TLS.
func handshake(ctx context.Context, address string, conf *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	conf = conf.Clone()
	host, _, _ := net.SplitHostPort(address)
	conf.ServerName = cmp.Or(conf.ServerName, host)
	conf.NextProtos = []string{"h2", "http/1.1"}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState(), nil
}

// tlsFailure says what an error of a handshake means.
func tlsFailure(err error) finding {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return failed(adviseAuthority, "the certificate is signed by an authority that this host does not trust")
	}
	if name, ok := errors.AsType[x509.HostnameError](err); ok {
		return failed(adviseServerName, "the certificate is for %s, not for %s", namesOf(name.Certificate), name.Host)
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired && invalid.Cert != nil {
		return failed(adviseExpired, "the certificate of %s is valid from %s to %s", subjectOf(invalid.Cert),
			invalid.Cert.NotBefore.UTC().Format(time.DateTime), invalid.Cert.NotAfter.UTC().Format(time.DateTime))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return failed(advisePlainServer, "the server does not speak TLS")
	}
	if asksForCertificate(err) {
		return failed(adviseClientCert, "the server refuses this client: %s", networkReason(err))
	}
	return failed(adviseTLS, "the handshake fails: %s", networkReason(err))
}

// asksForCertificate reports whether err is the alert of a server that wants a certificate of the client, or another one.
func asksForCertificate(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "tls: certificate required") || strings.Contains(err.Error(), "tls: bad certificate") ||
		strings.Contains(err.Error(), "tls: unknown certificate authority"))
}

// tlsFinding says how long the certificates of a connection, and the one of this client, are valid.
func (d *doctor) tlsFinding(state tls.ConnectionState) finding {
	leaf := state.PeerCertificates[0]
	fact := fmt.Sprintf("%s, certificate of %s", tls.VersionName(state.Version), subjectOf(leaf))
	if d.target.tls.InsecureSkipVerify {
		return warned(adviseNotVerified, "%s, which is not verified", fact)
	}
	// If there are several chains, the chain with the longest validity counts.
	var first *x509.Certificate
	for _, chain := range state.VerifiedChains {
		if c := expiresFirst(chain); first == nil || c.NotAfter.After(first.NotAfter) {
			first = c
		}
	}
	if left := time.Until(first.NotAfter); d.isSoon(left) {
		return warned(adviseExpiresSoon, "%s; %s expires in %s", fact, whose(first, leaf), days(left))
	}
	if own := d.target.clientCertificate(); own != nil && d.isSoon(time.Until(own.NotAfter)) {
		return warned(adviseExpiresSoon, "%s; the certificate of this client, %s, expires in %s", fact, subjectOf(own), days(time.Until(own.NotAfter)))
	}
	return passed("%s, valid for %s", fact, days(time.Until(first.NotAfter)))
}

func (d *doctor) isSoon(left time.Duration) bool {
	return left < time.Duration(d.warnDays)*24*time.Hour
}

func expiresFirst(chain []*x509.Certificate) *x509.Certificate {
	first := chain[0]
	for _, c := range chain {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	return first
}

func whose(c, leaf *x509.Certificate) string {
	if c == leaf {
		return "it"
	}
	return "its authority " + subjectOf(c)
}

// clientCertificate returns the certificate that this client shows, or nil.
func (t *checkTarget) clientCertificate() *x509.Certificate {
	if len(t.tls.Certificates) == 0 {
		return nil
	}
	return t.tls.Certificates[0].Leaf
}

func subjectOf(c *x509.Certificate) string { return cmp.Or(c.Subject.CommonName, namesOf(c)) }

func namesOf(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return cmp.Or(strings.Join(names, ", "), "no name")
}

// days returns a time for people, in days if there are two or more.
func days(left time.Duration) string {
	if n := int(left / (24 * time.Hour)); n >= 2 {
		return fmt.Sprintf("%d days", n)
	}
	return fmt.Sprintf("%d hours", int(left.Hours()))
}
