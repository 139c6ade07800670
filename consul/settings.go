package consul

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/registry"
)

// settings are a Config that was checked, with the environment and the defaults filled in.
type settings struct {
	Config
	location string // host:port of the agent
	secrets  []string
}

// address is where an agent is.
type address struct {
	scheme   string // "" where it is not said
	hostPort string
	prefix   string // the path of a proxy before that of Consul
}

// resolve checks c and fills in the rest. It returns the settings, and a client for them that uses transport.
func resolve(c Config, transport *http.Transport) (*settings, *api.Client, error) {
	errs := []error{c.check(), checkSwitch(api.HTTPSSLEnvName), checkSwitch(api.HTTPSSLVerifyEnvName)}
	if errs[1] != nil || errs[2] != nil {
		return nil, nil, errors.Join(errs...) // consul/api would write to the standard error, and go on
	}
	env := api.DefaultConfig()
	a, err := parseAddress(c, env)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, nil, err
	}

	conf := &api.Config{
		Address:   a.scheme + "://" + a.hostPort + a.prefix,
		Scheme:    a.scheme,
		HttpAuth:  env.HttpAuth,
		TLSConfig: env.TLSConfig,
	}
	if c.Username != "" {
		conf.HttpAuth = &api.HttpBasicAuth{Username: c.Username, Password: c.Password}
	}
	if c.TLS.CAFile != "" {
		conf.TLSConfig.CAFile, conf.TLSConfig.CAPath = c.TLS.CAFile, ""
	}
	if c.TLS.InsecureSkipVerify {
		conf.TLSConfig.InsecureSkipVerify = true
	}
	var client *api.Client
	if conf.HttpClient, err = api.NewHttpClient(transport, conf.TLSConfig); err == nil {
		conf.HttpClient.Transport = capturing{once{transport}}
		client, err = api.NewClient(conf)
	}
	if err != nil { // a file of TLS or of the token
		return nil, nil, fmt.Errorf("%w: consul: %w", registry.ErrInvalid, err)
	}
	// NewClient has put the token of the environment or its file there.
	s := &settings{Config: c.withDefaults(), location: a.hostPort}
	s.Token = cmp.Or(c.Token, conf.Token)
	s.secrets = []string{s.Token}
	if conf.HttpAuth != nil {
		s.secrets = append(s.secrets, conf.HttpAuth.Password)
	}
	if strings.ContainsFunc(s.Token, unicode.IsControl) {
		return nil, nil, invalid("Token (token)", "(not shown)", "holds a control character, which no HTTP header can")
	}
	return s, client, nil
}

// parseAddress finds the agent: in c, in the environment, or on this host.
func parseAddress(c Config, env *api.Config) (address, error) {
	field, text := "Address", c.Address
	if text == "" && os.Getenv(api.HTTPAddrEnvName) != "" {
		field, text = api.HTTPAddrEnvName, env.Address
	}
	fail := func(why string) (address, error) {
		shown := strconv.Quote(text)
		if holdsUser(text) {
			shown = "(not shown, since it may hold a password)"
		}
		return address{}, invalid(field, shown, why)
	}

	a := address{scheme: c.Scheme, hostPort: cmp.Or(text, "127.0.0.1")}
	port := ""
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		switch {
		case scheme != "http" && scheme != "https":
			return fail("is a URL of another scheme than http and https")
		case c.Scheme != "" && c.Scheme != scheme && field == "Address":
			return fail(fmt.Sprintf("is a URL of another scheme than %s, which Scheme asks for", c.Scheme))
		}
		a.scheme = cmp.Or(c.Scheme, scheme)
		host, path, _ := strings.Cut(rest, "/")
		if path = strings.Trim(path, "/"); path != "" {
			a.prefix = "/" + path
		}
		a.hostPort = host
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	a.scheme = cmp.Or(a.scheme, env.Scheme)
	if port == "" {
		port = map[string]string{"http": "8500", "https": "8501"}[a.scheme]
	}

	u, err := url.Parse("//" + a.hostPort + a.prefix)
	switch {
	case strings.Contains(a.hostPort, "@"):
		return fail("holds a user; user and password have fields of their own")
	case err != nil || u.Hostname() == "" || u.Host != a.hostPort || u.RawQuery != "" || u.Fragment != "",
		strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "["):
		return fail("is neither host:port nor http://host:port (an IPv6 host stands in brackets)")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fail("has no port from 1 to 65535")
		}
		port = p
	}
	a.hostPort = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

// holdsUser reports whether text, which may not be a proper URL, may hold a user and a password.
func holdsUser(text string) bool { return strings.Contains(text, "@") }

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
	for _, secret := range s.secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(hidden)")
		}
	}
	return text
}
