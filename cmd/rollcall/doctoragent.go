package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/rollcall-go/rollcall/internal/sleep"
)

// agentClient makes single calls to one Consul agent, whose answers it returns with their headers.
type agentClient struct {
	location string // host:port, or unix:///path
	base     string // the URL before /v1
	conf     *api.Config
	http     *http.Client
}

func newAgentClient(conf *api.Config, secure *tls.Config) *agentClient {
	c := &agentClient{conf: conf, base: strings.TrimSuffix(conf.Address, "/")}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: secure}
	if path, ok := strings.CutPrefix(conf.Address, unixScheme); ok {
		c.location, c.base = conf.Address, "http://localhost"
		transport.Proxy = nil
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	} else if u, err := url.Parse(conf.Address); err == nil {
		c.location = u.Host
	}
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c
}

// agentAnswer is an answer of Consul, or of something in front of it.
type agentAnswer struct {
	status int
	header http.Header
	body   []byte
	sent   time.Time
	took   time.Duration
}

// maxAnswer bounds what is read of an answer. The configuration of an agent has some 50 kB.
const maxAnswer = 8 << 20

// call makes one call. body is sent as JSON unless it is nil. An answer of any status is no error.
func (c *agentClient) call(ctx context.Context, method, path string, query url.Values, body any) (*agentAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	var content bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&content).Encode(body); err != nil {
			return nil, err
		}
	}
	if query == nil {
		query = url.Values{}
	}
	for name, value := range map[string]string{"ns": c.conf.Namespace, "partition": c.conf.Partition} {
		if value != "" {
			query.Set(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path+"?"+query.Encode(), &content)
	if err != nil {
		return nil, err
	}
	if c.conf.Token != "" {
		req.Header.Set("X-Consul-Token", c.conf.Token)
	}
	if auth := c.conf.HttpAuth; auth != nil {
		req.SetBasicAuth(auth.Username, auth.Password)
	}
	sent := time.Now()
	resp, err := c.http.Do(req)
	if err != nil {
		if outer, ok := errors.AsType[*url.Error](err); ok {
			err = outer.Err // without the URL
		}
		return nil, err
	}
	defer resp.Body.Close()
	a := &agentAnswer{status: resp.StatusCode, header: resp.Header, sent: sent, took: time.Since(sent)}
	a.body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return a, err
}

// says returns the beginning of the answer's text.
func (a *agentAnswer) says() string {
	text := strings.Join(strings.Fields(string(a.body)), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.status, text))
}

// isConsul reports whether the answer has a header that only Consul sends.
func (a *agentAnswer) isConsul() bool {
	for name := range a.header {
		if strings.HasPrefix(name, "X-Consul-") {
			return true
		}
	}
	return false
}

// checkAgent asks all agents for their version, which they tell without a token and without a server. The first that answers is asked
// from then on.
func (d *doctor) checkAgent(ctx context.Context) finding {
	t := d.target
	all := make([]finding, len(t.agents))
	var asking sync.WaitGroup
	for i, agent := range t.agents {
		asking.Go(func() { all[i] = t.agentFinding(agent.call(ctx, http.MethodGet, "/v1/agent/version", nil, nil)) })
	}
	asking.Wait()
	if i := slices.IndexFunc(all, func(f finding) bool { return f.Result == outcomePassed }); i > 0 {
		t.agents = slices.Concat(t.agents[i:], t.agents[:i])
	}
	return t.combined(all)
}

// closedBeforeUse reports whether the agent has closed a new connection before the request was sent. An agent with too many connections
// answers 429 before it is asked, so net/http may not read the answer. It has no type for that.
func closedBeforeUse(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "readLoopPeekFailLocked") || strings.Contains(err.Error(), "server closed idle connection"))
}

