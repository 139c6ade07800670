package grpcx

import (
	"net/url"
	"testing"
	"time"

	"google.golang.org/grpc/resolver"
)

func TestNewBuilder_EmptyGraceParameter(t *testing.T) {
	for parameter, want := range map[string]time.Duration{
		"": DefaultEmptyGrace, "?empty-grace=0": 0, "?empty-grace=off": 0, "?empty-grace=5s": 5 * time.Second,
	} {
		u, err := url.Parse("rollcall:///backend" + parameter)
		if err != nil {
			t.Fatal(err)
		}
		to, err := parseTarget(resolver.Target{URL: *u}, ResolverConfig{})
		if err != nil || to.EmptyGrace != want {
			t.Errorf("%q gives %v, %v, want %v", parameter, to.EmptyGrace, err, want)
		}
	}
}

func TestResolverConfig_EmptyGrace(t *testing.T) {
	for given, want := range map[time.Duration]time.Duration{0: DefaultEmptyGrace, -1: 0, time.Minute: time.Minute} {
		if got := (ResolverConfig{EmptyGrace: given}).shared().WithDefaults().EmptyGrace; got != want {
			t.Errorf("EmptyGrace %v means %v, want %v", given, got, want)
		}
	}
}

func TestNewBuilder_PanicThresholdParameterOff(t *testing.T) {
	u, err := url.Parse("rollcall:///backend?panic-threshold=off")
	if err != nil {
		t.Fatal(err)
	}
	to, err := parseTarget(resolver.Target{URL: *u}, ResolverConfig{})
	if err != nil || to.PanicThreshold != 0 {
		t.Errorf("off gives %v, %v", to.PanicThreshold, err)
	}
}
