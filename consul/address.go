package consul

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agent"
	"github.com/rollcall-go/rollcall/internal/document"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/urlparam"
)

// parseAddresses finds the agents: in c, in the environment, or on this host.
func parseAddresses(c Config, env *api.Config) ([]agent.Address, error) {
	field, texts := "Address (address)", document.ParseList(c.Address)
	switch other := os.Getenv(api.HTTPAddrEnvName); {
	case c.Address != "" && len(c.Addresses) > 0:
		return nil, excluded("Address and Addresses")
	case len(c.Addresses) > 0:
		field, texts = "Addresses (address)", c.Addresses
	case c.Address == "" && other != "":
		field, texts = api.HTTPAddrEnvName, document.ParseList(other)
	case c.Address == "":
		texts = []string{""}
	}
	if slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, "@") }) {
		return nil, invalid(field, "(not shown, since it may have a password)", "has a user; user and password have fields of their own")
	}
	var out []agent.Address
	var errs []error
	for _, text := range texts {
		if text == "" && len(texts) > 1 {
			errs = append(errs, invalid(field, urlparam.Address(strings.Join(texts, ",")), "has an empty part"))
			continue
		}
		a, err := parseAddress(field, text, c.scheme(), env)
		if err == nil && slices.Contains(out, a) {
			err = invalid(field, strconv.Quote(text), "is there twice")
		}
		out, errs = append(out, a), append(errs, err)
	}
	return out, oneline.Join(errs...)
}

// parseAddress reads one address. wanted is Config.scheme.
func parseAddress(field, text, wanted string, env *api.Config) (agent.Address, error) {
	fail := func(why string) (agent.Address, error) {
		return agent.Address{}, invalid(field, urlparam.Address(text), why)
	}

	if path, ok := strings.CutPrefix(text, agent.UnixScheme); ok {
		switch {
		case !strings.HasPrefix(path, "/"):
			return fail("has no absolute path: unix:///path")
		case wanted == "https":
			return fail("is a socket, which is not used with TLS")
		}
		return agent.Address{Scheme: "http", HostPort: "localhost", Socket: path}, nil
	}
	a := agent.Address{Scheme: wanted, HostPort: cmp.Or(text, "127.0.0.1")}
	port := ""
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		switch {
		case scheme != "http" && scheme != "https":
			return fail("is a URL of another scheme than http, https and unix")
		case wanted != "" && wanted != scheme && field != api.HTTPAddrEnvName:
			return fail(fmt.Sprintf("is a URL of another scheme than %s, which Scheme or TLS asks for", wanted))
		}
		a.Scheme = cmp.Or(wanted, scheme)
		host, path, _ := strings.Cut(rest, "/")
		if path = strings.Trim(path, "/"); path != "" {
			a.Prefix = "/" + path
		}
		a.HostPort = host
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	a.Scheme = cmp.Or(a.Scheme, env.Scheme)
	if port == "" {
		port = map[string]string{"http": "8500", "https": "8501"}[a.Scheme]
	}

	u, err := url.Parse("//" + a.HostPort + a.Prefix)
	switch {
	case err != nil || u.Hostname() == "" || u.Host != a.HostPort || u.RawQuery != "" || u.Fragment != "",
		strings.Contains(u.Host, ",") || urlparam.MayHaveSecret(u.Host),
		strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(u.Host, "["):
		return fail("is neither host:port nor http://host:port (an IPv6 host needs brackets)")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return fail("has no port from 1 to 65535")
		}
		port = p
	}
	a.HostPort = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}
