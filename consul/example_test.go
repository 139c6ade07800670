package consul_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/registry"
)

func ExampleNew() {
	reg, err := consul.New(consul.Config{
		Addresses: []string{"10.0.0.1:8500", "10.0.0.2:8500"},
		TokenFile: "/run/secrets/consul-token",
		Failover:  []string{"dc2"},
		Checks:    consul.Checks{Kinds: []string{consul.CheckTTL, consul.CheckGRPC}},
		Meta:      map[string]string{"team": "payments"},
	})
	if err != nil {
		log.Fatal(err) // names each field that cannot be used
	}
	defer reg.Close()
	registration, err := reg.Register(context.Background(), registry.Instance{Service: "greeter", Address: ":8080"})
	if err != nil {
		log.Print(err)
		return
	}
	fmt.Println("registered as", registration.Instance().ID)
}

// A program that opens its registry by URL lists the backends that it can open.
func ExampleOpen() {
	openers := registry.Openers{"consul": consul.Open}
	reg, err := openers.Open(context.Background(), "consul://10.0.0.1:8500,10.0.0.2:8500/?dc=dc1&check=ttl,grpc&ttl=20s")
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	fmt.Println(reg)
	// Output: consul 10.0.0.1:8500,10.0.0.2:8500 dc1
}

// A driver can be wrapped before a Registry is made of it.
func ExampleNewDriver() {
	config := consul.Config{Address: "127.0.0.1:8500"}
	d, err := consul.NewDriver(config)
	if err != nil {
		log.Fatal(err)
	}
	reg, err := registry.New(loggingDriver{d}, config.Options)
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
}

// loggingDriver logs each list of services.
type loggingDriver struct{ registry.Driver }

func (d loggingDriver) Services(ctx context.Context) ([]string, error) {
	services, err := d.Driver.Services(ctx)
	log.Print("services listed", services, err)
	return services, err
}

func ExampleConfig_Validate() {
	err := consul.Config{Address: "127.0.0.1:8500", TTL: time.Second, Failover: []string{"dc2", "dc2"}}.Validate()
	fmt.Println(err)
	// Output: invalid: consul: Failover (failover): "dc2" is there twice, or is Datacenter; TTL (ttl): 1s is below 3s: an instance that is a little slow would leave every set
}

// The agent calls the standard health service of a server, beside the sign of life that the process gives.
func ExampleChecks() {
	config := consul.Config{Checks: consul.Checks{
		Kinds:    []string{consul.CheckTTL, consul.CheckGRPC},
		Interval: 5 * time.Second,
	}}
	fmt.Println(config.Validate())
	// Output: <nil>
}

// A client certificate, and the authority that signed the certificates of the agents.
func ExampleTLS() {
	config := consul.Config{
		Address: "https://consul.example.com:8501",
		TLS:     consul.TLS{CAFile: "ca.pem", CertFile: "client.pem", KeyFile: "client-key.pem"},
	}
	fmt.Println(config.Validate()) // reads no file
	// Output: <nil>
}
