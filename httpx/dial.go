package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// connectTimeout bounds an attempt to connect, TLS included.
	connectTimeout = 5 * time.Second
	// connectionWait bounds how long a request waits for one of the connections to an instance that must not be dialled.
	connectionWait = 5 * time.Second
)

// dialer makes the connections of one node. All its errors are a *connectError.
type dialer struct {
	node             *node
	dial             func(ctx context.Context, network, address string) (net.Conn, error) // the caller's; may be nil
	deprecated       func(network, address string) (net.Conn, error)                      // likewise
	handshakeTimeout time.Duration
	transport        *http.Transport // has the TLS config once it was used
}

// dialPlain is the DialContext of an http.Transport. It ignores the address, which is the name of the service.
func (d *dialer) dialPlain(ctx context.Context, _, _ string) (net.Conn, error) {
	return d.connect(ctx, func(ctx context.Context) (net.Conn, *conn, error) {
		c, err := d.open(ctx)
		return c, c, err
	})
}

// dialTLS is the DialTLSContext of an http.Transport. net/http would do the same, but a failure could not be told from others.
func (d *dialer) dialTLS(ctx context.Context, _, address string) (net.Conn, error) {
	return d.connect(ctx, func(ctx context.Context) (net.Conn, *conn, error) {
		raw, err := d.open(ctx)
		if err != nil {
			return nil, nil, err
		}
		if d.handshakeTimeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d.handshakeTimeout)
			defer cancel()
		}
		c := tls.Client(raw, d.tlsConfig(ctx, address))
		if err := c.HandshakeContext(ctx); err != nil {
			raw.abandon()
			return nil, nil, err
		}
		return c, raw, nil
	})
}

// tlsConfig returns the config for a connection to the service in address.
func (d *dialer) tlsConfig(ctx context.Context, address string) *tls.Config {
	config := d.transport.TLSClientConfig.Clone()
	if config == nil {
		config = &tls.Config{}
	}
	if name := d.node.key.serverName; name != "" {
		config.ServerName = name
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(address)
	}
	if attemptIn(ctx).http1 {
		config.NextProtos = nil
	}
	return config
}

// connect makes a connection by open if the node may be dialled. ctx is net/http's: it does not end with a request, since the next request may
// use the connection.
func (d *dialer) connect(ctx context.Context, open func(context.Context) (net.Conn, *conn, error)) (net.Conn, error) {
	n := d.node
	if !n.beginDial() {
		return nil, &connectError{errLeft}
	}
	defer n.service.core.dials.Done()
	if err := n.waitUntilDiallable(ctx); err != nil {
		return nil, &connectError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	stop := context.AfterFunc(n.ctx, cancel)
	defer stop()
	c, raw, err := open(ctx)
	switch {
	case n.ctx.Err() != nil || err == nil && !n.opened(raw):
		if err == nil {
			raw.abandon()
		}
		return nil, &connectError{errLeft}
	case errors.Is(err, context.Canceled): // net/http needs the connection no more
		return nil, &connectError{err}
	case err != nil:
		n.dialFailed()
		return nil, &connectError{err}
	}
	return c, nil
}

// beginDial counts an attempt to connect, unless n has left. Transport.Close waits for all attempts.
func (n *node) beginDial() bool {
	n.service.mu.Lock()
	defer n.service.mu.Unlock()
	if n.isRetired.Load() || n.service.closed {
		return false
	}
	n.service.core.dials.Add(1)
	return true
}

// waitUntilDiallable returns when n may be dialled. While n has connections and must not be dialled, it waits: the request gets one of them
// as soon as it is free.
func (n *node) waitUntilDiallable(ctx context.Context) error {
	if n.may.Load() == mayDial {
		return nil
	}
	timer := time.NewTimer(connectionWait)
	defer timer.Stop()
	for {
		n.service.mu.Lock()
		changed := n.service.changed
		n.service.mu.Unlock()
		switch n.may.Load() {
		case mayDial:
			return nil
		case mustNotDial:
			return errNotDialled
		}
		select {
		case <-changed:
		case <-timer.C:
			return errNotDialled
		case <-attemptIn(ctx).ended:
			return errNotDialled
		case <-n.ctx.Done():
			return errLeft
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// open connects to the address of the node.
func (d *dialer) open(ctx context.Context) (*conn, error) {
	var c net.Conn
	var err error
	switch address := d.node.key.address; {
	case d.dial != nil:
		c, err = d.dial(ctx, "tcp", address)
	case d.deprecated != nil:
		c, err = d.deprecated("tcp", address)
	default:
		var dialer net.Dialer
		c, err = dialer.DialContext(ctx, "tcp", address)
	}
	switch {
	case err != nil:
		return nil, err
	case c == nil:
		return nil, errors.New("DialContext returned neither a connection nor an error")
	}
	return &conn{Conn: c, node: d.node}, nil
}

// conn is a connection of a node.
type conn struct {
	net.Conn
	node     *node
	isLost   atomic.Bool // the peer or the network has ended it; see the doc of the package for ends that do not count
	isClosed atomic.Bool
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.lost()
	}
	return n, err
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.lost()
	}
	return n, err
}

// ReadFrom lets the kernel send files, as net/http does without a conn.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.Conn, r)
	return n, err
}

// CloseWrite closes one direction of an upgraded connection.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (c *conn) lost() {
	if !c.isClosed.Load() {
		c.isLost.Store(true)
	}
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	if c.isClosed.CompareAndSwap(false, true) {
		c.node.closed(c, c.isLost.Load())
	}
	return c.Conn.Close()
}

// abandon closes a connection that the node has not counted.
func (c *conn) abandon() { _ = c.Conn.Close() }
