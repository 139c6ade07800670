package etcd

import (
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// etcd's own client reaches the members with what a Config says: TLS in both directions, and a user with a password.
func TestClientConfig_ReachesTheMembers(t *testing.T) {
	t.Parallel()
	open, users := testbed.StartEtcd(t), startWithUsers(t)
	a := newAuthority(t)
	for _, name := range []string{"127.0.0.1", "etcd.test", "client"} {
		a.issue(name)
	}
	plain, mutual, named := a.serve("127.0.0.1", open.Addr(), false), a.serve("127.0.0.1", open.Addr(), true), a.serve("etcd.test", open.Addr(), false)
	both := a.serve("127.0.0.1", users.Addr(), true)
	mine := TLS{CAFile: a.file("ca.pem"), CertFile: a.file("client.pem"), KeyFile: a.file("client.key")}
	for name, c := range map[string]Config{
		"plain":             {Endpoints: []string{open.Addr()}},
		"TLS":               {Endpoints: []string{"https://" + plain.addr()}, TLS: TLS{CAFile: mine.CAFile}},
		"TLS in both ways":  {Endpoints: []string{mutual.addr()}, TLS: mine},
		"TLS and a name":    {Endpoints: []string{named.addr()}, TLS: TLS{CAFile: mine.CAFile, ServerName: "etcd.test"}},
		"a user":            {Endpoints: []string{users.Addr()}, Username: "root", Password: registry.NewSecret(secret)},
		"a user over TLS":   {Endpoints: []string{both.addr()}, TLS: mine, Username: "root", Password: registry.NewSecret(secret)},
		"one member is off": {Endpoints: []string{"127.0.0.1:1", open.Addr()}},
	} {
		t.Run(name, func(t *testing.T) {
			conf, err := c.ClientConfig()
			if err != nil {
				t.Fatal(err)
			}
			client, err := clientv3.New(conf)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			ctx := watchtest.Context(t)
			if _, err := client.Put(ctx, "key", name); err != nil {
				t.Fatal(err)
			}
			if got, err := client.Get(ctx, "key"); err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != name {
				t.Errorf("got %v, %v", got, err)
			}
		})
	}
}

func TestClientConfig_HasWhatTheConfigHas(t *testing.T) {
	conf, err := Config{Endpoints: []string{"h", "https://i:1"}, Username: "u", Password: registry.NewSecret("p"), DialTimeout: time.Second, KeepAliveTime: -1}.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(conf.Endpoints, []string{"https://h:2379", "https://i:1"}) || conf.Username != "u" || conf.Password != "p" || conf.TLS == nil || conf.DialTimeout != time.Second || conf.DialKeepAliveTime != 0 {
		t.Errorf("it is %+v", conf)
	}
	conf, err = Config{}.ClientConfig()
	if err != nil || !slices.Equal(conf.Endpoints, []string{"http://127.0.0.1:2379"}) || conf.TLS != nil || conf.DialKeepAliveTime != DefaultKeepAliveTime {
		t.Errorf("it is %+v, %v", conf, err)
	}
	_, err = Config{TTL: 1}.ClientConfig()
	configtest.WantRefusal(t, err)
}

func TestKey_IsTheKeyOfTheEntry(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Prefix: "/x"}, {Format: FormatKratos}} {
		s, err := resolve(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Key("s", "a"), (&driver{settings: s}).keyOf("s", "a"); got != want {
			t.Errorf("%v: got %q, want %q", c, got, want)
		}
	}
}
