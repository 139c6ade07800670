package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// counted is a decorator: it has all abilities of the driver within it, and counts the lists of services.
type counted struct {
	registry.Driver
	lists int
}

func (c *counted) Services(ctx context.Context) ([]string, error) {
	c.lists++
	return c.Driver.Services(ctx)
}

// New makes a Registry over any driver, such as one with a decorator around it.
func ExampleNew() {
	driver := &counted{Driver: memory.New().Driver()}
	reg, err := registry.New(driver, registry.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()

	services, err := reg.Services(context.Background())
	fmt.Println(services, err, driver.lists)
	// Output: [] <nil> 1
}

// Options start from the zero value. A value that cannot be used is an error that names the field.
func ExampleOptions() {
	o := registry.Options{
		CacheDir: "/var/cache/greeter", // so that the process can start during an outage
		Linger:   time.Minute,
	}
	fmt.Println(o.Validate())

	o.BackoffMax = time.Microsecond
	fmt.Println(errors.Is(o.Validate(), registry.ErrInvalid))
	// Output:
	// <nil>
	// true
}

// The fields of a Query narrow the set. Without AnyStatus it has the instances that pass.
func ExampleQuery() {
	q := registry.Query{Service: "greeter", Tags: []string{"blue"}, Metadata: map[string]string{"region": "eu"}}
	in := &registry.Instance{
		Service: "greeter", Address: "10.0.0.7:8080", Tags: []string{"blue", "canary"}, Metadata: map[string]string{"region": "eu"},
	}
	fmt.Println(q.Matches(in))

	in.Status = registry.Maintenance
	fmt.Println(q.Matches(in))

	q.AnyStatus = true
	fmt.Println(q.Matches(in))
	// Output:
	// true
	// false
	// true
}

// An Instance that a Discovery returned is shared: a change is made to a clone.
func ExampleInstance_Clone() {
	reg := memory.New()
	defer reg.Close()
	ctx := context.Background()
	registration, err := reg.Register(ctx, registry.Instance{Service: "greeter", Address: "10.0.0.7:8080", Weight: 2})
	if err != nil {
		log.Fatal(err)
	}
	set, err := reg.Lookup(ctx, registry.Query{Service: "greeter"})
	if err != nil {
		log.Fatal(err)
	}

	changed := set[0].Clone()
	changed.Weight = registry.Drained // no calls, as long as other instances serve
	fmt.Println(set[0].Weight, registration.Update(ctx, *changed), registration.Instance().Weight)
	// Output: 2 <nil> -1
}

// Only Reveal shows the text of a Secret. Log lines and encodings hide it.
func ExampleNewSecret() {
	token := registry.NewSecret("s3cr3t")
	fmt.Println(token)
	fmt.Printf("%#v\n", struct{ Token registry.Secret }{token})
	fmt.Println(token.Reveal() == "s3cr3t")
	// Output:
	// (hidden)
	// struct { Token registry.Secret }{Token:"(hidden)"}
	// true
}

// An error beside a set is a StaleError, which says how old the set is.
func ExampleStaleError() {
	reg := memory.New()
	defer reg.Close()
	ctx := context.Background()
	if _, err := reg.Register(ctx, registry.Instance{Service: "greeter", Address: "10.0.0.7:8080"}); err != nil {
		log.Fatal(err)
	}
	q := registry.Query{Service: "greeter"}
	if _, err := reg.Lookup(ctx, q); err != nil {
		log.Fatal(err)
	}

	reg.Fail(errors.New("connection refused"))
	set, err := reg.Lookup(ctx, q)
	var stale *registry.StaleError
	if errors.As(err, &stale) {
		fmt.Println(len(set), "instance from the", stale.Origin, "less than an hour old:", time.Since(stale.Since) < time.Hour)
	}
	// Output: 1 instance from the registry less than an hour old: true
}
