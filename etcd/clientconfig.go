package etcd

import (
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// ClientConfig returns c for [clientv3.New]: endpoints, TLS, user and password, and the probing of connections. With it, a program that
// needs values, locks or sessions of etcd is configured once. The caller may set the fields that c has nothing for, such as Logger, and
// append to DialOptions, which has the credentials.
//
// The client that is made of it is etcd's own, with its own retries. Certificates are read again as for [New]. Its Config is not
// hidden: printing it shows the password.
//
// ClientConfig does not block and sends nothing. It reads the files that c names. The caller owns the result. The error wraps
// registry.ErrInvalid and names each field that cannot be used, but no secret.
func (c Config) ClientConfig() (clientv3.Config, error) {
	s, err := resolve(c)
	if err != nil {
		return clientv3.Config{}, err
	}
	scheme := "http://"
	if s.tls != nil {
		scheme = "https://"
	}
	conf := clientv3.Config{
		DialTimeout: s.DialTimeout, TLS: s.tls, Username: s.Username, Password: s.Password.Reveal(),
	}
	if s.KeepAliveTime > 0 {
		conf.DialKeepAliveTime, conf.DialKeepAliveTimeout = s.KeepAliveTime, s.KeepAliveTimeout
	}
	if s.tls != nil {
		conf.DialOptions = append(conf.DialOptions, grpc.WithTransportCredentials(newCredentials(s.files))) // in place of the credentials that etcd makes of TLS
	}
	for _, m := range s.members {
		conf.Endpoints = append(conf.Endpoints, scheme+m)
	}
	return conf, nil
}

// Key returns the key under which an instance is registered. With an empty id, it is the beginning of the keys of all instances of the
// service, for a program that gives rights to them. Key does not check c, service or id.
func (c Config) Key(service, id string) string { return c.withDefaults().Prefix + service + "/" + id }
