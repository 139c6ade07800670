// Package config tests how other libraries for configuration read Rollcall's.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	koanfjson "github.com/knadh/koanf/parsers/json"
	koanfyaml "github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/viper"
	yamlv3 "gopkg.in/yaml.v3"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/registry"
)

// readers read a document with their defaults.
var readers = map[string]func(document string, to any) error{
	"yaml.v3":     func(document string, to any) error { return yamlv3.Unmarshal([]byte(document), to) },
	"goccy":       func(document string, to any) error { return yaml.Unmarshal([]byte(document), to) },
	"json":        func(document string, to any) error { return json.Unmarshal([]byte(document), to) },
	"viper":       func(document string, to any) error { return readViper("yaml", document, to) },
	"viper, JSON": func(document string, to any) error { return readViper("json", document, to) },
	"koanf":       func(document string, to any) error { return readKoanf(koanfyaml.Parser(), document, to) },
	"koanf, JSON": func(document string, to any) error { return readKoanf(koanfjson.Parser(), document, to) },
}

func readViper(kind, document string, to any) error {
	v := viper.New()
	v.SetConfigType(kind)
	return errors.Join(v.ReadConfig(strings.NewReader(document)), v.Unmarshal(to))
}

func readKoanf(parser koanf.Parser, document string, to any) error {
	k := koanf.New(".")
	return errors.Join(k.Load(rawbytes.Provider([]byte(document)), parser), k.Unmarshal("", to))
}

// full sets every field of the struct, and returns the document that says so: JSON, which is YAML too.
func full(t *testing.T, to reflect.Value, n *int) map[string]any {
	t.Helper()
	document := map[string]any{}
	for i := range to.NumField() {
		f, v := to.Type().Field(i), to.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		for _, tag := range []string{"yaml", "mapstructure", "koanf"} {
			if other, _, _ := strings.Cut(f.Tag.Get(tag), ","); other != name || name == "" {
				t.Errorf("%s.%s is %q to json and %q to %s", to.Type(), f.Name, name, other, tag)
			}
		}
		*n++
		switch v.Interface().(type) {
		case time.Duration:
			v.SetInt(int64(time.Duration(*n) * time.Second))
			document[name] = time.Duration(v.Int()).String()
			continue
		case registry.Secret:
			text := fmt.Sprintf("s3cret-%d", *n)
			v.Set(reflect.ValueOf(registry.NewSecret(text)))
			document[name] = text
			continue
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString(fmt.Sprintf("text-%d", *n))
			document[name] = v.String()
		case reflect.Int:
			v.SetInt(int64(*n))
			document[name] = *n
		case reflect.Bool:
			v.SetBool(true)
			document[name] = true
		case reflect.Map:
			v.Set(reflect.ValueOf(map[string]string{"team": "payments", "rack": fmt.Sprint(*n)}))
			document[name] = v.Interface()
		case reflect.Slice:
			v.Set(reflect.ValueOf([]string{"one:1", "two:2"}))
			document[name] = v.Interface()
		case reflect.Struct:
			document[name] = full(t, v, n)
		default:
			t.Fatalf("%s.%s has a kind that this test does not know", to.Type(), f.Name)
		}
	}
	return document
}

func TestConfig_EveryReaderReadsEveryField(t *testing.T) {
	for _, want := range []any{&consul.Config{}, &etcd.Config{}, &registry.Options{}} {
		var n int
		fields := full(t, reflect.ValueOf(want).Elem(), &n)
		asJSON, err := json.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := yamlv3.Marshal(fields)
		if err != nil {
			t.Fatal(err)
		}
		for name, read := range readers {
			for _, document := range []string{string(asJSON), string(asYAML)} {
				if strings.Contains(strings.ToLower(name), "json") && document != string(asJSON) {
					continue
				}
				got := reflect.New(reflect.TypeOf(want).Elem())
				if err := read(document, got.Interface()); err != nil {
					t.Errorf("%s, %T: %v", name, want, err)
				} else if !reflect.DeepEqual(got.Interface(), want) {
					t.Errorf("%s read\n%+v\nof\n%s", name, got.Interface(), document)
				}
			}
		}
	}
}

// A Config is a part of the configuration of a program.
func TestConfig_IsReadAsAPart(t *testing.T) {
	type program struct {
		Name string        `json:"name" yaml:"name" mapstructure:"name" koanf:"name"`
		C    consul.Config `json:"consul" yaml:"consul" mapstructure:"consul" koanf:"consul"`
		E    *etcd.Config  `json:"etcd" yaml:"etcd" mapstructure:"etcd" koanf:"etcd"`
		List []etcd.Config `json:"list" yaml:"list" mapstructure:"list" koanf:"list"`
	}
	const document = `{"name": "p", "consul": {"token_file": "/t", "tls": {"ca_file": "/ca"}, "deregister_after": "90s", "options": {"linger": "off"}},
		"etcd": {"endpoints": ["a:1"], "password": "s3cret", "keepalive_time": "off", "options": {"cache_dir": "/c"}}, "list": [{"ttl": "9s"}]}`
	want := program{
		Name: "p",
		C:    consul.Config{TokenFile: "/t", TLS: consul.TLS{CAFile: "/ca"}, DeregisterAfter: 90 * time.Second, Options: registry.Options{Linger: -1}},
		E:    &etcd.Config{Endpoints: []string{"a:1"}, Password: registry.NewSecret("s3cret"), KeepAliveTime: -1, Options: registry.Options{CacheDir: "/c"}},
		List: []etcd.Config{{TTL: 9 * time.Second}},
	}
	for name, read := range readers {
		var got program
		if err := read(document, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s read %+v %+v, %v", name, got, got.E, err)
		}
	}
}

