package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
)

func TestConfig_ZeroIsTheLocalEtcd(t *testing.T) {
	d := driverFor(t, Config{})
	defer d.Close()
	if p := d.Properties(); p.Address != "127.0.0.1:2379" || p.Name != "etcd 127.0.0.1:2379 /rollcall/" || !p.Pushes || p.Subscribe != nil {
		t.Errorf("it is %+v", p)
	}
	s := d.settings
	if s.TTL != DefaultTTL || s.Timeout != DefaultTimeout || s.DialTimeout != DefaultDialTimeout || s.tls != nil ||
		s.KeepAliveTime != DefaultKeepAliveTime || s.KeepAliveTimeout != DefaultKeepAliveTimeout {
		t.Errorf("the defaults are %v", s.Config)
	}
}

func TestConfig_NamesWhatItRefuses(t *testing.T) {
	junk := filepath.Join(t.TempDir(), "junk.pem")
	if err := os.WriteFile(junk, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{Endpoints: []string{"h:x"}}, []string{"Endpoints", `"h:x"`}},
		{Config{Endpoints: []string{"h:0"}}, []string{"Endpoints", "1 to 65535"}},
		{Config{Endpoints: []string{"h:1", "h:70000"}}, []string{"Endpoints", "70000", "1 to 65535"}},
		{Config{Endpoints: []string{""}}, []string{"Endpoints", `""`}},
		{Config{Endpoints: []string{"::1"}}, []string{"Endpoints", "brackets"}},
		{Config{Endpoints: []string{"a:1,b:1"}}, []string{"Endpoints", `"a:1,b:1"`}},
		{Config{Endpoints: []string{"unix:///run/etcd"}}, []string{"Endpoints", "scheme"}},
		{Config{Endpoints: []string{"http://h/path"}}, []string{"Endpoints", "host:port"}},
		{Config{Endpoints: []string{"u:" + secret + "@h"}}, []string{"Endpoints", "user"}},
		{Config{Endpoints: []string{"http://h", "https://h"}}, []string{"Endpoints", "http", "TLS"}},
		{Config{Endpoints: []string{"http://h"}, TLS: TLS{Enable: true}}, []string{"Endpoints", "TLS"}},
		{Config{Password: registry.NewSecret(secret)}, []string{"Username"}},
		{Config{Username: "u"}, []string{"Password"}},
		{Config{TLS: TLS{CAFile: "/no/such/file"}}, []string{"ca-file", "/no/such/file"}},
		{Config{TLS: TLS{CAFile: junk}}, []string{"ca-file", junk, "PEM"}},
		{Config{TLS: TLS{CertFile: junk}}, []string{"key-file"}},
		{Config{TLS: TLS{CertFile: junk, KeyFile: junk}}, []string{"cert-file"}},
		{Config{DialTimeout: -1}, []string{"DialTimeout", "-1ns"}},
		{Config{Timeout: -1}, []string{"Timeout", "-1ns"}},
		{Config{KeepAliveTimeout: -1}, []string{"KeepAliveTimeout", "-1ns"}},
		{Config{KeepAliveTime: time.Second}, []string{"KeepAliveTime", "1s", "10s"}},
		{Config{TTL: time.Second}, []string{"TTL", "1s", "5s", "election"}},
		{Config{TTL: -time.Second}, []string{"TTL", "-1s"}},
		{Config{TTL: 5500 * time.Millisecond}, []string{"TTL", "5.5s", "whole seconds"}},
		{Config{Options: registry.Options{Spacing: -1}}, []string{"Options.Spacing"}},
		{Config{TTL: 1, Timeout: -7}, []string{"TTL", "Timeout"}},
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

func TestConfig_EndpointsHaveDefaults(t *testing.T) {
	for _, c := range []struct {
		endpoints []string
		members   []string
		secure    bool
	}{
		{[]string{"h"}, []string{"h:2379"}, false},
		{[]string{"h:1", "[::1]"}, []string{"h:1", "[::1]:2379"}, false},
		{[]string{"http://h", "10.0.0.1:7"}, []string{"h:2379", "10.0.0.1:7"}, false},
		{[]string{"https://h:1/", "i"}, []string{"h:1", "i:2379"}, true},
	} {
		s, err := resolve(Config{Endpoints: c.endpoints})
		if err != nil || !reflect.DeepEqual(s.members, c.members) || (s.tls != nil) != c.secure {
			t.Errorf("%v: it is %+v, %v", c.endpoints, s, err)
		}
	}
	for given, want := range map[string]string{"": "/rollcall/", "/x": "/x/", "x/y/": "x/y/", "/": "/"} {
		if s, err := resolve(Config{Prefix: given}); err != nil || s.Prefix != want {
			t.Errorf("prefix %q is %q, %v", given, s.Prefix, err)
		}
	}
}

func TestOpen_ReadsEveryParameter(t *testing.T) {
	c, err := parseURL(configtest.ParseURL(t, "etcd://u:p%40w@h:2379,i:7/?endpoint=[::1]:7&prefix=/x/&ttl=20s&timeout=3s&dial-timeout=2s&keepalive-time=off"+
		"&keepalive-timeout=4s&tls=true&ca-file=ca.pem&cert-file=c.pem&key-file=k.pem&server-name=n&insecure=true&cache-dir=c&linger=1s"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Endpoints: []string{"h:2379", "i:7", "[::1]:7"}, Prefix: "/x/", Username: "u", Password: registry.NewSecret("p@w"),
		TLS:     TLS{Enable: true, CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "k.pem", ServerName: "n", InsecureSkipVerify: true},
		Timeout: 3 * time.Second, DialTimeout: 2 * time.Second, KeepAliveTime: -1, KeepAliveTimeout: 4 * time.Second,
		TTL: 20 * time.Second, Options: registry.Options{CacheDir: "c", Linger: time.Second},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", printed(c), printed(want))
	}
	r, err := Open(context.Background(), configtest.ParseURL(t, "etcd:///?tls=false"))
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != "etcd 127.0.0.1:2379 /rollcall/" {
		t.Errorf("without a host it is %q", r)
	}
	r.Close()
	// Hosts with ports in a list are still a URL to the parser, also by way of the registry.
	r, err = registry.Openers{"etcd": Open}.Open(context.Background(), "etcd://user:pass@a:1,b:2,c:3/")
	if err != nil {
		t.Fatal(err)
	}
	if r.String() != "etcd a:1,b:2,c:3 /rollcall/" {
		t.Errorf("with three hosts it is %q", r)
	}
	r.Close()
}

func TestOpen_NamesWhatItRefuses(t *testing.T) {
	for raw, want := range map[string][]string{
		"etcd://h/?tag=x":                 {`"tag"`, "prefix", "ttl"},
		"etcd://h/prefix":                 {`"/prefix"`, "parameter"},
		"etcd://h/#f":                     {`"f"`},
		"etcd:h:2379":                     {"two slashes"},
		"etcd://:" + secret + "@h/":       {"user"},
		"etcd://u@h/":                     {"Password"},
		"etcd://h/?ttl=soon":              {`"ttl"`, `"soon"`},
		"etcd://h/?ttl=4s":                {"ttl", "4s", "5s"},
		"etcd://h/?ttl=9s&ttl=8s":         {`"ttl"`, "more than once"},
		"etcd://h,,i/":                    {"Endpoints", `""`},
		"etcd://h/?tls=false&insecure=1":  {`"tls"`},
		"etcd://h/?ca-file=/no/such/file": {"/no/such/file"},
	} {
		r, err := Open(context.Background(), configtest.ParseURL(t, raw))
		if err == nil {
			r.Close()
		}
		configtest.WantRefusal(t, err, want...)
	}
}

func TestErrors_HaveNoSecret(t *testing.T) {
	c := Config{Endpoints: []string{"http://user:" + secret + "@h"}, Username: "user", Password: registry.NewSecret(secret)}
	configtest.WantConfigHidden(t, "the Config", c)
	configtest.WantHidden(t, "an unexported field", fmt.Sprintf("%+v", struct{ c Config }{Config{Password: c.Password}}))
	_, err := New(c)
	configtest.WantHidden(t, "the error of New", err)
	if c.Password.Reveal() != secret || !strings.Contains(c.Endpoints[0], secret) {
		t.Error("printing changed it")
	}
	if text := fmt.Sprintf("%+v", Config{Prefix: "/p7/"}); !strings.Contains(text, "/p7/") {
		t.Errorf("it shows nothing: %s", text)
	}
}

// An endpoint may be a URL of Open by mistake.
func TestNew_HidesWhatFollowsAnEndpoint(t *testing.T) {
	for _, endpoint := range []string{"h:1?password=" + secret, "https://h/?password=" + secret, "etcd://h?password=" + secret, "h#" + secret, "h;password=" + secret} {
		c := Config{Endpoints: []string{endpoint}}
		configtest.WantConfigHidden(t, endpoint, c)
		_, err := New(c)
		if err == nil {
			t.Errorf("%s is accepted", endpoint)
		}
		configtest.WantHidden(t, endpoint, err)
	}
}

func TestConfig_IsReadFromFiles(t *testing.T) {
	var c Config
	err := json.Unmarshal([]byte(`{"endpoints":["h:1"],"format":"kratos","prefix":"/p/","username":"u","password":"p","tls":{"ca_file":"f"},
		"dial_timeout":1000000000,"timeout":2000000000,"keepalive_time":3000000000,"keepalive_timeout":4000000000,"ttl":5000000000}`), &c)
	want := Config{
		Endpoints: []string{"h:1"}, Format: "kratos", Prefix: "/p/", Username: "u", Password: registry.NewSecret("p"), TLS: TLS{CAFile: "f"},
		DialTimeout: time.Second, Timeout: 2 * time.Second, KeepAliveTime: 3 * time.Second, KeepAliveTimeout: 4 * time.Second, TTL: 5 * time.Second,
	}
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v, %v", printed(c), err)
	}
}

func TestNew_ConnectsToNothing(t *testing.T) {
	listener, err := net.ListenTCP("tcp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	r, err := New(Config{Endpoints: []string{listener.Addr().String()}, Username: "u", Password: registry.NewSecret(secret)})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	listener.SetDeadline(time.Now())
	if c, err := listener.Accept(); err == nil {
		t.Errorf("there is a connection from %v", c.RemoteAddr())
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
