package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestConfig_ZeroIsTheLocalAgent(t *testing.T) {
	d, err := newDriver(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Properties().Address != "127.0.0.1:8500" || d.Properties().Name != "consul 127.0.0.1:8500" {
		t.Errorf("it is %q at %q", d.Properties().Name, d.Properties().Address)
	}
	if s := d.settings; s.Wait != DefaultWait || s.Timeout != DefaultTimeout || s.TTL != DefaultTTL || s.DeregisterAfter != DefaultDeregisterAfter {
		t.Errorf("the defaults are %v", s.Config)
	}
}

func TestConfig_NamesWhatItRefuses(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{Address: "host:x"}, []string{"Address", `"host:x"`}},
		{Config{Address: "host:0"}, []string{"Address", `"host:0"`, "1 to 65535"}},
		{Config{Address: "host:70000"}, []string{"Address", "1 to 65535"}},
		{Config{Address: "::1"}, []string{"Address", "brackets"}},
		{Config{Address: "grpc://host"}, []string{"Address", "scheme"}},
		{Config{Address: "unix://run/consul.sock"}, []string{"Address", "absolute"}},
		{Config{Address: "unix:///run/consul.sock", Scheme: "https"}, []string{"Address", "TLS"}},
		{Config{Address: "a:1,b:x,c:y"}, []string{"Address", `"b:x"`, `"c:y"`}},
		{Config{Address: "a,a:8500"}, []string{"Address", `"a:8500"`, "twice"}},
		{Config{Address: "u:s3c,ret@h"}, []string{"Address", "not shown", "user"}},
		{Config{Address: "a,"}, []string{"Address", "empty"}},
		{Config{Addresses: []string{"a:1", "b:x"}}, []string{"Addresses (address)", `"b:x"`}},
		{Config{Addresses: []string{"a:1,b:1"}}, []string{"Addresses (address)", `"a:1,b:1"`}},
		{Config{Addresses: []string{"a", "u:s3cret@h"}}, []string{"Addresses", "not shown", "user"}},
		{Config{Address: "a", Addresses: []string{"b"}}, []string{"Address and Addresses exclude each other"}},
		{Config{Scheme: "http", TLS: TLS{CAFile: "a"}}, []string{"Scheme", "TLS"}},
		{Config{Address: "http://a", TLS: TLS{Enable: true}}, []string{"Address", "TLS"}},
		{Config{Datacenter: "dc\n1"}, []string{"Datacenter (dc)", `"dc\n1"`, "printed"}},
		{Config{Peer: "p\x1b"}, []string{"Peer (peer)"}},
		{Config{Namespace: "\x00"}, []string{"Namespace (namespace)"}},
		{Config{Partition: "a\tb"}, []string{"Partition (partition)"}},
		{Config{Address: "http://a,https://b", Scheme: "http"}, []string{"Address", `"https://b"`, "Scheme"}},
		{Config{Token: registry.NewSecret("s3cret"), TokenFile: "/no/such/file"}, []string{"Token and TokenFile"}},
		{Config{TokenFile: "/no/such/file"}, []string{"TokenFile", "/no/such/file"}},
		{Config{TLS: TLS{CAFile: "a", CAPath: "b"}}, []string{"TLS.CAFile and TLS.CAPath"}},
		{Config{TLS: TLS{CertFile: "a"}}, []string{"TLS.CertFile and TLS.KeyFile"}},
		{Config{TLS: TLS{CertFile: "/no/such/cert", KeyFile: "/no/such/key"}}, []string{"/no/such/cert"}},
		{Config{Peer: "p", Datacenter: "d"}, []string{"Peer and Datacenter"}},
		{Config{Address: "https://host", Scheme: "http"}, []string{"Address", "Scheme"}},
		{Config{Address: "host:8500?dc=x"}, []string{"Address"}},
		{Config{Address: "http://"}, []string{"Address"}},
		{Config{Scheme: "grpc"}, []string{"Scheme", `"grpc"`}},
		{Config{Password: registry.NewSecret("s3cret")}, []string{"Username"}},
		{Config{Token: registry.NewSecret("s3cret\n")}, []string{"Token", "control character"}},
		{Config{Stale: true, Consistent: true}, []string{"Stale", "Consistent"}},
		{Config{MaxStale: time.Second, Consistent: true}, []string{"Stale", "Consistent"}},
		{Config{MaxStale: -1}, []string{"MaxStale", "-1ns"}},
		{Config{Rate: -1}, []string{"Rate", "-1"}},
		{Config{Limit: -1}, []string{"Limit", "-1"}},
		{Config{Wait: time.Millisecond}, []string{"Wait", "1ms"}},
		{Config{Wait: time.Hour}, []string{"Wait", "1h0m0s", "10m0s"}},
		{Config{Timeout: -1}, []string{"Timeout", "-1ns"}},
		{Config{TTL: time.Second}, []string{"TTL", "1s", "3s"}},
		{Config{DeregisterAfter: time.Second}, []string{"DeregisterAfter", "1s", "1m0s"}},
		{Config{Options: registry.Options{Spacing: -1}}, []string{"Options.Spacing"}},
		{Config{TLS: TLS{CAFile: "/no/such/file"}}, []string{"/no/such/file"}},
		{Config{TTL: 1, Limit: -7}, []string{"TTL", "Limit"}},
	} {
		r, err := New(c.config)
		if err == nil {
			r.Close()
			t.Errorf("%v is accepted", c.config)
			continue
		}
		configtest.WantRefusal(t, err, c.want...)
	}
}

