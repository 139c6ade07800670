package etcd

import (
	"strings"

	"github.com/rollcall-go/rollcall/etcd/internal/conn"
	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/etcd/internal/keepalive"
	"github.com/rollcall-go/rollcall/etcd/internal/watch"
	"github.com/rollcall-go/rollcall/registry"
)

// driver is the registry.Driver of one etcd.
type driver struct {
	settings *settings
	format   format.Format
	conn     *conn.Conn
	watches  *watch.Streams
	renewals *keepalive.Streams
}

var _ registry.Driver = (*driver)(nil)

func driverOn(c *conn.Conn, s *settings) *driver {
	return &driver{settings: s, format: format.ByName[s.Format], conn: c, watches: watch.New(c), renewals: keepalive.New(c)}
}

// connection returns the settings of the connection.
func (s *settings) connection() conn.Config {
	c := conn.Config{
		Members: s.members, NameHosts: s.tls != nil && s.tls.ServerName == "",
		Username: s.Username, Password: s.Password,
		DialTimeout: s.DialTimeout, Timeout: s.Timeout, KeepAliveTime: s.KeepAliveTime, KeepAliveTimeout: s.KeepAliveTimeout,
	}
	if s.tls != nil {
		c.Credentials = newCredentials(s.files)
	}
	return c
}

// Properties implements [registry.Driver].
func (d *driver) Properties() registry.Properties {
	p := registry.Properties{Name: d.name(), Address: d.settings.members[0], Pushes: true, PutValue: d.putValue, DeleteValue: d.deleteValue}
	if d.settings.files != nil {
		p.Subscribe = d.settings.files.Subscribe
	}
	return p
}

// name has the members, the prefix, and any format but Rollcall's own.
func (d *driver) name() string {
	name := "etcd " + strings.Join(d.settings.members, ",")
	if d.settings.Prefix != "" {
		name += " " + d.settings.Prefix
	}
	if d.settings.Format != FormatRollcall {
		name += " " + d.settings.Format
	}
	return name
}

// Watch implements [registry.Driver].
func (d *driver) Watch(q registry.Query) registry.Source {
	return &source{d: d, service: q.Service, prefix: d.prefixOf(q.Service)}
}

// prefixOf returns the prefix of the keys of a service. It ends in a slash, so that no other service has it.
func (d *driver) prefixOf(service string) string { return d.settings.Prefix + service + "/" }

// keyOf returns the key of an instance.
func (d *driver) keyOf(service, id string) string { return d.prefixOf(service) + id }

// Close implements [registry.Driver].
func (d *driver) Close() error {
	err := d.conn.Close()
	d.watches.Wait()
	d.renewals.Wait()
	return err
}
