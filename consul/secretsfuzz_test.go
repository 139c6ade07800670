package consul

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
)

// seeds are texts before and after the planted part of a secret.
var seeds = [][2]string{
	{"", ""}, {"12#", ""}, {"12/", ""}, {"12?", ""}, {"12&", ""}, {"12?wait=", ""}, {"a&", ""}, {"a&wait=", ""}, {"a&format=", ""}, {"a&ca-file=/", ""}, {"a#", ""}, {"a;", ""}, {"a+", ""},
	{"a%", ""}, {"%zz", ""}, {"a:", ""}, {"a@", ""}, {"@", "#"}, {"[", "]"}, {"a\\", ""}, {"a ", ""}, {"\"", "'"}, {"\"\x1b", ""}, {"<", ">"}, {"ü", ""}, {"a\x7f", ""}, {"a\n", ""},
	{"1/a?b#", "@"}, {"1/?meta=", ",x"}, {"1?failover=", ",,"}, {"1?address=", ":x"}, {"1?check=", ",tcp"}, {"a&address=", ":x"}, {"a&meta=a,", ""}, {"a&stale=", ""}, {"a&token=", ""}, {"1?tags", "=2"},
}

// Errors of Open show no secret, even if an unescaped character in it turns the rest of it into another part of the URL.
func FuzzOpen_ErrorsShowNoSecret(f *testing.F) {
	for _, s := range seeds {
		f.Add(s[0], s[1])
	}
	openers := registry.Openers{"consul": Open}
	f.Fuzz(func(t *testing.T, before, after string) {
		secret := before + configtest.Secret + after
		for _, raw := range []string{
			"consul://user:" + secret + "@host/", "consul://user:" + secret + "@host:8500/?dc=x", "consul://" + secret + "@host/", "consul://:" + secret + "@host/",
			"consul://host/?token=" + secret, "consul://host/?token=" + secret + "&wait=1h", "consul://host:8500?dc=d&token=" + secret + "&nonsense=1",
			"consul://user:pw@host/?token=" + secret + "#x", "consul:user:" + secret + "@host/", "consul:/user:" + secret + "@host/", "user:" + secret + "@host",
			"consul://host/?token=a&token=" + secret, "consul://host/?Token=" + secret, "consul://host/?acl_token=" + secret + "&wait=1h", "consul://host/path?token=" + secret,
		} {
			configtest.WantOpenHidden(t, openers, raw)
		}
	})
}

// A Config shows no secret. Neither do the errors of New, the logs and the results of a call, for any answer of the server. Some secrets
// are in files and in the environment.
func FuzzOpen_ConfigShowsNoSecret(f *testing.F) {
	for _, s := range seeds {
		f.Add(s[0], s[1])
	}
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pw, _ := r.BasicAuth()
		w.WriteHeader(http.StatusForbidden)
		token := r.Header.Get("X-Consul-Token")
		asJSON, _ := json.Marshal([]string{token, user, pw})
		fmt.Fprintf(w, "%s %q %v %s %s", token, token, r.Header, asJSON, url.QueryEscape(pw))
		fmt.Fprint(w, user, pw)
	}))
	f.Cleanup(echo.Close)
	f.Fuzz(func(t *testing.T, before, after string) {
		secret := before + configtest.Secret + after
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
		hidden := registry.NewSecret(secret)
		for how, c := range map[string]Config{
			"token": {Token: hidden}, "both tokens": {Token: hidden, TokenFile: file}, "file": {TokenFile: file}, "user": {Username: hidden, Password: hidden}, "password": {Password: hidden},
			"address": {Address: "http://user:" + secret + "@host"}, "addresses": {Address: "h,user:" + secret + "@host"},
		} {
			if c.Address == "" {
				c.Address = echo.URL
			}
			configtest.WantConfigHidden(t, how, c)
			if !strings.Contains(c.Address, "@") {
				configtest.WantHidden(t, how+" in an unexported field", fmt.Sprintf("%+v", struct{ c Config }{c}))
			}
			callOnce(t, how, c)
		}
		if strings.Contains(secret, "\x00") {
			return // a variable cannot have this value
		}
		for name, value := range map[string]string{
			"CONSUL_HTTP_TOKEN": secret, "CONSUL_HTTP_ADDR": "http://user:" + secret + "@host", "CONSUL_HTTP_AUTH": "user:" + secret, "CONSUL_HTTP_TOKEN_FILE": file,
		} {
			t.Setenv(name, value)
			c := Config{Address: echo.URL}
			if name == "CONSUL_HTTP_ADDR" {
				c.Address = ""
			}
			callOnce(t, name, c)
		}
	})
}

// callOnce makes one call with c, and reports an error if its result shows the secret.
func callOnce(t *testing.T, how string, c Config) {
	t.Helper()
	d, err := newDriver(c)
	if err != nil {
		configtest.WantHidden(t, "New with "+how, err)
		return
	}
	defer d.Close()
	_, err = d.Services(t.Context())
	if err == nil {
		t.Errorf("%s: the server refuses nothing", how)
	}
	configtest.WantHidden(t, "a call with "+how, err)
	configtest.WantHidden(t, "the driver with "+how, d)
}
