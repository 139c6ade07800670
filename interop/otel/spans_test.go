package otel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/codes"
	tracesdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel"
)

func TestInstrument_MakesSpansOfAttempts(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		g := t.register(t.reg, "greeter", "a")
		in := g.Instance()
		in.Weight = 7
		if err := g.Update(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // renewals make no span
		t.watch("greeter")
		if err := g.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var names []string
		for _, s := range t.spans.GetSpans() {
			names = append(names, s.Name)
			if s.SpanKind != trace.SpanKindClient || s.Parent.IsValid() || s.Status.Code != codes.Unset {
				t.Errorf("%s: kind %v, parent %v, status %v; want a client's root span without a status", s.Name, s.SpanKind, s.Parent, s.Status)
			}
		}
		want := []string{"rollcall.register", "rollcall.update", "rollcall.read", "rollcall.deregister"}
		if len(names) != len(want) {
			t.Fatalf("spans are %q, want %q", names, want)
		}
		for i := range want {
			if names[i] != want[i] {
				t.Errorf("spans are %q, want %q", names, want)
			}
		}
	})
}

func TestInstrument_SpanShowsFailureAndDuration(t *testing.T) {
	inBubble(t, func(t *fixture) {
		defer t.instrument(rollcallotel.Config{})()
		t.reg.Hang()
		t.watch("greeter")
		began := time.Now()
		time.Sleep(3 * time.Second)
		t.reg.Fail(registry.ErrDenied)
		synctest.Wait()
		spans := t.spans.GetSpans()
		if len(spans) == 0 {
			t.Fatal("there is no span")
		}
		s := spans[0]
		if !s.StartTime.Equal(began) || s.EndTime.Sub(s.StartTime) != 3*time.Second {
			t.Errorf("the span began %v after the read and took %v, want 0 and 3s", s.StartTime.Sub(began), s.EndTime.Sub(s.StartTime))
		}
		if want := (tracesdk.Status{Code: codes.Error, Description: "denied"}); s.Status != want {
			t.Errorf("the status is %v, want %v", s.Status, want)
		}
	})
}
