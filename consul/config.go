package consul

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/document"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// Config says which agent to use, and how. The zero value is the local agent. A field that is not set means the environment variable
// in the table above, and then the default.
//
// A file is read into it by yaml.v3, goccy/go-yaml, encoding/json, viper and koanf with their defaults: names as in token_file,
// durations as in "90s", a list or one text with commas in it, a map or one text such as "team=payments,rack=7". It has secrets, and
// can be printed, logged and encoded all the same: see [registry.Secret]. So the encoded text lacks them. A struct that embeds Config
// is read as a Config; let it have a field of this type.
type Config struct {
	// The connection.

	// Address is the host:port of the agent, such as "127.0.0.1:8500" or "[::1]:8500", or its URL, such as
	// "https://consul.example.com", or its Unix socket, such as "unix:///run/consul.sock". The default port is 8500, and 8501 with TLS;
	// a URL has the default port of its scheme. Several addresses with commas between them, as CONSUL_HTTP_ADDR may have, mean the same as
	// Addresses. Default: 127.0.0.1:8500.
	Address string `json:"address,omitempty" yaml:"address,omitempty" mapstructure:"address" koanf:"address"`
	// Addresses are the addresses of several agents of one datacenter, each as in Address. One of them is in use at a time, see
	// "Several agents" above. An entry that a switch left at an agent of another cluster is invisible to the rest: if that agent refuses
	// calls, Deregister returns nil and the entry expires after its TTL. Addresses excludes Address. Default: none.
	Addresses []string `json:"addresses,omitempty" yaml:"addresses,omitempty" mapstructure:"addresses" koanf:"addresses"`
	// Scheme is "http" or "https", for addresses that are not URLs. It must not contradict Address or TLS. Default: "https" if TLS is
	// on, otherwise "http".
	Scheme string `json:"scheme,omitempty" yaml:"scheme,omitempty" mapstructure:"scheme" koanf:"scheme"`
	// Username and Password are for HTTP basic authentication, which a proxy in front of Consul may ask for. Some proxies take a key
	// as the user, so the user is a secret too. Default: none.
	Username registry.Secret `json:"username,omitzero" yaml:"username,omitempty" mapstructure:"username" koanf:"username"`
	Password registry.Secret `json:"password,omitzero" yaml:"password,omitempty" mapstructure:"password" koanf:"password"`
	// Token is the ACL token. Default: none, the anonymous token.
	Token registry.Secret `json:"token,omitzero" yaml:"token,omitempty" mapstructure:"token" koanf:"token"`
	// TokenFile is the path of a file that has the token and nothing else. The file is read again when the token is used, at most once
	// a second, and registrations are moved to the new token: the old one has to be valid for some seconds more. If the file cannot be
	// used, the last good token is, and each new reason is logged once. TokenFile excludes Token. Default: none.
	TokenFile string `json:"token_file,omitempty" yaml:"token_file,omitempty" mapstructure:"token_file" koanf:"token_file"`
	// TLS says how the two sides of a connection know each other.
	TLS TLS `json:"tls,omitzero" yaml:"tls,omitempty" mapstructure:"tls" koanf:"tls"`
	// Namespace and Partition are used for everything. They need Consul Enterprise: Consul refuses them otherwise. Defaults: the
	// namespace of the token, the partition of the agent.
	Namespace string `json:"namespace,omitempty" yaml:"namespace,omitempty" mapstructure:"namespace" koanf:"namespace"`
	Partition string `json:"partition,omitempty" yaml:"partition,omitempty" mapstructure:"partition" koanf:"partition"`
	// Timeout bounds a call that does not wait for a change. Without a leader, Consul takes 8 to 10 s to say so. Default: 12 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty" mapstructure:"timeout" koanf:"timeout"`

	// Reading.

	// Datacenter is the name of the datacenter in which instances are looked up. Instances are always registered in the datacenter of
	// the agent. Default: the datacenter of the agent.
	Datacenter string `json:"datacenter,omitempty" yaml:"datacenter,omitempty" mapstructure:"datacenter" koanf:"datacenter"`
	// Failover are the names of datacenters that replace Datacenter while it has no passing instance: the first of them that has one
	// is used. See "Several datacenters" above. It excludes Peer. Default: none.
	Failover []string `json:"failover,omitempty" yaml:"failover,omitempty" mapstructure:"failover" koanf:"failover"`
	// Peer is the name of the peer cluster whose exported instances are looked up. Consul reports an unknown peer as one without
	// instances. Peer excludes Datacenter. Default: none, the own cluster.
	Peer string `json:"peer,omitempty" yaml:"peer,omitempty" mapstructure:"peer" koanf:"peer"`
	// Near is the name of the node from which Limit measures the distance to instances; "_agent" is the node of the agent. Default:
	// none, in no order.
	Near string `json:"near,omitempty" yaml:"near,omitempty" mapstructure:"near" koanf:"near"`
	// Limit is the number of instances that a query returns: the nearest to Near. Only passing instances are counted: a query with
	// AnyStatus also returns the others, if they are nearer than the last passing one. Default: 0, all.
	Limit int `json:"limit,omitempty" yaml:"limit,omitempty" mapstructure:"limit" koanf:"limit"`
	// Filter is a filter expression of Consul that instances must match too. Its selectors belong to the health endpoint, and
	// begin with Node, Service or Checks: `Node.Meta.rack == "7"`, `"blue" in Service.Tags`, `Service.Meta.env == "prod"`,
	// `Service.Service == "hello"`. Selectors of the catalog, such as ServiceName or NodeMeta, are unknown here, and Consul refuses
	// unknown selectors with [registry.ErrInvalid]. The conditions of a query are added to the expression, so that Consul leaves the
	// other instances out. See https://developer.hashicorp.com/consul/api-docs/health. Default: none.
	Filter string `json:"filter,omitempty" yaml:"filter,omitempty" mapstructure:"filter" koanf:"filter"`
	// Connect finds the instances that can be reached through Consul's service mesh: instances that speak Connect themselves, and the
	// sidecars of other instances, under the name and ID of the instance behind them. Default: false.
	Connect bool `json:"connect,omitempty" yaml:"connect,omitempty" mapstructure:"connect" koanf:"connect"`
	// Stale lets any server answer a read, even if that server lags behind or has no leader. The leader confirms an empty set before it
	// is used. Default: false, unless MaxStale is set.
	Stale bool `json:"stale,omitempty" yaml:"stale,omitempty" mapstructure:"stale" koanf:"stale"`
	// MaxStale is Stale with a bound: if the server that answers has heard from the leader longer ago than this, the answer is dropped
	// and the leader is asked. Answers from the stream of an agent do not say how old they are, so MaxStale turns the stream off.
	// Default: 0, no bound.
	MaxStale time.Duration `json:"max_stale,omitempty" yaml:"max_stale,omitempty" mapstructure:"max_stale" koanf:"max_stale"`
	// Consistent makes the leader confirm with the other servers that it is the leader before it answers a read. It turns the stream of
	// an agent off, which cannot do that, and excludes Stale. Default: false.
	Consistent bool `json:"consistent,omitempty" yaml:"consistent,omitempty" mapstructure:"consistent" koanf:"consistent"`
	// Wait is how long a blocking query waits for a change, from 1 s to 10 m. Consul adds up to a sixteenth of it. A proxy in front of
	// Consul ends calls that take longer than it allows, often 60 s, so the default of 45 s means at most 48 s. A query that the program
	// has given up stays in the agent for the rest of that time. Default: 45 s.
	Wait time.Duration `json:"wait,omitempty" yaml:"wait,omitempty" mapstructure:"wait" koanf:"wait"`
	// ValuePrefix is put before the key of each value, with a '/' between them. It has the characters of a key: see
	// [registry.Registry.PutValue]. Default: none, the key is used as it is.
	ValuePrefix string `json:"value_prefix,omitempty" yaml:"value_prefix,omitempty" mapstructure:"value_prefix" koanf:"value_prefix"`
	// Rate is used as Options.Rate if that is 0.
	Rate int `json:"rate,omitempty" yaml:"rate,omitempty" mapstructure:"rate" koanf:"rate"`

	// Registering.

	// TTL is how long an instance passes without a heartbeat, at least 3 s. A heartbeat is sent every third of it. Default: 15 s.
	TTL time.Duration `json:"ttl,omitempty" yaml:"ttl,omitempty" mapstructure:"ttl" koanf:"ttl"`
	// DeregisterAfter is how long after the TTL Consul removes the instance, at least 1 m. An instance that is registered as critical
	// is given at least an hour, since Consul regards it as overdue all the time. If other checks find an instance critical, Consul
	// removes it after the same time only without CheckTTL; a process that is alive then registers it again. Default: 1 m.
	DeregisterAfter time.Duration `json:"deregister_after,omitempty" yaml:"deregister_after,omitempty" mapstructure:"deregister_after" koanf:"deregister_after"`
	// Checks say how Consul finds out whether a registered instance is healthy, beside heartbeats or in place of them.
	Checks Checks `json:"checks,omitzero" yaml:"checks,omitempty" mapstructure:"checks" koanf:"checks"`
	// WarningWeight is the weight of a registered instance while one of its checks warns, in percent of its weight, from 1 to 100.
	// Default: 0, which means 100.
	WarningWeight int `json:"warning_weight,omitempty" yaml:"warning_weight,omitempty" mapstructure:"warning_weight" koanf:"warning_weight"`
	// Format is the form in which instances are registered: [FormatRollcall], or [FormatKratos], which clients of kratos understand too.
	// Instances in either form, and in the other forms that the package comment names, are found without a setting. Default:
	// FormatRollcall.
	Format string `json:"format,omitempty" yaml:"format,omitempty" mapstructure:"format" koanf:"format"`
	// Sidecar registers a sidecar proxy of Consul's service mesh with each instance, named NAME-sidecar-proxy. It is deregistered with
	// the instance. Running the proxy is the operator's part. Default: false.
	Sidecar bool `json:"sidecar,omitempty" yaml:"sidecar,omitempty" mapstructure:"sidecar" koanf:"sidecar"`
	// SidecarPort is the port of the proxy, at the host of the instance. Default: 0, Consul chooses one of its range.
	SidecarPort int `json:"sidecar_port,omitempty" yaml:"sidecar_port,omitempty" mapstructure:"sidecar_port" koanf:"sidecar_port"`
	// ConnectNative says that the registered instances speak the protocol of the mesh themselves. It excludes Sidecar. Default: false.
	ConnectNative bool `json:"connect_native,omitempty" yaml:"connect_native,omitempty" mapstructure:"connect_native" koanf:"connect_native"`
	// Meta is metadata that every instance registered here gets, unless the instance has a value of its own for the key. viper makes
	// the keys of a map lower-case, but not those in a text. Default: none.
	Meta map[string]string `json:"meta,omitempty" yaml:"meta,omitempty" mapstructure:"meta" koanf:"meta"`
	// EnableTagOverride lets an operator change the tags of a registered instance in the catalog. The change lasts until the program
	// sets other tags or starts anew. See https://developer.hashicorp.com/consul/docs/reference/service#enabletagoverride. Default:
	// false.
	EnableTagOverride bool `json:"enable_tag_override,omitempty" yaml:"enable_tag_override,omitempty" mapstructure:"enable_tag_override" koanf:"enable_tag_override"`

	// Options tune the Registry.
	Options registry.Options `json:"options,omitzero" yaml:"options,omitempty" mapstructure:"options" koanf:"options"`
}

