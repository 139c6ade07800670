package etcd

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/etcd/internal/format"
	"github.com/rollcall-go/rollcall/internal/document"
	"github.com/rollcall-go/rollcall/internal/oneline"
	"github.com/rollcall-go/rollcall/internal/tlsfiles"
	"github.com/rollcall-go/rollcall/internal/urlparam"
	"github.com/rollcall-go/rollcall/registry"
)

// Config says which etcd to use, and how. The zero value is an etcd on this host.
//
// A file is read into it by yaml.v3, goccy/go-yaml, encoding/json, viper and koanf with their defaults: names as in ca_file, durations
// as in "90s", "off" for what can be off, a list or one text with commas in it. It has a secret, and can be printed, logged and
// encoded all the same: see [registry.Secret]. So the encoded text lacks it. A struct that embeds Config is read as a Config; let it
// have a field of this type.
type Config struct {
	// The connection.

	// Endpoints are the host:port of the members, such as "127.0.0.1:2379" or "[::1]:2379", or their URLs, such as
	// "https://etcd-0.example.com:2379". The default port is 2379. Calls go to all members in turn. Default: 127.0.0.1:2379.
	Endpoints []string `json:"endpoints,omitempty" yaml:"endpoints,omitempty" mapstructure:"endpoints" koanf:"endpoints"`
	// Username and Password are for an etcd with authentication. Each needs the other. Default: none.
	Username string          `json:"username,omitempty" yaml:"username,omitempty" mapstructure:"username" koanf:"username"`
	Password registry.Secret `json:"password,omitzero" yaml:"password,omitempty" mapstructure:"password" koanf:"password"`
	// TLS says how the two sides of a connection know each other.
	TLS TLS `json:"tls,omitzero" yaml:"tls,omitempty" mapstructure:"tls" koanf:"tls"`
	// DialTimeout bounds one attempt to connect to a member. If the pause after the last failed attempts was longer, of at most 8 s, it
	// bounds the attempt instead. Default: 5 s.
	DialTimeout time.Duration `json:"dial_timeout,omitempty" yaml:"dial_timeout,omitempty" mapstructure:"dial_timeout" koanf:"dial_timeout"`
	// Timeout bounds a call that does not wait for a change. Default: 5 s.
	Timeout time.Duration `json:"timeout,omitempty" yaml:"timeout,omitempty" mapstructure:"timeout" koanf:"timeout"`
	// KeepAliveTime is how long a connection may be idle before it is probed, at least 10 s, and KeepAliveTimeout is how long the
	// answer may take: a member that died without closing its connection is noticed after both. Defaults: 10 s and 5 s. A negative KeepAliveTime: no probes.
	KeepAliveTime    time.Duration `json:"keepalive_time,omitempty" yaml:"keepalive_time,omitempty" mapstructure:"keepalive_time" koanf:"keepalive_time" off:"negative"`
	KeepAliveTimeout time.Duration `json:"keepalive_timeout,omitempty" yaml:"keepalive_timeout,omitempty" mapstructure:"keepalive_timeout" koanf:"keepalive_timeout"`

	// Reading and registering.

	// Format is the form of the entries: our own, or the form of another framework, see the package comment. Default:
	// [FormatRollcall].
	Format string `json:"format,omitempty" yaml:"format,omitempty" mapstructure:"format" koanf:"format"`
	// Prefix is the beginning of every key. It ends in a slash, which is added if it is missing. Default: the prefix of the format.
	Prefix string `json:"prefix,omitempty" yaml:"prefix,omitempty" mapstructure:"prefix" koanf:"prefix"`

	// Registering.

	// TTL is how long an instance stays registered without a heartbeat, in whole seconds, at least 5 s. A heartbeat is sent every third
	// of it. Default: 15 s.
	TTL time.Duration `json:"ttl,omitempty" yaml:"ttl,omitempty" mapstructure:"ttl" koanf:"ttl"`

	// Options tune the Registry.
	Options registry.Options `json:"options,omitzero" yaml:"options,omitempty" mapstructure:"options" koanf:"options"`
}

