package main

import "fmt"

// docsURL comes before the link of an advice.
const docsURL = "https://github.com/rollcall-go/rollcall/blob/main/"

// advice is what to do about a finding.
type advice struct {
	text string
	link string // a file of the repository and a heading of it
}

// with fills in the verbs of the text.
func (a advice) with(args ...any) advice { return advice{fmt.Sprintf(a.text, args...), a.link} }

// allAdvice is for the test of the links.
var allAdvice []advice

func newAdvice(link, text string) advice {
	a := advice{text, "docs/" + link}
	allAdvice = append(allAdvice, a)
	return a
}

var (
	adviseURL           = newAdvice("command.md#doctor-url", "Correct the URL: scheme://host:port/?parameter=value")
	adviseSecretInFlags = newAdvice("command.md#doctor-url", "Name the registry by "+registryVariable+", or the token by CONSUL_HTTP_TOKEN_FILE: other users of this host see command lines")

	adviseProxy = newAdvice("command.md#doctor-proxy", "Unless the proxy is meant for it, add %s to NO_PROXY")

	adviseName     = newAdvice("command.md#doctor-name", "Correct the host, or find out why it does not resolve on this host: getent hosts NAME")
	adviseLoopback = newAdvice("command.md#doctor-name", "Write 127.0.0.1 in place of %s")

	adviseRefused = newAdvice("command.md#doctor-tcp", "Nothing listens there: start it, or correct the host and the port")
	adviseNoRoute = newAdvice("command.md#doctor-tcp", "No answer at all: look for a firewall, a wrong host, or a host that is down")

	adviseAuthority   = newAdvice("command.md#doctor-tls", "Name the authority of the server's certificate: ca-file=FILE in the URL")
	adviseServerName  = newAdvice("command.md#doctor-tls", "Use a host that the certificate is for, or server-name=NAME in the URL")
	adviseExpired     = newAdvice("command.md#doctor-tls", "Renew the certificate, and check the clock of this host")
	adviseExpiresSoon = newAdvice("command.md#doctor-tls", "Renew the certificate in time")
	advisePlainServer = newAdvice("command.md#doctor-tls", "The server does not speak TLS at this port: correct the port, or turn TLS off")
	adviseTLSServer   = newAdvice("command.md#doctor-tls", "The server speaks TLS at this port: tls=true in the URL, or another port")
	adviseClientCert  = newAdvice("command.md#doctor-tls", "The server asks for a certificate of the client: cert-file=FILE and key-file=FILE in the URL")
	adviseTLS         = newAdvice("command.md#doctor-tls", "Compare the settings of both sides")
	adviseNotVerified = newAdvice("command.md#doctor-tls", "Without insecure=true, the certificate is verified. With it, an attacker on the network can read the token")

	adviseTimeout   = newAdvice("command.md#doctor", "Raise --timeout, unless it is long enough and the registry hangs")
	adviseHung      = newAdvice("command.md#doctor-agent", "The process hangs, or the host is overloaded: look at its log, then restart it")
	adviseNotConsul = newAdvice("command.md#doctor-agent", "Check that the address is the HTTP address of Consul, and what is between")
	adviseGateway   = newAdvice("command.md#doctor-agent", "A proxy in front of Consul denies: it may want user:password@ in the URL")
	adviseRedirect  = newAdvice("consul.md#a-redirect-would-take-the-token-along", "Use the address of Consul itself, which does not redirect")
	adviseSomeFail  = newAdvice("command.md#doctor-agent", "The others are used meanwhile")
	adviseTooMany   = newAdvice("consul.md#an-agent-takes-200-connections-from-one-address", "Close other programs' connections, or raise limits.http_max_conns_per_client")

	adviseClock = newAdvice("command.md#doctor-clock", "Let both hosts synchronise their clocks (NTP). Certificates and logs depend on them")

	adviseNoLeader   = newAdvice("command.md#doctor-leader", "Consul needs a majority of its servers: consul operator raft list-peers")
	adviseLastSeen   = newAdvice("command.md#doctor-leader", "Look at the network between the servers, and at their disks")
	adviseDatacenter = newAdvice("command.md#doctor-leader", "Check dc= in the URL: consul catalog datacenters")

	adviseToken                = newAdvice("command.md#doctor-credentials", "Use a token that exists and has not expired")
	adviseRules                = newAdvice("command.md#doctor-credentials", "The token needs these rules: %s")
	adviseRulesOrService       = newAdvice("command.md#doctor-credentials", "Name a service that the token is for by --service, or give the token these rules: %s")
	adviseOff                  = newAdvice("command.md#doctor-credentials", "Leave user and password out, or turn authentication on in etcd")
	adviseUser                 = newAdvice("command.md#doctor-credentials", "Put user:password@ in the URL, as etcd has them: etcdctl user list")
	advisePermissions          = newAdvice("command.md#doctor-credentials", "Grant the user this: etcdctl role grant-permission ROLE --prefix=true %s %s")
	advisePermissionsOrService = newAdvice("command.md#doctor-credentials", "Name a service that the user is for by --service, or grant it this: etcdctl role grant-permission ROLE --prefix=true %s %s")
	adviseThrowaway            = newAdvice("command.md#doctor-write", "Nothing is wrong with %s. For the write check, the credentials must allow services that begin with rollcall-doctor-")

	adviseFiltering = newAdvice("consul.md#acls-can-cut-an-answer-without-an-error", "To read all services, a token needs service_prefix \"\" and node_prefix \"\" { policy = \"read\" }. For one service only, name it by --service")
	adviseAnonymous = newAdvice("consul.md#acls-can-cut-an-answer-without-an-error", "Set a token: CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE")
	adviseLimit     = newAdvice("consul.md#an-agent-takes-200-connections-from-one-address", "Raise limits.http_max_conns_per_client of the agent to 200 or more")
	adviseStreaming = newAdvice("command.md#doctor-streaming", "Set use_streaming_backend = true in the agent, unless it is off on purpose")

	adviseMemberHung = newAdvice("command.md#doctor-members", "The process hangs, or the host is overloaded: look at its log, then restart it")
	adviseMemberDown = newAdvice("command.md#doctor-members", "Repair or replace the member, or leave it out of the URL")
	adviseNoQuorum   = newAdvice("command.md#doctor-members", "etcd needs a majority of its members: etcdctl endpoint status --cluster")
	adviseNotEtcd    = newAdvice("command.md#doctor-members", "Check that the address is the client address of etcd")
	adviseTwo        = newAdvice("etcd.md#endpoints-can-belong-to-two-clusters", "Name the members of one cluster only")
	adviseLearner    = newAdvice("etcd.md#a-learner-refuses-nearly-every-call", "Promote the learner, or leave it out of the endpoints")
	adviseNoSpace    = newAdvice("etcd.md#without-space-writes-fail-and-renewals-do-not", "Compact, defragment, then etcdctl alarm disarm")
	adviseCorrupt    = newAdvice("command.md#doctor-alarms", "Replace the corrupt member")
	adviseQuota      = newAdvice("command.md#doctor-size", "Compact and defragment, or raise --quota-backend-bytes, before etcd refuses writes")

	adviseWrite   = newAdvice("command.md#doctor-write", "See what the checks before this one say, and the log of the registry")
	adviseNotSeen = newAdvice("command.md#doctor-write", "Raise --timeout if the registry is slow; otherwise look at its log")

	adviseAgentToken   = newAdvice("consul.md#acls-can-cut-an-answer-without-an-error", "Give the agent a token of its own, acl.tokens.agent, such as one with a node identity: without it, the agent cannot bring the catalog up to date")
	adviseLeftEntry    = newAdvice("command.md#doctor-write", "Remove it by hand: %s")
	adviseLookForEntry = newAdvice("command.md#doctor-write", "Look for it by rollcall instances %s --all. If it does not expire within minutes, remove it by hand: %s")

	adviseAddress = newAdvice("command.md#doctor-address", "Register with a host and a port that others can dial, not with a wildcard, or give this host a network")
	adviseFiles   = newAdvice("command.md#doctor-files", "Raise it: ulimit -n 65536, LimitNOFILE= of systemd, or ulimits of the container")
	adviseFolder  = newAdvice("command.md#doctor-cache", "Correct cache-dir= in the URL, or the owner and the rights of the folder")
	adviseOldSets = newAdvice("command.md#doctor-cache", "Nothing wrote to it for long: check that the services use this folder, as this user")
)