func TestConfig_Addresses(t *testing.T) {
	for _, c := range []struct {
		config   Config
		env      string
		ssl      string
		location string
		scheme   string
	}{
		{config: Config{Address: "h:1"}, location: "h:1", scheme: "http"},
		{config: Config{Address: "h"}, location: "h:8500", scheme: "http"},
		{config: Config{Address: "h", Scheme: "https"}, location: "h:8501", scheme: "https"},
		{config: Config{Address: "[::1]:1"}, location: "[::1]:1", scheme: "http"},
		{config: Config{Address: "[::1]"}, location: "[::1]:8500", scheme: "http"},
		{config: Config{Address: "http://h"}, location: "h:80", scheme: "http"},
		{config: Config{Address: "https://h/"}, location: "h:443", scheme: "https"},
		{config: Config{Address: "https://h:1/consul"}, location: "h:1", scheme: "https"},
		{config: Config{Addresses: []string{"h:1", "[::1]", "https://s"}}, env: "e:2", location: "h:1 [::1]:8500 s:443", scheme: "http"},
		{config: Config{Address: "h", TLS: TLS{Enable: true}}, location: "h:8501", scheme: "https"},
		{config: Config{Address: "h", TLS: TLS{ServerName: "s"}}, location: "h:8501", scheme: "https"},
		{env: "e:2", location: "e:2", scheme: "http"},
		{env: "https://e:2", location: "e:2", scheme: "https"},
		{env: "e:2", ssl: "true", location: "e:2", scheme: "https"},
		{config: Config{Scheme: "http"}, env: "e:2", ssl: "true", location: "e:2", scheme: "http"},
		{config: Config{Address: "h:1"}, env: "e:2", location: "h:1", scheme: "http"},
		{config: Config{Address: "h:1, [::1],https://s"}, env: "e:2", location: "h:1 [::1]:8500 s:443", scheme: "http"},
		{config: Config{Address: "h:1,i:1"}, location: "h:1 i:1", scheme: "http"},
		{config: Config{Address: "unix:///run/consul.sock"}, location: "unix:///run/consul.sock", scheme: "http"},
		{env: "unix:///run/consul.sock", ssl: "true", location: "unix:///run/consul.sock", scheme: "http"},
	} {
		t.Setenv("CONSUL_HTTP_ADDR", c.env)
		t.Setenv("CONSUL_HTTP_SSL", c.ssl)
		_, places, _, err := resolve(c.config)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		var locations []string
		for _, a := range places {
			locations = append(locations, a.Location())
		}
		if got := strings.Join(locations, " "); got != c.location || places[0].Scheme != c.scheme {
			t.Errorf("%+v: it is %s://%s", c, places[0].Scheme, got)
		}
	}
}

func TestNew_NamesVariablesThatItRefuses(t *testing.T) {
	for name, c := range map[string]struct{ value, names string }{
		"CONSUL_HTTP_ADDR":       {"host:x", "CONSUL_HTTP_ADDR"},
		"CONSUL_HTTP_SSL":        {"perhaps", "CONSUL_HTTP_SSL"},
		"CONSUL_HTTP_SSL_VERIFY": {"never", "CONSUL_HTTP_SSL_VERIFY"},
		"CONSUL_HTTP_TOKEN_FILE": {"/no/such/file", "/no/such/file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, c.value)
			_, err := New(Config{})
			configtest.WantRefusal(t, err, c.names)
		})
	}
}

