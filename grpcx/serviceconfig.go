package grpcx

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"

	"github.com/rollcall-go/rollcall/grpcx/internal/guard"
	"github.com/rollcall-go/rollcall/registry"
)

// The members of a service config that NewClient writes, see https://github.com/grpc/grpc/blob/master/doc/service_config.md.
const (
	balancingMember  = "loadBalancingConfig"
	policyMember     = "loadBalancingPolicy"
	methodsMember    = "methodConfig"
	throttlingMember = "retryThrottling"
	healthMember     = "healthCheckConfig"
	nameMember       = "name"
	retryMember      = "retryPolicy"
)

// object is a JSON object that the caller may have written.
type object map[string]json.RawMessage

// parseObject parses an object. It changes names to the spelling in names, since gRPC accepts them in upper and lower case.
func parseObject(text []byte, names ...string) (object, error) {
	o := object{}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	if o == nil { // the text is null, which means an object without members to gRPC
		o = object{}
	}
	for given, value := range o {
		for _, name := range names {
			if given != name && strings.EqualFold(given, name) {
				delete(o, given)
				o[name] = value
			}
		}
	}
	return o, nil
}

// marshal is json.Marshal for values that always marshal.
func marshal(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// mergedServiceConfig returns the service config of a channel: see "Service config" in the doc of NewClient. caller is the caller's service
// config, or "{}". wrapper is the name of the policy that wraps policies of other modules.
func mergedServiceConfig(to *target, r Retry, caller, wrapper string) (string, error) {
	c, err := parseObject([]byte(caller), balancingMember, policyMember, methodsMember, throttlingMember, healthMember)
	if err != nil {
		return "", err
	}
	if c[balancingMember], err = mergedBalancing(to.policy, c, wrapper); err != nil {
		return "", err
	}
	delete(c, policyMember)
	if to.health != nil {
		c[healthMember] = marshal(map[string]string{"serviceName": *to.health})
	}
	if retried := r.all(); len(retried) > 0 {
		if c[methodsMember], err = mergedMethods(c[methodsMember], r, retried); err != nil {
			return "", err
		}
		if c[throttlingMember] == nil {
			// gRPC repeats no call while half of the tokens or more are spent.
			c[throttlingMember] = marshal(map[string]any{"maxTokens": 2 * r.Budget, "tokenRatio": 0.1})
		}
	}
	return string(marshal(c)), nil
}

// mergedBalancing returns the loadBalancingConfig: the target's policy with the caller's settings for it; otherwise the caller's policies;
// otherwise the default. wanted is the policy in the target, or "". c is the caller's service config.
func mergedBalancing(wanted string, c object, wrapper string) (json.RawMessage, error) {
	var given []object
	if text := c[balancingMember]; text != nil {
		if err := json.Unmarshal(text, &given); err != nil {
			return nil, err
		}
	}
	var byName string
	if text := c[policyMember]; text != nil && json.Unmarshal(text, &byName) == nil && len(given) == 0 && balancer.Get(byName) != nil {
		given = []object{{byName: json.RawMessage("{}")}}
	}
	if wanted == "" && len(given) > 0 {
		return guarded(given, wrapper), nil
	}
	wanted = cmp.Or(wanted, policyName)
	settings := json.RawMessage("{}")
	for _, policy := range given {
		if s, ok := policy[wanted]; ok {
			settings = s
			break
		}
	}
	return guarded([]object{{wanted: settings}}, wrapper), nil
}

// guarded returns the loadBalancingConfig for policies, of which gRPC uses the first that is registered. It wraps them in wrapper if that
// policy does not heed restrictions.
func guarded(policies []object, wrapper string) json.RawMessage {
	for _, policy := range policies {
		for name := range policy {
			b := balancer.Get(name)
			if b == nil {
				continue
			}
			if _, ok := b.(guard.Guarded); ok {
				return marshal(policies)
			}
			return marshal([]map[string]any{{wrapper: map[string]any{"childPolicy": policies}}})
		}
	}
	return marshal(policies)
}

// mergedMethods adds a retry policy for each method in retried to the caller's method configs. gRPC uses only the entry that fits a method
// best, so an added entry copies the other settings of the caller's entry that fitted before.
func mergedMethods(caller json.RawMessage, r Retry, retried []method) (json.RawMessage, error) {
	entries, err := parseMethods(caller)
	if err != nil {
		return nil, err
	}
	policy := marshal(map[string]any{
		"maxAttempts": r.MaxAttempts, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
		"retryableStatusCodes": []string{"UNAVAILABLE"},
	})
	from := make([][]method, len(entries)+1) // the methods to retry by the entry that fits them; the last element has methods without an entry
	for _, m := range retried {
		i := fitting(entries, m)
		from[i] = append(from[i], m)
	}
	out := make([]object, 0, len(entries)+1)
	for i, names := range from {
		entry := object{}
		if i < len(entries) {
			e := entries[i]
			e.names = slices.DeleteFunc(e.names, func(n method) bool { return e.members[retryMember] == nil && slices.Contains(names, n) })
			if len(e.names) > 0 {
				out = append(out, e.object(e.names))
			}
			if e.members[retryMember] != nil {
				continue // the caller decides which calls are repeated
			}
			entry = e.members
		}
		if len(names) > 0 {
			added := methodEntry{members: entry}.object(names)
			added[retryMember] = policy
			out = append(out, added)
		}
	}
	return marshal(out), nil
}

// methodEntry is one entry of methodConfig.
type methodEntry struct {
	names   []method
	members object // all members but the names
}

func parseMethods(text json.RawMessage) ([]methodEntry, error) {
	var all []json.RawMessage
	if text != nil {
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, err
		}
	}
	entries := make([]methodEntry, len(all))
	for i, text := range all {
		o, err := parseObject(text, nameMember, retryMember)
		if err != nil {
			return nil, err
		}
		var names []struct{ Service, Method string }
		if text := o[nameMember]; text != nil {
			if err := json.Unmarshal(text, &names); err != nil {
				return nil, err
			}
		}
		delete(o, nameMember)
		entries[i].members = o
		for _, n := range names {
			entries[i].names = append(entries[i].names, method{n.Service, n.Method})
		}
	}
	return entries, nil
}

