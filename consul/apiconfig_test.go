package consul

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// Consul's own client reaches the agent over TLS, with a certificate and a token from any of their sources.
func TestAPIConfig_ReachesTheAgent(t *testing.T) {
	dir, err := os.MkdirTemp("", "rollcall") // the path of a socket has little room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := func(name string) string { return filepath.Join(dir, name) }
	a := newAuthority(t, dir, "ca")
	a.issue("consul.test", in("server.pem"), in("server-key.pem"))
	a.issue("client.test", in("client.pem"), in("client-key.pem"))
	agenttest.WriteFile(t, in("token"), rootToken+"\n")
	port := freePort(t)
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Token: rootToken, Config: fmt.Sprintf(`
		ports { https = %d }
		addresses { http = "127.0.0.1 unix://%s" }
		acl { enabled = true, default_policy = "deny", tokens { initial_management = %q, agent = %q } }
		tls { https { ca_file = %q, cert_file = %q, key_file = %q, verify_incoming = true } }`,
		port, in("http.sock"), rootToken, rootToken, a.file, in("server.pem"), in("server-key.pem"))})
	secure := fmt.Sprintf("127.0.0.1:%d", port)
	files := TLS{CAFile: a.file, CertFile: in("client.pem"), KeyFile: in("client-key.pem"), ServerName: "consul.test"}
	token := registry.NewSecret(rootToken)
	_, plainPort, _ := net.SplitHostPort(agent.Addr())

	for name, c := range map[string]struct {
		config Config
		env    map[string]string
	}{
		"TLS and a token":      {config: Config{Address: "https://" + secure, TLS: files, Token: token}},
		"TLS by scheme":        {config: Config{Address: secure, Scheme: "https", TLS: files, TokenFile: in("token")}},
		"several agents":       {config: Config{Address: agent.Addr() + ",127.0.0.2:" + plainPort, Token: token}},
		"a path":               {config: Config{Address: "http://" + agent.Addr() + "/", Token: token}},
		"a socket":             {config: Config{Address: "unix://" + in("http.sock"), Token: token}},
		"the environment":      {env: map[string]string{"CONSUL_HTTP_ADDR": agent.Addr(), "CONSUL_HTTP_TOKEN": rootToken}},
		"TLS and its settings": {env: map[string]string{"CONSUL_HTTP_ADDR": secure, "CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": a.file, "CONSUL_CLIENT_CERT": in("client.pem"), "CONSUL_CLIENT_KEY": in("client-key.pem"), "CONSUL_HTTP_TOKEN_FILE": in("token")}},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			conf, err := c.config.APIConfig()
			if err != nil {
				t.Fatal(err)
			}
			client, err := api.NewClient(conf)
			if err != nil {
				t.Fatal(err)
			}
			key := uniqueService()
			o := (&api.QueryOptions{}).WithContext(watchtest.Context(t))
			if _, err := client.KV().Put(&api.KVPair{Key: key, Value: []byte("v")}, (&api.WriteOptions{}).WithContext(o.Context())); err != nil {
				t.Fatal(err)
			}
			if pair, _, err := client.KV().Get(key, o); err != nil || pair == nil || string(pair.Value) != "v" {
				t.Errorf("got %v, %v", pair, err)
			}
		})
	}
}

func TestAPIConfig_HasTheSettingsOfTheConfig(t *testing.T) {
	c := Config{Address: "h:1,i:2", Username: registry.NewSecret("u"), Password: registry.NewSecret("p"), Datacenter: "dc2", Namespace: "n", Partition: "a", Wait: 5 * time.Second}
	conf, err := c.APIConfig()
	if err != nil {
		t.Fatal(err)
	}
	if conf.Address != "http://h:1" || *conf.HttpAuth != (api.HttpBasicAuth{Username: "u", Password: "p"}) || conf.Datacenter != "dc2" || conf.Namespace != "n" || conf.Partition != "a" || conf.WaitTime != 5*time.Second {
		t.Errorf("it is %+v", conf)
	}
	for _, bad := range []Config{{Address: "h:x"}, {TTL: 1}, {TokenFile: "/no/such/file"}, {TLS: TLS{CAFile: "/no/such/file"}}} {
		_, err := bad.APIConfig()
		configtest.WantRefusal(t, err)
	}
}

func TestAPIConfigs_HaveAnAgentEach(t *testing.T) {
	all, err := Config{Address: "h:1,https://i:2/path,unix:///run/consul.sock", Token: registry.NewSecret("t")}.APIConfigs()
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, c := range all {
		addresses = append(addresses, c.Scheme+" "+c.Address+" "+c.Token)
	}
	if want := []string{"http http://h:1 t", "https https://i:2/path t", "http unix:///run/consul.sock t"}; !slices.Equal(addresses, want) {
		t.Errorf("got %q, want %q", addresses, want)
	}
}
