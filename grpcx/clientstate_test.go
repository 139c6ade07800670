package grpcx_test

import (
	"errors"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/grpcx/p2c"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/statuspage"
)

// statesOf returns the states of the channels to instances of d.
func statesOf(d any) (all []clientstate.State) {
	for _, s := range clientstate.All() {
		if s.Discovery == d {
			all = append(all, s)
		}
	}
	return all
}

func TestResolver_ShowsItsState(t *testing.T) {
	inBubble(t, target+"?subset=2", grpcx.ResolverConfig{ClientID: "c"}, func(t *resolverTrial) {
		shows := func(endpoints int, panicking bool, reason string) {
			t.Helper()
			synctest.Wait()
			all := statesOf(t.script)
			if len(all) != 1 {
				t.Fatalf("there are %d states", len(all))
			}
			s := all[0]
			if s.Endpoints != endpoints || s.Panicking != panicking || !strings.Contains(s.Error, reason) || (reason == "") != (s.Error == "") {
				t.Errorf("got %+v, want %d endpoints, panicking %v, error %q", s, endpoints, panicking, reason)
			}
			if s.Kind != clientstate.GRPC || s.Target != target+"?subset=2" || s.Service != service || s.Registry != "a script" || s.Subset != 2 {
				t.Errorf("got %+v", s)
			}
		}
		shows(0, false, "")
		t.says(errors.New("no route"))
		shows(0, false, `service "backend" in a script: no route`)
		t.says(nil, "a:p1", "b:p1", "c:p1")
		shows(2, false, "")
		t.says(nil, "a:p1", "b:c1", "c:c1")
		shows(2, true, "")
		t.pairs <- said{instances("a:p1", "b:p1"), errors.New("no leader")}
		shows(2, false, "no leader")
		t.says(nil)
		shows(2, false, "the connections to the last 2 are used for up to 30s")
		time.Sleep(grpcx.DefaultEmptyGrace)
		shows(0, false, "no passing instance is registered")
		t.says(nil, "a:p1")
		shows(1, false, "")
		t.res.Close()
		if all := statesOf(t.script); len(all) != 0 {
			t.Errorf("after Close: %+v", all)
		}
	})
}

func TestNewClient_ShowsItsPolicy(t *testing.T) {
	for _, c := range []struct {
		parameters, config, want string
	}{
		{"", "", "rollcall_round_robin"},
		{"?policy=" + p2c.Name, "", p2c.Name},
		{"", `{"loadBalancingConfig":[{"unknown":{}},{"pick_first":{}}]}`, "pick_first"},
		{"?policy=" + p2c.Name, `{"loadBalancingConfig":[{"pick_first":{}}]}`, p2c.Name},
		{"", `{"loadBalancingPolicy":"round_robin"}`, "round_robin"},
		{"", `{"methodConfig":[]}`, "rollcall_round_robin"},
	} {
		t.Run(c.parameters+c.config, func(t *testing.T) {
			store := newStore(t)
			var opts []grpc.DialOption
			if c.config != "" {
				opts = append(opts, grpc.WithDefaultServiceConfig(c.config))
			}
			conn := dial(t, target+c.parameters, store, opts...)
			if all := statesOf(store); len(all) != 0 {
				t.Errorf("an idle channel has the state %+v", all)
			}
			conn.Connect()
			watchtest.Eventually(t, "the channel to be listed", func() bool { return len(statesOf(store)) == 1 })
			if got := statesOf(store)[0].Policy; got != c.want {
				t.Errorf("the policy is %q, want %q", got, c.want)
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			if all := statesOf(store); len(all) != 0 {
				t.Errorf("a closed channel is still listed: %+v", all)
			}
		})
	}
}

// A page and a channel of one process know nothing of each other, but the page shows the channel.
func TestNewClient_IsOnTheStatusPage(t *testing.T) {
	store := newStore(t)
	page := statuspage.Handler(statuspage.Config{}, store.Registry)
	shows := func(parts ...string) {
		t.Helper()
		watchtest.Eventually(t, strings.Join(parts, " and "), func() bool {
			w := httptest.NewRecorder()
			page.ServeHTTP(w, httptest.NewRequest("GET", "/?format=json", nil))
			_, clients, _ := strings.Cut(w.Body.String(), `"clients":`)
			for _, p := range parts {
				if !strings.Contains(clients, p) {
					return false
				}
			}
			return true
		})
	}
	shows("[]")
	conn := dial(t, target, store)
	if _, err := call(watchtest.Context(t), conn); err == nil {
		t.Error("a call succeeded, but nothing is registered")
	}
	shows(`"kind":"grpc","target":"`+target+`","service":"`+service+`"`, `"endpoints":0`, "no passing instance is registered")
	registerAddress(t, store, "127.0.0.1:1")
	shows(`"endpoints":1,"since"`)
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	shows("[]")
}

func TestGrpcx_DoesNotLinkTheStatusPage(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "/statuspage\n") || !strings.Contains(string(out), "/internal/clientstate\n") {
		t.Errorf("the dependencies are %s", out)
	}
}
