// Package connect has the tests of package httpx with connect-go.
//
// The code in ping/v1 is made from ping.proto by protoc-gen-go v1.36.11 and protoc-gen-connect-go v1.21.1.
package connect
