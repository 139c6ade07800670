package format

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

// kratosFormat is the format of github.com/go-kratos/kratos: the JSON of its registry.ServiceInstance. The prefix is its namespace.
type kratosFormat struct{}

type kratosValue struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Version  string            `json:"version"`
	Metadata map[string]string `json:"metadata"`
	// Endpoints are URLs. A client uses the first URL of its scheme, and skips an instance that has none.
	Endpoints []string `json:"endpoints"`
}

func (kratosFormat) Prefix() string { return "/microservices/" }

// Encode writes an instance that is not passing without endpoints, so that clients of kratos skip it.
func (f kratosFormat) Encode(in *registry.Instance) ([]byte, error) {
	v := kratosValue{ID: in.ID, Name: in.Service, Version: in.Version, Metadata: maps.Clone(in.Metadata), Endpoints: []string{}}
	if in.Status == registry.Passing {
		v.Endpoints = kratosEndpoints(in)
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	if _, taken := v.Metadata[weightKey]; !taken && in.Weight != 1 {
		v.Metadata[weightKey] = strconv.Itoa(max(0, in.Weight)) // 0 if it is drained
	}
	if plain, err := v.read(in.Service, in.ID); needsOwn(plain, in, err) {
		own, err := ownFormat{}.Encode(in)
		if err != nil {
			return nil, err
		}
		v.Metadata[ownKey] = string(own)
	}
	return marshal(in, v)
}

// kratosEndpoints returns the URLs of an instance: its address, for gRPC unless another endpoint has it, and the endpoints whose name is a
// URL scheme. With any other URL, clients would skip the whole instance.
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

func (kratosFormat) Decode(service, id string, value []byte) (*registry.Instance, error) {
	var v kratosValue
	if err := json.Unmarshal(value, &v); err != nil {
		return nil, err
	}
	return v.read(service, id)
}

func (v *kratosValue) read(service, id string) (*registry.Instance, error) {
	if v.Name != service {
		return nil, fmt.Errorf("its service is %q, which differs from its key", v.Name)
	}
	plain, err := v.instance(service, id)
	text, ok := v.Metadata[ownKey]
	if !ok {
		return plain, err
	}
	own, ownErr := ownFormat{}.Decode(service, id, []byte(text))
	if ownErr != nil || plain != nil && !v.has(own.Address) {
		return plain, err // another program has changed the endpoints since, so its content counts
	}
	return own, nil
}

// instance returns v as readers of kratos see it.
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
	// A client of Rollcall expects gRPC without TLS at Address. It selects anything else from Endpoints.
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

// kratosEndpoint parses a URL. Older versions of kratos write grpc://…?isSecure=true instead of grpcs://.
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