// TLS says how the two sides of a connection know each other. Package etcd has the same type.
//
// The files are read for each connection, so they can be replaced at any time. While they cannot be used, the connection uses their
// last good content. Each new reason is logged once, and the error of such a connection has it too.
type TLS struct {
	// Enable turns TLS on. It is also on if another of these fields is set, or if the address is an https URL. Default: false.
	Enable bool `json:"enable,omitempty" yaml:"enable,omitempty" mapstructure:"enable" koanf:"enable"`
	// CAFile is the path of a PEM file with the certificates of the authorities that the server's certificate may come from. Default:
	// the authorities of the system.
	CAFile string `json:"ca_file,omitempty" yaml:"ca_file,omitempty" mapstructure:"ca_file" koanf:"ca_file"`
	// CAPath is the path of a folder of such files, and of no other files. It excludes CAFile. Default: none.
	CAPath string `json:"ca_path,omitempty" yaml:"ca_path,omitempty" mapstructure:"ca_path" koanf:"ca_path"`
	// CertFile and KeyFile are the paths of PEM files with the certificate that this program shows to the server, and its key. Default:
	// none.
	CertFile string `json:"cert_file,omitempty" yaml:"cert_file,omitempty" mapstructure:"cert_file" koanf:"cert_file"`
	KeyFile  string `json:"key_file,omitempty" yaml:"key_file,omitempty" mapstructure:"key_file" koanf:"key_file"`
	// ServerName is the name that the server's certificate must be for. Default: the host of the address.
	ServerName string `json:"server_name,omitempty" yaml:"server_name,omitempty" mapstructure:"server_name" koanf:"server_name"`
	// InsecureSkipVerify accepts any certificate, so that an attacker on the network can read tokens and passwords. Default: false.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty" mapstructure:"insecure_skip_verify" koanf:"insecure_skip_verify"`
}