func TestNext_SendsTheSettingsWithARead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config          Config
		env             map[string]string
		token, user, pw string
		query           string
	}{
		"nothing":                    {query: "index=7&passing=1&wait=45000ms"},
		"config":                     {config: Config{Token: registry.NewSecret("t"), Username: registry.NewSecret("u"), Password: registry.NewSecret("p")}, token: "t", user: "u", pw: "p", query: "index=7&passing=1&wait=45000ms"},
		"environment":                {env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_AUTH": "u:p"}, token: "e", user: "u", pw: "p", query: "index=7&passing=1&wait=45000ms"},
		"token file":                 {env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_TOKEN_FILE": file}, token: "from-file", query: "index=7&passing=1&wait=45000ms"},
		"config wins":                {config: Config{Token: registry.NewSecret("e")}, env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_TOKEN_FILE": file}, token: "e", query: "index=7&passing=1&wait=45000ms"},
		"token file of config":       {config: Config{TokenFile: file}, env: map[string]string{"CONSUL_HTTP_TOKEN": "e"}, token: "from-file", query: "index=7&passing=1&wait=45000ms"},
		"tenancy":                    {config: Config{Peer: "p", Namespace: "n", Partition: "a"}, query: "index=7&ns=n&partition=a&passing=1&peer=p&wait=45000ms"},
		"tenancy of the environment": {env: map[string]string{"CONSUL_NAMESPACE": "n", "CONSUL_PARTITION": "a"}, query: "index=7&ns=n&partition=a&passing=1&wait=45000ms"},
		"reading":                    {config: Config{Datacenter: "dc2", Near: "_agent", Stale: true, Wait: time.Second}, query: "dc=dc2&index=7&near=_agent&passing=1&stale=&wait=1000ms"},
		"consistent":                 {config: Config{Consistent: true}, query: "consistent=&index=7&merge-central-config=&passing=1&wait=45000ms"},
		"path of a proxy":            {config: Config{Address: "/prefix"}, query: "index=7&passing=1&wait=45000ms"},
	} {
		t.Run(name, func(t *testing.T) {
			var got *http.Request
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r
				w.Header().Set("X-Consul-Index", "7")
				fmt.Fprint(w, `[{"Node":{},"Service":{"Service":"s"}}]`)
			}))
			defer srv.Close()
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			prefix := c.config.Address
			c.config.Address = srv.URL + prefix
			d, err := newDriver(c.config)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			s := &source{reader: reader{d: d}, query: registry.Query{Service: "s"}}
			if _, err := s.read(t.Context(), 7, c.config.Stale); err != nil {
				t.Fatal(err)
			}
			user, pw, _ := got.BasicAuth()
			if got.Header.Get("X-Consul-Token") != c.token || user != c.user || pw != c.pw || got.URL.RawQuery != c.query || got.URL.Path != prefix+"/v1/health/service/s" {
				t.Errorf("token %q, user %q, password %q, %s", got.Header.Get("X-Consul-Token"), user, pw, got.URL)
			}
		})
	}
}

