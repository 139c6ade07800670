package httpx

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// NewClient returns a client whose requests to http://SERVICE/path go to the instances of SERVICE that d finds. d must outlive it.
//
// It is an http.Client with a [Transport] that has only d set; make one with other fields for other settings. The client needs no end: when
// it is not used, it watches nothing after a while. To end it at once, close its Transport.
func NewClient(d registry.Discovery) *http.Client {
	return &http.Client{Transport: &Transport{Discovery: d}}
}

// Transport is an [http.RoundTripper] that sends each request to an instance of a service. The doc of this package explains what it does. Set
// its fields before the first request, and do not change them after that. Only Discovery is required. A Transport must not be copied after
// its first use. It is safe for concurrent use.
type Transport struct {
	// Discovery finds the instances. It must outlive the Transport. Required.
	Discovery registry.Discovery
	// Base has the settings of the connections: TLSClientConfig, IdleConnTimeout, Protocols and so on. Each instance gets a clone of it. It is
	// not used itself, so its own connections do not matter, and its Proxy is ignored. DialContext is called with the address of an instance.
	// DialTLSContext and DialTLS are an error, use TLSClientConfig. The 0 of MaxIdleConnsPerHost means 100, for each instance. Default:
	// a clone of http.DefaultTransport.
	Base *http.Transport
	// Select returns which instances a request may go to, by service, tags, version and metadata. It must not change the request or read its
	// body. It is called once for each request, also if the request is sent again. Default: the service is the host of the URL, which must have
	// no port then.
	Select func(*http.Request) registry.Query
	// Policy spreads the requests over the instances: round_robin, weighted, zone or p2c. Default: round_robin.
	Policy string
	// Endpoint is the name of the endpoint to dial, Endpoints[Endpoint], of each instance that has it. Default: Address is dialled.
	Endpoint string
	// TLSName says which name the certificate of an instance must be for: "host" means the host of its address, and "meta.KEY" its metadata
	// KEY, or the service if there is no such metadata. Everyone who can write to the registry can choose that name. Default: the service, or
	// TLSClientConfig.ServerName of Base.
	TLSName string

	// Zone is the client's own zone, for the policy zone. Default: the environment variable ROLLCALL_ZONE. Without either, all instances are
	// treated the same.
	Zone string
	// ZoneThreshold is the share of instances in the own zone that must be reachable for the zone to get all requests of the policy zone.
	// Above 0 and at most 1. Default: 0.7.
	ZoneThreshold float64
	// Decay is the time after which a latency counts for 1/e (37%) of what it counted before, for the policy p2c. Default: 10 s.
	Decay time.Duration

	// PanicThreshold is the share of a service's instances that must pass for their health to count. If fewer pass, requests go to all
	// instances that are neither drained nor in maintenance. Ejection stops at the same share. From 0 to 1. Default: 0.5. Negative: the health
	// always counts.
	PanicThreshold float64
	// EmptyGrace is how long existing connections are used after the last instance of a service has left the registry. Default: 30 s.
	// Negative: not at all.
	EmptyGrace time.Duration
	// Subset is how many instances the Transport uses if a service has more. Default: 0, which is all.
	Subset int
	// ClientID distinguishes clients that use a Subset. It should stay the same over a restart. Default: the host name.
	ClientID string

	// MaxAttempts is how often a request is sent, including the first time, if its connection is lost and sending it again is safe. An attempt
	// to connect that fails does not count, since nothing was sent. From 1, which is never again, to 5. Default: 3.
	MaxAttempts int
	// RetryBudget is after how many lost requests in a row the Transport stops to send requests of a service again. After that, every ten
	// responses allow one more. From 1 to 500. Default: 50.
	RetryBudget int

	// ServiceConfigKey is the key of a value in the registry with the timeout and the number of attempts of requests to a service. SERVICE in
	// it is replaced by the name of the service, as in "rollcall/config/SERVICE". Discovery must have values, as a [registry.Registry] has.
	// Default: none.
	//
	// The value is a service config of gRPC: https://github.com/grpc/grpc/blob/master/doc/service_config.md, so HTTP and gRPC clients can
	// share it. Of its methodConfig, the entry for all methods counts, {"name": [{}]}: timeout ends a request and the reading of its
	// response, and retryPolicy.maxAttempts replaces MaxAttempts. A deadline of the request that is earlier comes first.
	//
	// A change takes effect for the next request. Without the value, or if it cannot be read for the first time, requests go on without it.
	// If a value is invalid or the registry cannot be reached, the last good one stays in force; if the key is deleted, none.
	ServiceConfigKey string

	// IdleTimeout is how long a service that gets no requests is watched. Default: 10 min. A service without instances is watched for 30 s at
	// most.
	IdleTimeout time.Duration
	// Observe is called once for each call of RoundTrip, before it returns: the response header was received, or the request has failed. That
	// includes requests that were sent nowhere, such as one without a valid name of a service. Only if the fields of the Transport cannot be
	// used, Observe is not called. It must not block. Default: not at all.
	Observe func(Event)
	// Logger receives a line when a grace period begins and ends, and when the panic threshold takes effect and when that ends, and
	// when the service config in the registry changes or is invalid. Default: slog.Default().
	Logger *slog.Logger

	once sync.Once
	core *core
	err  error // the fields cannot be used
}