// TLS says how the two sides of a connection know each other. Package consul has the same type.
//
// The files are read for each connection, so they can be replaced at any time. While they cannot be used, the connection uses their
// last good content. Each new reason is logged once, and the error of such a connection has it too.
type TLS struct {
	// Enable turns TLS on. It is also on if another of these fields is set, or if an endpoint is an https URL. Default: false.
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
	// ServerName is the name that the server's certificate must be for. Default: the host of each endpoint.
	ServerName string `json:"server_name,omitempty" yaml:"server_name,omitempty" mapstructure:"server_name" koanf:"server_name"`
	// InsecureSkipVerify accepts any certificate, so that an attacker on the network can read tokens and passwords. Default: false.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty" yaml:"insecure_skip_verify,omitempty" mapstructure:"insecure_skip_verify" koanf:"insecure_skip_verify"`
}

// Validate returns an error that wraps [registry.ErrInvalid] and names the fields that exclude or need each other. It reads no files.
func (t TLS) Validate() error { return tlsfiles.Settings(t).Validate("etcd") }

// Defaults of [Config].
const (
	DefaultPrefix           = "/rollcall/" // of our own format
	DefaultDialTimeout      = 5 * time.Second
	DefaultTimeout          = 5 * time.Second
	DefaultKeepAliveTime    = 10 * time.Second
	DefaultKeepAliveTimeout = 5 * time.Second
	DefaultTTL              = 15 * time.Second

	// minTTL leaves room for an election, during which etcd renews no leases: it takes a second or two.
	minTTL = 5 * time.Second
	// minKeepAliveTime is gRPC's own minimum. etcd closes the connection of a client that probes more often than every 5 s.
	minKeepAliveTime = 10 * time.Second
)

// String returns c without its secret.
func (c Config) String() string { return fmt.Sprintf("%+v", c.printable()) }

// GoString returns c without its secret.
func (c Config) GoString() string { return fmt.Sprintf("%#v", c.printable()) }

// LogValue returns c without its secret.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON writes c without its secret, and durations as text.
func (c Config) MarshalJSON() ([]byte, error) { return document.MarshalJSON(c.printable()) }

// MarshalYAML writes c without its secret.
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

func (c Config) printable() printed {
	c.Endpoints = slices.Clone(c.Endpoints)
	for i, e := range c.Endpoints {
		if urlparam.MayHaveSecret(e) {
			c.Endpoints[i] = registry.HiddenSecret
		}
	}
	return printed(c)
}

// mayHaveUser reports whether text may have a user and a password. It may be no proper URL.
func mayHaveUser(text string) bool { return strings.Contains(text, "@") }

// withDefaults returns c with a value in each field that has a default.
func (c Config) withDefaults() Config {
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{"127.0.0.1:2379"}
	}
	c.Format = cmp.Or(c.Format, FormatRollcall)
	if f, ok := format.ByName[c.Format]; ok && c.Prefix == "" {
		c.Prefix = f.Prefix()
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

// invalid names a field of Config and its URL parameter. value must not be a secret.
func invalid(field string, value any, why string) error {
	return fmt.Errorf("%w: etcd: %s: %v %s", registry.ErrInvalid, field, value, why)
}

// Validate returns an error that wraps [registry.ErrInvalid] and names every field of c that cannot be used. It reads no files.
func (c Config) Validate() error {
	errs := []error{c.check()}
	for _, e := range c.Endpoints {
		_, _, err := parseEndpoint(e)
		errs = append(errs, err)
	}
	return oneline.Join(errs...)
}

// check returns an error that names every field of c that cannot be used, except for the endpoints.
func (c Config) check() error {
	errs := []error{c.TLS.Validate()}
	fail := func(field string, value any, why string) { errs = append(errs, invalid(field, value, why)) }

	if (c.Username == "") != c.Password.IsZero() {
		errs = append(errs, fmt.Errorf("%w: etcd: Username and Password need each other, and one of them is not set", registry.ErrInvalid))
	}
	d := c.withDefaults()
	if format.ByName[d.Format] == nil {
		fail("Format (format)", strconv.Quote(c.Format), "is none of "+format.Names())
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
	errs = append(errs, c.Options.Validate())
	return oneline.Join(errs...)
}
