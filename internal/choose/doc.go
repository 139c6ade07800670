// Package choose decides which instances of a service a client uses, and which of them it may dial. grpcx and httpx share it, so that
// their clients follow the same rules. It knows no protocol: its users make the connections, and tell it about them.
package choose
