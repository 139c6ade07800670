package policytest

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/rollcall-go/rollcall/registry"
)

// FailsWithTextOfResolver checks that picks fail with the text of the resolver's error after an empty set.
func (c *Channel) FailsWithTextOfResolver(t testing.TB) {
	t.Helper()
	if err := c.Resolve(); err != balancer.ErrBadResolverState {
		t.Errorf("an empty set gives %v", err)
	}
	c.Report(errors.New(`service "s": no instance`))
	if _, _, err := c.Pick(balancer.PickInfo{}); err == nil || err.Error() != `service "s": no instance` {
		t.Errorf("a pick says %v", err)
	}
	if s := c.State().ConnectivityState; s != connectivity.TransientFailure {
		t.Errorf("the state is %v", s)
	}
}

// RefusesConfigs checks the errors of a policy's parser. The error of each config must begin with its text, after the prefix.
func RefusesConfigs(t testing.TB, policy string, texts map[string]string) {
	t.Helper()
	parser := balancer.Get(policy).(balancer.ConfigParser)
	for config, want := range texts {
		_, err := parser.ParseConfig([]byte(config))
		var e *registry.Error
		want = "rollcall: parse " + policy + ": " + want
		if !errors.As(err, &e) || !errors.Is(err, registry.ErrInvalid) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s says %v, want %s", config, err, want)
		}
	}
}
