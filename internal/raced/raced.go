//go:build race

// Package raced tells tests whether the race detector is on.
package raced

// Enabled reports whether the race detector is on.
const Enabled = true
