package consul

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

// Neither a log line nor an error holds a secret, whatever goes wrong between a client and an agent with ACLs, with a proxy in
// between that repeats what it was sent.
func TestNoSecretIsLogged(t *testing.T) {
	clearEnvironment(t)
	agent, operator := startWithACLs(t)
	token := newToken(t, operator, `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`)
	const user, password = "s3cret-user", "s3cret-password"
	proxy := testbed.NewProxy(t, agent.Addr())
	var log safeBuffer
	u := parse(t, fmt.Sprintf("consul://%s:%s@%s/?token=%s&ttl=3s&wait=1s", user, password, proxy.Addr(), token.SecretID))
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
	g := register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80"})
	w := watch(t, r, q)
	w.until("the instance", healthy(1))
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
		texts = append(texts, w.until(name, func(p pair) bool { return p.err != nil }).err.Error())
		eventually(t, name+": the loss is noticed", func() bool { return g.Err() != nil })
		texts = append(texts, g.Err().Error())
		_, err := r.Services(within(t, patience))
		texts = append(texts, fmt.Sprint(err))
		proxy.Heal()
		w.until("health after it", healthy(1))
		eventually(t, "it stands", func() bool { return g.Err() == nil })
	}
	texts = append(texts, log.String())
	// Half of a token is too much of it.
	for _, secret := range []string{token.SecretID[:18], user, password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
		for _, text := range texts {
			if strings.Contains(text, secret) {
				t.Errorf("it shows %s: %s", secret, text)
			}
		}
	}
	if err := g.Deregister(within(t, patience)); err != nil {
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
