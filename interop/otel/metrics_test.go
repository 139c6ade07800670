package otel_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
)

func TestInstrument_MeasuresWatch(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.register(t.other, "greeter", "a")
		t.register(t.other, "greeter", "b")
		t.watch("greeter")
		t.expect(series{
			"watch.state{greeter,current}": 1, "watch.set_age{greeter}": 0, "watch.reader.count{greeter}": 1,
			"watch.instance.count{greeter,passing}": 2, "watch.changes{greeter}": 1, "watch.reads{greeter}": 1,
			"attempt.duration{read}": 1, "entry.unreadable.count{greeter}": 0,
		})
		t.other.SetStatus("greeter", "b", registry.Critical)
		t.expect(series{
			"watch.instance.count{greeter,passing}": 1, "watch.instance.count{greeter,critical}": 1,
			"watch.changes{greeter}": 2, "watch.reads{greeter}": 2,
		})

		t.reg.Fail(errSecret)
		time.Sleep(10 * time.Second)
		got := t.collect()
		if age := got["watch.set_age{greeter}"]; age != 10 {
			t.Errorf("the set's age is %v after an outage of 10 s, want 10", age)
		}
		if n := got["watch.failures{greeter,unavailable}"]; n < 2 || n != got["attempt.duration{unavailable,read}"] {
			t.Errorf("%v failures and %v failed attempts, want at least 2 and as many attempts", n, got["attempt.duration{unavailable,read}"])
		}
		t.expect(series{"watch.state{greeter,stale}": 1, "watch.state{greeter,current}": 0, "watch.instance.count{greeter,passing}": 1})
		t.reg.Fail(registry.ErrDenied)
		time.Sleep(time.Minute)
		if n := t.collect()["watch.failures{greeter,denied}"]; n == 0 {
			t.Error("no failure of the kind denied")
		}
		t.reg.Heal()
		time.Sleep(time.Minute)
		t.expect(series{"watch.state{greeter,current}": 1, "watch.set_age{greeter}": 0, "watch.outage.duration{greeter}": 1})
	})
}

func TestInstrument_MeasuresWithheldSet(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		crashing := t.reg.Client()
		for i := range 4 {
			t.register(crashing, "greeter", fmt.Sprint(i))
		}
		t.watch("greeter")
		t.watch("nothing")
		crashing.Crash()
		for i := range 4 {
			t.reg.Expire("greeter", fmt.Sprint(i))
		}
		t.expect(series{
			"watch.grace_periods{greeter}": 1, "watch.state{greeter,withheld}": 1, "watch.instance.count{greeter,passing}": 4,
			"watch.state{nothing,current}": 1,
		})
		if _, ok := t.collect()["watch.instance.count{nothing,passing}"]; !ok {
			t.Error("a service without an instance has no series that says 0")
		}
	})
}

func TestInstrument_MeasuresUnknownSet(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.reg.Hang()
		t.watch("greeter")
		t.expect(series{"watch.state{greeter,unknown}": 1, "watch.reads{greeter}": 0})
	})
}

// TestInstrument_CountsSharedInstancesOnce has two watches of one service with different queries.
func TestInstrument_CountsSharedInstancesOnce(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.register(t.other, "greeter", "a")
		t.watch("greeter")
		if _, err := t.reg.Lookup(t.Context(), registry.Query{Service: "greeter", Metadata: map[string]string{}, Tags: nil}); err != nil {
			t.Fatal(err)
		}
		in := registry.Instance{Service: "greeter", ID: "b", Address: "10.9.8.7:81", Tags: []string{"new"}}
		if _, err := t.other.Register(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := t.reg.Lookup(t.Context(), registry.Query{Service: "greeter", Tags: []string{"new"}}); err != nil {
			t.Fatal(err)
		}
		t.expect(series{"watch.instance.count{greeter,passing}": 2, "watch.state{greeter,current}": 2})
	})
}