// Validate returns an error that wraps [registry.ErrInvalid] and names the fields that exclude or need each other. It reads no files.
func (t TLS) Validate() error { return tlsfiles.Settings(t).Validate("consul") }

// Defaults and bounds of [Config].
const (
	DefaultWait            = 45 * time.Second
	DefaultTimeout         = 12 * time.Second
	DefaultTTL             = 15 * time.Second
	DefaultDeregisterAfter = time.Minute

	minWait            = time.Second
	maxWait            = 10 * time.Minute
	minTTL             = 3 * time.Second
	minDeregisterAfter = time.Minute
)

// String returns c without its secrets.
func (c Config) String() string { return fmt.Sprintf("%+v", c.printable()) }

// GoString returns c without its secrets.
func (c Config) GoString() string { return fmt.Sprintf("%#v", c.printable()) }

// LogValue returns c without its secrets.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON writes c without its secrets, and durations as text.
func (c Config) MarshalJSON() ([]byte, error) { return document.MarshalJSON(c.printable()) }

// MarshalYAML writes c without its secrets.
func (c Config) MarshalYAML() (any, error) { return c.printable(), nil }

// UnmarshalJSON sets the fields that data names, and leaves the others as they were. Durations are text such as "90s", or
// nanoseconds. Unknown names are ignored, also by a decoder that refuses them elsewhere. The error names the field.
func (c *Config) UnmarshalJSON(data []byte) error { return document.UnmarshalJSON(data, c) }

