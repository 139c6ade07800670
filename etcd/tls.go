package etcd

import (
	"cmp"
	"context"
	"net"

	"google.golang.org/grpc/credentials"

	"github.com/rollcall-go/rollcall/internal/tlsfiles"
)

// readFiles reads the files of TLS, and fails if they cannot be used.
func (s *settings) readFiles() error {
	files, err := tlsfiles.Open("etcd", tlsfiles.Settings(s.TLS))
	if err != nil {
		return err
	}
	s.files = files
	s.tls, err = files.Config()
	return err
}

// fileCredentials are credentials of gRPC that read the files of TLS for each connection.
type fileCredentials struct {
	credentials.TransportCredentials // for everything else
	files                            *tlsfiles.Files
}

func newCredentials(files *tlsfiles.Files) credentials.TransportCredentials {
	conf, _ := files.Config()
	return fileCredentials{credentials.NewTLS(conf), files}
}

// ClientHandshake implements [credentials.TransportCredentials]. TLS.ServerName has precedence over authority, for which etcd's client
// passes the endpoint.
func (c fileCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conf, unusable := c.files.Config()
	secure, info, err := credentials.NewTLS(conf).ClientHandshake(ctx, cmp.Or(conf.ServerName, authority), conn)
	return secure, info, tlsfiles.Explain(err, unusable)
}

// Clone implements [credentials.TransportCredentials].
func (c fileCredentials) Clone() credentials.TransportCredentials {
	return fileCredentials{c.TransportCredentials.Clone(), c.files}
}
