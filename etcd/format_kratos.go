package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/rollcall-go/rollcall/registry"
)

// kratosFormat is that of github.com/go-kratos/kratos, whose namespace is the prefix: the JSON of its
// registry.ServiceInstance.
type kratosFormat struct{}

type kratosValue struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"`
	// Endpoints are URLs. A client takes the first of the scheme that it speaks, and passes an instance by that has none.
	Endpoints []string `json:"endpoints"`
}

func (kratosFormat) prefix() string { return "/microservices/" }

// encode gives an instance that is not passing no endpoint, which keeps clients of kratos away from it.
func (f kratosFormat) encode(in *registry.Instance) ([]byte, error) {
	v := kratosValue{ID: in.ID, Name: in.Service, Version: in.Version, Metadata: maps.Clone(in.Metadata), Endpoints: []string{}}
	if in.Status == registry.Passing {
		v.Endpoints = kratosEndpoints(in)
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if _, taken := v.Metadata[weightKey]; !taken && in.Weight != 1 {
		v.Metadata[weightKey] = strconv.Itoa(in.Weight)
	}
	if plain, err := v.read(in.Service, in.ID); needsOwn(plain, in, err) {
		own, err := ownFormat{}.encode(in)
		if err != nil {
			return nil, err
		}
		v.Metadata[ownMember] = string(own)
	}
	return marshal(in, v)
}

// kratosEndpoints are the address, for gRPC unless another endpoint has it, and the endpoints whose name is a URL scheme.
// Others would make clients pass the whole instance by.
func kratosEndpoints(in *registry.Instance) []string {
	urls := []string{}
	if !slices.Contains(slices.Collect(maps.Values(in.Endpoints)), in.Address) {
		urls = append(urls, "grpc://"+in.Address)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Endpoints)) {
		text := name + "://" + in.Endpoints[name]
		if u, err := url.Parse(text); err == nil && u.Scheme == name && u.Host == in.Endpoints[name] {
			urls = append(urls, text)
		}
	}
	return urls
}

func (kratosFormat) decode(service, id string, value []byte) (*registry.Instance, error) {
	var v kratosValue
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	return v.read(service, id)
}

func (v *kratosValue) read(service, id string) (*registry.Instance, error) {
	if v.Name != service {
		return nil, fmt.Errorf("it is of service %q, not that of its key", v.Name)
	}
	plain, err := v.instance(service, id)
	text, ok := v.Metadata[ownMember]
	if !ok {
		return plain, err
	}
	own, ownErr := ownFormat{}.decode(service, id, []byte(text))
	if ownErr != nil || plain != nil && !v.has(own.Address) {
		return plain, err // what somebody has given other endpoints since is theirs
	}
	return own, nil
}

// instance is what v says to everybody.
func (v *kratosValue) instance(service, id string) (*registry.Instance, error) {
	in := &registry.Instance{ID: id, Service: service, Version: v.Version, Metadata: withoutEmptyKeys(v.Metadata), Weight: 1}
	first := ""
	for _, text := range v.Endpoints {
		scheme, address, ok := kratosEndpoint(text)
		if !ok {
			continue
		}
		if in.Endpoints == nil {
			in.Endpoints = map[string]string{}
		}
		if _, taken := in.Endpoints[scheme]; !taken {
			in.Endpoints[scheme] = address
		}
		if first == "" {
			first = address
		}
	}
	if first == "" {
		return nil, errors.New("it has no endpoint that is a URL with host:port")
	}
	// gRPC in the clear is what a client of ours expects at an address; all else it has to know.
	in.Address = first
	if address, ok := in.Endpoints["grpcs"]; ok {
		in.Address = address
	}
	if address, ok := in.Endpoints["grpc"]; ok {
		in.Address = address
		if delete(in.Endpoints, "grpc"); len(in.Endpoints) == 0 {
			in.Endpoints = nil
		}
	}
	if weight, ok := weightOf(v.Metadata[weightKey]); ok {
		in.Weight = weight
	}
	in.Zone = v.Metadata[zoneKey]
	return in, checkForeign(in)
}

func (v *kratosValue) has(address string) bool {
	return slices.ContainsFunc(v.Endpoints, func(text string) bool {
		_, a, ok := kratosEndpoint(text)
		return ok && a == address
	})
}

// kratosEndpoint takes a URL apart. Older versions of kratos write grpc://…?isSecure=true for what is grpcs:// now.
func kratosEndpoint(text string) (scheme, address string, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || !isAddress(u.Host) {
		return "", "", false
	}
	scheme = u.Scheme
	if secure, _ := strconv.ParseBool(u.Query().Get("isSecure")); secure && (scheme == "grpc" || scheme == "http") {
		scheme += "s"
	}
	return scheme, u.Host, true
}
