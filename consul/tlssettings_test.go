package consul

import (
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/registry"
)

// The certificate of the agent comes from an authority of its own, and is for example.com. The settings decide whether it is trusted.
func TestTLS_Settings(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Consul-Index", "7")
		fmt.Fprint(w, set("7", "a").body)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // of the clients that do not trust it
	srv.StartTLS()
	defer srv.Close()
	_, port, _ := strings.Cut(srv.Listener.Addr().String(), ":")
	byName := "https://localhost:" + port // which the certificate is not for
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config Config
		env    map[string]string
		want   string // a word of the error, or the instance
	}{
		"nothing":                           {want: "unknown authority"},
		"CA file":                           {config: Config{TLS: TLS{CAFile: ca}}, want: "a"},
		"CA file of the environment":        {env: map[string]string{"CONSUL_CACERT": ca}, want: "a"},
		"CA folder":                         {config: Config{TLS: TLS{CAPath: dir}}, want: "a"},
		"CA folder of the environment":      {env: map[string]string{"CONSUL_CAPATH": dir}, want: "a"},
		"CA file wins over the environment": {config: Config{TLS: TLS{CAFile: ca}}, env: map[string]string{"CONSUL_CAPATH": "/no/such/folder", "CONSUL_CACERT": "/no/such/file"}, want: "a"},
		"another name":                      {config: Config{Address: byName, TLS: TLS{CAFile: ca}}, want: "localhost"},
		"server name":                       {config: Config{Address: byName, TLS: TLS{CAFile: ca, ServerName: "example.com"}}, want: "a"},
		"server name of the environment":    {config: Config{Address: byName}, env: map[string]string{"CONSUL_CACERT": ca, "CONSUL_TLS_SERVER_NAME": "example.com"}, want: "a"},
		"insecure":                          {config: Config{TLS: TLS{InsecureSkipVerify: true}}, want: "a"},
		"insecure of the environment":       {env: map[string]string{"CONSUL_HTTP_SSL_VERIFY": "false"}, want: "a"},
		"secure of the environment":         {env: map[string]string{"CONSUL_HTTP_SSL_VERIFY": "true"}, want: "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"CONSUL_HTTP_ADDR": srv.URL}
			maps.Copy(env, c.env)
			for k, v := range env {
				t.Setenv(k, v)
			}
			d, err := newDriver(c.config)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got := next(t, d.Watch(registry.Query{Service: "s"})); got != c.want && (c.want == "a" || !strings.Contains(got, c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
