package testbed

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"testing"
)

func TestConsulCluster_OutlivesItsLeader(t *testing.T) {
	t.Parallel()
	c := StartConsulCluster(t, ConsulClusterOptions{MutualTLS: true})
	header := http.Header{"X-Consul-Token": {c.Token}}
	if _, err := c.Agent.call(t.Context(), http.MethodGet, "/v1/kv/k?keys", "", nil); err == nil {
		t.Error("a cluster that denies by default answers without a token")
	}
	if _, err := c.Agent.call(t.Context(), http.MethodPut, "/v1/kv/k", "kept", header); err != nil {
		t.Fatal(err)
	}
	leader := c.Leader()
	leader.Kill()
	leader.Restart(true)
	c.Leader()
	c.KillServers()
	c.Agent.Restart(true) // it is up, and knows nothing
	c.RestartServers()
	c.Agent.Restart(false)
	for _, a := range append(c.Servers, c.Agent) {
		if got, err := a.call(t.Context(), http.MethodGet, "/v1/kv/k?raw", "", header); err != nil || string(got) != "kept" {
			t.Errorf("%s has %q (%v)", a.Node(), got, err)
		}
	}
	ca, err := os.ReadFile(c.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	certificate, err := tls.LoadX509KeyPair(c.ClientCertificate())
	if err != nil {
		t.Fatal(err)
	}
	for name, certificates := range map[string][]tls.Certificate{"with": {certificate}, "without": nil} {
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: certificates},
		}}
		resp, err := client.Get("https://" + c.Agent.HTTPSAddr() + "/v1/status/leader")
		if (err == nil) != (name == "with") {
			t.Errorf("%s a certificate: %v", name, err)
		}
		if err == nil {
			resp.Body.Close()
		}
	}
}
