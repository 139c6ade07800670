package registrytest_test

import "slices"

// broken is a driver with one fault, and the cases that it must fail: these, and no other.
type broken struct {
	name   string
	driver func() *faulty
	fails  []string
	// broad is set for a fault in what most cases build on. Others than fails may then fail too.
	broad bool
	// realTime is set for what leaves goroutines behind, which a bubble does not survive.
	realTime bool
}

func brokenDrivers() []broken {
	return slices.Concat(brokenEnding, brokenWriting, brokenLeases, brokenAttempts, brokenReading, brokenValues) // those in real time first
}