func (t *checkTarget) agentFinding(answer *agentAnswer, err error) finding {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return failed(adviseHung, "it accepts connections, but does not answer within %v", stepTimeout)
	case asksForCertificate(err):
		return failed(adviseClientCert, "the server refuses this client: %s", networkReason(err))
	case closedBeforeUse(err):
		return failed(adviseTooMany, "it refuses connections: it closes them before they are used")
	case err != nil:
		return failed(adviseNotConsul, "no answer: %s", networkReason(err))
	case answer.status >= 300 && answer.status < 400:
		to, _ := url.Parse(answer.header.Get("Location"))
		if to == nil {
			to = &url.URL{}
		}
		return failed(adviseRedirect, "it redirects to %s", to.Host)
	case answer.status == http.StatusTooManyRequests:
		return failed(adviseTooMany, "it refuses connections: %s", answer.says())
	case answer.status == http.StatusBadRequest && strings.Contains(string(answer.body), "HTTP request to an HTTPS server"):
		return failed(adviseTLSServer, "the server speaks TLS, and TLS is off")
	case answer.isConsul():
		return passed("%sanswers after %s", versionIn(answer), brief(answer.took))
	case answer.status == http.StatusOK && versionIn(answer) != "Consul ":
		return passed("%sanswers after %s", versionIn(answer), brief(answer.took))
	case answer.status == http.StatusUnauthorized, answer.status == http.StatusForbidden, answer.status == http.StatusProxyAuthRequired:
		return failed(adviseGateway, "it denies, and it is not Consul: %s", answer.says())
	}
	return failed(adviseNotConsul, "it does not answer as Consul does: %s", answer.says())
}

// versionIn returns "Consul 1.2.3 ", or "Consul " if the answer has no version: old agents do not know the question.
func versionIn(a *agentAnswer) string {
	var v struct{ HumanVersion string }
	if json.Unmarshal(a.body, &v) != nil || v.HumanVersion == "" {
		return "Consul "
	}
	return "Consul " + v.HumanVersion + " "
}

// maxClockOffset is how far the clocks may differ. Consul tells whole seconds.
const maxClockOffset = 5 * time.Second

// checkClock compares the clock of the agent's host with the one of this host.
func (d *doctor) checkClock(ctx context.Context) finding {
	answer, err := d.target.agents[0].call(ctx, http.MethodGet, "/v1/agent/version", nil, nil)
	if err != nil {
		return failed(adviseHung, "no answer: %s", networkReason(err))
	}
	theirs, err := http.ParseTime(answer.header.Get("Date"))
	if err != nil {
		return skipped("the answer has no date")
	}
	ours := answer.sent.Add(answer.took / 2)
	offset := theirs.Add(500 * time.Millisecond).Sub(ours) // the date has no fraction
	if offset.Abs() > maxClockOffset+answer.took/2 {
		word := "behind"
		if offset > 0 {
			word = "ahead of"
		}
		return warned(adviseClock, "the agent's clock is %s %s the one of this host", offset.Abs().Round(time.Second), word)
	}
	return passed("within a second or so of the agent's clock")
}

// reading returns the parameters of a read of the catalog.
func (d *doctor) reading() url.Values {
	q := url.Values{}
	if dc := d.target.consul.Datacenter; dc != "" {
		q.Set("dc", dc)
	}
	return q
}

// maxLastContact is how old the last contact of a server with its leader may be. Usually it is below a tenth of a second.
const maxLastContact = 5 * time.Second

