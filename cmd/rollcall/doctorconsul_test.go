package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/consul"
	"github.com/rollcall-go/rollcall/internal/testbed"
	"github.com/rollcall-go/rollcall/internal/watchtest"
)

// operatorOf returns a client that may do everything with an agent.
func operatorOf(t *testing.T, agent *testbed.Consul, token string) *api.Client {
	t.Helper()
	client, err := api.NewClient(&api.Config{Address: agent.Addr(), Token: token, Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// newToken makes a token with these rules.
func newToken(t *testing.T, operator *api.Client, rules string) string {
	t.Helper()
	policy, _, err := operator.ACL().PolicyCreate(&api.ACLPolicy{Name: strings.ToLower(rand.Text()), Rules: rules}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := operator.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return token.SecretID
}

// startConsulWithACLs starts an agent with ACLs, and returns a token that may do everything, which the agent has as its own, too.
func startConsulWithACLs(t *testing.T) (agent *testbed.Consul, token string) {
	t.Helper()
	token = "11111111-1111-1111-1111-111111111111"
	return testbed.StartConsul(t, testbed.ConsulOptions{Token: token, Config: fmt.Sprintf(
		`acl { enabled = true, default_policy = "deny", tokens { initial_management = %q, agent = %q } }`, token, token)}), token
}

const toReadNodes = `node_prefix "" { policy = "read" } `

// A cluster with ACLs and mutual TLS, whose client agent has a low limit and no stream.
func TestDoctor_ConsulCluster(t *testing.T) {
	cluster := testbed.StartConsulCluster(t, testbed.ConsulClusterOptions{Servers: 1, MutualTLS: true,
		Config: `use_streaming_backend = false, limits { http_max_conns_per_client = 50 }`})
	operator := operatorOf(t, cluster.Agent, cluster.Token)
	url := "consul://" + cluster.Agent.Addr()
	as := func(token string, args ...string) diagnosis {
		t.Helper()
		t.Setenv("CONSUL_HTTP_TOKEN", token)
		d := examine(t, append([]string{"-r", url}, args...)...)
		if strings.Contains(fmt.Sprint(d), cluster.Token) || token != "" && strings.Contains(fmt.Sprint(d), token) {
			t.Errorf("a token is shown: %v", d)
		}
		return d
	}

	d := as(cluster.Token)
	for _, check := range []string{"url", "tcp", "agent", "clock", "leader", "credentials", "filtering", "write"} {
		d.has(t, check, outcomePassed, "", "")
	}
	d.has(t, "agent", outcomePassed, "Consul 1.", "")
	d.has(t, "connections", outcomeWarning, "only 50", "http_max_conns_per_client")
	d.has(t, "streaming", outcomeWarning, "off", "use_streaming_backend")
	d.has(t, "write", outcomePassed, "was removed without its knowledge", "")
	d.exits(t, exitFound)

	d = as("not-a-token")
	d.has(t, "credentials", outcomeFailed, "does not know the token from CONSUL_HTTP_TOKEN: 403", "exists and has not expired")
	d.has(t, "write", outcomeSkipped, "because credentials failed", "")
	d.exits(t, exitUnreachable)

	d = as("")
	d.has(t, "credentials", outcomeFailed, "Consul without a token does not allow node:read, service:read rollcall-doctor-*, service:write", `service_prefix "rollcall-doctor-" { policy = "write" }`)
	d.exits(t, exitUnreachable)

	greeter := newToken(t, operator, toReadNodes+`service "greeter" { policy = "write" }`)
	as(greeter).has(t, "credentials", outcomeFailed, "service:write rollcall-doctor-*", "--service")
	d = as(greeter, "--service", "greeter")
	d.has(t, "credentials", outcomePassed, "to find and to register greeter", "")
	d.has(t, "filtering", outcomePassed, "greeter", "")
	d.has(t, "write", outcomeWarning, "denied", "Nothing is wrong with greeter")
	d.exits(t, exitFound)
	d = as(greeter, "--no-write")
	d.has(t, "credentials", outcomePassed, "--service NAME", "")
	d.has(t, "filtering", outcomeWarning, "the list of services lacks", "consul.md#acls-can-cut")
	d.has(t, "connections", outcomeSkipped, "agent:read", "")
	blind := newToken(t, operator, `service "greeter" { policy = "write" }`)
	as(blind, "--service", "greeter").has(t, "credentials", outcomeFailed, "does not allow node:read", toReadNodes[:len(toReadNodes)-1])

	t.Run("TLS", func(t *testing.T) { testDoctorTLS(t, cluster) })

	cluster.KillServers()
	d = as(cluster.Token)
	d.has(t, "agent", outcomePassed, "", "")
	d.has(t, "leader", outcomeFailed, "500", "majority")
	d.exits(t, exitUnreachable)
}

func testDoctorTLS(t *testing.T, cluster *testbed.ConsulCluster) {
	t.Setenv("CONSUL_HTTP_TOKEN", cluster.Token)
	cert, key := cluster.ClientCertificate()
	secure := "consul://" + cluster.Agent.HTTPSAddr() + "/?"
	trusted := secure + "ca-file=" + cluster.CAFile()
	mutual := "&cert-file=" + cert + "&key-file=" + key
	tls := func(url string) diagnosis {
		t.Helper()
		return examine(t, "--no-write", "-r", url)
	}
	d := tls(trusted + mutual)
	d.has(t, "tls", outcomeWarning, "it expires in 23 hours", "in time")
	d.has(t, "agent", outcomePassed, "", "")
	d.exits(t, exitFound)
	tls(trusted).has(t, "agent", outcomeFailed, "certificate required", "cert-file=FILE")
	d = tls(secure + "tls=true" + mutual)
	d.has(t, "tls", outcomeFailed, "does not trust", "ca-file=FILE")
	d.exits(t, exitUnreachable)
	tls(trusted+mutual+"&server-name=other.test").has(t, "tls", outcomeFailed, "not for other.test", "server-name=NAME")
	tls(secure+"insecure=true"+mutual).has(t, "tls", outcomeWarning, "not verified", "insecure=true")
	tls("consul://"+cluster.Agent.Addr()+"/?tls=true").has(t, "tls", outcomeFailed, "does not speak TLS", "turn TLS off")
	tls("consul://"+cluster.Agent.HTTPSAddr()).has(t, "agent", outcomeFailed, "the server speaks TLS", "tls=true")
	tls("consul://"+cluster.Agent.Addr()).has(t, "tls", outcomeSkipped, "off", "")

	dir := t.TempDir()
	expired, fresh := issue(t, dir, "expired", -time.Hour), issue(t, dir, "fresh", 90*24*time.Hour)
	proxy := testbed.NewTLSProxy(t, cluster.Agent.Addr(), expired+".pem", expired+".key")
	tls("consul://"+proxy.Addr()+"/?ca-file="+expired+".pem").has(t, "tls", outcomeFailed, "the certificate of expired is valid from", "Renew")
	proxy = testbed.NewTLSProxy(t, cluster.Agent.Addr(), fresh+".pem", fresh+".key")
	tls("consul://"+proxy.Addr()+"/?ca-file="+fresh+".pem").has(t, "tls", outcomePassed, "valid for 89 days", "")
	tls("consul://"+proxy.Addr()+"/?ca-file="+fresh+".pem"+mutual).has(t, "tls", outcomeWarning, "the certificate of this client, client, expires", "")
}

// issue writes a certificate for 127.0.0.1 that it signs itself, and its key, and returns their path without .pem and .key.
func issue(t *testing.T, dir, name string, valid time.Duration) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(valid), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	path := filepath.Join(dir, name)
	if err := errors.Join(err,
		os.WriteFile(path+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(path+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDoctor_ConsulAgent(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t, testbed.ConsulOptions{Config: `limits { http_max_conns_per_client = 3 }`})
	url := "consul://" + agent.Addr()
	d := examine(t, "-r", url+"/?dc=nowhere")
	d.has(t, "leader", outcomeFailed, "No path to datacenter", "consul catalog datacenters")

	var busy []net.Conn // other programs of this host have all connections
	for range 3 {
		conn, err := net.Dial("tcp", agent.Addr())
		if err != nil {
			t.Fatal(err)
		}
		busy = append(busy, conn)
	}
	examine(t, "--no-write", "-r", url).has(t, "agent", outcomeFailed, "refuses connections", "http_max_conns_per_client")
	for _, conn := range busy {
		conn.Close()
	}

	agent.Stop()
	d = examine(t, "--no-write", "-r", url)
	agent.Continue()
	d.has(t, "tcp", outcomePassed, "", "")
	d.has(t, "agent", outcomeFailed, "accepts connections, but does not answer within 5s", "look at its log")
	d.exits(t, exitUnreachable)
}

// An interrupted write check leaves nothing in the registry. Each step is interrupted.
func TestDoctor_InterruptedWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	reg, err := consul.New(consul.Config{Address: agent.Addr()})
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	for _, step := range []string{"/v1/agent/service/register", "/v1/health/service/", "/v1/agent/services", "/v1/agent/service/deregister/"} {
		t.Run(step, func(t *testing.T) {
			reached := make(chan string, 1)
			proxy.Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, step) {
					select {
					case reached <- r.URL.Path:
					default:
					}
				}
				return false
			})
			d := interrupted(t, "consul://"+proxy.Addr(), reached)
			d.exits(t, exitSignal+int(syscall.SIGINT))
			d.has(t, "write", outcomeSkipped, "nothing is left in the registry", "")
			if d.stderr != "rollcall: interrupted\n" {
				t.Errorf("it says %q", d.stderr)
			}
			watchtest.Eventually(t, "nothing is left", func() bool {
				names, err := reg.Services(t.Context())
				return err == nil && !strings.Contains(strings.Join(names, " "), throwawayPrefix)
			})
			entries, err := operatorOf(t, agent, "").Agent().Services()
			if err != nil || len(entries) > 0 {
				t.Errorf("the agent has %v, %v", entries, err)
			}
		})
	}
}

// interrupted runs the doctor as a process that is sent SIGINT when reached says so.
func interrupted(t *testing.T, url string, reached <-chan string) diagnosis {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, "doctor", "-o", "json", "-r", url)
	cmd.Env = append(os.Environ(), roleVariable+"=rollcall")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case <-reached:
	case <-ctx.Done():
		t.Error("that step is never reached")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // the exit code is in ProcessState
	return readDiagnosis(t, result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()})
}

