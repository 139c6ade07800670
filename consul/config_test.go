package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

func TestZeroConfigIsTheLocalAgent(t *testing.T) {
	clearEnvironment(t)
	d, err := newDriver(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Locate() != "127.0.0.1:8500" || d.String() != "consul 127.0.0.1:8500" {
		t.Errorf("it is %q at %q", d, d.Locate())
	}
	if s := d.settings; s.Wait != DefaultWait || s.Timeout != DefaultTimeout || s.TTL != DefaultTTL || s.DeregisterAfter != DefaultDeregisterAfter {
		t.Errorf("the defaults are %v", s.Config)
	}
}

func TestConfigRefusals(t *testing.T) {
	clearEnvironment(t)
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
		{Config{Address: "http://a,https://b", Scheme: "http"}, []string{"Address", `"https://b"`, "Scheme"}},
		{Config{Token: "s3cret", TokenFile: "/no/such/file"}, []string{"Token and TokenFile"}},
		{Config{TokenFile: "/no/such/file"}, []string{"TokenFile", "/no/such/file"}},
		{Config{TLS: TLS{CAFile: "a", CAPath: "b"}}, []string{"TLS.CAFile and TLS.CAPath"}},
		{Config{TLS: TLS{CertFile: "a"}}, []string{"TLS.CertFile and TLS.KeyFile"}},
		{Config{TLS: TLS{CertFile: "/no/such/cert", KeyFile: "/no/such/key"}}, []string{"/no/such/cert"}},
		{Config{Peer: "p", Datacenter: "d"}, []string{"Peer and Datacenter"}},
		{Config{Address: "https://host", Scheme: "http"}, []string{"Address", "Scheme"}},
		{Config{Address: "host:8500?dc=x"}, []string{"Address"}},
		{Config{Address: "http://"}, []string{"Address"}},
		{Config{Scheme: "grpc"}, []string{"Scheme", `"grpc"`}},
		{Config{Password: "s3cret"}, []string{"Username"}},
		{Config{Token: "s3cret\n"}, []string{"Token", "control character"}},
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
		wantRefusal(t, err, c.want...)
	}
}

func TestConfigAddresses(t *testing.T) {
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
		clearEnvironment(t)
		t.Setenv("CONSUL_HTTP_ADDR", c.env)
		t.Setenv("CONSUL_HTTP_SSL", c.ssl)
		_, places, _, err := resolve(c.config)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		var locations []string
		for _, a := range places {
			locations = append(locations, a.location())
		}
		if got := strings.Join(locations, " "); got != c.location || places[0].scheme != c.scheme {
			t.Errorf("%+v: it is %s://%s", c, places[0].scheme, got)
		}
	}
}

func TestEnvironmentRefusals(t *testing.T) {
	for name, value := range map[string]string{
		"CONSUL_HTTP_ADDR": "host:x", "CONSUL_HTTP_SSL": "perhaps", "CONSUL_HTTP_SSL_VERIFY": "never", "CONSUL_HTTP_TOKEN_FILE": "/no/such/file",
	} {
		clearEnvironment(t)
		t.Setenv(name, value)
		_, err := New(Config{})
		want := name
		if strings.HasPrefix(value, "/") {
			want = value
		}
		wantRefusal(t, err, want)
	}
}

