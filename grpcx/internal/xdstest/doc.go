// Package xdstest has the tests that need gRPC's xds packages: outlier detection above our policies, and grpcx.Server with an xDS server.
package xdstest