// object returns the entry for names.
func (e methodEntry) object(names []method) object {
	list := make([]map[string]string, len(names))
	for i, n := range names {
		list[i] = map[string]string{}
		if n.service != "" {
			list[i]["service"] = n.service
		}
		if n.method != "" {
			list[i]["method"] = n.method
		}
	}
	o := object{nameMember: marshal(list)}
	for name, value := range e.members {
		o[name] = value
	}
	return o
}

// fitting returns the index of the entry that gRPC uses for m, or len(entries) if there is none.
func fitting(entries []methodEntry, m method) int {
	for _, name := range []method{m, {service: m.service}, {}} {
		for i, e := range entries {
			if slices.Contains(e.names, name) {
				return i
			}
		}
	}
	return len(entries)
}

// givenServiceConfig returns the argument of grpc.WithDefaultServiceConfig for a channel, which is a *grpc.ClientConn or what its resolvers
// get. gRPC has no public way to read it. ok is false if a version of gRPC keeps it elsewhere.
func givenServiceConfig(channel any) (text string, ok bool) {
	path := []string{"dopts", "defaultServiceConfigRawJSON"}
	if _, isConn := channel.(*grpc.ClientConn); !isConn {
		path = append([]string{"cc"}, path...)
	}
	v := reflect.ValueOf(channel)
	for _, field := range path {
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct {
			return "", false
		}
		if v = v.FieldByName(field); !v.IsValid() {
			return "", false
		}
	}
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.String {
		return "", false
	}
	if v.IsNil() {
		return "", true
	}
	return v.Elem().String(), true
}

// policyIn returns the name of the policy that gRPC selects by a service config, or "".
func policyIn(config string) string {
	var c struct {
		LoadBalancingConfig []object
		LoadBalancingPolicy string
	}
	if json.Unmarshal([]byte(config), &c) != nil {
		return ""
	}
	if c.LoadBalancingConfig == nil && balancer.Get(c.LoadBalancingPolicy) != nil {
		return balancer.Get(c.LoadBalancingPolicy).Name()
	}
	return selectedPolicy(c.LoadBalancingConfig)
}

// wrapperIn returns the name of the policy that wraps the policy of a service config from mergedServiceConfig, or "".
func wrapperIn(config string) string {
	var c struct{ LoadBalancingConfig []object }
	if json.Unmarshal([]byte(config), &c) != nil || len(c.LoadBalancingConfig) != 1 {
		return ""
	}
	for name := range c.LoadBalancingConfig[0] {
		if guard.IsWrapper(name) {
			return name
		}
	}
	return ""
}

// selectedPolicy returns the first of policies that is registered, as gRPC does. Of a wrapper it returns the wrapped policy.
func selectedPolicy(policies []object) string {
	for _, policy := range policies {
		for name, settings := range policy {
			if guard.IsWrapper(name) {
				var wrapped struct{ ChildPolicy []object }
				_ = json.Unmarshal(settings, &wrapped) // gRPC refuses a config that is none
				return selectedPolicy(wrapped.ChildPolicy)
			}
			if balancer.Get(name) != nil {
				return name
			}
		}
	}
	return ""
}

// dial creates a channel whose service config combines the caller's and NewClient's. It returns the caller's config too, or "{}" if there is
// none or it is not known, and the combined config, or "" if it is not known. All its errors wrap [registry.ErrInvalid]: gRPC does not
// connect yet, so only the input can be wrong.
func dial(target string, to *target, r Retry, opts []grpc.DialOption) (cc *grpc.ClientConn, caller, merged string, err error) {
	own, err := mergedServiceConfig(to, r, "{}", guard.Name)
	if err != nil {
		return nil, "", "", invalidServiceConfig(err)
	}
	cc, err = grpc.NewClient(target, append([]grpc.DialOption{grpc.WithDefaultServiceConfig(own)}, opts...)...)
	if err != nil {
		return nil, "", "", fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	given, ok := givenServiceConfig(cc)
	if !ok || given == own {
		return cc, "{}", given, nil
	}
	merged, err = mergedServiceConfig(to, r, given, guard.Name)
	cc.Close() // it has not connected yet
	if err != nil {
		return nil, "", "", invalidServiceConfig(err)
	}
	cc, err = grpc.NewClient(target, append(slices.Clone(opts), grpc.WithDefaultServiceConfig(merged))...)
	if err != nil {
		return nil, "", "", fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	return cc, given, merged, nil
}

func invalidServiceConfig(err error) error {
	return fmt.Errorf("%w: service config: %w", registry.ErrInvalid, err)
}