// checkLeader asks who leads, and any server when it last heard from the leader.
func (d *doctor) checkLeader(ctx context.Context) finding {
	agent := d.target.agents[0]
	answer, err := agent.call(ctx, http.MethodGet, "/v1/status/leader", d.reading(), nil)
	var leader string
	switch {
	case err != nil:
		return failed(adviseNoLeader, "no answer to who leads: %s", networkReason(err))
	case answer.status != http.StatusOK && strings.Contains(string(answer.body), "No path to datacenter"):
		return failed(adviseDatacenter, "%s", answer.says())
	case answer.status != http.StatusOK:
		return failed(adviseNoLeader, "%s", answer.says())
	case json.Unmarshal(answer.body, &leader) != nil || leader == "":
		return failed(adviseNoLeader, "the servers have no leader: nothing can be registered")
	}
	q := d.reading()
	q.Set("stale", "")
	answer, err = agent.call(ctx, http.MethodGet, "/v1/catalog/services", q, nil)
	switch {
	case err != nil:
		return failed(adviseNoLeader, "%s leads; a read has no answer: %s", leader, networkReason(err))
	case answer.status != http.StatusOK:
		return passed("%s leads; its last contact is unknown, since a read is refused", leader)
	}
	contact, err := strconv.Atoi(answer.header.Get("X-Consul-LastContact"))
	age := time.Duration(contact) * time.Millisecond
	switch {
	case answer.header.Get("X-Consul-KnownLeader") == "false":
		return failed(adviseNoLeader, "the server that answers knows no leader; its last contact was %v ago", age)
	case err != nil:
		return passed("%s leads; the age of the last contact is not told", leader)
	case age > maxLastContact:
		return warned(adviseLastSeen, "%s leads; the server that answers heard from it %v ago", leader, age)
	}
	return passed("%s leads; last contact %v ago", leader, age)
}

// checkFiltering finds out whether ACLs cut the answers about a service, or the list of services.
func (d *doctor) checkFiltering(ctx context.Context) finding {
	path, what := "/v1/catalog/services", "the list of services"
	if service, named := d.service(); named {
		path, what = "/v1/health/service/"+url.PathEscape(service), service
	}
	answer, err := d.target.agents[0].call(ctx, http.MethodGet, path, d.reading(), nil)
	switch {
	case err != nil:
		return failed(adviseHung, "no answer: %s", networkReason(err))
	case answer.status != http.StatusOK:
		return failed(adviseToken, "%s", answer.says())
	case answer.header.Get("X-Consul-Results-Filtered-By-ACLs") == "true":
		return warned(adviseFiltering, "%s lacks entries that the token may not read", what)
	case d.target.agents[0].conf.Token == "" && answer.header.Get("X-Consul-Default-ACL-Policy") == "deny":
		return warned(adviseAnonymous, "without a token, Consul does not tell what ACLs leave out")
	}
	return passed("ACLs leave nothing out of %s", what)
}

// agentConfig is the part of an agent's configuration that matters here.
type agentConfig struct {
	Config      struct{ Server bool }
	DebugConfig struct {
		HTTPMaxConnsPerClient *int
		UseStreamingBackend   *bool
	}
}

// readAgentConfig asks the agent for its configuration. Only operators may see it: the finding says why it is nil.
func (d *doctor) readAgentConfig(ctx context.Context) (*agentConfig, finding) {
	answer, err := d.target.agents[0].call(ctx, http.MethodGet, "/v1/agent/self", nil, nil)
	var c agentConfig
	switch {
	case err != nil:
		return nil, skipped("unknown: %s", networkReason(err))
	case answer.status == http.StatusForbidden && d.target.agents[0].conf.Token == "":
		return nil, skipped("unknown: a token with agent:read is needed to see it")
	case answer.status == http.StatusForbidden:
		return nil, skipped("unknown: the token has no agent:read")
	case answer.status != http.StatusOK:
		return nil, skipped("unknown: %s", answer.says())
	case json.Unmarshal(answer.body, &c) != nil:
		return nil, skipped("unknown: the agent does not tell")
	}
	return &c, finding{}
}

// usualConnections is Consul's default of limits.http_max_conns_per_client. One Registry uses nearly all of them in the worst case.
const usualConnections = 200

// checkConnections reads how many connections the agent accepts from this host.
func (d *doctor) checkConnections(ctx context.Context) finding {
	c, why := d.readAgentConfig(ctx)
	switch {
	case c == nil:
		return why
	case c.DebugConfig.HTTPMaxConnsPerClient == nil:
		return skipped("unknown: the agent does not tell")
	}
	switch n := *c.DebugConfig.HTTPMaxConnsPerClient; {
	case n <= 0:
		return passed("the agent limits none")
	case n < usualConnections:
		return warned(adviseLimit, "the agent takes only %d from this host, for all its programs", n)
	default:
		return passed("the agent takes %d from this host, for all its programs", n)
	}
}

