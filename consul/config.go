package consul

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Config says which agent to use, and how. The zero value is the local agent. A field that is not set means the
// environment variable in the table above, and then the default.
//
// It holds secrets and can be printed all the same: String, GoString and LogValue leave them out. Its JSON and YAML forms,
// which are there to be read from a file, hold them.
type Config struct {
	// Address is the host:port of the agent, such as "127.0.0.1:8500" or "[::1]:8500", or its URL, such as
	// "https://consul.example.com", or its Unix socket, such as "unix:///run/consul.sock". Several, of the same datacenter,
	// stand with commas between them; one of them is in use at a time, as the package comment says. The port of a URL is that of its scheme where it names none; otherwise it is 8500, and
	// 8501 with TLS.
	Address string `json:"address,omitempty" yaml:"address,omitempty"`
	// Scheme is "http" or "https". It may not contradict that of Address.
	Scheme string `json:"scheme,omitempty" yaml:"scheme,omitempty"`
	// Username and Password are for HTTP basic authentication, as a proxy in front of Consul may ask for.
	Username string `json:"username,omitempty" yaml:"username,omitempty"`
	Password string `json:"password,omitempty" yaml:"password,omitempty"`
	// Token is the ACL token.
	Token string `json:"token,omitempty" yaml:"token,omitempty"`
	// TokenFile is a file that holds it, and nothing else. It is read again when it is used, once a second at the most, and
	// what was announced is moved to the new token: the old one has to be good for some seconds more. It excludes Token.
	TokenFile string `json:"token_file,omitempty" yaml:"token_file,omitempty"`
	TLS       TLS    `json:"tls,omitzero" yaml:"tls,omitempty"`

	// Namespace and Partition are where everything is done, and are for Consul Enterprise: any other refuses them.
	Namespace string `json:"namespace,omitempty" yaml:"namespace,omitempty"`
	Partition string `json:"partition,omitempty" yaml:"partition,omitempty"`

	// Datacenter is where instances are looked up. Announcing is always done in the datacenter of the agent.
	Datacenter string `json:"datacenter,omitempty" yaml:"datacenter,omitempty"`
	// Failover names datacenters, with commas between them, that take the place of that one while it has no passing instance: the
	// first of them that has one. See the package comment.
	Failover string `json:"failover,omitempty" yaml:"failover,omitempty"`
	// Peer is the peer cluster whose exported instances are looked up. Of a peer that it does not know Consul says that it has
	// no instances.
	Peer string `json:"peer,omitempty" yaml:"peer,omitempty"`
	// Near is the node that the nearest instances are chosen from by Limit; "_agent" is the agent's own.
	Near string `json:"near,omitempty" yaml:"near,omitempty"`
	// Limit is how many instances a query returns: those nearest to Near. 0 is all. Those that do not pass do not count:
	// where the query asks for them, it returns those of them too that are nearer than the last one that passes.
	Limit int `json:"limit,omitempty" yaml:"limit,omitempty"`
	// Filter is a filter expression of Consul, such as `Node.Meta.rack == "7"`, which the instances must match too. What a query
	// selects is added to it, so that it is Consul that leaves out the rest.
	Filter string `json:"filter,omitempty" yaml:"filter,omitempty"`
	// Connect finds the instances that can be reached over Consul's service mesh: those that speak Connect themselves, and of the
	// others the sidecars, under the name and ID of what is behind them.
	Connect bool `json:"connect,omitempty" yaml:"connect,omitempty"`
	// Stale lets any server answer a read, also one that lags behind or has no leader. An empty set is not believed
	// without the leader.
	Stale bool `json:"stale,omitempty" yaml:"stale,omitempty"`
	// MaxStale is Stale with a bound: an answer of a server that last heard from the leader longer ago than this is thrown away, and
	// the leader asked. 0 is no bound. Answers from the stream of an agent do not say how old they are, so no use is made
	// of that then.
	MaxStale time.Duration `json:"max_stale,omitempty" yaml:"max_stale,omitempty"`
	// Consistent makes the leader confirm with the others that it is the leader before it answers a read, and turns the
	// stream of an agent off, which knows nothing of it. It excludes Stale.
	Consistent bool `json:"consistent,omitempty" yaml:"consistent,omitempty"`
	// Wait is how long a blocking query waits for a change, from 1 s to 10 m. A query that the program has given up
	// stays in the agent for the rest of it.
	Wait time.Duration `json:"wait,omitempty" yaml:"wait,omitempty"`
	// Rate is how many reads a second all watches and lookups of the Registry make together at the most. 0 is no bound: what
	// Options.Burst and Options.Spacing say of each watch holds anyway.
	Rate int `json:"rate,omitempty" yaml:"rate,omitempty"`
	// Timeout bounds a call that does not wait for a change. Without a leader Consul takes 8 to 10 s to say so.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`

	// TTL is how long an instance passes without a sign of life, at least 3 s. There is one every third of it.
	TTL time.Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`
	// DeregisterAfter is how long after that Consul removes the instance, at least 1 m. An instance that was announced as
	// critical is given an hour at least, since for Consul it is overdue all the time. What other checks find critical is
	// removed after the same time only where there are no signs of life; the process then announces it again, if it lives.
	DeregisterAfter time.Duration `json:"deregister_after,omitempty" yaml:"deregister_after,omitempty"`
	// Checks say how Consul finds out how an announced instance does, beside or in place of signs of life.
	Checks Checks `json:"checks,omitzero" yaml:"checks,omitempty"`
	// WarningWeight is the weight of an announced instance while one of its checks warns, relative to its weight while it passes,
	// in percent from 1 to 100. 0 is 100.
	WarningWeight int `json:"warning_weight,omitempty" yaml:"warning_weight,omitempty"`
	// Format is the form in which instances are announced: [FormatRollcall], the default, or [FormatKratos], which clients of kratos
	// understand too. Instances are found in either, and in the other ones that the package comment names, without a setting.
	Format string `json:"format,omitempty" yaml:"format,omitempty"`
	// Sidecar announces a sidecar proxy of Consul's service mesh with each instance, named NAME-sidecar-proxy. It goes with the
	// instance. The proxy itself is the operator's to run.
	Sidecar bool `json:"sidecar,omitempty" yaml:"sidecar,omitempty"`
	// SidecarPort is where the proxy listens, at the host of the instance. 0 lets Consul choose one of its range.
	SidecarPort int `json:"sidecar_port,omitempty" yaml:"sidecar_port,omitempty"`
	// ConnectNative says that the announced instances speak the protocol of the mesh themselves. It excludes Sidecar.
	ConnectNative bool `json:"connect_native,omitempty" yaml:"connect_native,omitempty"`
	// Meta are pairs, such as "team=payments,rack=7", that every instance announced here has among its metadata, where it has no value
	// of its own for the key.
	Meta string `json:"meta,omitempty" yaml:"meta,omitempty"`
	// EnableTagOverride lets an operator change the tags of an announced instance in the catalog, until the program asks for other
	// ones or begins anew. See
	// https://developer.hashicorp.com/consul/docs/reference/service#enabletagoverride.
	EnableTagOverride bool `json:"enable_tag_override,omitempty" yaml:"enable_tag_override,omitempty"`

	// Options tune the Registry.
	Options registry.Options `json:"-" yaml:"-"`
}

// TLS says how the agent is known to be the right one, and how it knows this program. The files are read anew for each
// connection, so that they may be replaced at any time; while they cannot be used it is what they held last.
type TLS struct {
	// CAFile is a PEM file with the certificates that vouch for the agent's. Default: those of the system.
	CAFile string `json:"ca_file,omitempty" yaml:"ca_file,omitempty"`
	// CAPath is a folder of such files. It excludes CAFile.
	CAPath string `json:"ca_path,omitempty" yaml:"ca_path,omitempty"`
	// CertFile and KeyFile are PEM files with the certificate that this program shows to the agent, and its key.
	CertFile string `json:"cert_file,omitempty" yaml:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty" yaml:"key_file,omitempty"`
	// ServerName is the name that the agent's certificate must be for. Default: the host of the address.
	ServerName string `json:"server_name,omitempty" yaml:"server_name,omitempty"`
	// InsecureSkipVerify takes any certificate: whoever is on the way can read the token.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty"`
}

