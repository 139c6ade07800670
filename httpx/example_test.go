package httpx_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// register registers a test server as an instance of a service.
func register(reg registry.Registrar, s *httptest.Server, in registry.Instance) {
	in.Address = s.Listener.Addr().String()
	if _, err := reg.Register(context.Background(), in); err != nil {
		log.Fatal(err)
	}
}

// show prints the body of a response.
func show(resp *http.Response, err error) {
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	fmt.Println(string(text), err)
}

// say returns a server that answers with a text.
func say(text string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, text, " ", r.Host, r.URL.Path) }))
}

func ExampleNewClient() {
	reg := memory.New() // in production: consul.New or etcd.New
	defer reg.Close()
	server := say("hello from")
	defer server.Close()
	register(reg, server, registry.Instance{Service: "greeter"})

	client := httpx.NewClient(reg)
	show(client.Get("http://greeter/hello"))
	show(client.Get("http://gretter/hello"))
	// Output:
	// hello from greeter/hello <nil>
	// Get "http://gretter/hello": rollcall: request gretter: unavailable: service "gretter" in memory: no passing instance is registered
}

// A value in the registry limits how long requests may take, and can be changed while the client runs. The first request does not wait for
// it, and may take longer.
func ExampleTransport_serviceConfig() {
	ctx := context.Background()
	reg := memory.New()
	defer reg.Close()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	register(reg, server, registry.Instance{Service: "greeter"})
	config := `{"methodConfig": [{"name": [{}], "timeout": "0.1s"}]}`
	if _, err := reg.PutValue(ctx, "rollcall/config/greeter", []byte(config), registry.PutOptions{}); err != nil {
		log.Fatal(err)
	}

	client := &http.Client{Transport: &httpx.Transport{Discovery: reg, ServiceConfigKey: "rollcall/config/SERVICE"}}
	client.Timeout = time.Second
	_, _ = client.Get("http://greeter/first") // from now on, the client knows the value
	_, err := client.Get("http://greeter/slow")
	fmt.Println(err)
	// Output:
	// Get "http://greeter/slow": context deadline exceeded: the service config in the registry allows 100ms
}

// Requests with a header go to another version.
func ExampleTransport() {
	reg := memory.New()
	defer reg.Close()
	stable, next := say("stable"), say("next")
	defer stable.Close()
	defer next.Close()
	register(reg, stable, registry.Instance{Service: "greeter", Version: "1.8"})
	register(reg, next, registry.Instance{Service: "greeter", Version: "2.0"})

	transport := &httpx.Transport{
		Discovery: reg,
		Policy:    "p2c",
		Select: func(r *http.Request) registry.Query {
			q := registry.Query{Service: r.URL.Host, Version: "1.8"}
			if r.Header.Get("Canary") != "" {
				q.Version = "2.0"
			}
			return q
		},
	}
	defer transport.Close()
	client := &http.Client{Transport: transport}

	req, err := http.NewRequest(http.MethodGet, "http://greeter/hello", nil)
	if err != nil {
		log.Fatal(err)
	}
	show(client.Do(req))
	req.Header.Set("Canary", "yes")
	show(client.Do(req))
	// Output:
	// stable greeter/hello <nil>
	// next greeter/hello <nil>
}

// newGateway returns a gateway: /orders/7 goes to the service orders as /7.
func newGateway(d registry.Discovery, services ...string) http.Handler {
	transport := &httpx.Transport{Discovery: d}
	mux := http.NewServeMux()
	for _, service := range services {
		mux.Handle("/"+service+"/", http.StripPrefix("/"+service, &httputil.ReverseProxy{
			Transport: transport,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", service, ""
				r.SetXForwarded()
			},
		}))
	}
	return mux
}

func Example_gateway() {
	reg := memory.New()
	defer reg.Close()
	server := say("an order from")
	defer server.Close()
	register(reg, server, registry.Instance{Service: "orders"})

	gateway := httptest.NewServer(newGateway(reg, "orders", "users"))
	defer gateway.Close()
	show(http.Get(gateway.URL + "/orders/7"))
	show(http.Post(gateway.URL+"/orders/new", "text/plain", strings.NewReader("tea")))
	// Output:
	// an order from orders/7 <nil>
	// an order from orders/new <nil>
}

func ExampleWithServed() {
	reg := memory.New()
	defer reg.Close()
	server := say("hello from")
	defer server.Close()
	register(reg, server, registry.Instance{Service: "greeter", ID: "greeter-1"})

	ctx, served := httpx.WithServed(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/hello", nil)
	if err != nil {
		log.Fatal(err)
	}
	show(httpx.NewClient(reg).Do(req))
	fmt.Println(served.Instance().ID)
	// Output:
	// hello from greeter/hello <nil>
	// greeter-1
}
