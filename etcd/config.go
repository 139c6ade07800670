package etcd

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// Config says which etcd to use, and how. The zero value is one on this host.
//
// It holds a secret and can be printed all the same: String, GoString and LogValue leave it out. Its JSON and YAML forms,
// which are there to be read from a file, hold it.
type Config struct {
	// Endpoints are the host:port of the members, such as "127.0.0.1:2379" or "[::1]:2379", or their URLs, such as
	// "https://etcd-0.example.com:2379". The port is 2379 where there is none. Calls go to all of them in turn.
	Endpoints []string `json:"endpoints,omitempty" yaml:"endpoints,omitempty"`
	// Format is the form of the entries, ours or that of another framework: see the package documentation. Default:
	// FormatRollcall.
	Format string `json:"format,omitempty" yaml:"format,omitempty"`
	// Prefix begins every key. It ends in a slash, which is added where it is missing. Default: that of the format.
	Prefix string `json:"prefix,omitempty" yaml:"prefix,omitempty"`
	// Username and Password are for an etcd with authentication.
	Username string `json:"username,omitempty" yaml:"username,omitempty"`
	Password string `json:"password,omitempty" yaml:"password,omitempty"`
	TLS      TLS    `json:"tls,omitzero" yaml:"tls,omitempty"`

	// DialTimeout bounds one attempt to connect to a member, or the pause after the attempts that failed before it does, where
	// that is longer: it ends at 8 s.
	DialTimeout time.Duration `json:"dial_timeout,omitempty" yaml:"dial_timeout,omitempty"`
	// Timeout bounds a call that does not wait for a change.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty"`
	// KeepAliveTime is how long a connection may be silent before it is probed, and KeepAliveTimeout how long the answer to
	// that may take: a member that died without a word is noticed after both. A negative KeepAliveTime never probes.
	KeepAliveTime    time.Duration `json:"keepalive_time,omitempty" yaml:"keepalive_time,omitempty"`
	KeepAliveTimeout time.Duration `json:"keepalive_timeout,omitempty" yaml:"keepalive_timeout,omitempty"`

	// TTL is how long an instance stands without a sign of life, in whole seconds, at least 5 s. There is one every third
	// of it.
	TTL time.Duration `json:"ttl,omitempty" yaml:"ttl,omitempty"`

	// Options tune the Registry.
	Options registry.Options `json:"-" yaml:"-"`
}

// TLS says how the members are known to be the right ones, and how this client proves who it is.
type TLS struct {
	// Enable turns TLS on. It is on too where another field is set or the endpoints are https URLs.
	Enable bool `json:"enable,omitempty" yaml:"enable,omitempty"`
	// CAFile is a PEM file with the certificates that vouch for the members'. Default: those of the system.
	CAFile string `json:"ca_file,omitempty" yaml:"ca_file,omitempty"`
	// CertFile and KeyFile are PEM files with this client's own certificate and key. They are read for each connection, so
	// that they can be replaced while the program runs.
	CertFile string `json:"cert_file,omitempty" yaml:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty" yaml:"key_file,omitempty"`
	// ServerName is the name that the certificates of the members must bear. Default: the host of each endpoint.
	ServerName string `json:"server_name,omitempty" yaml:"server_name,omitempty"`
	// InsecureSkipVerify takes any certificate: whoever is on the way can read the password.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty"`
}

// Defaults of [Config].
const (
	DefaultPrefix           = "/rollcall/" // of our own format
	DefaultDialTimeout      = 5 * time.Second
	DefaultTimeout          = 5 * time.Second
	DefaultKeepAliveTime    = 10 * time.Second
	DefaultKeepAliveTimeout = 5 * time.Second
	DefaultTTL              = 15 * time.Second

	// minTTL leaves room for an election, in which etcd takes no renewals: it lasts a second or two.
	minTTL = 5 * time.Second
	// minKeepAliveTime is the least that gRPC does, whatever it is told; etcd hangs up on a client that probes more often
	// than each 5 s.
	minKeepAliveTime = 10 * time.Second
)

// String returns c without its secret.
func (c Config) String() string { return fmt.Sprintf("%+v", c.printable()) }

// GoString returns c without its secret.
func (c Config) GoString() string { return fmt.Sprintf("%#v", c.printable()) }

// LogValue returns c without its secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// printed has the fields of Config and none of its methods.
type printed Config

func (c Config) printable() printed {
	if c.Password != "" {
		c.Password = hidden
	}
	c.Endpoints = slices.Clone(c.Endpoints)
	for i, e := range c.Endpoints {
		if holdsUser(e) {
			c.Endpoints[i] = hidden
		}
	}
	return printed(c)
}

const hidden = "(hidden)"

// holdsUser reports whether text, which may not be a proper URL, may hold a user and a password.
func holdsUser(text string) bool { return strings.Contains(text, "@") }

// withDefaults returns c with a value in each field that has a default.
func (c Config) withDefaults() Config {
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{"127.0.0.1:2379"}
	}
	c.Format = cmp.Or(c.Format, FormatRollcall)
	if f, ok := formats[c.Format]; ok && c.Prefix == "" {
		c.Prefix = f.prefix()
	}
	if c.Prefix != "" && !strings.HasSuffix(c.Prefix, "/") {
		c.Prefix += "/"
	}
	c.DialTimeout = cmp.Or(c.DialTimeout, DefaultDialTimeout)
	c.Timeout = cmp.Or(c.Timeout, DefaultTimeout)
	c.KeepAliveTime = cmp.Or(c.KeepAliveTime, DefaultKeepAliveTime)
	c.KeepAliveTimeout = cmp.Or(c.KeepAliveTimeout, DefaultKeepAliveTimeout)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	return c
}

// invalid names a field of Config and, where it differs, the URL parameter. value must not be a secret.
func invalid(field string, value any, why string) error {
	return fmt.Errorf("%w: etcd: %s: %v %s", registry.ErrInvalid, field, value, why)
}

// check returns an error that names every field of c that cannot be used, but for the endpoints and the files, which are
// resolved.
func (c Config) check() error {
	var errs []error
	fail := func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) }

	switch {
	case c.Username == "" && c.Password != "":
		fail("Username", `""`, "is required beside a password")
	case c.Username != "" && c.Password == "":
		fail("Password", "(empty)", "is required beside a user")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		fail("TLS.CertFile and TLS.KeyFile (cert-file, key-file)", "one of them", "is set, and each needs the other")
	}
	d := c.withDefaults()
	if formats[d.Format] == nil {
		fail("Format (format)", strconv.Quote(c.Format), "is none of "+formatNames())
	}
	for _, b := range []struct {
		field string
		value time.Duration
	}{
		{"DialTimeout (dial-timeout)", d.DialTimeout}, {"Timeout (timeout)", d.Timeout},
		{"KeepAliveTimeout (keepalive-timeout)", d.KeepAliveTimeout},
	} {
		if b.value < 0 {
			fail(b.field, b.value, "is negative")
		}
	}
	if d.KeepAliveTime >= 0 && d.KeepAliveTime < minKeepAliveTime {
		fail("KeepAliveTime (keepalive-time)", c.KeepAliveTime,
			fmt.Sprintf("is below %v, the least that gRPC does", minKeepAliveTime))
	}
	switch {
	case d.TTL < minTTL:
		fail("TTL (ttl)", c.TTL, fmt.Sprintf("is below %v: an election or a slow moment would empty every set", minTTL))
	case d.TTL%time.Second != 0:
		fail("TTL (ttl)", c.TTL, "is not in whole seconds, which etcd counts leases in")
	}
	if err := c.Options.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
