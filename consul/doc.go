// Package consul announces and finds instances in HashiCorp Consul, by way of an agent.
//
//	reg, err := consul.New(consul.Config{Address: "127.0.0.1:8500"})
//
// # Configuration
//
// A setting comes from the field of [Config], or the parameter of the URL that [Open] is given, and where that is not set
// from the environment variable that Consul's own tools read, and then from the default.
//
//	field                          URL parameter         environment             default         unit
//	Address                        (the hosts), address  CONSUL_HTTP_ADDR        127.0.0.1:8500  host:port, http(s)://host:port, unix:///path; several with commas between them
//	Scheme                         tls                   CONSUL_HTTP_SSL         http            http, https (tls: true, false)
//	Username, Password             (the user part)       CONSUL_HTTP_AUTH        none            text (environment: user:password)
//	Token                          token                 CONSUL_HTTP_TOKEN       none            text
//	TokenFile                      token-file            CONSUL_HTTP_TOKEN_FILE  none            file (it wins over CONSUL_HTTP_TOKEN)
//	TLS.CAFile                     ca-file               CONSUL_CACERT           the system's    PEM file
//	TLS.CAPath                     ca-path               CONSUL_CAPATH           none            folder of PEM files
//	TLS.CertFile                   cert-file             CONSUL_CLIENT_CERT      none            PEM file
//	TLS.KeyFile                    key-file              CONSUL_CLIENT_KEY       none            PEM file
//	TLS.ServerName                 server-name           CONSUL_TLS_SERVER_NAME  the host        host name
//	TLS.InsecureSkipVerify         insecure              CONSUL_HTTP_SSL_VERIFY  false           true, false (environment: the opposite)
//	Namespace                      namespace             CONSUL_NAMESPACE        the token's     name (Enterprise)
//	Partition                      partition             CONSUL_PARTITION        the agent's     name (Enterprise)
//	Datacenter                     dc                    (none)                  the agent's     name
//	Failover                       failover              (none)                  none            names with commas between them
//	Peer                           peer                  (none)                  none            name
//	Near                           near                  (none)                  none            node name or _agent
//	Limit                          limit                 (none)                  0, all          instances
//	Filter                         filter                (none)                  none            expression of Consul
//	Connect                        connect               (none)                  false           true, false
//	Stale                          stale                 (none)                  false           true, false
//	MaxStale                       stale                 (none)                  0, no bound     duration
//	Consistent                     consistent            (none)                  false           true, false
//	Wait                           wait                  (none)                  60s             duration, 1s to 10m
//	Rate                           rate                  (none)                  0, no bound     reads a second, of all watches together
//	Timeout                        timeout               (none)                  12s             duration
//	TTL                            ttl                   (none)                  15s             duration, 3s at the least
//	DeregisterAfter                deregister-after      (none)                  1m              duration, 1m at the least
//	Checks.Kinds                   check                 (none)                  ttl             ttl, grpc, http, tcp; several with commas between them
//	Checks.Interval                check-interval        (none)                  10s             duration, 1s at the least
//	Checks.Timeout                 check-timeout         (none)                  the interval    duration, by default 10s at the most
//	Checks.SuccessBeforePassing    check-successes       (none)                  1               results in a row
//	Checks.FailuresBeforeCritical  check-failures        (none)                  1               results in a row
//	Checks.TLS                     check-tls             (none)                  false           true, false
//	Checks.InsecureSkipVerify      check-insecure        (none)                  false           true, false
//	Checks.GRPCService             check-grpc-service    (none)                  the server      name
//	Checks.HTTPPath                check-http-path       (none)                  /               path
//	Checks.GRPCEndpoint            check-grpc-endpoint   (none)                  the address     name of an endpoint
//	Checks.HTTPEndpoint            check-http-endpoint   (none)                  the address     name of an endpoint
//	Checks.TCPEndpoint             check-tcp-endpoint    (none)                  the address     name of an endpoint
//	WarningWeight                  warning-weight        (none)                  100             percent of the weight, 1 to 100
//	Format                         format                (none)                  rollcall        rollcall, kratos
//	Sidecar                        sidecar               (none)                  false           true, false
//	SidecarPort                    sidecar-port          (none)                  0, Consul's     port
//	ConnectNative                  connect-native        (none)                  false           true, false
//	Meta                           meta                  (none)                  none            KEY=VALUE; several with commas between them
//	EnableTagOverride              enable-tag-override   (none)                  false           true, false
//	Options.CacheDir               cache-dir             (none)                  none            folder
//	Options.Linger                 linger                (none)                  30s             duration
//
// A redirect is not followed: it would take the token to another host. The other Options have no URL parameter. Durations are written as in Go, such as 90s; in a JSON file they are
// nanoseconds. Namespace and partition are passed on, and refused with the server's words by a Consul that has neither.
//
// # Several agents
//
// Of several agents one is in use, the first one to begin with. It is the next one's turn when a call fails in a way that is
// the agent's own: it cannot be reached, breaks off, does not answer in time, or says 502, 503, 504, or that it has no servers
// or no leader. One that takes calls and answers none is found out within some 4 s by a probe of GET /v1/status/leader, which is
// made while calls are in flight and there is another agent: after 1 s, and then each 5 s. An agent that comes back is
// used again when its turn comes round.
//
// A watch that goes on at another agent starts at index 0 there. A call that could not be dialled goes on at once; any other
// fails, and is made again at the next agent as after every failure.
//
// An announcement belongs to the agent that it was made at, and stays there for as long as that answers. Then it is made at the
// agent in use, under the node of that agent. What is left at the first one has the same ID: it leaves the sets when its TTL
// ends, it is removed there by the program as soon as that agent answers again, and by Consul after DeregisterAfter.
//
// # Several datacenters
//
// With Failover a watch reads Datacenter, and while that says that it has no passing instance of what the query selects, also the
// others, all at once: its set is that of the first one in their order that has some. It comes back as soon as Datacenter has
// some again. One that fails or does not answer is passed over and asked again, so it delays nothing but a set without
// instances, and that by 1 s; while none has any and one cannot be asked, there is an error beside the last good set and no
// empty one. A failure of Datacenter itself is no reason to leave it once it had instances.
//
// Each instance then says where it is, under the key [MetaDatacenter] of its metadata.
//
// # What the token has to be allowed
//
// Where ACLs deny by default, these rules are enough, and none of them can be left out:
//
//	Register, Update, Deregister  service "NAME" { policy = "write" }
//	the same, with Sidecar        service "NAME-sidecar-proxy" { policy = "write" } too
//	the same, EnableTagOverride   node_prefix "" { policy = "read" } too; without it the agent's own minute is waited for
//	Lookup, Watch                 service "NAME" { policy = "read" }  node_prefix "" { policy = "read" }
//	the same, with Connect        service "NAME-sidecar-proxy" { policy = "read" } too, where there are sidecars
//	the same, with Peer           service_prefix "" { policy = "read" }  node_prefix "" { policy = "read" }
//	Services                      service_prefix "" { policy = "read" }
//
// # What an announcement looks like
//
// An instance is a service of the agent whose ID is service:id, and service:id~mark where either has an upper-case letter,
// since the catalog does not tell a from A, or the ID ends as those of sidecars do. Address, port, tags and weights stand in the fields of the same name, endpoints
// in the tagged addresses, version, zone and metadata in the meta. The meta also names the announcement, rollcall-owner,
// and has what Consul does not take as it is in rollcall-more-0 and so on, as JSON: keys with other characters than
// letters, digits, '-' and '_', values of more than 512 bytes, more than 64 pairs, names that are taken.
//
// A TTL check, rollcall:service:id, passes as long as the process gives signs of life. [registry.Warning] and
// [registry.Critical] are statuses of that check, [registry.Maintenance] is Consul's maintenance mode of the service with a
// reason of our own. An operator has the last word: maintenance with another reason survives updates and new
// announcements, and ends only by hand.
//
// With Checks of other kinds the agent looks by itself. They begin as passing, so that nobody waits an interval for an instance
// that says it is ready. The TTL check stays beside them for the announced status; where ttl is not among the kinds it needs no
// signs of life, and only an update writes it. Consul then removes what has been critical for DeregisterAfter by any check, and
// a process that lives announces it again, which passes until it is looked at. With ttl among the kinds the TTL check alone removes
// an instance, and one that another check finds critical stays so. A gRPC server that says NOT_SERVING is critical. Checks of
// this package that an earlier configuration left are removed.
//
// An announcement that the agent no longer has is made again at once, whatever took it: a wiped agent, an operator, or Consul
// itself while the process was paused for longer than DeregisterAfter. One that is deleted from the catalog behind the agent's
// back is the agent's to restore: it does so with the next update at once, and otherwise with its next full comparison
// (anti-entropy), which in a small cluster comes each minute or two.
//
// A registration of the same ID on the same agent is noticed ([registry.ErrReplaced]); the same ID on two agents stands in
// Consul twice. Consul has no write under a condition: where two processes write one ID in the same moment, the later one
// stands, and the other finds out.
//
// Entries that others wrote are read as they are: the ID is Consul's, without the name of the service and a colon where it
// begins so, metadata is the meta, version and zone are taken from the keys of that name, and the address is the node's
// where the service has none. Two writers are told by their form: kratos, whose endpoints are URLs in the tagged addresses
// and whose version is a tag (the address is then its gRPC endpoint, where it has one), and kitex, whose tags are read as
// metadata too.
//
// With Config.Format "kratos" an entry is also one of kratos, so that a fleet can move here one service at a time: the tagged
// addresses are URLs, grpc://10.0.0.7:9000?isSecure=false, with the address under grpc where no endpoint has that name or
// that address, and a tag version=1.2 is added. Readers of this package take both off again, by the key rollcall-form of the meta.
//
// # What Consul selects
//
// The tags of a query are parameters of its reads, and its version and metadata an expression beside Filter, so that Consul leaves
// out what nobody wants. It does so with entries of this package. Those that others wrote, and those with an overflow, all
// come and are selected here, since their version and metadata need not stand where an expression would look.
//
// # Many watches and announcements
//
// A watch has one read in flight. Over TLS the agent speaks HTTP/2, and a connection carries some 250 of them. Over plain HTTP each
// has a connection of its own, and an agent takes 200 from one address, so no more than 192 calls are in flight: 64 watches wait
// as long as Wait says, and any further ones share 64 places, where a read lasts 1 s. With n watches a change is seen after
// some (n-64)/64 s at the latest. Of n announcements 8 are guarded all the time, and the others in turn, each after some
// (n-8)/16 s; a heartbeat that misses its entry says so too. An agent that refuses a connection all the same, since other
// programs have theirs, is asked for half as many, and for one more each 5 s; a single heartbeat that it refuses loses
// nothing. The limit of the agent is limits.http_max_conns_per_client.
//
// With n announcements the agent takes 3n/TTL heartbeats a second, and writes each to its disk: a process that announces
// hundreds of instances wants a TTL of a minute or more.
//
// # Elections
//
// A server without a leader keeps a read, and looks again after waits that double, up to 7 s: who reads early in an election is
// answered seconds after it. So once the read of a watch has failed for want of an agent, of its servers or of a leader, the next
// one comes when GET /v1/status/leader names one. Of all watches of an agent one asks for that, some four times a second in the
// first 5 s, and then about once, past Rate, which counts reads. Where the answer says nothing of it, the read comes at once;
// where there is none, or no leader within Timeout, that is a failure; and each fourth attempt is a read, whatever is said.
//
// A server that starts again replays its log while it answers already, with more of what there was each time. So the read after such a
// failure, or after the index fell, is a consistent one, which comes after the replay. A lookup and the first read of a watch
// are not, unless Consistent is set, and nor is one with Stale, which needs no leader and may show a part.
//
// # What is believed
//
// A watch is one blocking query. Its answers are taken with caution, as Consul answers 200 and an empty list in many
// cases in which it does not know: one whose index is missing, 1 or lower than before is thrown away, one that is empty
// where there were instances is confirmed by a read without an index, which fails where it should, and so is, once in a
// Wait, that nothing has changed. A store that has lost its data is empty until every instance has announced itself again:
// [registry.Options].EmptyHold says how long that is not believed. An answer that the ACLs cut is
// [registry.ErrDenied], as is one that Consul refuses; where no token is shown Consul does not say that it has cut one, so where
// such an answer is empty it is asked again in a way that it refuses; a request that it calls bad is [registry.ErrInvalid]; everything else
// that goes wrong is [registry.ErrUnavailable].
package consul