// What is sent is asked of a server, since that is what counts.
func TestWhatIsSent(t *testing.T) {
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
		"nothing":                    {query: "index=7&passing=1&wait=60000ms"},
		"config":                     {config: Config{Token: "t", Username: "u", Password: "p"}, token: "t", user: "u", pw: "p", query: "index=7&passing=1&wait=60000ms"},
		"environment":                {env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_AUTH": "u:p"}, token: "e", user: "u", pw: "p", query: "index=7&passing=1&wait=60000ms"},
		"token file":                 {env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_TOKEN_FILE": file}, token: "from-file", query: "index=7&passing=1&wait=60000ms"},
		"config wins":                {config: Config{Token: "e"}, env: map[string]string{"CONSUL_HTTP_TOKEN": "e", "CONSUL_HTTP_TOKEN_FILE": file}, token: "e", query: "index=7&passing=1&wait=60000ms"},
		"token file of config":       {config: Config{TokenFile: file}, env: map[string]string{"CONSUL_HTTP_TOKEN": "e"}, token: "from-file", query: "index=7&passing=1&wait=60000ms"},
		"tenancy":                    {config: Config{Peer: "p", Namespace: "n", Partition: "a"}, query: "index=7&ns=n&partition=a&passing=1&peer=p&wait=60000ms"},
		"tenancy of the environment": {env: map[string]string{"CONSUL_NAMESPACE": "n", "CONSUL_PARTITION": "a"}, query: "index=7&ns=n&partition=a&passing=1&wait=60000ms"},
		"reading":                    {config: Config{Datacenter: "dc2", Near: "_agent", Stale: true, Wait: time.Second}, query: "dc=dc2&index=7&near=_agent&passing=1&stale=&wait=1000ms"},
		"consistent":                 {config: Config{Consistent: true}, query: "consistent=&index=7&merge-central-config=&passing=1&wait=60000ms"},
		"path of a proxy":            {config: Config{Address: "/prefix"}, query: "index=7&passing=1&wait=60000ms"},
	} {
		t.Run(name, func(t *testing.T) {
			clearEnvironment(t)
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
			s := &source{d: d, query: registry.Query{Service: "s"}}
			if _, _, err := s.read(t.Context(), 7, c.config.Stale); err != nil {
				t.Fatal(err)
			}
			user, pw, _ := got.BasicAuth()
			if got.Header.Get("X-Consul-Token") != c.token || user != c.user || pw != c.pw || got.URL.RawQuery != c.query || got.URL.Path != prefix+"/v1/health/service/s" {
				t.Errorf("token %q, user %q, password %q, %s", got.Header.Get("X-Consul-Token"), user, pw, got.URL)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	clearEnvironment(t)
	c, err := parseURL(parse(t, "consul://u:p%40w@[::1]:8501/?dc=dc2&token=t&wait=5m&ttl=20s&near=_agent&limit=3&stale=true&consistent=false&timeout=3s"+
		"&tls=true&insecure=true&ca-file=ca.pem&deregister-after=2m&cache-dir=c&linger=1s"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Address: "[::1]:8501", Scheme: "https", Username: "u", Password: "p@w", Token: "t", TLS: TLS{CAFile: "ca.pem", InsecureSkipVerify: true},
		Datacenter: "dc2", Near: "_agent", Limit: 3, Stale: true, Wait: 5 * time.Minute, Timeout: 3 * time.Second,
		TTL: 20 * time.Second, DeregisterAfter: 2 * time.Minute, Options: registry.Options{CacheDir: "c", Linger: time.Second},
	}
	if c != want {
		t.Errorf("got  %+v\nwant %+v", printed(c), printed(want))
	}
	c, err = parseURL(parse(t, "consul://a:1,b:2/?address=[::1]:3&address=unix:///run/consul.sock&token-file=t&ca-path=p&cert-file=c&key-file=k&server-name=n"+
		"&filter=a+%3D%3D+b&connect=true&rate=7&stale=10s&peer=east&namespace=ns&partition=part"))
	want = Config{
		Address: "a:1,b:2,[::1]:3,unix:///run/consul.sock", TokenFile: "t",
		TLS: TLS{CAPath: "p", CertFile: "c", KeyFile: "k", ServerName: "n"}, Filter: "a == b", Connect: true, Rate: 7, MaxStale: 10 * time.Second, Peer: "east", Namespace: "ns", Partition: "part",
	}
	if err != nil || c != want {
		t.Errorf("got  %+v, %v\nwant %+v", printed(c), err, printed(want))
	}
	r, err := Open(context.Background(), parse(t, "consul:///?tls=false"))
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != "consul 127.0.0.1:8500" {
		t.Errorf("without a host it is %q", r)
	}
	r.Close()
}

func TestOpenRefusals(t *testing.T) {
	clearEnvironment(t)
	for raw, want := range map[string][]string{
		"consul://h/?tag=x&dc=1":          {`"tag"`, "deregister-after", "wait"},
		"consul://h/service":              {`"/service"`},
		"consul://h/#f":                   {`"f"`},
		"consul:h:8500":                   {"two slashes"},
		"consul://:p4ss@h/":               {"user"},
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
		_, err := Open(context.Background(), parse(t, raw))
		wantRefusal(t, err, want...)
	}
}

func TestNoSecretIsPrinted(t *testing.T) {
	c := Config{Address: "http://user:s3cret@h", Username: "user", Password: "s3cret", Token: "s3cret"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("opening", "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("opening", "config", &c)
	_, err := New(c)
	for _, text := range []string{
		fmt.Sprint(c), fmt.Sprintf("%v", &c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), c.String(), log.String(), err.Error(),
		fmt.Sprint(Config{Address: "user:s3cret@h"}), fmt.Sprint(Config{Address: "h,user:s3cret@h"}), fmt.Sprintf("%+v", struct{ C Config }{c}),
	} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("it shows the secret: %s", text)
		}
	}
	if text := fmt.Sprintf("%+v", Config{Datacenter: "dc7"}); !strings.Contains(text, "dc7") {
		t.Errorf("it shows nothing: %s", text)
	}

	// An agent or a proxy that repeats what it was sent.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, pw, _ := r.BasicAuth()
		fmt.Fprintf(w, "token %s and password %s are wrong", r.Header.Get("X-Consul-Token"), pw)
	}))
	defer srv.Close()
	clearEnvironment(t)
	d, err := newDriver(Config{Address: srv.URL, Token: "s3cret-token", Username: "u", Password: "s3cret-password"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, err = d.Services(t.Context())
	if !errors.Is(err, registry.ErrDenied) || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "are wrong") {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsRead(t *testing.T) {
	var c Config
	err := json.Unmarshal([]byte(`{"address":"h:1","token":"t","tls":{"ca_file":"f","cert_file":"c","key_file":"k","server_name":"s"},"datacenter":"d","wait":5000000000,"deregister_after":60000000000,
		"namespace":"n","partition":"p","failover":"e","filter":"x == y","connect":true,"max_stale":1000000000,"rate":9}`), &c)
	want := Config{Address: "h:1", Token: "t", TLS: TLS{CAFile: "f", CertFile: "c", KeyFile: "k", ServerName: "s"}, Datacenter: "d", Wait: 5 * time.Second, DeregisterAfter: time.Minute,
		Namespace: "n", Partition: "p", Failover: "e", Filter: "x == y", Connect: true, MaxStale: time.Second, Rate: 9}
	if err != nil || c != want {
		t.Errorf("got %+v, %v", printed(c), err)
	}
}

func wantRefusal(t *testing.T, err error, want ...string) {
	t.Helper()
	if !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("the error is %v, want %v", err, want)
		return
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not say %s", err, w)
		}
	}
	for _, secret := range []string{"s3cret", "p4ss"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%q shows the secret", err)
		}
	}
}

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// clearEnvironment takes away what would change a Config.
func clearEnvironment(t *testing.T) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "CONSUL_") {
			t.Setenv(name, "")
		}
	}
}
