package agent

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/tlsfiles"
)

// Certificates are the files of TLS, read for each connection.
type Certificates struct{ *tlsfiles.Files }

// ReadCertificates fails if the files cannot be used.
func ReadCertificates(from api.TLSConfig) (*Certificates, error) {
	if from.CAFile != "" {
		from.CAPath = "" // the environment may have both, and Consul's own tools use the file then
	}
	files, err := tlsfiles.Open("consul", tlsfiles.Settings{
		CAFile: from.CAFile, CAPath: from.CAPath, CertFile: from.CertFile, KeyFile: from.KeyFile,
		ServerName: from.Address, InsecureSkipVerify: from.InsecureSkipVerify,
	})
	if err != nil {
		return nil, err
	}
	return &Certificates{files}, nil
}

// forProxy returns the configuration of connections through an HTTP proxy, which net/http makes itself: the client's certificate is
// read for each of them too, the authorities are not.
func (c *Certificates) forProxy() *tls.Config {
	conf, _ := c.Config()
	if len(conf.Certificates) > 0 {
		conf.Certificates = nil
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			conf, _ := c.Config()
			return &conf.Certificates[0], nil
		}
	}
	return conf
}

type dialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns a dial function for TLS over connections of dial.
func (c *Certificates) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conf, unusable := c.Config()
		host, _, _ := net.SplitHostPort(address)
		conf.ServerName = cmp.Or(conf.ServerName, host)
		conf.NextProtos = []string{"h2", "http/1.1"}
		conn := tls.Client(raw, conf)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, tlsfiles.Explain(err, unusable)
		}
		return conn, nil
	}
}
