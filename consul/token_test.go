package consul

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
)

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	// As one step, as whoever rotates a file does it.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	writeFile(t, path, "one\n")
	synctest.Test(t, func(t *testing.T) {
		tok, err := openToken(path)
		if err != nil {
			t.Fatal(err)
		}
		want := func(what, value string) {
			t.Helper()
			if got := tok.now(); got != value {
				t.Errorf("%s: it is %q, want %q", what, got, value)
			}
		}
		want("at first", "one")
		writeFile(t, path, "two")
		want("at once", "one")
		time.Sleep(tokenEvery)
		want("replaced", "two")
		for _, bad := range []string{"", " \n", "th\x00ree", "line\nline"} {
			writeFile(t, path, bad)
			time.Sleep(tokenEvery)
			want(fmt.Sprintf("replaced by %q", bad), "two")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(tokenEvery)
		want("removed", "two")
		s := settings{token: tok, password: "pw"}
		if got := s.scrub("one two pw"); got != "(hidden) (hidden) (hidden)" {
			t.Errorf("it shows %q", got)
		}
	})
}

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

// A registration whose token was deleted looks well and is frozen: the catalog does not hear of its check any more.
func TestRegistrationsMoveToTheNewToken(t *testing.T) {
	clearEnvironment(t)
	agent, operator := startWithACLs(t)
	rules := `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`
	first, second := newToken(t, operator, rules), newToken(t, operator, rules)
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, first.SecretID+"\n")

	proxy := testbed.NewProxy(t, agent.Addr())
	r := open(t, Config{Address: proxy.Addr(), TokenFile: file, TTL: patience})
	q := registry.Query{Service: uniqueService(), AnyStatus: true}
	g := register(t, r, registry.Instance{ID: "a", Service: q.Service, Address: "10.0.0.1:80", Tags: []string{"t"}})
	w := watch(t, r, q)
	w.until("the instance", healthy(1))
	writeFile(t, file, second.SecretID)
	eventually(t, "it is registered with the new token", func() bool {
		// The agent shows the token of a service to nobody.
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
	if err := operator.Agent().UpdateTTL(checkID(serviceID(q.Service, "a")), "", api.HealthCritical); err != nil {
		t.Fatal(err)
	}
	p := w.until("the status that the agent wrote with the new token", func(p pair) bool { return len(p.set) == 1 && p.set[0].Status == registry.Critical })
	if p.set[0].Address != "10.0.0.1:80" || p.set[0].Tags[0] != "t" {
		t.Errorf("it is %+v now", p.set[0])
	}
	if err := g.Err(); err != nil {
		t.Errorf("the announcement does not stand: %v", err)
	}
	for _, p := range w.all() {
		if len(p.set) != 1 {
			t.Errorf("there was a gap: %v", p)
		}
	}
	if err := g.Deregister(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// What is quoted of an answer is cut, and must not be cut within a token that a proxy repeats.
func TestNoHalfOfATokenIsQuoted(t *testing.T) {
	secret := strings.Repeat("s3cret", 6)
	for n := maxWords - 2*len(secret); n <= maxWords; n++ {
		src, _ := scripted(t, Config{Token: secret}, registry.Query{}, answer{status: http.StatusBadGateway, body: strings.Repeat("x", n) + secret})
		if got := next(t, src); strings.Contains(got, "s3") {
			t.Fatalf("after %d bytes the error is %s", n, got)
		}
	}
}

func TestNoTokenOfAFileIsPrinted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, "s3cret")
	text := fmt.Sprintf("%+v", Config{TokenFile: file})
	if strings.Contains(text, "s3cret") || !strings.Contains(text, file) {
		t.Errorf("it shows %s", text)
	}
}
