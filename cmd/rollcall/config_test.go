package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

const greeterConfig = `{
  "loadBalancingConfig": [{"rollcall_p2c": {}}],
  "methodConfig": [{
    "name": [{"service": "shop.v1.Greeter"}],
    "timeout": "2s"
  }]
}
`

// configFile writes a service config to a file, and returns its name.
func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "greeter.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestConfig_PutsAndGets(t *testing.T) {
	_, url := newStore(t)
	testConfig(t, url)
}

func TestConfig_OnConsulAndEtcd(t *testing.T) {
	for name, url := range map[string]string{
		"consul": "consul://" + testbed.StartConsul(t).Addr(),
		"etcd":   "etcd://" + testbed.StartEtcd(t).Addr(),
	} {
		t.Run(name, func(t *testing.T) { testConfig(t, url) })
	}
}

func testConfig(t *testing.T, url string) {
	t.Helper()
	run := func(args ...string) result { return rollcall(t, append([]string{"-r", url, "config"}, args...)...) }
	wantError(t, run("get", "greeter"), exitNothing, "greeter has no service config: there is no key rollcall/config/greeter in ")
	wantError(t, run("delete", "greeter"), exitNothing, "there is no key rollcall/config/greeter")

	file := configFile(t, greeterConfig)
	got := run("put", "greeter", file, "--dry-run")
	if got.code != exitFound || strings.Contains(got.stdout, "wrote") || !strings.Contains(got.stdout, `+   "loadBalancingConfig": [{"rollcall_p2c": {}}],`) {
		t.Errorf("a dry run has exit code %d and writes %q", got.code, got.stdout)
	}
	wantError(t, run("get", "greeter"), exitNothing, "no service config")
	if got := run("put", "greeter", file); got.code != exitFound || !strings.Contains(got.stdout, "wrote rollcall/config/greeter in ") {
		t.Errorf("put has exit code %d and writes %q, %q", got.code, got.stdout, got.stderr)
	}
	want(t, run("get", "greeter"), exitFound, greeterConfig)
	if got := run("put", "greeter", file); got.code != exitFound || !strings.Contains(got.stdout, "rollcall/config/greeter is the same in ") {
		t.Errorf("put of the same has exit code %d and writes %q", got.code, got.stdout)
	}

	got = run("put", "greeter", configFile(t, strings.Replace(greeterConfig, `"2s"`, `"3s"`, 1)))
	if wanted := "  …\n    \"methodConfig\": [{\n      \"name\": [{\"service\": \"shop.v1.Greeter\"}],\n-     \"timeout\": \"2s\"\n+     \"timeout\": \"3s\"\n    }]\n  }\n"; got.code != exitFound ||
		!strings.HasPrefix(strings.ReplaceAll(got.stdout, "    \"loadBalancingConfig\": [{\"rollcall_p2c\": {}}],\n", ""), wanted) {
		t.Errorf("the difference is\n%s", got.stdout)
	}
	if got := run("delete", "greeter"); got.code != exitFound || !strings.Contains(got.stdout, "deleted rollcall/config/greeter in ") || !strings.Contains(got.stdout, `-     "timeout": "3s"`) {
		t.Errorf("delete has exit code %d and writes %q", got.code, got.stdout)
	}
	wantError(t, run("get", "greeter"), exitNothing, "no service config")

	if got := run("put", "greeter", file, "--key", "shop/SERVICE.json"); got.code != exitFound {
		t.Errorf("put with another key: %q", got.stderr)
	}
	want(t, run("get", "greeter", "--key", "shop/greeter.json"), exitFound, greeterConfig)
}

func TestConfigPut_RefusesWhatGRPCRefuses(t *testing.T) {
	reg, url := newStore(t)
	for text, parts := range map[string][]string{
		"":                      {"unexpected end of JSON input"},
		"{\n  \"a\": 1,\n}":     {"line 3, column 1", "invalid character"},
		"[]":                    {"not a JSON object"},
		"null":                  {"not a JSON object"},
		`{"methodConfig": "x"}`: {"cannot unmarshal"},
		`{"loadBalancingConfig":[{"unknown":{}}]}`:                     {"unknown"},
		`{"loadBalancingPolicy":"unknown"}`:                            {`no policy "unknown"`},
		`{"methodConfig":[{"name":[{}],"timeout":"2"}]}`:               {"2"},
		`{"methodConfig":[{"name":[{}]},{"name":[{}]}]}`:               {"duplicated"},
		`{"loadBalancingConfig":[{"rollcall_p2c":{"decay":"never"}}]}`: {"rollcall_p2c"},
		strings.Repeat(" ", registry.MaxValueSize+1):                   {"524288 bytes at most"},
	} {
		wantError(t, rollcall(t, "-r", url, "config", "put", "greeter", configFile(t, text)), exitUsage, parts...)
	}
	if v, err := (&store{reg.Registry, "greeter", "rollcall/config/greeter"}).read(t.Context()); v != nil || err != nil {
		t.Errorf("there is the value %v, %v", v, err)
	}
	for _, text := range []string{
		`{}`, `{"loadBalancingConfig":[{"rollcall_weighted":{}}]}`, `{"loadBalancingConfig":[{"rollcall_zone":{}}]}`, `{"loadBalancingConfig":[{"own":{}},{"round_robin":{}}]}`,
		`{"loadBalancingConfig":[{"weighted_round_robin":{}}]}`, `{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingConfig":[{"rollcall_round_robin":{}}]}`,
		`{"loadBalancingConfig":[{"ring_hash_experimental":{}}]}`,
	} {
		if got := rollcall(t, "-r", url, "config", "put", "greeter", configFile(t, text)); got.code != exitFound || got.stderr != "" {
			t.Errorf("%s is refused: %s", text, got.stderr)
		}
	}
}

