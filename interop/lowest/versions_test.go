package lowest_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestVersions_AreTheLowest compares the versions of modules here with the versions in go.mod of Rollcall.
func TestVersions_AreTheLowest(t *testing.T) {
	used := versions(t, ".")
	required := versions(t, "../..")
	for _, module := range []string{"google.golang.org/grpc", "go.etcd.io/etcd/client/v3", "github.com/hashicorp/consul/api", "go.opentelemetry.io/otel"} {
		if required[module] == "" {
			t.Errorf("go.mod of Rollcall does not require %s", module)
		}
	}
	for module, version := range used {
		if want := required[module]; want != "" && version != want {
			t.Errorf("%s is %s here and %s in Rollcall", module, version, want)
		}
	}
}

// versions returns the version of each module that the go.mod in dir leads to.
func versions(t *testing.T, dir string) map[string]string {
	t.Helper()
	c := exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "all")
	c.Dir = dir
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if path, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok && version != "" {
			all[path] = version
		}
	}
	return all
}
