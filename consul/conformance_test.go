package consul

import (
	"context"
	"net/http"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul/internal/codec"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/registry/registrytest"
)

func TestDriver_Conforms(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	operator := operatorOf(t, agent)
	registrytest.Run(t, registrytest.Config{
		New:       func(t *testing.T) *registry.Registry { return open(t, Config{Address: proxy.Addr()}) },
		NewDriver: func(t *testing.T) registry.Driver { return openDriver(t, Config{Address: proxy.Addr()}) },
		KeepOnClose: func(t *testing.T) *registry.Registry {
			return open(t, Config{Address: proxy.Addr(), Options: registry.Options{KeepOnClose: true}})
		},
		RefuseWrites: func(*testing.T) func() { return refuseWrites(proxy) },
		LoseAnswers:  func(*testing.T) func() { return loseAnswers(proxy, agent.Addr()) },
		WriteUnreadable: func(t *testing.T, service, id string) (remove func()) {
			return registerUnreadable(t, operator, service, id)
		},
		Lose: func(t *testing.T, in registry.Instance) {
			o := new(api.QueryOptions).WithContext(context.Background())
			if err := operator.Agent().ServiceDeregisterOpts(codec.ServiceID(in.Service, in.ID), o); err != nil {
				t.Fatal(err)
			}
		},
		Break: func(*testing.T) func() {
			proxy.Refuse()
			return proxy.Heal
		},
		Calls:       func(*testing.T) int { return proxy.Requests() },
		Complete:    true,
		Values:      true,
		NoLeakCheck: true, // TestMain looks for goroutines that are left
	})
}

// refuseWrites makes the agent behind proxy refuse each registration of a service, and nothing else.
func refuseWrites(proxy *testbed.Proxy) (heal func()) {
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		refused := r.URL.Path == "/v1/agent/service/register"
		if refused {
			http.Error(w, "no space left on device", http.StatusInternalServerError)
		}
		return refused
	})
	return proxy.Heal
}

// loseAnswers has the agent carry out each registration of a service, and breaks the connection to proxy before the answer.
func loseAnswers(proxy *testbed.Proxy, agentAddr string) (heal func()) {
	direct := &http.Transport{DisableKeepAlives: true}
	proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/agent/service/register" {
			return false
		}
		again := r.Clone(r.Context())
		again.URL.Scheme, again.URL.Host = "http", agentAddr
		if answer, err := direct.RoundTrip(again); err == nil {
			answer.Body.Close()
		}
		panic(http.ErrAbortHandler)
	})
	return proxy.Heal
}

// registerUnreadable registers a service without a port, which is no instance.
func registerUnreadable(t *testing.T, operator *api.Client, service, id string) (remove func()) {
	t.Helper()
	serviceID := codec.ServiceID(service, id)
	if err := operator.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: serviceID, Name: service, Address: "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := operator.Agent().ServiceDeregister(serviceID); err != nil {
			t.Error(err)
		}
	}
}
