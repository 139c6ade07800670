package minimal

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// unwanted are the modules of packages that this module does not import.
var unwanted = []string{"go.opentelemetry.io/", "github.com/spf13/cobra", "google.golang.org/grpc", "go.etcd.io/"}

// TestImporter_RequiresNothingOfOtherPackages checks go.mod. CI checks that it is tidy.
func TestImporter_RequiresNothingOfOtherPackages(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "github.com/hashicorp/consul/api ") {
		t.Fatal("go.mod does not require the client of Consul, so it is not tidy")
	}
	expectNone(t, "go.mod", string(text))
}

// TestImporter_CompilesNothingOfOtherPackages checks the packages that end up in the program.
func TestImporter_CompilesNothingOfOtherPackages(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "github.com/rollcall-go/rollcall/consul\n") {
		t.Fatalf("package consul is not among the dependencies:\n%s", out)
	}
	expectNone(t, "the list of dependencies", string(out))
}

func expectNone(t *testing.T, source, text string) {
	t.Helper()
	for _, module := range unwanted {
		if strings.Contains(text, module) {
			t.Errorf("%s has %s", source, module)
		}
	}
}
