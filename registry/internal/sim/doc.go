// Package sim runs random histories of several processes over one simulated store, and checks what package registry promises.
//
// A [History] is a list of steps: what the processes call, and what goes wrong at the store and on the way to it. Generate makes one
// from a seed. Run carries it out in a bubble of testing/synctest, so that minutes take milliseconds, and returns the promises that were
// broken. Shrink leaves out the steps that do not matter.
//
//   - history.go: the steps and their generation
//   - store.go, faults.go: the store, and what goes wrong
//   - driver.go, lease.go, source.go: a correct [registry.Driver] over both
//   - run.go: carries out the steps
//   - model.go, watches.go, values.go, rest.go, rate.go, events.go: the promises
//
// A seed fixes the steps, their times, and which requests a fault hits. It does not fix the random part of the pauses between attempts,
// nor which of two goroutines goes first that are ready at the same moment: these are Go's. So a history that failed once may need several
// runs to fail again.
package sim
