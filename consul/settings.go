package consul

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// settings are a valid Config, with the environment and the defaults filled in.
type settings struct {
	Config
	token *agent.Token
	// user and password are for HTTP basic authentication, and basic is the two as they are sent.
	user, password, basic string
	// anonymous says that there is no client certificate.
	anonymous bool
}

// resolve checks c and fills in the rest. It returns the settings, the addresses of the agents, and the configuration that their
// clients have in common.
func resolve(c Config) (*settings, []agent.Address, *api.Config, error) {
	c = c.clone()
	fail := func(err error) (*settings, []agent.Address, *api.Config, error) { return nil, nil, nil, err }
	errs := []error{c.check(), checkSwitch(api.HTTPSSLEnvName), checkSwitch(api.HTTPSSLVerifyEnvName)}
	if errs[1] != nil || errs[2] != nil {
		return fail(oneline.Join(errs...)) // consul/api would write to the standard error, and go on
	}
	env := api.DefaultConfig()
	places, err := parseAddresses(c, env)
	if err := oneline.Join(append(errs, err)...); err != nil {
		return fail(err)
	}

	conf := &api.Config{
		HttpAuth: env.HttpAuth, TLSConfig: env.TLSConfig,
		Namespace: c.Namespace, Partition: c.Partition,
	}
	if !c.Username.IsZero() {
		conf.HttpAuth = &api.HttpBasicAuth{Username: c.Username.Reveal(), Password: c.Password.Reveal()}
	}
	c.TLS.over(&conf.TLSConfig)
	s := &settings{Config: c.withDefaults(), token: agent.NewToken(c.Token.Reveal())}
	if path := cmp.Or(c.TokenFile, env.TokenFile); c.Token.IsZero() && path != "" {
		if s.token, err = agent.OpenToken(path); err != nil {
			return fail(invalid("TokenFile (token-file)", strconv.Quote(path), "cannot be read: "+err.Error()))
		}
	} else if c.Token.IsZero() {
		s.token = agent.NewToken(env.Token)
	}
	s.anonymous = conf.TLSConfig.CertFile == "" && len(conf.TLSConfig.CertPEM) == 0
	if conf.HttpAuth != nil {
		s.user, s.password = conf.HttpAuth.Username, conf.HttpAuth.Password
		s.basic = base64.StdEncoding.EncodeToString([]byte(s.user + ":" + s.password))
	}
	if strings.Contains(s.user, ":") || !agent.IsToken(s.user+s.password) {
		return fail(invalid("Username, Password (the user part)", "(not shown)", "have a control character, or the user has a colon, which HTTP basic authentication does not allow"))
	}
	if !agent.IsToken(s.token.Current()) {
		return fail(invalid("Token (token)", "(not shown)", "has a control character, which an HTTP header cannot have"))
	}
	return s, places, conf, nil
}

// checkSwitch returns an error for an environment variable that is neither true nor false.
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

// scrub hides the secrets in a text that a server wrote. Consul is not known to repeat a token; a proxy might.
func (s *settings) scrub(text string) string {
	return scrub.Text(text, append(s.token.Secrets(), s.basic, s.user, s.password)...)
}

// over replaces the settings of the environment in conf by the settings of t.
func (t TLS) over(conf *api.TLSConfig) {
	if t.CAFile != "" || t.CAPath != "" {
		conf.CAFile, conf.CAPath = t.CAFile, t.CAPath
	}
	if t.CertFile != "" || t.KeyFile != "" {
		conf.CertFile, conf.KeyFile = t.CertFile, t.KeyFile
	}
	conf.Address = cmp.Or(t.ServerName, conf.Address)
	conf.InsecureSkipVerify = conf.InsecureSkipVerify || t.InsecureSkipVerify
}