func TestOpen_ReadsEveryParameter(t *testing.T) {
	c, err := parseURL(configtest.ParseURL(t, "consul://u:p%40w@[::1]:8501/?dc=dc2&token=t&wait=5m&ttl=20s&near=_agent&limit=3&stale=true&consistent=false&timeout=3s"+
		"&tls=true&insecure=true&ca-file=ca.pem&deregister-after=2m&cache-dir=c&linger=1s"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Addresses: []string{"[::1]:8501"}, Username: registry.NewSecret("u"), Password: registry.NewSecret("p@w"), Token: registry.NewSecret("t"), TLS: TLS{Enable: true, CAFile: "ca.pem", InsecureSkipVerify: true},
		Datacenter: "dc2", Near: "_agent", Limit: 3, Stale: true, Wait: 5 * time.Minute, Timeout: 3 * time.Second,
		TTL: 20 * time.Second, DeregisterAfter: 2 * time.Minute, Options: registry.Options{CacheDir: "c", Linger: time.Second},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", printed(c), printed(want))
	}
	c, err = parseURL(configtest.ParseURL(t, "consul://a:1,b:2/?address=[::1]:3&address=unix:///run/consul.sock&token-file=t&ca-path=p&cert-file=c&key-file=k&server-name=n"+
		"&filter=a+%3D%3D+b&connect=true&rate=7&stale=10s&peer=east&namespace=ns&partition=part"))
	want = Config{
		Addresses: []string{"a:1", "b:2", "[::1]:3", "unix:///run/consul.sock"}, TokenFile: "t",
		TLS: TLS{CAPath: "p", CertFile: "c", KeyFile: "k", ServerName: "n"}, Filter: "a == b", Connect: true, Options: registry.Options{Rate: 7}, MaxStale: 10 * time.Second, Peer: "east", Namespace: "ns", Partition: "part",
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v, %v\nwant %+v", printed(c), err, printed(want))
	}
	r, err := Open(context.Background(), configtest.ParseURL(t, "consul:///?tls=false"))
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != "consul 127.0.0.1:8500" {
		t.Errorf("without a host it is %q", r)
	}
	r.Close()
}

func TestOpen_NamesWhatItRefuses(t *testing.T) {
	for raw, want := range map[string][]string{
		"consul://h/?tag=x&dc=1":          {`"tag"`, "deregister-after", "wait"},
		"consul://h/service":              {`"/service"`},
		"consul://h/#f":                   {`"f"`},
		"consul:h:8500":                   {"two slashes"},
		"consul://:s3cret@h/":             {"user"},
		"consul://h,s3cret:s3cret@h2/":    {"user", "before the first host"},
		"consul://h/?datacenter=dc1":      {`did you mean "dc" for "datacenter"`},
		"consul://h/?wait=soon":           {`"wait"`, `"soon"`},
		"consul://h/?stale=often":         {`"stale"`, `"often"`, "10s"},
		"consul://h/?stale=-1s":           {`"stale"`, `"-1s"`},
		"consul://h/?ttl=1s&token=s3cret": {"ttl", "3s"},
		"consul://h/?deregister-after=1s": {"deregister-after", "1m"},
		"consul://h/?token=a&token=b":     {`"token"`, "more than once"},
		"consul://h/?stale=1&consistent=1": {
			"stale", "consistent",
		},
	} {
		_, err := Open(context.Background(), configtest.ParseURL(t, raw))
		configtest.WantRefusal(t, err, want...)
	}
}

func TestErrors_HaveNoSecret(t *testing.T) {
	c := Config{Address: "http://user:s3cret@h", Username: registry.NewSecret("user"), Password: registry.NewSecret("s3cret"), Token: registry.NewSecret("s3cret")}
	configtest.WantConfigHidden(t, "the Config", c)
	for _, c := range []Config{{Address: "user:s3cret@h"}, {Address: "h,user:s3cret@h"}, {Addresses: []string{"h", "user:s3cret@h"}}} {
		configtest.WantConfigHidden(t, "the address", c)
	}
	_, err := New(c)
	configtest.WantHidden(t, "the error of New", err)
	if text := fmt.Sprintf("%+v", Config{Datacenter: "dc7"}); !strings.Contains(text, "dc7") {
		t.Errorf("it shows nothing: %s", text)
	}

	// This agent repeats the secrets of a call in its answer, as a proxy may do.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Default-ACL-Policy", "deny")
		w.WriteHeader(http.StatusForbidden)
		_, pw, _ := r.BasicAuth()
		fmt.Fprintf(w, "token %s and password %s are wrong", r.Header.Get("X-Consul-Token"), pw)
	}))
	defer srv.Close()
	d, err := newDriver(Config{Address: srv.URL, Token: registry.NewSecret("s3cret-token"), Username: registry.NewSecret("u"), Password: registry.NewSecret("s3cret-password")})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Services(t.Context())
	if !errors.Is(err, registry.ErrDenied) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "are wrong") {
		t.Errorf("got %v", err)
	}
}

// An address may be a URL of Open by mistake.
func TestNew_HidesWhatFollowsAnAddress(t *testing.T) {
	for _, address := range []string{"h:1?token=s3cret", "http://h/?token=s3cret", "consul://h?wait=1s&token=s3cret", "h#s3cret", "h;token=s3cret", "h,,?token=s3cret"} {
		for _, c := range []Config{{Address: address}, {Addresses: []string{"h2", address}}} {
			configtest.WantConfigHidden(t, address, c)
			_, err := New(c)
			if err == nil {
				t.Errorf("%s is accepted", address)
			}
			configtest.WantHidden(t, address, err)
		}
		t.Setenv("CONSUL_HTTP_ADDR", address)
		_, err := New(Config{})
		configtest.WantHidden(t, address, err)
	}
}

// For an unexported field, fmt calls no method: it prints the value itself.
func TestConfig_HidesSecretsInUnexportedFields(t *testing.T) {
	c := Config{Username: registry.NewSecret("s3cret-user"), Password: registry.NewSecret("s3cret"), Token: registry.NewSecret("s3cret")}
	type settings struct {
		config Config
		list   []Config
		any    any
	}
	s := settings{c, []Config{c}, c}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		text := fmt.Sprintf(verb, s) + fmt.Sprintf(verb, &s) + fmt.Sprintf(verb, printed(c))
		if strings.Contains(text, "s3cret") || strings.Contains(text, fmt.Sprintf("%x", "s3cret")) {
			t.Errorf("%s shows the secret: %s", verb, text)
		}
	}
}

