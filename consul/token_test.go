package consul

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/agenttest"
	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// rootToken manages the agents with ACLs of these tests.
const rootToken = "7a4e6f0e-3b57-4a0c-9d5b-3a3f1f1d7c11"

func startWithACLs(t *testing.T) (*testbed.Consul, *api.Client) {
	t.Helper()
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Token: rootToken, Config: fmt.Sprintf(`
		acl {
			enabled = true
			default_policy = "deny"
			tokens { initial_management = %q, agent = %q }
		}`, rootToken, rootToken)})
	operator := operatorOf(t, agent)
	operator.AddHeader("X-Consul-Token", rootToken)
	return agent, operator
}

// newToken makes a token that may do what rules say.
func newToken(t *testing.T, operator *api.Client, rules string) *api.ACLToken {
	t.Helper()
	p, _, err := operator.ACL().PolicyCreate(&api.ACLPolicy{Name: fmt.Sprint("p", time.Now().UnixNano()), Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tok, _, err := operator.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: p.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// If the token of a registration is deleted, the registration looks healthy, but changes of its check do not reach the catalog.
func TestRegistration_MovesToTheNewToken(t *testing.T) {
	t.Parallel()
	agent, operator := startWithACLs(t)
	rules := `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`
	first, second := newToken(t, operator, rules), newToken(t, operator, rules)
	file := filepath.Join(t.TempDir(), "token")
	agenttest.WriteFile(t, file, first.SecretID+"\n")

	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), TokenFile: file, TTL: watchtest.Timeout})
	q := registry.Query{Service: uniqueService(), AnyStatus: true}
	g := watchtest.Register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80", Tags: []string{"t"}})
	w := watchtest.Watch(t, r, q)
	w.Until("the instance", watchtest.Healthy(1))
	agenttest.WriteFile(t, file, second.SecretID)
	watchtest.Eventually(t, "it is registered with the new token", func() bool {
		// The agent does not show the token of a service.
		n := 0
		for _, req := range proxy.Log() {
			if strings.HasSuffix(req.Path, "/register") {
				n++
			}
		}
		return n == 2 && proxy.InFlight(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/register") }) == 0
	})
	if _, err := operator.ACL().TokenDelete(first.AccessorID, nil); err != nil {
		t.Fatal(err)
	}
	if err := operator.Agent().UpdateTTL(checkID(codec.ServiceID(q.Service, "a")), "", api.HealthCritical); err != nil {
		t.Fatal(err)
	}
	p := w.Until("the status that the agent wrote with the new token", func(p watchtest.Pair) bool { return len(p.Set) == 1 && p.Set[0].Status == registry.Critical })
	if p.Set[0].Address != "10.0.0.1:80" || p.Set[0].Tags[0] != "t" {
		t.Errorf("it is %+v now", p.Set[0])
	}
	if err := g.Err(); err != nil {
		t.Errorf("the instance is not registered: %v", err)
	}
	for _, p := range w.All() {
		if len(p.Set) != 1 {
			t.Errorf("there was a gap: %v", p)
		}
	}
	if err := g.Deregister(watchtest.Context(t)); err != nil {
		t.Error(err)
	}
}

// The quote of an answer is cut, but never within a token that a proxy repeats.
func TestErrors_QuoteNoHalfOfAToken(t *testing.T) {
	secret := strings.Repeat("s3cret", 6)
	for n := scrub.MaxLine - 2*len(secret); n <= scrub.MaxLine; n++ {
		src, _ := scripted(t, Config{Token: registry.NewSecret(secret)}, registry.Query{}, answer{status: http.StatusBadGateway, body: strings.Repeat("x", n) + secret})
		if got := next(t, src); strings.Contains(got, "s3") {
			t.Fatalf("after %d bytes the error is %s", n, got)
		}
	}
}

// The quote of an answer that is too large to be read is cut too. Each hidden token makes the text shorter, so later parts move up.
func TestErrors_QuoteNoHalfOfATokenOfALargeAnswer(t *testing.T) {
	secret := strings.Repeat("s3cret", 6)
	src, _ := scripted(t, Config{Token: registry.NewSecret(secret)}, registry.Query{}, answer{status: http.StatusBadGateway, body: strings.Repeat(secret+" ", 4000)})
	if got := next(t, src); strings.Contains(got, "s3") {
		t.Errorf("the error is %s", got)
	}
}

func TestErrors_HaveNoTokenOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	agenttest.WriteFile(t, file, "s3cret")
	text := fmt.Sprintf("%+v", Config{TokenFile: file})
	if strings.Contains(text, "s3cret") || !strings.Contains(text, file) {
		t.Errorf("it shows %s", text)
	}
}
