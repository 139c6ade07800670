package etcd

import (
	"fmt"
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Errors of Open show nothing of a secret, even if an unescaped character in it makes another part of the URL of the rest. A
// Config and the errors of its driver show nothing either.
func FuzzOpen_ShowsNoSecret(f *testing.F) {
	for _, s := range [][2]string{
		{"", ""}, {"12#", ""}, {"12/", ""}, {"12?", ""}, {"12&", ""}, {"12?ttl=", ""}, {"12?format=", ""}, {"12?ca-file=/", ""}, {"12?endpoint=", ":x"}, {"12?prefix=", ""}, {"12?tls=", ""},
		{"a#", ""}, {"a;", ""}, {"a%", ""}, {"%zz", ""}, {"a:", ""}, {"a@", ""}, {"@", "#"}, {"[", "]"}, {"a\\", ""}, {"a ", ""}, {"\"", "'"}, {"\"\x1b", ""}, {"ü", ""}, {"a\n", ""}, {"1/a?b#", "@"}, {"a,", ":x"},
	} {
		f.Add(s[0], s[1])
	}
	openers := registry.Openers{"etcd": Open}
	f.Fuzz(func(t *testing.T, before, after string) {
		password := before + configtest.Secret + after
		for _, raw := range []string{
			"etcd://user:" + password + "@host/", "etcd://user:" + password + "@host:2379,i:1/?ttl=5s", "etcd://" + password + "@host/", "etcd://:" + password + "@host/",
			"etcd://user:" + password + "@host/?ttl=soon&nonsense=1", "etcd:user:" + password + "@host/", "etcd:/user:" + password + "@host/", "user:" + password + "@host",
			"etcd://user:" + password + "@host/path", "etcd://host/?token=" + password, "etcd://host/?password=" + password + "&ttl=soon", "etcd://user:" + password + "@host,,i/",
		} {
			configtest.WantOpenHidden(t, openers, raw)
		}
		c := Config{Endpoints: []string{"127.0.0.1:1"}, Username: "user", Password: registry.NewSecret(password)}
		configtest.WantHidden(t, "an unexported field", fmt.Sprintf("%+v", struct{ c Config }{c}))
		if d, err := newDriver(c); err != nil {
			configtest.WantHidden(t, "New", err)
		} else {
			configtest.WantHidden(t, "a call", d.conn.Unavailable("list", "the proxy was sent "+password))
			configtest.WantHidden(t, "a call", d.conn.Unavailable("list", fmt.Sprintf("the proxy was sent %q", password)))
			configtest.WantHidden(t, "the driver", d)
			d.Close()
		}
		for _, e := range []string{"http://user:" + password + "@host", "user:" + password + "@host"} {
			c.Endpoints = append(c.Endpoints, e)
			_, err := New(Config{Endpoints: []string{e}})
			configtest.WantHidden(t, "New with "+e, err)
		}
		configtest.WantConfigHidden(t, "the Config", c)
	})
}
