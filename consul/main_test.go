package consul

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if client := os.Getenv(stormEnv); client != "" {
		stormClient(client) // a process of BenchmarkStorm
		return
	}
	goleak.VerifyTestMain(m)
}
