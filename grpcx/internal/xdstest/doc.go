// Package xdstest holds the tests of what gRPC has in its xds packages alone: outlier detection above our policies, and
// weighted_round_robin in a benchmark beside them.
package xdstest
