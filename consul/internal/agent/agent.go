// Package agent makes calls to Consul: it chooses one of several agents, connects to it, limits the connections, and explains failures.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// Config is what all agents of a pool have in common.
type Config struct {
	API     *api.Config // but for the address
	Certs   *Certificates
	Token   *Token
	Timeout time.Duration // limits a call that does not wait for a change, and an answer that has begun

	Scrub     func(string) string // takes the secrets out of a text
	HasUser   bool                // there is a user for HTTP basic authentication
	Anonymous bool                // there is no client certificate
	HasFilter bool                // the user of Rollcall has set a filter expression
}

// Agent is one of the agents or servers of a pool, with a client of its own.
type Agent struct {
	Location string // host:port, or unix:///path
	Client   *api.Client
	Limiter  *Limiter

	address   Address
	secure    bool   // over TLS
	end       func() // closes the transport
	pool      *Pool
	config    *Config
	elections elections

	calls       map[*call]struct{} // in flight; guarded by Pool.mu
	stopProbing context.CancelFunc // nil while no call is in flight; guarded by Pool.mu
}

// call is a call in flight. cancel ends it if its agent hangs.
type call struct{ cancel context.CancelCauseFunc }

// connect returns the agent at address. It sends nothing.
func connect(address Address, config *Config, dialer *net.Dialer) (*Agent, error) {
	transport, end := newTransport(dialer, address, config.Certs)
	var carrier http.RoundTripper = once{transport}
	if address.Scheme == "https" {
		carrier = oneByOne{carrier, make(chan struct{}, 1)}
	}
	if address.isOnThisHost() {
		carrier = uncompressed{carrier}
	}
	a := &Agent{
		Location: address.Location(), Limiter: newLimiter(transport.CloseIdleConnections),
		address: address, secure: address.Scheme == "https", end: end, config: config,
	}
	if err := a.SetTransport(carrier); err != nil {
		end()
		return nil, fmt.Errorf("%w: consul: %w", registry.ErrInvalid, err)
	}
	return a, nil
}

// SetTransport makes the agent send its requests by rt.
func (a *Agent) SetTransport(rt http.RoundTripper) error {
	conf := *a.config.API
	conf.Address, conf.Scheme = a.address.Scheme+"://"+a.address.HostPort+a.address.Prefix, a.address.Scheme
	conf.HttpClient = &http.Client{Transport: captureTransport{rt, a.config.Timeout}, CheckRedirect: refuseRedirect}
	client, err := api.NewClient(&conf)
	if err == nil {
		a.Client = client
	}
	return err
}

// Request describes a call.
type Request struct {
	What  string // what the call does, for errors
	Limit time.Duration
	// Elsewhere says that another datacenter or a peer answers, by way of the agent.
	Elsewhere bool
}

// Call makes one call within its limit. The error is a *Error, or the error of ctx if ctx ended the call.
func (a *Agent) Call(ctx context.Context, q Request, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, q.Limit)
	defer cancel()
	limited, end := a.pool.begin(limited, a)
	defer end()
	err := a.Classify(ctx, q.What, q.Limit, f(limited))
	a.pool.noteEnd(a, err, q.Elsewhere)
	return err
}

// CallAt makes one call in a slot, and releases the slot. consul/api decodes the answer.
func (a *Agent) CallAt(ctx context.Context, slot Slot, q Request, f func(context.Context) error) error {
	got := Capture{}
	err := a.Call(ctx, q, func(ctx context.Context) error { return f(WithCapture(ctx, &got)) })
	slot.Release(got.Status, got.Version)
	return err
}

// Options returns the options of a call that concerns only the agent. The token goes with each call, for two reasons: it may change, and
// consul/api prefers a token file of the environment to a token that is equal to the one in the environment.
func (a *Agent) Options(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{Token: a.config.Token.Current()}).WithContext(ctx)
}

// answers reports whether a answers at all. The answer does not matter, and the question needs no token. A connection that breaks does not
// matter either: those in use would break too.
func (a *Agent) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	_, err := a.Client.Status().LeaderWithQueryOptions(new(api.QueryOptions).WithContext(ctx))
	var op *net.OpError
	return err == nil || ctx.Err() == nil && !(errors.As(err, &op) && op.Op == "dial")
}
