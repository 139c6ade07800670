package callotel_test

import (
	"context"
	"log"
	"net/http"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/grpcx"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/rollcallotel/callotel"
)

// Count the calls of a channel with the global MeterProvider of OpenTelemetry, which main has set.
func ExampleNew() {
	reg, err := consul.New(consul.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	recorder, err := callotel.New(callotel.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer recorder.Close()
	conn, err := grpcx.NewClient("rollcall:///greeter", reg,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithChainUnaryInterceptor(recorder.UnaryInterceptor),
		grpc.WithChainStreamInterceptor(recorder.StreamInterceptor))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// httpClient calls a function after each request, so that it does not depend on OpenTelemetry.
type httpClient struct {
	after func(ctx context.Context, q registry.Query, in *registry.Instance, status int, err error)
}

func (c httpClient) get(ctx context.Context, in *registry.Instance, path string) error {
	q := registry.Query{Service: in.Service}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.Address+path, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		c.after(ctx, q, in, 0, err)
		return err
	}
	c.after(ctx, q, in, answer.StatusCode, nil)
	return answer.Body.Close()
}

// Count the calls of an HTTP client.
func ExampleRecorder_HTTPCall() {
	recorder, err := callotel.New(callotel.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer recorder.Close()
	client := httpClient{after: recorder.HTTPCall}
	in := &registry.Instance{Service: "greeter", ID: "a", Address: "127.0.0.1:8080", Version: "1.4.0"}
	if err := client.get(context.Background(), in, "/hello"); err != nil {
		log.Print(err)
	}
}
