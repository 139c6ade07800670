package consul

import (
	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
)

// APIConfig returns c for [api.NewClient], with the settings of the environment: address, TLS, token, user, namespace, partition,
// datacenter and wait. With it, a program that needs values, locks or sessions of Consul is configured once.
//
// The client that is made of it is Consul's own. It does not retry, and it knows one agent, the first one. It reads the files once: after
// a token or certificate was replaced, make a new client. Its Config is not hidden: printing it shows the token.
//
// APIConfig does not block and sends nothing. It reads the files that c and the environment name. The caller owns the result. The error
// wraps [registry.ErrInvalid] and names each field that cannot be used, but no secret.
func (c Config) APIConfig() (*api.Config, error) {
	all, err := c.APIConfigs()
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// APIConfigs returns what APIConfig does, for each agent of c in turn. Apart from the address, all are equal.
func (c Config) APIConfigs() ([]*api.Config, error) {
	s, places, conf, err := resolve(c)
	if err != nil {
		return nil, err
	}
	if _, err := agent.ReadCertificates(conf.TLSConfig); err != nil {
		return nil, err
	}
	conf.Token, conf.Datacenter, conf.WaitTime = s.token.Current(), c.Datacenter, s.Wait
	all := make([]*api.Config, len(places))
	for i, place := range places {
		one := *conf
		one.Scheme, one.Address = place.Scheme, place.Scheme+"://"+place.HostPort+place.Prefix
		if place.Socket != "" {
			one.Address = place.Location()
		}
		all[i] = &one
	}
	return all, nil
}
