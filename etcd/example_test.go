package etcd_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/rollcall-go/rollcall/etcd"
	"github.com/rollcall-go/rollcall/registry"
)

func ExampleNew() {
	reg, err := etcd.New(etcd.Config{
		Endpoints: []string{"https://etcd-0.example.com:2379", "https://etcd-1.example.com:2379"},
		TLS:       etcd.TLS{CAFile: "/etc/etcd/ca.pem", CertFile: "/etc/etcd/client.pem", KeyFile: "/etc/etcd/client.key"},
		Username:  "greeter",
		Password:  registry.NewSecret("from a secret store"),
	})
	if err != nil {
		log.Fatal(err) // names each field that cannot be used
	}
	defer reg.Close()
	for instances, err := range reg.Watch(context.Background(), registry.Query{Service: "greeter"}) {
		fmt.Println(instances, err)
	}
}

// A program that opens its registry by URL lists the backends that it can open.
func ExampleOpen() {
	openers := registry.Openers{"etcd": etcd.Open}
	reg, err := openers.Open(context.Background(), "etcd://10.0.0.1:2379,10.0.0.2:2379/?prefix=/services&ttl=20s")
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
}

// readOnlyDriver registers nothing.
type readOnlyDriver struct{ registry.Driver }

func (readOnlyDriver) Register(context.Context, *registry.Instance, registry.Lease) (registry.Lease, error) {
	return nil, registry.ErrDenied
}

// A driver can be wrapped before a Registry is made of it.
func ExampleNewDriver() {
	d, err := etcd.NewDriver(etcd.Config{Endpoints: []string{"127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	reg, err := registry.New(readOnlyDriver{d}, registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	fmt.Println(reg)
	// Output: etcd 127.0.0.1:2379 /rollcall/
}

func ExampleConfig_Validate() {
	err := etcd.Config{TTL: 1500 * time.Millisecond, TLS: etcd.TLS{CertFile: "client.pem"}}.Validate()
	fmt.Println(err)
	// Output: invalid: etcd: TLS.CertFile and TLS.KeyFile (cert-file, key-file) need each other, and one of them is not set; TTL (ttl): 1.5s is below 5s: an election or a slow moment would empty every set
}

// A client certificate, and the authority that signed the certificates of the members.
func ExampleTLS() {
	config := etcd.Config{
		Endpoints: []string{"10.0.0.1:2379"},
		TLS:       etcd.TLS{CAFile: "ca.pem", CertFile: "client.pem", KeyFile: "client-key.pem"},
	}
	fmt.Println(config.Validate()) // reads no file
	// Output: <nil>
}