// Defaults and bounds of [Config].
const (
	DefaultWait            = 60 * time.Second
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

// printed has the fields of Config and none of its methods.
type printed Config

func (c Config) printable() printed {
	hide := func(s *string) {
		if *s != "" {
			*s = "(hidden)"
		}
	}
	hide(&c.Username) // in a URL it may be a token
	hide(&c.Password)
	hide(&c.Token)
	if strings.Contains(c.Address, "@") { // which may be no proper URL
		c.Address = "(hidden)"
	}
	return printed(c)
}

// withDefaults returns c with a value in each field that has a default and no environment variable.
func (c Config) withDefaults() Config {
	c.Stale = c.Stale || c.MaxStale > 0
	c.Wait = cmp.Or(c.Wait, DefaultWait)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.DeregisterAfter = cmp.Or(c.DeregisterAfter, DefaultDeregisterAfter)
	return c
}

// invalid names a field of Config and, where it differs, the URL parameter. value must not be a secret.
func invalid(field string, value any, why string) error {
	return fmt.Errorf("%w: consul: %s: %v %s", registry.ErrInvalid, field, value, why)
}

// check returns an error that names every field of c that cannot be used, but for the address, which is resolved.
func (c Config) check() error {
	var errs []error
	fail := func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) }

	if c.Scheme != "" && c.Scheme != "http" && c.Scheme != "https" {
		fail("Scheme", fmt.Sprintf("%q", c.Scheme), "is neither http nor https")
	}
	if c.Username == "" && c.Password != "" {
		fail("Username", `""`, "is required beside a password")
	}
	if c.Token != "" && c.TokenFile != "" {
		fail("Token and TokenFile (token, token-file)", "both", "are set, and exclude each other")
	}
	if c.TLS.CAFile != "" && c.TLS.CAPath != "" {
		fail("TLS.CAFile and TLS.CAPath (ca-file, ca-path)", "both", "are set, and exclude each other")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("TLS.CertFile and TLS.KeyFile (cert-file, key-file)", "one", "is set, and each needs the other")
	}
	if c.Peer != "" && c.Datacenter != "" {
		fail("Peer and Datacenter (peer, dc)", "both", "are set, and exclude each other")
	}
	if c.MaxStale < 0 {
		fail("MaxStale (stale)", c.MaxStale, "is negative")
	}
	if c.Rate < 0 {
		fail("Rate (rate)", c.Rate, "is negative; 0 is no bound")
	}
	if (c.Stale || c.MaxStale > 0) && c.Consistent {
		fail("Stale and Consistent (stale, consistent)", true, "exclude each other")
	}
	if c.Limit < 0 {
		fail("Limit (limit)", c.Limit, "is negative; 0 is all")
	}
	d := c.withDefaults()
	if d.Wait < minWait || d.Wait > maxWait {
		fail("Wait (wait)", c.Wait, fmt.Sprintf("is not from %v, below which it would be polling, to %v, the most that Consul takes", minWait, maxWait))
	}
	if d.Timeout < 0 {
		fail("Timeout (timeout)", c.Timeout, "is negative")
	}
	if d.TTL < minTTL {
		fail("TTL (ttl)", c.TTL, fmt.Sprintf("is below %v: an instance that is a little slow would leave every set", minTTL))
	}
	if d.DeregisterAfter < minDeregisterAfter {
		fail("DeregisterAfter (deregister-after)", c.DeregisterAfter, fmt.Sprintf("is below %v, the least that Consul does", minDeregisterAfter))
	}
	c.Checks.check(fail)
	if c.WarningWeight < 0 || c.WarningWeight > 100 {
		fail("WarningWeight (warning-weight)", c.WarningWeight, "is not from 1 to 100 percent; 0 is 100")
	}
	if f := c.format(); f != FormatRollcall && f != FormatKratos {
		fail("Format (format)", fmt.Sprintf("%q", f), "is neither rollcall nor kratos")
	}
	if c.Sidecar && c.ConnectNative {
		fail("Sidecar and ConnectNative (sidecar, connect-native)", "both", "are set, and exclude each other")
	}
	if c.SidecarPort < 0 || c.SidecarPort > 65535 || c.SidecarPort != 0 && !c.Sidecar {
		fail("SidecarPort (sidecar-port)", c.SidecarPort, "is not from 1 to 65535, or Sidecar is not set; 0 lets Consul choose")
	}
	_, err := parseMeta(c.Meta)
	errs = append(errs, err, checkFailover(c))
	if err := c.Options.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