// checkStreaming reads whether a client agent gets changes by the stream of its servers.
func (d *doctor) checkStreaming(ctx context.Context) finding {
	c, why := d.readAgentConfig(ctx)
	switch {
	case c == nil:
		return why
	case c.DebugConfig.UseStreamingBackend == nil:
		return skipped("unknown: the agent does not tell")
	case c.Config.Server:
		return passed("not needed: the agent is a server itself")
	case !*c.DebugConfig.UseStreamingBackend:
		return warned(adviseStreaming, "off: each watch of each client costs the servers a blocking query")
	}
	return passed("on: the agent gets changes from the servers as a stream")
}

// removeFromConsul deregisters the entries of a service at the agent that has them.
func (d *doctor) removeFromConsul(ctx context.Context, service, _ string) error {
	filter := url.Values{"filter": {"Service == " + strconv.Quote(service)}}
	for _, agent := range d.target.agents {
		answer, err := agent.call(ctx, http.MethodGet, "/v1/agent/services", filter, nil)
		if err != nil {
			continue // the entry is at another agent
		}
		var entries map[string]json.RawMessage
		if json.Unmarshal(answer.body, &entries) != nil {
			return errors.New(answer.says())
		}
		for id := range entries {
			answer, err := agent.call(ctx, http.MethodPut, "/v1/agent/service/deregister/"+url.PathEscape(id), nil, nil)
			if err == nil && answer.status != http.StatusOK {
				err = errors.New(answer.says())
			}
			return err
		}
	}
	return errNoAgentHasIt
}

var errNoAgentHasIt = errors.New("no agent has it")

// catalogEntry is an entry of the catalog: the agent of a node has registered it.
type catalogEntry struct{ Node, ServiceID string }

const (
	sweepPause = 200 * time.Millisecond // an agent reports a removal to the catalog within milliseconds
	sweepLooks = 4
)

// sweepConsul removes what is left of a service: from the agent, and from the catalog if it is still there then. An agent without a token
// of its own cannot remove anything from the catalog, and nothing else ever would.
func (d *doctor) sweepConsul(ctx context.Context, service string) (r remains) {
	if err := d.removeFromConsul(ctx, service, ""); err != nil && !errors.Is(err, errNoAgentHasIt) {
		return remains{unknown: err}
	}
	for look := 1; ; look++ {
		nodes, err := d.listed(ctx, service)
		switch {
		case err != nil:
			return remains{unknown: err}
		case len(nodes) == 0:
			return r
		case look == sweepLooks:
			for _, n := range nodes {
				r.entries = append(r.entries, n.ServiceID+" on node "+n.Node)
			}
			r.how = d.target.agents[0].howToRemove(nodes[0].Node, nodes[0].ServiceID)
			return r
		case look > 1:
			for _, n := range nodes {
				answer, err := d.target.agents[0].call(ctx, http.MethodPut, "/v1/catalog/deregister", nil, n)
				r.swept = r.swept || err == nil && answer.status == http.StatusOK
			}
		}
		sleep.For(ctx, sweepPause)
	}
}

// howToRemove returns a command that removes an entry from the catalog.
func (c *agentClient) howToRemove(node, id string) string {
	return fmt.Sprintf(`curl -X PUT -H "X-Consul-Token: $CONSUL_HTTP_TOKEN" --data '{"Node":%q,"ServiceID":%q}' %s/v1/catalog/deregister`, node, id, c.base)
}

// listed returns the entries of a service in the catalog.
func (d *doctor) listed(ctx context.Context, service string) (nodes []catalogEntry, err error) {
	answer, err := d.target.agents[0].call(ctx, http.MethodGet, "/v1/catalog/service/"+url.PathEscape(service), nil, nil)
	switch {
	case err != nil:
		return nil, errors.New(networkReason(err))
	case answer.status != http.StatusOK || json.Unmarshal(answer.body, &nodes) != nil:
		return nil, errors.New(answer.says())
	}
	return nodes, nil
}