func TestOptions_OffAndZeroAreOffInEveryReader(t *testing.T) {
	for name, read := range readers {
		for _, off := range []string{`"off"`, "0", `"0"`, `"0s"`, `"-1ns"`} {
			var o registry.Options
			if err := read(`{"linger": `+off+`}`, &o); err != nil || o.Linger != -1 {
				t.Errorf("%s reads %s as %v, %v", name, off, o.Linger, err)
			}
			var c etcd.Config
			if err := read(`{"keepalive_time": `+off+`}`, &c); err != nil || c.KeepAliveTime != -1 {
				t.Errorf("%s reads %s as %v, %v", name, off, c.KeepAliveTime, err)
			}
		}
		if !strings.Contains(strings.ToLower(name), "json") {
			var o registry.Options
			if err := read("linger: off\nburst: 3\n", &o); err != nil || o.Linger != -1 || o.Burst != 3 {
				t.Errorf("%s reads a plain off as %v, %v", name, o, err)
			}
		}
		for _, bad := range []string{`{"backoff_min": "off"}`, `{"linger": "soon"}`, `{"linger": 1.5}`, `{"linger": true}`, `{"burst": "many"}`, `{"linger": [1]}`} {
			var o registry.Options
			if err := read(bad, &o); err == nil {
				t.Errorf("%s reads %s as %+v", name, bad, o)
			}
		}
	}
}

func TestConfig_NanosecondsAreReadFromJSON(t *testing.T) {
	for name, read := range readers {
		if !strings.Contains(strings.ToLower(name), "json") {
			continue
		}
		var c consul.Config
		err := read(`{"wait": 5000000000, "checks": {"interval": 2000000000}, "options": {"spacing": 3000000000}}`, &c)
		want := consul.Config{Wait: 5 * time.Second, Checks: consul.Checks{Interval: 2 * time.Second}, Options: registry.Options{Spacing: 3 * time.Second}}
		if err != nil || !reflect.DeepEqual(c, want) {
			t.Errorf("%s read %+v, %v", name, c, err)
		}
	}
}

