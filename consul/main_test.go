package consul

import (
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if client := os.Getenv(stormEnv); client != "" {
		stormClient(client) // this is a process of BenchmarkStorm
		return
	}
	if address := os.Getenv(pauseVariable); address != "" {
		pausedService(address) // this is the process of TestRegistration_ReturnsAfterALongPause
		return
	}
	clearEnvironment()
	goleak.VerifyTestMain(m)
}

// clearEnvironment removes the variables that would change a Config. Tests that set such variables are not parallel.
func clearEnvironment() {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "CONSUL_") {
			os.Unsetenv(name)
		}
	}
}
