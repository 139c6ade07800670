package consul

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/hashicorp/consul/api"
)

// over replaces in conf, which has those of the environment, what t says.
func (t TLS) over(conf *api.TLSConfig) {
	if t.CAFile != "" || t.CAPath != "" {
		conf.CAFile, conf.CAPath = t.CAFile, t.CAPath
	}
	if t.CertFile != "" || t.KeyFile != "" {
		conf.CertFile, conf.KeyFile = t.CertFile, t.KeyFile
	}
	conf.Address = cmp.Or(t.ServerName, conf.Address)
	conf.InsecureSkipVerify = conf.InsecureSkipVerify || t.InsecureSkipVerify
}

// certificates reads the files of TLS anew for each connection, so that those that rotate need no restart and no watch is
// disturbed: a connection that is open stays so, and the next one is made with what the files hold then.
type certificates struct {
	from api.TLSConfig

	mu   sync.Mutex
	last *tls.Config
}

// readCertificates fails where the files cannot be used.
func readCertificates(from api.TLSConfig) (*certificates, error) {
	last, err := api.SetupTLSConfig(&from)
	return &certificates{from: from, last: last}, err
}

// config returns what the files hold, and what they held last while they cannot be used: a certificate and its key are two
// files, which are not replaced in the same moment.
func (c *certificates) config() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, err := api.SetupTLSConfig(&c.from); err == nil {
		c.last = now
	}
	return c.last.Clone()
}

// forProxy is what connections through an HTTP proxy use, which net/http makes itself: the client's certificate is read
// anew for them too, the authorities are not.
func (c *certificates) forProxy() *tls.Config {
	conf := c.config()
	if len(conf.Certificates) > 0 {
		conf.Certificates = nil
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &c.config().Certificates[0], nil
		}
	}
	return conf
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns a dial function for TLS over connections of dial.
func (c *certificates) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conf := c.config()
		host, _, _ := net.SplitHostPort(address)
		conf.ServerName = cmp.Or(conf.ServerName, host)
		conf.NextProtos = []string{"h2", "http/1.1"}
		conn := tls.Client(raw, conf)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return conn, nil
	}
}