// What a document does not name stays as it was, so that defaults can be set first.
func TestConfig_KeepsWhatTheDocumentDoesNotName(t *testing.T) {
	for name, read := range readers {
		c := consul.Config{Datacenter: "dc7", Wait: time.Minute, Options: registry.Options{Burst: 7}}
		e := etcd.Config{Prefix: "/p/", TTL: time.Minute, Options: registry.Options{Burst: 7}}
		if err := errors.Join(read(`{"timeout": "3s", "options": {"linger": "4s"}}`, &c), read(`{"timeout": "3s", "options": {"linger": "4s"}}`, &e)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		o := registry.Options{Burst: 7, Linger: 4 * time.Second}
		if !reflect.DeepEqual(c, consul.Config{Datacenter: "dc7", Wait: time.Minute, Timeout: 3 * time.Second, Options: o}) ||
			!reflect.DeepEqual(e, etcd.Config{Prefix: "/p/", TTL: time.Minute, Timeout: 3 * time.Second, Options: o}) {
			t.Errorf("%s made %+v and %+v", name, c, e)
		}
	}
}

// A reader of YAML makes 83 of 0123, so a token like that has to be in quotes: it is never changed without an error.
func TestConfig_ATokenIsNoNumber(t *testing.T) {
	for name, read := range readers {
		for _, token := range []string{"12345678e9", "0123", "0x1F", "5", "true"} {
			var c consul.Config
			if err := read(`{"token": `+token+`}`, &c); err == nil && c.Token.Reveal() != token {
				t.Errorf("%s reads %s as %q", name, token, c.Token.Reveal())
			}
			if err := read(`{"token": "`+token+`"}`, &c); err != nil || c.Token.Reveal() != token {
				t.Errorf("%s reads %q as %q, %v", name, token, c.Token.Reveal(), err)
			}
		}
	}
}

func TestConfig_IsWrittenWithoutSecretsAndReadBack(t *testing.T) {
	const secret = "s3cret"
	plain := consul.Config{Address: "h:1", Failover: []string{"dc2", "dc3"}, Meta: map[string]string{"k": "v"}, Wait: 90 * time.Second, Checks: consul.Checks{Interval: 2 * time.Second}, Options: registry.Options{Linger: -1, Burst: 3}}
	with := plain
	with.Token, with.Username, with.Password, with.Address = registry.NewSecret(secret), registry.NewSecret(secret), registry.NewSecret(secret), "user:"+secret+"@h:1"
	with.Addresses = []string{"h:1", "user:" + secret + "@h:2"}
	members := etcd.Config{Endpoints: []string{"http://u:" + secret + "@h"}, Username: "u", Password: registry.NewSecret(secret)}
	writers := map[string]func(any) ([]byte, error){"yaml.v3": yamlv3.Marshal, "goccy": yaml.Marshal, "json": json.Marshal}
	for name, write := range writers {
		for _, v := range []any{with, &with, members, &members, map[string]any{"c": with}, []consul.Config{with}} {
			text, err := write(v)
			if err != nil || strings.Contains(string(text), secret) || !bytes.Contains(text, []byte("(hidden)")) {
				t.Errorf("%s wrote %s, %v", name, text, err)
			}
		}
		text, err := write(plain)
		if err != nil || strings.Contains(string(text), "token") {
			t.Errorf("%s wrote %s, %v", name, text, err)
		}
		var back consul.Config
		if err := readers[name](string(text), &back); err != nil || !reflect.DeepEqual(back, plain) {
			t.Errorf("%s read %+v back from %s, %v", name, back, text, err)
		}
		if text, err = write(with); err != nil {
			t.Error(err)
		}
		if err := readers[name](string(text), &back); err == nil {
			t.Errorf("%s reads the placeholder as a secret", name)
		}
	}
}

// The environment and flags give text for everything.
func TestConfig_ViperReadsTextForNumbers(t *testing.T) {
	v := viper.New()
	for key, value := range map[string]any{
		"ttl": "9s", "tls.enable": "true", "endpoints": "a:1,b:2", "options.burst": "7", "options.linger": time.Second, "password": "s3cret",
	} {
		v.Set(key, value)
	}
	var got etcd.Config
	want := etcd.Config{TTL: 9 * time.Second, TLS: etcd.TLS{Enable: true}, Endpoints: []string{"a:1", "b:2"}, Password: registry.NewSecret("s3cret"),
		Options: registry.Options{Burst: 7, Linger: time.Second}}
	if err := v.Unmarshal(&got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
}

// A list may be one text with commas, and a map one text with pairs, as in an environment variable.
func TestConfig_ListsAndMapsAreReadFromText(t *testing.T) {
	const text = `{"addresses": "a:1, b:2", "failover": "dc2,dc3", "checks": {"kinds": "ttl, grpc"}, "meta": "team=payments, rack=7"}`
	const lists = `{"addresses": ["a:1", "b:2"], "failover": ["dc2", "dc3"], "checks": {"kinds": ["ttl", "grpc"]}, "meta": {"team": "payments", "rack": "7"}}`
	want := consul.Config{
		Addresses: []string{"a:1", "b:2"}, Failover: []string{"dc2", "dc3"}, Checks: consul.Checks{Kinds: []string{"ttl", "grpc"}},
		Meta: map[string]string{"team": "payments", "rack": "7"},
	}
	for name, read := range readers {
		for _, document := range []string{text, lists} {
			var got consul.Config
			if err := read(document, &got); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s read %v of %s, %v", name, got, document, err)
			}
		}
		var got etcd.Config
		if err := read(`{"endpoints": "a:1, b:2"}`, &got); err != nil || !reflect.DeepEqual(got, etcd.Config{Endpoints: []string{"a:1", "b:2"}}) {
			t.Errorf("%s read %v, %v", name, got, err)
		}
		for _, bad := range []string{`{"meta": "team"}`, `{"meta": "a=1,a=2"}`, `{"meta": 7}`, `{"failover": {"a": "b"}}`, `{"checks": {"kinds": [["ttl"]]}}`} {
			if err := read(bad, new(consul.Config)); err == nil {
				t.Errorf("%s reads %s", name, bad)
			}
		}
	}
}

func TestConfig_AnErrorNamesTheField(t *testing.T) {
	for name, read := range readers {
		for document, want := range map[string]string{
			`{"wait": "soon"}`:                    "wait",
			`{"checks": {"interval": "often"}}`:   "interval",
			`{"options": {"close_timeout": "x"}}`: "close_timeout",
			`{"meta": "team"}`:                    "meta",
		} {
			err := read(document, new(consul.Config))
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s says of %s: %v", name, document, err)
			}
		}
	}
}

// The TLS settings of the backends have the same names everywhere.
func TestTLS_IsTheSameInEachBackend(t *testing.T) {
	a, b := reflect.TypeFor[consul.TLS](), reflect.TypeFor[etcd.TLS]()
	if a.NumField() != b.NumField() {
		t.Fatalf("there are %d and %d fields", a.NumField(), b.NumField())
	}
	for i := range a.NumField() {
		if f, g := a.Field(i), b.Field(i); f.Name != g.Name || f.Type != g.Type || f.Tag != g.Tag {
			t.Errorf("%v is not %v", f, g)
		}
	}
}