// With the time that Consul adds to it, the default of Wait is shorter than the 50 s that some proxies allow.
func TestConfig_DefaultWaitEndsBeforeProxiesDo(t *testing.T) {
	if longest := DefaultWait + DefaultWait/16; longest >= 50*time.Second {
		t.Errorf("a blocking query lasts up to %v", longest)
	}
}

func TestConfig_Validate(t *testing.T) {
	if err := (Config{Address: "h:1", TokenFile: "/no/such/file"}).Validate(); err != nil {
		t.Errorf("it reads files: %v", err)
	}
	configtest.WantRefusal(t, Config{Address: "h:x", TTL: 1}.Validate(), "Address", "TTL")
}

// The error for a path says how to write the path of a proxy.
func TestOpen_APathNamesTheAddressParameter(t *testing.T) {
	_, err := Open(t.Context(), configtest.ParseURL(t, "consul://h:8500/foo/bar"))
	configtest.WantRefusal(t, err, `"/foo/bar"`, "?address=http://h:8500/foo/bar")
	_, err = Open(t.Context(), configtest.ParseURL(t, "consul://user:12/s3cret@h/"))
	configtest.WantRefusal(t, err, "percent-encoded")
	r, err := Open(t.Context(), configtest.ParseURL(t, "consul:///?address=http://h:8500/foo/bar"))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

func TestConfig_IsReadFromFiles(t *testing.T) {
	var c Config
	err := json.Unmarshal([]byte(`{"address":"h:1","token":"t","tls":{"ca_file":"f","cert_file":"c","key_file":"k","server_name":"s"},"datacenter":"d","wait":5000000000,"deregister_after":60000000000,
		"namespace":"n","partition":"p","failover":"e","filter":"x == y","connect":true,"max_stale":1000000000,"rate":9}`), &c)
	want := Config{Address: "h:1", Token: registry.NewSecret("t"), TLS: TLS{CAFile: "f", CertFile: "c", KeyFile: "k", ServerName: "s"}, Datacenter: "d", Wait: 5 * time.Second, DeregisterAfter: time.Minute,
		Namespace: "n", Partition: "p", Failover: []string{"e"}, Filter: "x == y", Connect: true, MaxStale: time.Second, Rate: 9}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", printed(c), err)
	}
}

func TestNewDriver_IsTheDriverOfNew(t *testing.T) {
	d, err := NewDriver(Config{})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	configtest.WantSameErrors(t, NewDriver, New, Config{TTL: 1}, Config{Options: registry.Options{Burst: -1}})
}

// A change that the caller makes afterwards has no effect.
func TestNew_CopiesListsAndMaps(t *testing.T) {
	c := Config{Addresses: []string{"h:1"}, Failover: []string{"dc2"}, Checks: Checks{Kinds: []string{CheckTCP}}, Meta: map[string]string{"k": "v"}}
	d, err := newDriver(c)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c.Addresses[0], c.Failover[0], c.Checks.Kinds[0], c.Meta["k"] = "x", "x", "x", "x"
	want := Config{Addresses: []string{"h:1"}, Failover: []string{"dc2"}, Checks: Checks{Kinds: []string{CheckTCP}}, Meta: map[string]string{"k": "v"}}
	if got := d.settings.Config; !reflect.DeepEqual(got, want.withDefaults()) {
		t.Errorf("the settings are %v", got)
	}
}

// Several faults are reported on one line, so that a log keeps them together.
func TestNew_ErrorIsOneLine(t *testing.T) {
	_, err := New(Config{Address: "h:x", TTL: 1, Datacenter: "a\nb", Options: registry.Options{Burst: -1}})
	configtest.WantRefusal(t, err, "Address", "TTL", "Datacenter", "Options.Burst")
	if text := err.Error(); strings.Contains(text, "\n") || strings.Count(text, "rollcall: ") != 1 || strings.Count(text, "invalid: ") != 1 {
		t.Errorf("the error is %q", text)
	}
}

func TestConfig_RateIsOptionsRate(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   int
	}{
		{Config{}, 0},
		{Config{Rate: 3}, 3},
		{Config{Options: registry.Options{Rate: 5}}, 5},
		{Config{Rate: 3, Options: registry.Options{Rate: 5}}, 5},
	} {
		if got := c.config.options().Rate; got != c.want {
			t.Errorf("%+v limits to %d reads a second, want %d", c.config, got, c.want)
		}
	}
}
