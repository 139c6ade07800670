package consul

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// settings are a Config that was checked, with the environment and the defaults filled in.
type settings struct {
	Config
	location string // of the agent
	token    *token
	password string
	basic    string // user and password as they are sent
	// anonymous says that there is no client certificate.
	anonymous bool
	meta      map[string]string // of Config.Meta
}

// resolve checks c and fills in the rest. It returns the settings, where the agents are, and what their clients have in
// common.
func resolve(c Config) (*settings, []address, *api.Config, error) {
	fail := func(err error) (*settings, []address, *api.Config, error) { return nil, nil, nil, err }
	errs := []error{c.check(), checkSwitch(api.HTTPSSLEnvName), checkSwitch(api.HTTPSSLVerifyEnvName)}
	if errs[1] != nil || errs[2] != nil {
		return fail(errors.Join(errs...)) // consul/api would write to the standard error, and go on
	}
	env := api.DefaultConfig()
	places, err := parseAddresses(c, env)
	if err := errors.Join(append(errs, err)...); err != nil {
		return fail(err)
	}

	conf := &api.Config{
		HttpAuth: env.HttpAuth, TLSConfig: env.TLSConfig,
		Namespace: c.Namespace, Partition: c.Partition,
	}
	if c.Username != "" {
		conf.HttpAuth = &api.HttpBasicAuth{Username: c.Username, Password: c.Password}
	}
	c.TLS.over(&conf.TLSConfig)
	s := &settings{Config: c.withDefaults(), token: &token{value: c.Token}}
	if path := cmp.Or(c.TokenFile, env.TokenFile); c.Token == "" && path != "" {
		if s.token, err = openToken(path); err != nil {
			return fail(invalid("TokenFile (token-file)", strconv.Quote(path), "cannot be read: "+err.Error()))
		}
	} else if c.Token == "" {
		s.token.value = env.Token
	}
	s.anonymous = conf.TLSConfig.CertFile == "" && len(conf.TLSConfig.CertPEM) == 0
	s.meta, _ = parseMeta(c.Meta) // was checked
	if conf.HttpAuth != nil {
		s.password = conf.HttpAuth.Password
		s.basic = base64.StdEncoding.EncodeToString([]byte(conf.HttpAuth.Username + ":" + s.password))
	}
	if !isToken(s.token.value) {
		return fail(invalid("Token (token)", "(not shown)", "holds a control character, which no HTTP header can"))
	}
	return s, places, conf, nil
}

// connect returns the agent at a.
func connect(a address, common *api.Config, certs *certificates, dialer *net.Dialer) (*agent, error) {
	transport, end := newTransport(dialer, a, certs)
	conf := *common
	conf.Address, conf.Scheme = a.scheme+"://"+a.hostPort+a.prefix, a.scheme
	var carrier http.RoundTripper = once{transport}
	if a.scheme == "https" {
		carrier = oneByOne{carrier, make(chan struct{}, 1)}
	}
	conf.HttpClient = &http.Client{Transport: capturing{carrier}, CheckRedirect: stayHere}
	client, err := api.NewClient(&conf)
	if err != nil {
		end()
		return nil, fmt.Errorf("%w: consul: %w", registry.ErrInvalid, err)
	}
	return &agent{location: a.location(), secure: a.scheme == "https", client: client, end: end, crowd: newCrowd(transport.CloseIdleConnections)}, nil
}

// checkSwitch refuses an environment variable that should be true or false and is neither.
func checkSwitch(name string) error {
	v := os.Getenv(name)
	if v == "" {
		return nil
	}
	if _, err := strconv.ParseBool(v); err != nil {
		return fmt.Errorf("%w: environment variable %s: %q is neither true nor false", registry.ErrInvalid, name, v)
	}
	return nil
}

// scrub takes the secrets out of a text that somebody else wrote. Consul is not known to repeat a token; a proxy might.
func (s *settings) scrub(text string) string {
	for _, secret := range append(s.token.secrets(), s.basic, s.password) {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(hidden)")
		}
	}
	return text
}
