// Package xdstest holds the tests of what gRPC has in its xds packages alone: outlier detection above our policies, and its
// server under ours.
package xdstest
