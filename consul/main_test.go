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
	if address := os.Getenv(pauseVariable); address != "" {
		pausedService(address) // the process of TestPausedForLongerThanItsInstanceIsKept
		return
	}
	goleak.VerifyTestMain(m)
}
