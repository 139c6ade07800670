package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/credentials/insecure"

	_ "github.com/rollcall-go/rollcall/grpcx"
	_ "github.com/rollcall-go/rollcall/grpcx/p2c"
	_ "github.com/rollcall-go/rollcall/grpcx/weighted"
	_ "github.com/rollcall-go/rollcall/grpcx/zone"
)

func init() {
	for _, name := range []unlinked{"weighted_round_robin", "outlier_detection_experimental", "random_subsetting_experimental"} {
		if balancer.Get(string(name)) == nil {
			balancer.Register(name)
		}
	}
}

// unlinked is a policy of gRPC that this program only knows by name: its package needs modules that nothing else here needs.
type unlinked string

// Name implements [balancer.Builder].
func (u unlinked) Name() string { return string(u) }

// Build implements [balancer.Builder]. No channel of this program connects.
func (u unlinked) Build(balancer.ClientConn, balancer.BuildOptions) balancer.Balancer { return nil }

// checkConfig returns why gRPC would refuse a service config, or nil. It knows the policies of gRPC and of this module.
func checkConfig(data []byte) error {
	var members map[string]json.RawMessage
	err := json.Unmarshal(data, &members)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("%s: %w", position(data, syntax.Offset), err)
	case err != nil || members == nil:
		return errors.New("it is not a JSON object")
	}
	cc, err := grpc.NewClient("passthrough:///none", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(string(data)))
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "grpc: the provided default service config is invalid: "))
	}
	defer cc.Close() // it has not connected
	var c struct{ LoadBalancingPolicy string }
	if err := json.Unmarshal(data, &c); err == nil && c.LoadBalancingPolicy != "" && balancer.Get(c.LoadBalancingPolicy) == nil {
		return fmt.Errorf("loadBalancingPolicy: there is no policy %q, which gRPC would not say; loadBalancingConfig can name one of your own before another one", c.LoadBalancingPolicy)
	}
	return nil
}

// position returns the line and the column of an offset.
func position(data []byte, offset int64) string {
	before := data[:min(int(offset), len(data))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
	return fmt.Sprintf("line %d, column %d", line, max(column, 1))
}

// The members of a service config that gRPC reads, in lower case: gRPC accepts both.
var (
	configMembers = []string{"loadbalancingpolicy", "loadbalancingconfig", "methodconfig", "retrythrottling", "healthcheckconfig"}
	methodMembers = []string{"name", "waitforready", "timeout", "maxrequestmessagebytes", "maxresponsemessagebytes", "retrypolicy"}
	retryMembers  = []string{"maxattempts", "initialbackoff", "maxbackoff", "backoffmultiplier", "retryablestatuscodes"}
)

// ignoredMembers returns what gRPC ignores in a service config that is valid.
func ignoredMembers(data []byte) (all []string) {
	add := func(place string, object map[string]json.RawMessage, known []string) {
		for _, name := range slices.Sorted(maps.Keys(object)) {
			if !slices.Contains(known, strings.ToLower(name)) {
				all = append(all, fmt.Sprintf("%q%s", name, place))
			}
		}
	}
	var config map[string]json.RawMessage
	if json.Unmarshal(data, &config) != nil {
		return nil
	}
	add("", config, configMembers)
	var c struct{ MethodConfig []map[string]json.RawMessage }
	if json.Unmarshal(data, &c) != nil {
		return all
	}
	for i, m := range c.MethodConfig {
		place := fmt.Sprintf(" in methodConfig[%d]", i)
		add(place, m, methodMembers)
		for name, text := range m {
			var retry map[string]json.RawMessage
			if strings.EqualFold(name, "retryPolicy") && json.Unmarshal(text, &retry) == nil {
				add(" in the retryPolicy of methodConfig["+fmt.Sprint(i)+"]", retry, retryMembers)
			}
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(m)), func(name string) bool { return strings.EqualFold(name, "name") }) {
			all = append(all, fmt.Sprintf("methodConfig[%d], since it has no name", i))
		}
	}
	return all
}
