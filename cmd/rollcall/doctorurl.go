package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// checkTarget is the registry that the doctor checks.
type checkTarget struct {
	addresses []string    // host:port of the agents or members, or unix:///path; none if the registry is in this process
	tls       *tls.Config // nil without TLS
	usesProxy bool        // the backend connects through the HTTP proxies of the environment
	cacheDir  string
	secrets   []string // which no output may show

	consul consul.Config
	agents []*agentClient // of Consul, in the order of addresses

	etcd    etcd.Config
	members []*member // of etcd, in the order of addresses

	// open opens the registry without its cache folder. The caller closes it.
	open func() (*registry.Registry, error)
	// remove removes an entry without the knowledge of its registration. It is nil if the doctor cannot.
	remove func(ctx context.Context, service, id string) error
	// sweep removes what is left of a service at the agent and in the catalog, and says what stays. It is nil if a read of the service
	// tells what is left.
	sweep func(ctx context.Context, service string) remains
}

// howToRemove returns a command that removes an entry by hand.
func (t *checkTarget) howToRemove(service, id string) string {
	switch {
	case t.agents != nil:
		return t.agents[0].howToRemove("NODE", service+":"+id)
	case t.members != nil:
		return "etcdctl del " + t.etcd.Key(service, id)
	}
	return "end the process that has it"
}

func (t *checkTarget) close() {
	for _, m := range t.members {
		m.conn.Close()
	}
}

// checkURL finds out what the URL means. from names the flag or the variable that has it.
func (d *doctor) checkURL(ctx context.Context, text, from string) finding {
	reg, err := openers.Open(ctx, text)
	if err != nil {
		return failed(adviseURL, "%s: %s", from, trimPrefix(err))
	}
	name := reg.String()
	reg.Close()
	u, err := url.Parse(text)
	if err != nil {
		return failed(adviseURL, "%s: it cannot be parsed", from)
	}
	d.target = &checkTarget{secrets: secretsOf(u)}
	switch u.Scheme {
	case "consul":
		return d.readConsul(u, from)
	case "etcd":
		return d.readEtcd(u, from)
	}
	d.target.open = func() (*registry.Registry, error) { return openers.Open(context.WithoutCancel(ctx), text) }
	if u.Scheme == "memory" && u.Host != "" {
		d.target.remove = func(_ context.Context, service, id string) error {
			store := memory.Named(u.Host)
			defer store.Close()
			store.Expire(service, id)
			return nil
		}
	}
	return passed("%s", name)
}

// secretsOf returns the parts of a URL that may be secret.
func secretsOf(u *url.URL) []string {
	password, _ := u.User.Password()
	return append(u.Query()["token"], password)
}

// readConsul fills in the target.
func (d *doctor) readConsul(u *url.URL, from string) finding {
	t := d.target
	c, err := consul.ParseURL(u)
	var all []*api.Config
	if err == nil {
		all, err = c.APIConfigs()
	}
	if err == nil && all[0].Scheme == "https" {
		t.tls, err = api.SetupTLSConfig(&all[0].TLSConfig)
	}
	if err != nil {
		return failed(adviseURL, "%s: %s", from, trimPrefix(err))
	}
	t.consul, t.cacheDir, t.usesProxy = c, c.Options.CacheDir, true
	t.secrets = append(t.secrets, all[0].Token)
	if all[0].HttpAuth != nil {
		t.secrets = append(t.secrets, all[0].HttpAuth.Username, all[0].HttpAuth.Password)
	}
	for _, conf := range all {
		agent := newAgentClient(conf, t.tls)
		t.agents = append(t.agents, agent)
		t.addresses = append(t.addresses, agent.location)
	}
	t.open = func() (*registry.Registry, error) { return consul.New(probeConfig(c)) }
	t.remove, t.sweep = d.removeFromConsul, d.sweepConsul

	facts := []string{"Consul at " + strings.Join(t.addresses, ", ")}
	if t.tls != nil {
		facts = append(facts, "TLS")
	}
	facts = append(facts, consulSettings(c)...)
	if used := setVariables("CONSUL_"); len(used) > 0 {
		facts = append(facts, "the environment has "+strings.Join(used, ", "))
	}
	return d.withoutSecretFlag(!c.Token.IsZero() || !c.Password.IsZero(), "%s", strings.Join(facts, "; "))
}

