package main

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// right is something that a token of Consul may be allowed to do, as Consul's own user interface asks for it.
type right struct{ Resource, Access, Segment string }

// String returns the right as Consul's errors have it.
func (r right) String() string {
	if r.Segment == throwawayPrefix {
		r.Segment += "*"
	}
	return strings.TrimSpace(r.Resource + ":" + r.Access + " " + r.Segment)
}

// rule returns the rule of a policy that gives the right.
func (r right) rule() string {
	switch {
	case r.Resource == "node":
		return `node_prefix "" { policy = "read" }`
	case r.Segment == throwawayPrefix:
		return `service_prefix "` + r.Segment + `" { policy = "` + r.Access + `" }`
	}
	return `service "` + r.Segment + `" { policy = "` + r.Access + `" }`
}

// neededRights returns what the token must allow.
func (d *doctor) neededRights() []right {
	service, named := d.service()
	all := []right{{"node", "read", ""}}
	if named || !d.f.noWrite {
		all = append(all, right{"service", "read", service}, right{"service", "write", service})
	}
	return all
}

// checkACL asks Consul whether it knows the token, and what the token allows. The question changes nothing.
func (d *doctor) checkACL(ctx context.Context) finding {
	agent := d.target.agents[0]
	rights := d.neededRights()
	answer, err := agent.call(ctx, http.MethodPost, "/v1/internal/acl/authorize", d.reading(), rights)
	switch {
	case err != nil:
		return failed(adviseHung, "no answer: %s", networkReason(err))
	case strings.Contains(string(answer.body), "ACL support disabled"):
		return passed("ACLs are off: every client may find and register")
	case answer.status == http.StatusForbidden && agent.conf.Token == "":
		return failed(adviseAnonymous, "Consul refuses clients without a token: %s", answer.says())
	case answer.status == http.StatusForbidden:
		return failed(adviseToken, "Consul does not know the %s: %s", tokenOrigin(d.target.consul), answer.says())
	case answer.status != http.StatusOK:
		return skipped("unknown: %s", answer.says())
	}
	var allowed []struct {
		right
		Allow bool
	}
	if err := json.Unmarshal(answer.body, &allowed); err != nil || len(allowed) != len(rights) {
		return skipped("unknown: Consul does not tell what a token allows")
	}
	d.aclsOn = true
	var denied, rules []string
	for i, a := range allowed {
		if a.Allow {
			continue
		}
		r := rights[i]
		denied = append(denied, r.String())
		rules = append(rules, r.rule())
	}
	// Who may write may read.
	if n := len(rules); n > 1 && strings.HasSuffix(rules[n-1], `"write" }`) {
		rules = slices.DeleteFunc(rules, func(rule string) bool {
			return strings.HasPrefix(rule, "service") && strings.HasSuffix(rule, `"read" }`)
		})
	}
	who := tokenOrigin(d.target.consul)
	if agent.conf.Token == "" {
		who = "Consul without a token"
	}
	if len(denied) == 0 {
		if agent.conf.Token == "" {
			return passed("no token is needed: every client is allowed %s", d.allowedText())
		}
		return passed("%s: it allows %s", who, d.allowedText())
	}
	advise := adviseRules
	if service, named := d.service(); !named && slices.ContainsFunc(rights, func(r right) bool { return r.Segment == service }) {
		advise = adviseRulesOrService
	}
	return failed(advise.with(strings.Join(rules, " ")), "%s does not allow %s", who, strings.Join(denied, ", "))
}

// allowedText says what the checked credentials allow.
func (d *doctor) allowedText() string {
	service, named := d.service()
	switch {
	case named:
		return "to find and to register " + service
	case d.f.noWrite:
		return "to read nodes; --service NAME tells about a service"
	}
	return "to find and to register services " + service + "*"
}
