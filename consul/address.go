package consul

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// address is where an agent is.
type address struct {
	scheme   string // http or https
	hostPort string // also of a socket, where it is no more than the name in the Host header
	prefix   string // the path of a proxy before that of Consul
	socket   string // the path of a Unix socket
}

// location is how texts name it.
func (a address) location() string {
	if a.socket != "" {
		return unixScheme + a.socket
	}
	return a.hostPort
}

const unixScheme = "unix://"

// parseAddresses finds the agents: in c, in the environment, or on this host.
func parseAddresses(c Config, env *api.Config) ([]address, error) {
	field, list := "Address (address)", c.Address
	if other := os.Getenv(api.HTTPAddrEnvName); list == "" && other != "" {
		field, list = api.HTTPAddrEnvName, other
	}
	if strings.Contains(list, "@") {
		return nil, invalid(field, "(not shown, since it may hold a password)", "holds a user; user and password have fields of their own")
	}
	var out []address
	var errs []error
	for i, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		if i > 0 && text == "" {
			errs = append(errs, invalid(field, strconv.Quote(list), "has an empty part"))
			continue
		}
		a, err := parseAddress(field, text, c.Scheme, env)
		if err == nil && slices.Contains(out, a) {
			err = invalid(field, strconv.Quote(text), "is there twice")
		}
		out, errs = append(out, a), append(errs, err)
	}
	return out, errors.Join(errs...)
}

// parseAddress reads one address. wanted is Config.Scheme.
func parseAddress(field, text, wanted string, env *api.Config) (address, error) {
	fail := func(why string) (address, error) { return address{}, invalid(field, strconv.Quote(text), why) }

	if path, ok := strings.CutPrefix(text, unixScheme); ok {
		switch {
		case !strings.HasPrefix(path, "/"):
			return fail("has no absolute path: unix:///path")
		case wanted == "https":
			return fail("is a socket, which is not used with TLS")
		}
		return address{scheme: "http", hostPort: "localhost", socket: path}, nil
	}
	a := address{scheme: wanted, hostPort: cmp.Or(text, "127.0.0.1")}
	port := ""
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		switch {
		case scheme != "http" && scheme != "https":
			return fail("is a URL of another scheme than http, https and unix")
		case wanted != "" && wanted != scheme && field != api.HTTPAddrEnvName:
			return fail(fmt.Sprintf("is a URL of another scheme than %s, which Scheme asks for", wanted))
		}
		a.scheme = cmp.Or(wanted, scheme)
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