// probeConfig returns c for the write check, whose entry is in the datacenter of the agent, and has nothing that a check could reach.
func probeConfig(c consul.Config) consul.Config {
	c.Options = probeOptions(c.Options)
	c.Datacenter, c.Failover, c.Peer, c.Filter, c.Near, c.Limit = "", nil, "", "", "", 0
	c.Checks, c.Connect, c.ConnectNative, c.Sidecar, c.SidecarPort = consul.Checks{}, false, false, false, 0
	return c
}

// consulSettings returns what decides which instances there are, and the origin of the token.
func consulSettings(c consul.Config) (facts []string) {
	for _, s := range [][2]string{{"dc", c.Datacenter}, {"namespace", c.Namespace}, {"partition", c.Partition}, {"peer", c.Peer}, {"filter", c.Filter}} {
		if s[1] != "" {
			facts = append(facts, s[0]+" "+s[1])
		}
	}
	return append(facts, tokenOrigin(c))
}

// tokenOrigin names the origin of the token, in the order of package consul.
func tokenOrigin(c consul.Config) string {
	file := cmp.Or(c.TokenFile, os.Getenv(api.HTTPTokenFileEnvName))
	switch {
	case !c.Token.IsZero():
		return "token from the URL"
	case file != "":
		return "token from the file " + file
	case os.Getenv(api.HTTPTokenEnvName) != "":
		return "token from " + api.HTTPTokenEnvName
	}
	return "no token"
}

// setVariables returns the names of the environment variables that begin with prefix, except for the token, which tokenOrigin has.
func setVariables(prefix string) (names []string) {
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		if strings.HasPrefix(name, prefix) && value != "" && name != api.HTTPTokenEnvName {
			names = append(names, name)
		}
	}
	return names
}

// readEtcd fills in the target.
func (d *doctor) readEtcd(u *url.URL, from string) finding {
	t := d.target
	c, err := etcd.ParseURL(u)
	if err != nil {
		return failed(adviseURL, "%s: %s", from, trimPrefix(err))
	}
	conf, err := c.ClientConfig()
	if err != nil {
		return failed(adviseURL, "%s: %s", from, trimPrefix(err))
	}
	t.etcd, t.cacheDir, t.tls = c, c.Options.CacheDir, conf.TLS
	t.secrets = append(t.secrets, conf.Password)
	for _, endpoint := range conf.Endpoints {
		_, address, _ := strings.Cut(endpoint, "://")
		m, err := newMember(address, conf)
		if err != nil {
			return failed(adviseURL, "%s: %s: %v", from, address, err)
		}
		t.members = append(t.members, m)
		t.addresses = append(t.addresses, address)
	}
	c.Options = probeOptions(c.Options)
	t.open = func() (*registry.Registry, error) { return etcd.New(c) }
	t.remove = d.removeFromEtcd

	facts := []string{"etcd at " + strings.Join(t.addresses, ", ")}
	if t.tls != nil {
		facts = append(facts, "TLS")
	}
	facts = append(facts, "keys "+strings.TrimSuffix(c.Key("SERVICE", "ID"), "/"))
	if c.Format != "" {
		facts = append(facts, "format "+c.Format)
	}
	if c.Username != "" {
		facts = append(facts, "user "+c.Username)
	} else {
		facts = append(facts, "no user")
	}
	return d.withoutSecretFlag(!c.Password.IsZero(), "%s", strings.Join(facts, "; "))
}

// withoutSecretFlag is passed, or a warning if a secret is in the command line.
func (d *doctor) withoutSecretFlag(hasSecret bool, format string, args ...any) finding {
	if hasSecret && d.a.url != "" {
		return warned(adviseSecretInFlags, format+"; a secret is in the command line", args...)
	}
	return passed(format, args...)
}

// probeOptions returns o for the registries of the write check: they leave no files, and show each set as it is.
func probeOptions(o registry.Options) registry.Options {
	o.CacheDir, o.OutageGrace, o.Linger, o.KeepOnClose = "", -1, -1, false
	return o
}

// service returns the service that the credentials are checked for, and whether the user has named it.
func (d *doctor) service() (name string, named bool) {
	return cmp.Or(d.f.service, throwawayPrefix), d.f.service != ""
}

// located puts the address before a fact if there are several.
func (t *checkTarget) located(i int, fact string) string {
	if len(t.addresses) == 1 {
		return fact
	}
	return fmt.Sprintf("%s: %s", t.addresses[i], fact)
}