// A registration that the watch never shows is a failure, and is removed all the same.
func TestDoctor_WriteIsNotSeen(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.URL.Path, "/v1/health/service/") {
			return false
		}
		http.Error(w, "no", http.StatusInternalServerError)
		return true
	})
	d := examine(t, "-r", "consul://"+proxy.Addr(), "--timeout", "3s")
	d.has(t, "write", outcomeFailed, "was not seen by a second watch in time", "command.md#doctor-write")
	d.has(t, "write", outcomeFailed, "HTTP status 500: no", "")
	d.exits(t, exitUnreachable)
	entries, err := operatorOf(t, agent, "").Agent().Services()
	if err != nil || len(entries) > 0 {
		t.Errorf("the agent has %v, %v", entries, err)
	}
}

// Nothing is written with --no-write.
func TestDoctor_NoWriteWritesNothing(t *testing.T) {
	t.Parallel()
	agent := testbed.StartConsul(t)
	proxy := testbed.NewProxy(t, agent.Addr())
	examine(t, "-r", "consul://"+proxy.Addr(), "--no-write").has(t, "write", outcomeSkipped, "--no-write", "")
	for _, r := range proxy.Log() {
		if r.Method != http.MethodGet && r.Path != "/v1/internal/acl/authorize" {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
}

// An agent without a token of its own registers with the token of the client, and removes nothing from the catalog.
func TestDoctor_ConsulAgentWithoutAToken(t *testing.T) {
	agent, root := startConsulWithACLs(t)
	operator := operatorOf(t, agent, root)
	t.Setenv("CONSUL_HTTP_TOKEN", root)
	url := "consul://" + agent.Addr()
	examine(t, "-r", url).has(t, "write", outcomePassed, "", "")
	if _, err := operator.Agent().UpdateAgentACLToken("", nil); err != nil {
		t.Fatal(err)
	}
	left := func() (all []string) {
		t.Helper()
		names, _, err := operator.Catalog().Services(nil)
		if err != nil {
			t.Fatal(err)
		}
		for name := range names {
			if strings.HasPrefix(name, throwawayPrefix) {
				all = append(all, name)
			}
		}
		return all
	}
	d := examine(t, "-r", url, "--timeout", "8s")
	d.has(t, "write", outcomeFailed, "the agent did not remove it from the catalog, doctor did, and nothing is left in the registry", "acl.tokens.agent")
	d.has(t, "write", outcomeFailed, "was not gone from a second watch in time", "")
	d.exits(t, exitUnreachable)
	if strings.Contains(d.stderr, "not finished") || d.findings["cache"].Fact == "" {
		t.Errorf("the write check took the time of the others: %q", d.stderr)
	}
	if names := left(); len(names) > 0 {
		t.Errorf("left behind: %q", names)
	}

	proxy := testbed.NewProxy(t, agent.Addr())
	proxy.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/catalog/deregister" {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	})
	d = examine(t, "-r", "consul://"+proxy.Addr(), "--timeout", "8s")
	names := left()
	if len(names) != 1 {
		t.Fatalf("left behind are %q, want one service", names)
	}
	id := names[0] + ":" + names[0] + "-1"
	d.has(t, "write", outcomeFailed, "left in the registry: "+id+" on node "+agent.Node(), `curl -X PUT -H "X-Consul-Token: $CONSUL_HTTP_TOKEN" --data '{"Node":"`+agent.Node()+`","ServiceID":"`+id+`"}' http://`+proxy.Addr()+"/v1/catalog/deregister")
	d.exits(t, exitUnreachable)
}
