package serve_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A program that serves HTTP and registers with Consul must not contain gRPC.
func TestService_LinksNoGRPC(t *testing.T) {
	for _, packages := range [][]string{
		{"github.com/rollcall-go/rollcall/serve"},
		{"github.com/rollcall-go/rollcall/serve", "github.com/rollcall-go/rollcall/consul"},
		{"github.com/rollcall-go/rollcall/examples/http/server"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, packages...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		deps := strings.Fields(string(out))
		for _, dep := range deps {
			if strings.HasPrefix(dep, "google.golang.org/") || strings.HasPrefix(dep, "github.com/rollcall-go/rollcall/grpcx") {
				t.Errorf("%v imports %s", packages, dep)
			}
		}
		if len(deps) < 10 {
			t.Errorf("go list says %v", deps)
		}
	}
}
