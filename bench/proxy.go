package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// proxy forwards the connections of one contender to the registry, and counts.
type proxy struct {
	lis    net.Listener
	target string

	connections, requests, toRegistry, fromRegistry atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]bool
	cut  bool
	done sync.WaitGroup
}

func newProxy(target string) (*proxy, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{lis: lis, target: target, open: map[net.Conn]bool{}}
	p.done.Go(p.accept)
	return p, nil
}

func (p *proxy) address() string { return p.lis.Addr().String() }

// counts is what a proxy has counted until some time.
type counts struct{ connections, requests, bytes, open int64 }

func (p *proxy) counts() counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return counts{p.connections.Load(), p.requests.Load(), p.toRegistry.Load() + p.fromRegistry.Load(), int64(len(p.open))}
}

// since returns what was counted after e. Its open is the present number.
func (c counts) since(e counts) counts {
	return counts{c.connections - e.connections, c.requests - e.requests, c.bytes - e.bytes, c.open}
}

// sever breaks all connections, and each new one at once, until mend.
func (p *proxy) sever() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for c := range p.open {
		c.Close()
	}
}

func (p *proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

func (p *proxy) close() {
	p.lis.Close()
	p.sever()
	p.done.Wait()
}

func (p *proxy) accept() {
	for {
		c, err := p.lis.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.connections.Add(1)
		p.done.Go(func() { p.carry(c) })
	}
}

// carry joins a connection to a connection to the registry. If the registry accepts none, c is closed, as by a load balancer in front
// of a dead server.
func (p *proxy) carry(c net.Conn) {
	defer c.Close()
	r, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer r.Close()
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.open[c] = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}()
	var both sync.WaitGroup
	both.Go(func() {
		pipe(r, c, &p.toRegistry, &requestCounter{count: &p.requests})
		r.Close()
	})
	pipe(c, r, &p.fromRegistry, nil)
	c.Close()
	both.Wait()
}

// pipe copies until one of the connections ends.
func pipe(to, from net.Conn, n *atomic.Int64, requests io.Writer) {
	buffer := make([]byte, 64<<10)
	for {
		k, err := from.Read(buffer)
		if k > 0 {
			n.Add(int64(k))
			if requests != nil {
				requests.Write(buffer[:k])
			}
			if _, err := to.Write(buffer[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// requestCounter counts the requests in what a client sends. With HTTP/1.1, a client sends the next request only after the answer to the
// last one. With gRPC, each frame of HTTP/2 with data counts as a request.
type requestCounter struct {
	count  *atomic.Int64
	began  bool
	http2  bool
	header []byte // of a frame, as far as it was received
	skip   int    // bytes of the preface or of a frame that are still to come
}

var preface = []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

func (r *requestCounter) Write(b []byte) (int, error) {
	n := len(b)
	if !r.began {
		r.began = true
		if r.http2 = bytes.HasPrefix(b, preface[:min(len(b), 3)]); r.http2 {
			r.skip = len(preface)
		}
	}
	if !r.http2 {
		for _, method := range []string{"GET /", "PUT /", "POST /", "DELETE /"} {
			if bytes.HasPrefix(b, []byte(method)) {
				r.count.Add(1)
			}
		}
		return n, nil
	}
	for len(b) > 0 {
		if r.skip > 0 {
			k := min(r.skip, len(b))
			r.skip -= k
			b = b[k:]
			continue
		}
		k := min(9-len(r.header), len(b))
		r.header = append(r.header, b[:k]...)
		b = b[k:]
		if len(r.header) == 9 {
			r.skip = int(r.header[0])<<16 | int(r.header[1])<<8 | int(r.header[2])
			if r.header[3] == 0 && r.skip > 0 { // DATA
				r.count.Add(1)
			}
			r.header = r.header[:0]
		}
	}
	return n, nil
}