// TestInstrument_ReadsNeverFall ends a watch, and opens it again.
func TestInstrument_ReadsNeverFall(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.watch("greeter").Stop()
		t.expect(series{"watch.reads{greeter}": 1})
		time.Sleep(time.Hour) // the watch ends after Options.Linger
		t.expect(series{"watch.reads{greeter}": 1, "watch.state{greeter,current}": 0})
		t.watch("greeter")
		t.expect(series{"watch.reads{greeter}": 2})
	})
}

func TestInstrument_MeasuresRegistration(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		g := t.register(t.reg, "greeter", "a")
		t.expect(series{"registration.count{greeter,registered}": 1, "attempt.duration{register}": 1})

		t.reg.Fail(errSecret)
		time.Sleep(time.Minute)
		t.expect(series{
			"registration.count{greeter,lost}": 1, "registration.count{greeter,registered}": 0,
			"registration.losses{greeter,unavailable}": 1,
		})
		t.reg.Fail(registry.ErrDenied)
		time.Sleep(time.Minute)
		t.expect(series{"registration.count{greeter,denied}": 1})
		t.reg.Heal()
		time.Sleep(time.Minute)
		t.expect(series{"registration.count{greeter,registered}": 1, "registration.outage.duration{greeter}": 1})

		t.register(t.other, "greeter", "a")
		time.Sleep(time.Minute)
		t.expect(series{"registration.count{greeter,replaced}": 1, "registration.losses{greeter,replaced}": 1})
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.expect(series{"registration.count{greeter,replaced}": 0, "attempt.duration{deregister}": 1})
	})
}

func TestInstrument_BoundsServices(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{MaxServices: 2})()
		for i := range 5 {
			service := fmt.Sprintf("service-%d", i)
			t.register(t.other, service, "a")
			t.register(t.reg, service, "b")
			synctest.Wait()
			t.watch(service)
		}
		t.expect(series{
			"watch.state{service-0,current}": 1, "watch.state{service-1,current}": 1, "watch.state{_other,current}": 3,
			"watch.instance.count{service-0,passing}": 2, "watch.instance.count{_other,passing}": 6,
			"watch.reads{_other}": 3, "watch.changes{_other}": 3, "registration.count{_other,registered}": 3,
		})
		if names := t.values("service.peer.name"); !slices.Equal(names, []string{"_other", "service-0", "service-1"}) {
			t.Errorf("services are %q, want two of them and _other", names)
		}
	})
}

// TestInstrument_TellsNoSecrets looks for IDs, addresses and texts of errors in all attributes of metrics and spans.
func TestInstrument_TellsNoSecrets(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.register(t.reg, "greeter", "id-of-an-instance")
		t.watch("greeter")
		t.reg.Fail(errSecret)
		time.Sleep(time.Minute)
		all := fmt.Sprint(t.collect(), t.spans.GetSpans())
		for _, secret := range []string{"id-of", "10.9.8.7", "refused"} {
			if strings.Contains(all, secret) {
				t.Errorf("%q is in %s", secret, all)
			}
		}
		if names := t.values("rollcall.registry"); !slices.Equal(names, []string{t.reg.String()}) {
			t.Errorf("registries are %q, want %q only", names, t.reg.String())
		}
	})
}

func TestInstrument_TwiceCountsOnce(t *testing.T) {
	inBubble(t, func(t *fixture) {
		first, second := t.instrument(rollcallotel.Config{}), t.instrument(rollcallotel.Config{})
		once := series{
			"attempt.duration{register}": 1, "registration.count{greeter,registered}": 1, "watch.changes{greeter}": 1, "watch.reads{greeter}": 1,
		}
		t.register(t.reg, "greeter", "a")
		t.watch("greeter")
		t.expect(once)
		first()
		first() // changes nothing
		t.expect(once)
		if n := len(t.spans.GetSpans()); n != 2 {
			t.Errorf("%d spans, want 2", n)
		}
		second()
		t.expect(series{"attempt.duration{register}": 1, "registration.count{greeter,registered}": 0, "watch.reads{greeter}": 0})
		t.register(t.reg, "greeter", "b")
		t.expect(series{"attempt.duration{register}": 1})

		defer t.instrument(rollcallotel.Config{})()
		t.expect(series{"registration.count{greeter,registered}": 2})
	})
}

