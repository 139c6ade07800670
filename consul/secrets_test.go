package consul

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/configtest"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// After any failure, neither a log line nor an error has a secret. The agent has ACLs, and a proxy before it repeats the secrets of a call.
func TestLog_HasNoSecret(t *testing.T) {
	t.Parallel()
	agent, operator := startWithACLs(t)
	token := newToken(t, operator, `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`)
	const user, password = "s3cret-user", "s3cret-password"
	proxy := testbed.NewProxy(t, agent.Addr())
	var log safeBuffer
	u := configtest.ParseURL(t, fmt.Sprintf("consul://%s:%s@%s/?token=%s&ttl=3s&wait=1s", user, password, proxy.Addr(), token.SecretID))
	c, err := parseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	c.Options.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })

	q := registry.Query{Service: uniqueService()}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	w := watchtest.Watch(t, r, q)
	w.Until("the instance", watchtest.Healthy(1))
	texts := []string{fmt.Sprint(r), fmt.Sprint(c), fmt.Sprintf("%#v", c)}
	for name, fail := range map[string]func(){
		"an echo": func() {
			proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				_, pw, _ := r.BasicAuth()
				http.Error(w, fmt.Sprintf("%s %s %s %v", r.Header.Get("X-Consul-Token"), pw, r.URL, r.Header), http.StatusForbidden)
				return true
			})
		},
		"a reset": proxy.Refuse,
	} {
		fail()
		texts = append(texts, w.Until(name, func(p watchtest.Pair) bool { return p.Err != nil }).Err.Error())
		watchtest.Eventually(t, name+": the loss is noticed", func() bool { return g.Err() != nil })
		texts = append(texts, g.Err().Error())
		_, err := r.Services(watchtest.Context(t))
		texts = append(texts, fmt.Sprint(err))
		proxy.Heal()
		w.Until("health after it", watchtest.Healthy(1))
		watchtest.Eventually(t, "it is registered", func() bool { return g.Err() == nil })
	}
	texts = append(texts, log.String())
	// Half of a token must not be shown either.
	for _, secret := range []string{token.SecretID[:18], user, password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
		for _, text := range texts {
			if strings.Contains(text, secret) {
				t.Errorf("it shows %s: %s", secret, text)
			}
		}
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

// safeBuffer is a buffer that several goroutines write to.
type safeBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
