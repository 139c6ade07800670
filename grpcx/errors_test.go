package grpcx_test

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/grpcx/zone"
	"github.com/rollcall-go/rollcall/registry"
)

// TestErrors_NameFieldAndValue calls every entrance of the package with input that cannot be used.
func TestErrors_NameFieldAndValue(t *testing.T) {
	store := newStore(t)
	credentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	client := func(target string, opts ...grpc.DialOption) func() error {
		return func() error {
			_, err := grpcx.NewClient(target, store, append(opts, credentials)...)
			return err
		}
	}
	config := func(c grpcx.ResolverConfig) func() error { return client(target, grpcx.WithResolverConfig(c)) }
	retry := func(r grpcx.Retry) func() error { return client(target, grpcx.WithRetry(r)) }
	serviceConfig := func(text string) func() error { return client(target, grpc.WithDefaultServiceConfig(text)) }
	build := func(d registry.Discovery, target string, c grpcx.ResolverConfig) func() error {
		return func() error {
			u, err := url.Parse(target)
			if err != nil {
				t.Fatal(err)
			}
			_, err = grpcx.NewBuilder(d, c).Build(resolver.Target{URL: *u}, new(channel), resolver.BuildOptions{})
			return err
		}
	}
	serve := func(change func(*grpcx.Server)) func() error {
		return func() error {
			s := &grpcx.Server{Registrar: store, Instance: registry.Instance{Service: service}}
			change(s)
			return s.Serve(t.Context(), grpc.NewServer(), newBackend(t).lis)
		}
	}
	parse := func(policy, settings string) func() error {
		return func() error {
			_, err := balancer.Get(policy).(balancer.ConfigParser).ParseConfig([]byte(settings))
			return err
		}
	}
	for _, c := range []struct {
		call func() error
		want []string // the operation, and the field and the value that the error must name
	}{
		{func() error { _, err := grpcx.NewClient(target, nil, credentials); return err }, []string{"new client", "d is required"}},
		{func() error { _, err := grpcx.NewClient(target, store); return err }, []string{"new client", "transport security"}},
		{client("dns:///backend"), []string{"new client", "target", "rollcall:///SERVICE"}},
		{client("rollcall:///back%zzend"), []string{"new client", "target", "%zz"}},
		{client("rollcall://host/backend"), []string{"new client", "target", "host"}},
		{client(target + "#part"), []string{"new client", "fragment", `"part"`}},
		{client("rollcall:///"), []string{"new client", "Service", "is required"}},
		{client("rollcall:///a/b"), []string{"new client", "Service", `"a/b"`}},
		{client(target + "?tag="), []string{"new client", "Tags[0]", "empty"}},
		{client(target + "?meta.=v"), []string{"new client", `"meta."`, "key"}},
		{client(target + "?any-status=maybe"), []string{"new client", `"any-status"`, `"maybe"`}},
		{client(target + "?subset=some"), []string{"new client", `"subset"`, `"some"`}},
		{client(target + "?subset=-1&tags=x"), []string{"new client", "subset", "-1", `"tags"`}},
		{client(target + "?panic-threshold=half"), []string{"new client", `"panic-threshold"`, `"half"`}},
		{client(target + "?empty-grace=-1s"), []string{"new client", `"empty-grace"`, `"-1s"`}},
		{client(target + "?tls-name=name"), []string{"new client", `"tls-name"`, `"name"`}},
		{client(target + "?policy=unknown"), []string{"new client", `"policy"`, `"unknown"`}},
		{client(target + "?retry=Method"), []string{"new client backend", "retry", `"Method"`}},
		{config(grpcx.ResolverConfig{Scheme: "other"}), []string{"new client", "ResolverConfig.Scheme", `"other"`}},
		{config(grpcx.ResolverConfig{PanicThreshold: 1.5}), []string{"new client", "PanicThreshold", "1.5"}},
		{config(grpcx.ResolverConfig{Subset: -2, PanicThreshold: 2}), []string{"new client", "Subset", "-2", "PanicThreshold"}},
		{retry(grpcx.Retry{MaxAttempts: 9, Budget: 501}), []string{"new client backend", "Retry.MaxAttempts: 9", "Retry.Budget: 501"}},
		{retry(grpcx.Retry{Methods: []string{"a.B"}}), []string{"new client backend", "Retry.Methods", `"a.B"`}},
		{serviceConfig(`{"loadBalancingConfig":7}`), []string{"new client backend", "service config", "number"}},
		{serviceConfig(`{"loadBalancingConfig":[{"rollcall_zone":{"threshold":2}}]}`), []string{"new client backend", "rollcall_zone", "threshold: 2"}},

		{build(nil, target, grpcx.ResolverConfig{}), []string{"resolve", "d is required"}},
		{build(store, "rollcall:///a/b?tags=x", grpcx.ResolverConfig{}), []string{"resolve", `"a/b"`, `"tags"`}},
		{build(store, target+"?health=", grpcx.ResolverConfig{}), []string{"resolve backend", `"health"`}},
		{build(store, target, grpcx.ResolverConfig{Subset: -1}), []string{"resolve", "Subset", "-1"}},

		{serve(func(s *grpcx.Server) { s.Registrar = nil }), []string{"serve backend", "Server.Registrar is required"}},
		{serve(func(s *grpcx.Server) { s.DeregisterTimeout = -time.Second }), []string{"serve backend", "Server.DeregisterTimeout", "-1s"}},
		{serve(func(s *grpcx.Server) { s.Listeners = map[string]net.Listener{"x": nil} }), []string{"serve backend", `Server.Listeners["x"]`, "nil"}},
		{serve(func(s *grpcx.Server) { s.Instance.Service = "" }), []string{"serve", "Server.Instance.Service", "is required"}},
		{serve(func(s *grpcx.Server) { s.Instance.Address = "host" }), []string{"serve backend", "Server.Instance.Address", `"host"`}},
		{serve(func(s *grpcx.Server) { s.Instance.Weight, s.Instance.Zone = -7, "\xff" }), []string{"serve backend", "Server.Instance.Weight", "-7", "Server.Instance.Zone"}},
		{serve(func(s *grpcx.Server) { s.More = []registry.Instance{{Service: service}} }), []string{"serve backend", "Server.More[0].Service", `"backend"`}},

		{parse(zone.Name, `{"zone":7,"threshold":2}`), []string{"parse rollcall_zone", "zone: 7", "threshold: 2"}},
		{parse(p2c.Name, `{"decay":"0s"}`), []string{"parse rollcall_p2c", `decay: "0s"`}},
		{parse("rollcall_guarded", `{"childPolicy":[{"unknown":{}}]}`), []string{"parse rollcall_guarded", "childPolicy"}},
		{parse("rollcall_guarded", `{"childPolicy":[{"rollcall_p2c":{"decay":7}}]}`), []string{"parse rollcall_guarded", "childPolicy", "rollcall_p2c", "decay: 7"}},
	} {
		err := c.call()
		var e *registry.Error
		if !errors.As(err, &e) || !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("want %q: %v is not a *registry.Error that wraps ErrInvalid", c.want, err)
			continue
		}
		text := err.Error()
		if !strings.HasPrefix(text, "rollcall: "+c.want[0]) || strings.Count(text, "rollcall: ") != 1 || strings.Contains(text, "\n") {
			t.Errorf("%q does not have one line and the one prefix rollcall: %s", text, c.want[0])
		}
		for _, part := range c.want[1:] {
			if !strings.Contains(text, part) {
				t.Errorf("%q does not name %s", text, part)
			}
		}
	}
}