// UnmarshalYAML does the same with YAML.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	return document.UnmarshalYAML(unmarshal, c)
}

// UnmarshalMapstructure does the same with a document that viper or koanf has parsed.
func (c *Config) UnmarshalMapstructure(in any) error { return document.UnmarshalMap(in, c) }

// printed has the fields of Config and none of its methods.
type printed Config

// printable hides the addresses that may have a password or a token. They may be no proper URLs.
func (c Config) printable() printed {
	if urlparam.MayHaveSecret(c.Address) {
		c.Address = registry.HiddenSecret
	}
	c.Addresses = slices.Clone(c.Addresses)
	for i, a := range c.Addresses {
		if urlparam.MayHaveSecret(a) {
			c.Addresses[i] = registry.HiddenSecret
		}
	}
	return printed(c)
}

// clone returns a copy that shares no list and no map with c, which stay the caller's.
func (c Config) clone() Config {
	c.Addresses, c.Failover, c.Checks.Kinds = slices.Clone(c.Addresses), slices.Clone(c.Failover), slices.Clone(c.Checks.Kinds)
	c.Meta = maps.Clone(c.Meta)
	return c
}

// scheme is the scheme that c asks for, or "" if it is left to the address and the environment.
func (c Config) scheme() string {
	if c.Scheme == "" && tlsfiles.Settings(c.TLS).On() {
		return "https"
	}
	return c.Scheme
}

// withDefaults returns c with a value in each field that has a default but no environment variable.
func (c Config) withDefaults() Config {
	c.Stale = c.Stale || c.MaxStale > 0
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.DeregisterAfter = cmp.Or(c.DeregisterAfter, DefaultDeregisterAfter)
	return c
}

// invalid names a field of Config and its URL parameter. value must not be a secret.
func invalid(field string, value any, why string) error {
	return fmt.Errorf("%w: consul: %s: %v %s", registry.ErrInvalid, field, value, why)
}

// excluded is the error for two fields that are both set.
func excluded(fields string) error {
	return fmt.Errorf("%w: consul: %s exclude each other", registry.ErrInvalid, fields)
}

// Validate returns an error that wraps [registry.ErrInvalid] and names every field of c that cannot be used. It takes the address from
// the environment if c has none, and reads no files.
func (c Config) Validate() error {
	_, err := parseAddresses(c, api.DefaultConfig())
	return oneline.Join(c.check(), err)
}

// check returns an error that names every field of c that cannot be used, except for the addresses.
func (c Config) check() error {
	return oneline.Join(c.checkConnection(), c.checkReading(), c.checkRegistering(), c.Options.Validate())
}

