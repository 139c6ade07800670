// Package httpmap is a complete backend for a small store: a map behind HTTP. It is the example of docs/backend.md. Copy it to begin
// a backend of your own.
package httpmap

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Config says which store to use, and how.
type Config struct {
	URL       *url.URL          // of the store, such as http://127.0.0.1:7070. Required
	TTL       time.Duration     // how long an entry outlives its process. Default: 15 s
	Transport http.RoundTripper // default: http.DefaultTransport
	Options   registry.Options
}

// New returns a Registry over the store.
func New(c Config) (*registry.Registry, error) {
	return registry.New(NewDriver(c), c.Options)
}

// NewDriver returns the driver alone, for a program that puts a decorator around it.
func NewDriver(c Config) registry.Driver {
	if c.TTL == 0 {
		c.TTL = 15 * time.Second
	}
	return &driver{config: c, client: &http.Client{Transport: c.Transport}}
}

type driver struct {
	config Config
	client *http.Client
}

func (d *driver) Properties() registry.Properties {
	return registry.Properties{Name: "httpmap " + d.config.URL.Host, Address: d.config.URL.Host}
}

func (d *driver) Register(ctx context.Context, in *registry.Instance, prev registry.Lease) (registry.Lease, error) {
	l := &lease{d: d, service: in.Service, id: in.ID, owner: rand.Text()}
	if before, ok := prev.(*lease); ok {
		l.owner = before.owner // so l can also remove what an earlier attempt has written
	}
	// A request that seems to fail may be carried out, so the lease is returned beside an error too.
	return l, l.put(ctx, in, url.Values{})
}

func (d *driver) Watch(q registry.Query) registry.Source { return &source{d: d, service: q.Service} }

func (d *driver) WatchValue(string) registry.ValueSource { return registry.NoValues() }

func (d *driver) Services(ctx context.Context) (names []string, err error) {
	err = d.call(ctx, callTimeout, http.MethodGet, "/", nil, nil, &names)
	return names, err
}

func (d *driver) Close() error {
	d.client.CloseIdleConnections()
	return nil
}

const (
	callTimeout = 10 * time.Second // for a store that accepts a connection and never answers
	waitTime    = 45 * time.Second // for a change
)

// errGone says that the store has no such entry.
var errGone = fmt.Errorf("%w: the store has no such entry", registry.ErrUnavailable)

// read reads a service. With wait it blocks until the service has another version than since, or for waitTime.
func (d *driver) read(ctx context.Context, service, since string, wait bool) (a Answer, err error) {
	limit, query := callTimeout, url.Values{"since": {since}}
	if wait {
		limit += waitTime
		query.Set("wait", waitTime.String())
	}
	return a, d.call(ctx, limit, http.MethodGet, "/"+url.PathEscape(service), query, nil, &a)
}

// call makes one request. Its errors are of the kinds that registry.Driver asks for.
func (d *driver) call(ctx context.Context, limit time.Duration, method, path string, query url.Values, body []byte, answer any) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	u := d.config.URL.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(limited, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return unavailable(ctx, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusNotFound:
		return errGone
	case http.StatusConflict:
		return registry.ErrReplaced
	case http.StatusOK:
		if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 64<<20)).Decode(answer); err != nil {
			return unavailable(ctx, err)
		}
		return nil
	}
	return fmt.Errorf("%w: the store answers %s", registry.ErrUnavailable, resp.Status)
}

// unavailable returns the error of ctx if that ended a request. Otherwise the request failed, or took longer than its limit.
func unavailable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e := (*url.Error)(nil); errors.As(err, &e) {
		err = e.Err // without the URL, which may have a password
	}
	return fmt.Errorf("%w: %v", registry.ErrUnavailable, err)
}
