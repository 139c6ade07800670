package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// startSD runs `rollcall sd --listen` and returns the URL that it serves.
func startSD(t *testing.T, url string, flags ...string) string {
	t.Helper()
	address := freeAddress(t)
	_, _ = start(t, append([]string{"-r", url, "sd", "--listen", address, "--refresh", "10ms"}, flags...)...)
	return "http://" + address + "/"
}

// get returns the answer, or status 0 while nothing listens.
func get(t *testing.T, url string) (status int, body []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func TestSD_ServesTheTargetsOfAllServices(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	reg, url := newStore(t)
	greeters(t, reg)
	at := startSD(t, url)
	watchtest.Register(t, reg, registry.Instance{Service: "web", ID: "w1", Address: "10.0.0.3:80", Endpoints: map[string]string{"metrics-port": "10.0.0.3:9090"}})
	var list []target
	watchtest.Eventually(t, "three targets", func() bool {
		list = nil
		status, body := get(t, at)
		return status == http.StatusOK && json.Unmarshal(body, &list) == nil && len(list) == 3
	})
	want := target{[]string{"10.0.0.3:80"}, map[string]string{
		"__meta_rollcall_service": "web", "__meta_rollcall_id": "w1", "__meta_rollcall_status": "passing", "__meta_rollcall_version": "",
		"__meta_rollcall_zone": "", "__meta_rollcall_weight": "1", "__meta_rollcall_tags": "", "__meta_rollcall_endpoint_metrics_port": "10.0.0.3:9090",
	}}
	if !reflect.DeepEqual(list[2], want) {
		t.Errorf("got %v, want %v", list[2], want)
	}
	if got := list[1].Labels["__meta_rollcall_status"]; got != "critical" {
		t.Errorf("an instance that does not pass is %q, and must be scraped all the same", got)
	}
	if got := list[0].Labels["__meta_rollcall_tags"]; got != ",blue," {
		t.Errorf("tags are %q", got)
	}
}

func TestSD_TakesTheEndpointThatIsNamed(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	reg, url := newStore(t)
	watchtest.Register(t, reg, registry.Instance{Service: "web", ID: "w1", Address: "10.0.0.3:80", Endpoints: map[string]string{"metrics": "10.0.0.3:9090"}})
	at := startSD(t, url, "--endpoint", "metrics", "--service", "web")
	watchtest.Eventually(t, "the endpoint", func() bool {
		status, body := get(t, at)
		return status == http.StatusOK && bytes.Contains(body, []byte(`"10.0.0.3:9090"`))
	})
}

func TestSD_IsUnavailableUntilItKnows(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	client, reg, url := newFaultyStore(t)
	greeters(t, reg)
	client.Fail(registry.ErrUnavailable)
	at := startSD(t, url, "--service", "greeter")
	watchtest.Eventually(t, "503", func() bool { status, _ := get(t, at); return status == http.StatusServiceUnavailable })
	client.Heal()
	watchtest.Eventually(t, "200", func() bool { status, _ := get(t, at); return status == http.StatusOK })
	_, before := get(t, at)
	client.Fail(registry.ErrUnavailable)
	if status, body := get(t, at); status != http.StatusOK || !bytes.Equal(body, before) {
		t.Errorf("while the registry is away: %d %s, want the last good set", status, body)
	}
}

// Each way to choose the services says on standard error why there is no answer.
func TestSD_SaysWhyItKnowsNothing(t *testing.T) {
	for name, flags := range map[string][]string{"all services": nil, "one service": {"--service", "greeter"}} {
		t.Run(name, func(t *testing.T) {
			stderr := startWithErrors(t, append([]string{"-r", "consul://" + closedPort(t), "sd", "--file", filepath.Join(t.TempDir(), "targets.json")}, flags...)...)
			watchtest.Eventually(t, "the reason", func() bool { return strings.Contains(stderr.String(), "refused") })
		})
	}
}

// A registry that accepts the connection and does not answer must not look like one without services.
func TestSD_SaysWhatItWaitsFor(t *testing.T) {
	for name, flags := range map[string][]string{"all services": nil, "one service": {"--service", "greeter"}} {
		t.Run(name, func(t *testing.T) {
			address, _ := newHangingServer(t)
			stderr := startWithErrors(t, append([]string{"-r", "consul://" + address, "sd", "--file", filepath.Join(t.TempDir(), "targets.json")}, flags...)...)
			watchtest.Eventually(t, "one line", func() bool { return stderr.String() == "rollcall: waiting for consul "+address+"\n" })
		})
	}
}

func TestSD_TakesOnlyGET(t *testing.T) {
	defer http.DefaultClient.CloseIdleConnections()
	_, url := newStore(t)
	at := startSD(t, url)
	watchtest.Eventually(t, "405", func() bool {
		resp, err := http.Post(at, "text/plain", strings.NewReader("x"))
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusMethodNotAllowed
	})
}

func TestSD_WritesAFile(t *testing.T) {
	reg, url := newStore(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "targets.json")
	_, stop := start(t, "-r", url, "sd", "--file", file, "--service", "greeter")
	has := func(text string) func() bool {
		return func() bool { b, err := os.ReadFile(file); return err == nil && strings.Contains(string(b), text) }
	}
	watchtest.Eventually(t, "the empty list", has("[]\n"))
	greeters(t, reg)
	watchtest.Eventually(t, "the instances", has("10.0.0.2:80"))
	if got := stop(); got.code != exitFound {
		t.Errorf("exit code %d: %s", got.code, got.stderr)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".rollcall-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSD_EndsIfItCannotWriteTheFile(t *testing.T) {
	reg, url := newStore(t)
	greeters(t, reg)
	got := rollcall(t, "-r", url, "sd", "--file", "/no/such/folder/targets.json", "--service", "greeter")
	wantError(t, got, exitHost, "--file", "/no/such/folder")
}

func TestLabelName_ReplacesOtherCharacters(t *testing.T) {
	valid := regexp.MustCompile(`^[a-zA-Z0-9_]*$`)
	for in, want := range map[string]string{"grpc.port": "grpc_port", "Zone-2": "Zone_2", "größe": "gr__e"} {
		if got := labelName(in); got != want || !valid.MatchString(got) {
			t.Errorf("labelName(%q) = %q, want %q", in, got, want)
		}
	}
}