// TestInstrument_AddsUpRegistriesOfOneName has two clients of a store, which are of one name.
func TestInstrument_AddsUpRegistriesOfOneName(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		stop := t.instrumentRegistry(t.other, rollcallotel.Config{})
		t.register(t.reg, "greeter", "a")
		t.register(t.other, "greeter", "b")
		t.expect(series{"registration.count{greeter,registered}": 2, "attempt.duration{register}": 2})
		stop()
		t.expect(series{"registration.count{greeter,registered}": 1, "attempt.duration{register}": 2})
	})
}

func TestInstrument_ServesTwoProviders(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		reader := metric.NewManualReader()
		defer t.instrument(rollcallotel.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})()
		t.register(t.reg, "greeter", "a")
		want := series{"attempt.duration{register}": 1, "registration.count{greeter,registered}": 1}
		t.expect(want)
		t.reader = reader
		t.expect(want)
	})
}

func TestInstrument_UsesGlobalProviders(t *testing.T) {
	inBubble(t, func(t *fixture) {
		meter, tracer := otel.GetMeterProvider(), otel.GetTracerProvider()
		defer func() { otel.SetMeterProvider(meter); otel.SetTracerProvider(tracer) }()
		otel.SetMeterProvider(t.meter)
		otel.SetTracerProvider(t.tracer)
		stop, err := rollcallotel.Instrument(t.reg.Registry, rollcallotel.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		t.register(t.reg, "greeter", "a")
		t.expect(series{"attempt.duration{register}": 1})
		if len(t.spans.GetSpans()) != 1 {
			t.Error("there is no span")
		}
	})
}

func TestInstrument_SurvivesClose(t *testing.T) {
	inBubble(t, func(t *fixture) {
		stop := t.instrument(rollcallotel.Config{})
		t.register(t.reg, "greeter", "a")
		t.watch("greeter")
		if err := t.reg.Close(); err != nil {
			t.Fatal(err)
		}
		t.expect(series{"attempt.duration{deregister}": 1, "registration.count{greeter,registered}": 0, "watch.state{greeter,current}": 0})
		stop()
	})
}

func TestInstrument_RefusesWhatCannotWork(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	for _, err := range []error{
		func() error { _, err := rollcallotel.Instrument(nil, rollcallotel.Config{}); return err }(),
		func() error {
			_, err := rollcallotel.Instrument(reg.Registry, rollcallotel.Config{MaxServices: -1})
			return err
		}(),
	} {
		if !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("the error is %v, want ErrInvalid", err)
		}
	}
}

// TestInstrument_CollectsWhileInUse is for the race detector.
func TestInstrument_CollectsWhileInUse(t *testing.T) {
	reader := metric.NewManualReader()
	f := &fixture{
		T: t, reader: reader, reg: memory.New(), meter: metric.NewMeterProvider(metric.WithReader(reader)), tracer: tracesdk.NewTracerProvider(),
	}
	defer f.reg.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 50 {
			stop := f.instrumentRegistry(f.reg, rollcallotel.Config{})
			if _, err := f.reg.Register(t.Context(), registry.Instance{Service: "greeter", ID: fmt.Sprint(i), Address: "10.0.0.1:1"}); err != nil {
				t.Error(err)
			}
			stop()
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			f.metrics()
		}
	}
}

func TestInstrument_NamesAttributesByConvention(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.register(t.reg, "greeter", "a")
		t.watch("greeter")
		t.reg.Fail(errSecret)
		time.Sleep(time.Minute)
		for _, name := range []attribute.Key{"service.peer.name", "rollcall.registry", "rollcall.state", "rollcall.status", "rollcall.op", "error.type"} {
			if len(t.values(name)) == 0 {
				t.Errorf("no series has the attribute %s", name)
			}
		}
	})
}
