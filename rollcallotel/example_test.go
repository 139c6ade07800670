package rollcallotel_test

import (
	"log"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/rollcallotel"
)

// Record metrics and spans of a registry with the global providers of OpenTelemetry, which main has set.
func ExampleInstrument() {
	reg, err := consul.New(consul.Config{Address: "127.0.0.1:8500"})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	stop, err := rollcallotel.Instrument(reg, rollcallotel.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
}

// Give each of at most 50 services metrics of its own.
func ExampleConfig() {
	reg, err := consul.New(consul.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()
	stop, err := rollcallotel.Instrument(reg, rollcallotel.Config{MaxServices: 50})
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
}