func TestConfigPut_WarnsOfWhatGRPCIgnores(t *testing.T) {
	_, url := newStore(t)
	got := rollcall(t, "-r", url, "config", "put", "greeter", configFile(t, `{"MethodConfig":[{"name":[{}],"timeOut":"1s","timeouts":"1s",
		"retryPolicy":{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"],"jitter":1}},{"timeout":"1s"}],"note":"x"}`))
	wanted := "rollcall: warning: gRPC ignores \"note\"\n" +
		"rollcall: warning: gRPC ignores \"timeouts\" in methodConfig[0]\n" +
		"rollcall: warning: gRPC ignores \"jitter\" in the retryPolicy of methodConfig[0]\n" +
		"rollcall: warning: gRPC ignores methodConfig[1], since it has no name\n"
	if got.code != exitFound || got.stderr != wanted {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
}

// conflicting is a driver whose values another client changes between a read and a write.
type conflicting struct{ registry.Driver }

func (c conflicting) Properties() registry.Properties {
	p := c.Driver.Properties()
	p.PutValue = func(context.Context, string, []byte, registry.PutOptions) (*registry.Value, error) {
		return nil, registry.ErrConflict
	}
	return p
}

func TestConfigPut_TellsConflicts(t *testing.T) {
	client, other, url := newFaultyStore(t)
	reg := watchtest.NewRegistry(t, conflicting{client.Driver()}, registry.Options{})
	client.Registry = reg
	if _, err := other.PutValue(t.Context(), "rollcall/config/greeter", []byte("{}"), registry.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	wantError(t, rollcall(t, "-r", url, "config", "put", "greeter", configFile(t, greeterConfig)), exitNothing,
		"rollcall/config/greeter was changed by another client meanwhile, and nothing was written")
}

func TestConfig_ExitCodes(t *testing.T) {
	_, url := newStore(t)
	for _, c := range []struct {
		args  string
		code  int
		parts []string
	}{
		{"get", exitUsage, []string{"SERVICE is missing"}},
		{"gte greeter", exitUsage, []string{`unknown command "gte" for "rollcall config"`}},
		{"get a/b", exitUsage, []string{`Service`, `"a/b"`}},
		{"get greeter --key /a", exitUsage, []string{`--key: `, `"/a"`}},
		{"put greeter /no/such/file", exitUsage, []string{"/no/such/file"}},
	} {
		wantError(t, rollcall(t, append([]string{"-r", url, "config"}, strings.Fields(c.args)...)...), c.code, c.parts...)
	}
}

func TestConfig_SaysWhyThereIsNoAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*memory.Registry)
		want  string
	}{
		"denied": {func(r *memory.Registry) { r.Fail(registry.ErrDenied) }, "denied"},
		"down":   {func(r *memory.Registry) { r.Fail(errors.New("down")) }, "down"},
		"hangs":  {func(r *memory.Registry) { r.Hang() }, "rollcall/config/greeter: no answer from memory"},
	} {
		t.Run(name, func(t *testing.T) {
			client, _, url := newFaultyStore(t)
			c.fault(client)
			wantError(t, rollcall(t, "-r", url, "config", "get", "greeter", "--timeout", "200ms"), exitUnreachable, c.want)
		})
		t.Run(name+" put", func(t *testing.T) {
			client, _, url := newFaultyStore(t)
			c.fault(client)
			wantError(t, rollcall(t, "-r", url, "config", "put", "greeter", "--timeout", "200ms", configFile(t, "{}")), exitUnreachable, c.want)
		})
	}
}

func TestConfigWatch_ShowsEachChange(t *testing.T) {
	client, other, url := newFaultyStore(t)
	out, stop := start(t, "-r", url, "config", "watch", "greeter")
	shown := func(text string) {
		t.Helper()
		watchtest.Eventually(t, text, func() bool { return strings.Contains(out.String(), text) })
	}
	put := func(text string) *registry.Value {
		t.Helper()
		v, err := other.PutValue(t.Context(), "rollcall/config/greeter", []byte(text), registry.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	shown("absent")
	first := put("{}\n")
	shown(fmt.Sprintf("revision %d\n+ {}\n", first.Revision))
	second := put("{\x1b[31m}")
	shown(fmt.Sprintf("revision %d\n- {}\n+ {\\x1b[31m}\n", second.Revision))
	client.Fail(errors.New("down"))
	shown(" ! ")
	client.Heal()
	shown(" =\n")
	if err := other.DeleteValue(t.Context(), "rollcall/config/greeter", registry.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	shown("absent\n- {\\x1b[31m}\n")
	if got := stop(); got.code != exitFound {
		t.Errorf("exit code %d", got.code)
	}
}

// What a difference shows as removed and added turns one text into the other.
func TestDiff_TurnsOneTextIntoTheOther(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func() (lines []string) {
		for range random.IntN(12) {
			lines = append(lines, string(rune('a'+random.IntN(4))))
		}
		return lines
	}
	for range 2000 {
		a, b := text(), text()
		var before, after []string
		for _, l := range diff(a, b) {
			if l.sign != '+' {
				before = append(before, l.text)
			}
			if l.sign != '-' {
				after = append(after, l.text)
			}
		}
		if !slices.Equal(before, a) || !slices.Equal(after, b) {
			t.Fatalf("of %q and %q: %q and %q", a, b, before, after)
		}
	}
	long := strings.Split(strings.Repeat("a b ", 2000), " ")
	if n := len(diff(append([]string{"x"}, long...), append(slices.Clone(long), "y", "z"))); n != 2*len(long)+3 {
		t.Errorf("a long difference has %d lines", n)
	}
}