func (c Config) checkConnection() error {
	errs := []error{c.TLS.Validate(), checkName("Namespace (namespace)", c.Namespace), checkName("Partition (partition)", c.Partition)}
	switch {
	case c.Scheme != "" && c.Scheme != "http" && c.Scheme != "https":
		errs = append(errs, invalid("Scheme", strconv.Quote(c.Scheme), "is neither http nor https"))
	case c.Scheme == "http" && tlsfiles.Settings(c.TLS).On():
		errs = append(errs, invalid("Scheme (tls)", "http", "contradicts TLS, which the fields of TLS turn on"))
	}
	if c.Username.IsZero() && !c.Password.IsZero() {
		errs = append(errs, fmt.Errorf("%w: consul: Username is required beside Password", registry.ErrInvalid))
	}
	if !c.Token.IsZero() && c.TokenFile != "" {
		errs = append(errs, excluded("Token and TokenFile (token, token-file)"))
	}
	if c.Timeout < 0 {
		errs = append(errs, invalid("Timeout (timeout)", c.Timeout, "is negative"))
	}
	return oneline.Join(errs...)
}

func (c Config) checkReading() error {
	errs := []error{
		checkName("Datacenter (dc)", c.Datacenter), checkName("Peer (peer)", c.Peer), checkName("Near (near)", c.Near),
		c.checkFailover(),
	}
	if c.ValuePrefix != "" {
		if err := registry.ValidateKey(c.ValuePrefix); err != nil {
			errs = append(errs, fmt.Errorf("%w: consul: ValuePrefix (value-prefix): %s", registry.ErrInvalid, strings.TrimPrefix(err.Error(), "invalid: ")))
		}
	}
	fail := func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) }
	if c.Peer != "" && c.Datacenter != "" {
		errs = append(errs, excluded("Peer and Datacenter (peer, dc)"))
	}
	if (c.Stale || c.MaxStale > 0) && c.Consistent {
		errs = append(errs, excluded("Stale and Consistent (stale, consistent)"))
	}
	if c.MaxStale < 0 {
		fail("MaxStale (stale)", c.MaxStale, "is negative")
	}
	if c.Rate < 0 {
		fail("Rate (rate)", c.Rate, "is negative; 0 is no bound")
	}
	if c.Limit < 0 {
		fail("Limit (limit)", c.Limit, "is negative; 0 is all")
	}
	if wait := c.withDefaults().Wait; wait < minWait || wait > maxWait {
		fail("Wait (wait)", c.Wait, fmt.Sprintf("is not from %v, below which it would be polling, to %v, the most that Consul allows", minWait, maxWait))
	}
	return oneline.Join(errs...)
}

// checkName refuses a name that would break the lines of a log.
func checkName(field, name string) error {
	if !codec.IsPrintable(name) {
		return invalid(field, strconv.Quote(name), "has a character that cannot be printed")
	}
	return nil
}

func (c Config) checkFailover() error {
	fail := func(value any, why string) error { return invalid("Failover (failover)", value, why) }
	if len(c.Failover) > 0 && c.Peer != "" {
		return excluded("Failover and Peer (failover, peer)")
	}
	seen := []string{c.Datacenter}
	for _, name := range c.Failover {
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || strings.ContainsRune("/&,", r) }) || !codec.IsPrintable(name) {
			return fail(strconv.Quote(name), "is not the name of a datacenter")
		}
		if slices.Contains(seen, name) {
			return fail(strconv.Quote(name), "is there twice, or is Datacenter")
		}
		seen = append(seen, name)
	}
	return nil
}

func (c Config) checkRegistering() error {
	errs := []error{c.Checks.Validate(), checkMeta(c.Meta)}
	fail := func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) }
	d := c.withDefaults()
	if d.TTL < minTTL {
		fail("TTL (ttl)", c.TTL, fmt.Sprintf("is below %v: an instance that is a little slow would leave every set", minTTL))
	}
	if d.DeregisterAfter < minDeregisterAfter {
		fail("DeregisterAfter (deregister-after)", c.DeregisterAfter, fmt.Sprintf("is below %v, the least that Consul does", minDeregisterAfter))
	}
	if c.WarningWeight < 0 || c.WarningWeight > 100 {
		fail("WarningWeight (warning-weight)", c.WarningWeight, "is not from 1 to 100 percent; 0 is 100")
	}
	if f := c.format(); f != FormatRollcall && f != FormatKratos {
		fail("Format (format)", strconv.Quote(f), "is neither rollcall nor kratos")
	}
	if c.Sidecar && c.ConnectNative {
		errs = append(errs, excluded("Sidecar and ConnectNative (sidecar, connect-native)"))
	}
	if c.SidecarPort < 0 || c.SidecarPort > 65535 || c.SidecarPort != 0 && !c.Sidecar {
		fail("SidecarPort (sidecar-port)", c.SidecarPort, "is not from 1 to 65535, or Sidecar is not set; 0 lets Consul choose")
	}
	return oneline.Join(errs...)
}
