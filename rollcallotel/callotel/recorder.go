package callotel

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
)

// scopeName is the name of the instrumentation scope.
const scopeName = "github.com/rollcall-go/rollcall/rollcallotel/callotel"

// DefaultMaxVersions is the default of [Config.MaxVersions].
const DefaultMaxVersions = 20

// Config has the provider that takes the counts, and their bounds. The zero value works.
type Config struct {
	// MeterProvider takes the counts. Default: the global one, [otel.GetMeterProvider].
	MeterProvider metric.MeterProvider
	// MaxServices is how many services are counted by name. Calls to all further services are counted as "_other". The first services
	// to be called keep their names. Default: [rollcallotel.DefaultMaxServices].
	MaxServices int
	// MaxVersions is how many versions of each service are counted by name. Calls to all further versions are counted as "_other". A
	// version without a call for an hour makes room for a new one, and its counts end. Default: [DefaultMaxVersions].
	MaxVersions int
	// ByQuery adds the attribute rollcall.query, so that channels of one service that select different instances have counts of their
	// own. Its value has the parameters of the target that select instances, such as "tag=eu&version=v2", sorted. It is empty if the
	// channel selects by service only. At most 20 queries of each service are counted by name, and the others as "_other".
	ByQuery bool
}

// Recorder counts the calls of clients. It is safe for concurrent use. It counts in memory, and the MeterProvider reads the counts when
// it collects metrics. Use one Recorder for all channels of a process.
type Recorder struct {
	byQuery bool
	calls   *counts
	targets targets
	end     func() error
}

// New returns a Recorder, which counts until it is closed. It does not block.
//
// The error wraps [registry.ErrInvalid] if MaxServices or MaxVersions is negative. Otherwise it comes from the MeterProvider.
func New(c Config) (*Recorder, error) {
	switch {
	case c.MaxServices < 0:
		return nil, fmt.Errorf("rollcall: record calls: %w: MaxServices is %d, must not be negative", registry.ErrInvalid, c.MaxServices)
	case c.MaxVersions < 0:
		return nil, fmt.Errorf("rollcall: record calls: %w: MaxVersions is %d, must not be negative", registry.ErrInvalid, c.MaxVersions)
	}
	if c.MeterProvider == nil {
		c.MeterProvider = otel.GetMeterProvider()
	}
	r := &Recorder{
		byQuery: c.ByQuery,
		calls:   newCounts(cmp.Or(c.MaxServices, rollcallotel.DefaultMaxServices), cmp.Or(c.MaxVersions, DefaultMaxVersions)),
	}
	if err := r.start(c.MeterProvider.Meter(scopeName)); err != nil {
		return nil, fmt.Errorf("rollcall: record calls: %w", err)
	}
	return r, nil
}

func (r *Recorder) start(m metric.Meter) error {
	calls, err := m.Int64ObservableCounter("rollcall.client.calls", metric.WithUnit("{call}"),
		metric.WithDescription("Calls that have ended, by the version of the instance that they went to."))
	if err != nil {
		return err
	}
	reading, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		r.calls.observe(time.Now(), func(n int64, attrs metric.MeasurementOption) { o.ObserveInt64(calls, n, attrs) })
		return nil
	}, calls)
	if err != nil {
		return err
	}
	r.end = sync.OnceValue(reading.Unregister)
	return nil
}

// Close ends the counts. Calls that end later are not counted. It does not block, and returns the error of the MeterProvider, if any.
// Calling it again does nothing and returns the same.
func (r *Recorder) Close() error { return r.end() }

// HTTPCall counts one HTTP call to an instance that q selected, and adds in to the span in ctx. It is for HTTP clients that call a function
// after each request. It does not block.
//
//   - in is the instance that the last attempt went to; nil if there was none. HTTPCall does not change or keep it.
//   - status is the status of the answer; 0 without an answer.
//   - err is the reason why there is no answer. Its text is not recorded.
func (r *Recorder) HTTPCall(ctx context.Context, q registry.Query, in *registry.Instance, status int, err error) {
	query := ""
	if r.byQuery {
		query = selection(q)
	}
	r.calls.add(q.Service, versionOf(in), query, httpOutcome(status, err))
	addToSpan(ctx, in)
}

// versionOf returns the version under which a call to in is counted.
func versionOf(in *registry.Instance) string {
	if in == nil {
		return noVersion
	}
	return in.Version
}

const (
	keyService    = attribute.Key("service.peer.name")
	keyID         = attribute.Key("rollcall.instance.id")
	keyVersion    = attribute.Key("rollcall.instance.version")
	keyZone       = attribute.Key("rollcall.instance.zone")
	keyQuery      = attribute.Key("rollcall.query")
	keyGRPCStatus = attribute.Key("rpc.response.status_code")
	keyHTTPStatus = attribute.Key("http.response.status_code")
	keyErrorType  = attribute.Key("error.type")
)

// addToSpan adds the instance that a call went to, if any, to the span in ctx.
func addToSpan(ctx context.Context, in *registry.Instance) {
	if in == nil {
		return
	}
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(keyID.String(in.ID), keyVersion.String(in.Version), keyZone.String(in.Zone))
	}
}