// Event describes a request to the Observe function of a [Transport].
type Event struct {
	Request  *http.Request      // as it was passed to RoundTrip, such as for its context; do not change it, or keep it
	Query    registry.Query     // that Select returned for it; shared, do not change it
	Service  string             // of Query; may be empty or invalid if Err wraps registry.ErrInvalid
	Instance *registry.Instance // the last instance that was tried; shared, do not change it; nil if there was none
	Status   int                // of the response; 0 if there was none
	Err      error              // why there was no response
	Took     time.Duration      // until the response header, or the failure
	Attempts int                // on how many instances it was tried
}

// Defaults of [Transport].
const (
	DefaultMaxAttempts   = 3
	DefaultRetryBudget   = 50
	DefaultZoneThreshold = 0.7
	DefaultDecay         = 10 * time.Second
	DefaultIdleTimeout   = 10 * time.Minute
)

// ZoneVariable is the environment variable with the client's own zone.
const ZoneVariable = "ROLLCALL_ZONE"

// RoundTrip implements [http.RoundTripper]. The context of the request always ends it. The first request to a service waits up to 10 s
// until it is known which instances the service has.
//
// The error is a *[registry.Error] that names the service if no instance could be reached: it wraps [registry.ErrUnavailable] or what
// Discovery reports, [registry.ErrInvalid] if a field of the Transport or the name of the service cannot be used, and
// [registry.ErrClosed] after Close. Errors of net/http are returned as they are.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.roundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Request = req
	return resp, nil
}

func (t *Transport) roundTrip(req *http.Request) (*http.Response, error) {
	c, err := t.started()
	if err != nil {
		closeBody(req)
		return nil, failed("", err)
	}
	return c.roundTrip(req)
}

// started returns the core, which the first call makes.
func (t *Transport) started() (*core, error) {
	t.once.Do(func() { t.core, t.err = newCore(t) })
	return t.core, t.err
}

// CloseIdleConnections closes all connections that are not in use. It does not end watches. [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if c, err := t.started(); err == nil {
		c.closeIdleConnections()
	}
}

// Close ends all watches and closes all connections. Requests in progress fail, as do reads from response bodies. When Close returns, no
// goroutine of the Transport is left. Goroutines of net/http end as soon as they notice that their connection is closed. Close may be
// called again. It returns nil.
func (t *Transport) Close() error {
	if c, err := t.started(); err == nil {
		c.close()
	}
	return nil
}
