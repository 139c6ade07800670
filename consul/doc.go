// Package consul registers and finds instances in HashiCorp Consul, through an agent.
//
//	reg, err := consul.New(consul.Config{Address: "127.0.0.1:8500"})
//
// [New] and [Open] return a [registry.Registry], [NewDriver] returns its driver. The settings are in the table below.
//
// # Overview
//
// Register makes the instance a service of one agent, with a TTL check that heartbeats keep passing. The entry is registered again if the
// agent or the catalog loses it. Deregister puts it into maintenance for 100 ms, by which watches see that it leaves on purpose, and
// removes it. Use the agent on the same host, or a list of agents, but no balancer: see Balancers.
//
// Watch is a blocking query. Consul answers it with 200 and an empty list in many cases in which it does not know the set, so answers are
// checked: see Answers. Lookup is a read without a wait.
//
// Consul has no conditional registration. A second registration of an ID at the same agent is noticed ([registry.ErrReplaced]). If two
// processes write one ID at the same moment, the later write wins, and the other process finds out. The same ID at two agents is two
// entries.
//
// The checks are settings of a Config, and so of all instances that a Registry registers. If two services of a process need different
// checks, the process uses two Registries.
//
// An instance whose checks warn is [registry.Warning], and a query without AnyStatus leaves it out. To use such instances, watch with
// AnyStatus and select by Status: their Weight is Weights.Warning of the entry, which Config.WarningWeight sets.
//
// With n registrations, the agent gets 3n/TTL heartbeats a second and writes each to its disk. A process that registers hundreds of
// instances should have a TTL of a minute or more, and a longer Options.CloseTimeout: on two busy cores, an agent deregistered 25 to 75
// instances a second, 64 at a time.
//
// # ACL rules
//
// If ACLs deny by default, these rules are enough, and all of them are necessary:
//
//	Register, Update, Deregister  service "NAME" { policy = "write" }
//	the same, to see the catalog  node_prefix "" { policy = "read" } too; see below
//	the same, with Sidecar        service "NAME-sidecar-proxy" { policy = "write" } too
//	the same, EnableTagOverride   node_prefix "" { policy = "read" } too; without it, tags wait for the agent, about a minute
//	Lookup, Watch                 service "NAME" { policy = "read" }  node_prefix "" { policy = "read" }
//	the same, with Connect        service "NAME-sidecar-proxy" { policy = "read" } too, if there are sidecars
//	the same, with Peer           service_prefix "" { policy = "read" }  node_prefix "" { policy = "read" }
//	to notice a deleted peering   peering = "read" too
//	Services                      service_prefix "" { policy = "read" }
//	WatchValue                    key "KEY" { policy = "read" }, with ValuePrefix before KEY
//	PutValue, DeleteValue         key "KEY" { policy = "write" }
//
// Without the right to read nodes, Deregister does not see copies at other agents, and what a restored snapshot lacks comes back only when
// the agent compares itself with the catalog, after a minute or two.
//
// # Values
//
// A value is the value of the same key in Consul's key-value store; Config.ValuePrefix and a slash come before the key. Values are read and
// written in the cluster of the agent, in Config.Datacenter if that is set; Failover and Peer do not apply. An absence is confirmed by a
// consistent read. PutValue writes up to 256 KiB by one transaction; a larger value is written and then read, for its revision.
// Writing the same data again changes nothing, so the revision stays.
//
// # Settings
//
// A setting comes from the field of [Config] or the parameter of the URL for [Open]; then from the environment variable that Consul's own
// tools read; then from the default.
//
//	field                          URL parameter         environment             default         unit
//	Address                        (none)                CONSUL_HTTP_ADDR        127.0.0.1:8500  host:port, http(s)://host:port, unix:///path
//	Addresses                      (the hosts), address  (none)                  none            list of the same
//	Scheme                         (none)                (none)                  http            http, https
//	Username, Password             (the user part)       CONSUL_HTTP_AUTH        none            text (environment: user:password)
//	Token                          token                 CONSUL_HTTP_TOKEN       none            text
//	TokenFile                      token-file            CONSUL_HTTP_TOKEN_FILE  none            file (it wins over CONSUL_HTTP_TOKEN)
//	TLS.Enable                     tls                   CONSUL_HTTP_SSL         false           true, false (tls=false: Scheme http)
//	TLS.CAFile                     ca-file               CONSUL_CACERT           the system's    PEM file
//	TLS.CAPath                     ca-path               CONSUL_CAPATH           none            folder of PEM files
//	TLS.CertFile                   cert-file             CONSUL_CLIENT_CERT      none            PEM file
//	TLS.KeyFile                    key-file              CONSUL_CLIENT_KEY       none            PEM file
//	TLS.ServerName                 server-name           CONSUL_TLS_SERVER_NAME  the host        host name
//	TLS.InsecureSkipVerify         insecure              CONSUL_HTTP_SSL_VERIFY  false           true, false (environment: the opposite)
//	Namespace                      namespace             CONSUL_NAMESPACE        the token's     name (Enterprise)
//	Partition                      partition             CONSUL_PARTITION        the agent's     name (Enterprise)
//	Datacenter                     dc                    (none)                  the agent's     name
//	Failover                       failover              (none)                  none            list of names
//	Peer                           peer                  (none)                  none            name
//	Near                           near                  (none)                  none            node name or _agent
//	Limit                          limit                 (none)                  0, all          instances, or off
//	Filter                         filter                (none)                  none            expression of Consul
//	Connect                        connect               (none)                  false           true, false
//	Stale                          stale                 (none)                  false           true, false
//	MaxStale                       stale                 (none)                  0, no bound     duration, or off
//	Consistent                     consistent            (none)                  false           true, false
//	Wait                           wait                  (none)                  45s             duration, 1s to 10m
//	ValuePrefix                    value-prefix          (none)                  none            path before the keys of values
//	Rate                           (none)                (none)                  0, no bound     the same as Options.Rate
//	Timeout                        timeout               (none)                  12s             duration
//	TTL                            ttl                   (none)                  15s             duration, 3s at the least
//	DeregisterAfter                deregister-after      (none)                  1m              duration, 1m at the least
//	Checks.Kinds                   check                 (none)                  ttl             list of ttl, grpc, http, tcp
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
//	Meta                           meta                  (none)                  none            map; in a URL KEY=VALUE,KEY=VALUE
//	EnableTagOverride              enable-tag-override   (none)                  false           true, false
//	Options.CacheDir               cache-dir             (none)                  none            folder
//	Options.Linger                 linger                (none)                  30s             duration, or off
//	Options.OutageGrace            outage-grace          (none)                  10s             duration, or off
//	Options.KeepOnClose            keep-on-close         (none)                  false           true, false
//	Options.CloseTimeout           close-timeout         (none)                  5s              duration
//	Options.BackoffMin             backoff-min           (none)                  50ms            duration
//	Options.BackoffMax             backoff-max           (none)                  1.4s            duration
//	Options.Burst                  burst                 (none)                  4               reads
//	Options.Spacing                spacing               (none)                  50ms            duration
//	Options.Rate                   rate                  (none)                  0, no bound     reads a second of all watches and lookups together, or off
//	Options.SpacingPerInstance     spacing-per-instance  (none)                  120µs           duration
//
// Durations are written as in Go, such as 90s. "off" and 0 turn off what the table says can be off; for other settings 0 is the default.
//
//   - In a URL the characters / ? # @ : & ; + % and blanks in a user, a password or a token must be percent-encoded. A list has commas
//     between its parts; address may also be there several times.
//   - In a file a setting has the name of its field in lower case with an underscore between words, such as token_file and, in a group,
//     tls: {ca_file: …}. A list or a map may be a text as in a URL. JSON takes durations in nanoseconds too. limit, rate and max_stale
//     have 0 for off there.
//
// HTTP_PROXY, HTTPS_PROXY and NO_PROXY work as for Consul's own client and command-line tool. An agent on a loopback address or a Unix
// socket is never reached through a proxy. If the agent has another address, such as the address of the node in Kubernetes, and there is a
// proxy for outgoing connections, name the address in NO_PROXY: a proxy sees the token of a call over plain HTTP, and cuts blocking
// queries.
//
// A redirect is not followed: it would take the token to another host. A Consul that has no namespaces and partitions refuses them, and
// the error has its words.
//
// # Several agents
//
// One of several agents is in use, at first the first one. The client switches to the next agent if a call fails because of the agent: the
// agent cannot be reached, breaks off, does not answer in time, answers 502, 503 or 504, or says that it has no servers or no leader. A
// probe (GET /v1/status/leader) finds an agent within about 4 s that accepts calls and does not answer. It runs while calls are in flight
// and there is another agent, after 1 s and then every 5 s. An agent that comes back is used again when all others have failed.
//
// A call that could not be dialled continues at the next agent at once. Any other call fails, and is repeated there as after every
// failure. A watch starts at index 0 at the next agent.
//
// A registration belongs to its agent, and stays there as long as that agent answers. Then the instance is registered at the agent in use,
// under the node of that agent. The orphaned entry at the first agent has the same ID. It leaves the sets when its TTL ends. The
// registration removes it as soon as that agent answers again, and Consul removes it after DeregisterAfter.
//
// A name with several addresses of one family (IPv4 or IPv6), such as a headless service of Kubernetes, counts as that many agents. It is
// resolved with the first call, and again after the failure of an agent, at most every 5 s. Each of these counts as one agent: localhost,
// a name with one address of each family, and a name that only a proxy can resolve.
//
// # Balancers
//
// A balancer in front of several agents looks like one agent, and each call or connection may reach another agent. Do not register through
// a balancer: an entry belongs to an agent. If a heartbeat reaches another agent, that answers "Unknown check ID", the instance is
// registered there too, and copies of it stay at the agents that later calls do not reach. Use the agent on the same host, a list of
// addresses, or a name that has the addresses of all agents. Lookups and watches work through a balancer.
//
// Deregister reads the catalog after it has removed the entry. If the catalog has a copy that passes or warns, Deregister removes it
// through new connections, for about 2.5 s in each attempt. It returns nil when no copy is left, and otherwise an error that names the
// nodes with one.
//
// A gateway without Consul behind it, or a proxy that refuses a call, is known by its words. A 404 means that an entry is gone only in
// Consul's words. A refusal as HTML or JSON is [registry.ErrUnavailable] with any status, except a 401 if Config has a user.
//
// # Several datacenters
//
// With Failover, a watch reads Datacenter. While Datacenter has no passing instance that the query selects, the watch also reads the other
// datacenters, and uses the first datacenter that has such an instance: see [registry.Failover]. Once Datacenter had instances, a failure to
// read it does not make the watch use another datacenter. The metadata of each instance names its datacenter, under the key [MetaDatacenter].
//
// Peer concerns only reads of instances. Register registers with the local cluster: nothing can be registered with a peer. Services
// returns [registry.ErrUnsupported], since Consul lists only the services of the local cluster.
//
// Consul remembers what a peer has exported. If the peer cluster dies or cannot be reached, its instances stay as they were last seen,
// passing ones too, and no error says so: policies and health checks of the client have to notice. If the peering is deleted, its
// instances are deleted with it at once. A watch then keeps the last good set beside an error, if the token may read the peering.
//
// # Service mesh
//
// With Connect, a watch finds instances that speak Connect themselves, and sidecars under the name and ID of the instance behind them. A
// sidecar passes once its process listens on its port. Until then, only instances that speak Connect themselves pass.
//
// # Entries
//
// An instance is a service of the agent. Its ID is service:id, or service:id~hash if that has an upper-case letter (the catalog does not
// tell a from A) or ends like the ID of a sidecar.
//
//	Address, Tags, Weight    the fields of the same name
//	Endpoints                TaggedAddresses
//	Version, Zone, Metadata  Meta, under version, zone and the keys of the metadata
//	rollcall-owner           in Meta: the owner tag, which is of one write of one registration
//	rollcall-more-0, …       in Meta, as JSON: what Consul does not take as it is
//	rollcall-weight=-1       in Meta: the instance is drained
//
// Consul does not take keys with other characters than letters, digits, '-' and '_', values of more than 512 bytes, more than 64 pairs,
// and keys that have a meaning.
//
// A drained instance ([registry.Instance].Weight below 1) has the weights 1 while it passes and 0 while it warns, since Consul refuses 0
// for passing instances.
//
// An endpoint named wan, wan_ipv4 or wan_ipv6 is also a tagged address of Consul, which callers of other datacenters get if their agents
// translate addresses (translate_wan_addrs). Consul takes the port from wan and the host from the other two, so the form that is missing
// is added.
//
// # Checks
//
// The TTL check, rollcall:service:id, passes as long as the process sends heartbeats. [registry.Warning] and [registry.Critical] are
// statuses of that check. [registry.Maintenance] is Consul's maintenance mode of the service, with a reason of this package. An operator
// decides: maintenance with another reason survives updates and registrations, and ends only by hand.
//
// The agent makes checks of other kinds by itself. They begin as passing, so that an instance that registers as ready need not wait
// for an interval. The TTL check stays beside them for the status that the instance registers or updates.
//
//   - With ttl among the kinds, only the TTL check removes an instance. If another check is critical, the instance stays critical, and
//     registered.
//   - Without ttl, the TTL check needs no heartbeats, and only an update writes it. Consul then removes an instance that was critical for
//     DeregisterAfter by any check. If the process lives, it registers the instance again, which passes until the next check.
//   - A gRPC server that answers NOT_SERVING is critical.
//   - Checks of this package that an earlier configuration left are removed.
//
// A registration ends with one heartbeat, since Consul keeps the status of a check over a restart of the agent only if a heartbeat has
// written it. If the agent refuses a heartbeat for want of a connection (429), or does not answer it in time, the next one makes up for
// it. A second failure in a row is a loss.
//
// # Losses
//
// An entry that the agent has lost is registered again at once, after any cause: the agent was wiped, an operator removed it, or Consul
// did while the process was paused for longer than DeregisterAfter. If a proxy ends the read that waits for a change of the entry, the
// entry is read at once, and as long as that succeeds nothing is lost.
//
// An entry that the catalog has lost, or has with an earlier content, while the agent has it, is registered again: about 1 s after a
// snapshot was restored, and within a Wait for any other cause. All registrations at an agent share one read that waits for a change of
// its node, and one read of their entries, which follows a change and is made twice in each Wait.
//
// # Entries of other tools
//
// Entries that others wrote are read as they are. The ID is Consul's, without the name of the service and a colon if it begins so.
// Metadata is the Meta; version and zone are taken from the keys of these names. A service without an address has the address of its node.
// Without a zone in the Meta, the zone is taken from the Locality of the service, and then from the Locality of the node. The weight is
// Weights.Passing, or Weights.Warning for an instance that warns; 0 or less is [registry.Drained].
//
// Two writers are known by their form. kratos has URLs as tagged addresses and its version as a tag; the address is then its gRPC
// endpoint, if it has one. The tags of kitex are read as metadata too.
//
// With Config.Format "kratos", an entry is also one of kratos, so that a fleet can move here one service at a time: the tagged addresses
// are URLs such as grpc://10.0.0.7:9000?isSecure=false, with the address under grpc if no endpoint has that name or that address, and a
// tag version=1.2 is added. Readers of this package remove both again, by the key rollcall-form of the Meta.
//
// An entry is left out of every set, and counts for no Limit and no Failover, if it cannot be decoded, queried or dialled:
//
//   - a field has the wrong type, or the name or the ID is missing,
//   - the ID has characters that cannot be printed,
//   - the port is not from 1 to 65535,
//   - the address is neither an IP address nor a DNS name: a URL, host:port, a socket, an address with an IPv6 zone, 0.0.0.0.
//
// It is logged once, and counted: see [registry.Registry.CountUnreadable]. An endpoint that cannot be dialled is left out alone.
//
// # Filters
//
// The tags of a query are parameters of its reads. Its version and metadata are an expression beside Filter, so that Consul leaves out the
// rest of the entries of this package. Entries that others wrote, and those with a rollcall-more-0, all come and are selected here, since
// an expression may not find their version and metadata.
//
// To Consul, names that differ only in case are the same name; to Rollcall they are not. If a query for greeter finds only instances of
// Greeter, that is an error that names both, unless there were instances of greeter before. Services leaves out names that no query can
// have: see [registry.Instance.Validate].
//
// # Connections
//
// A watch has one read in flight. Over TLS the agent speaks HTTP/2, and a connection carries about 250 of them. Over plain HTTP each read
// has a connection, and an agent accepts 200 from one address (limits.http_max_conns_per_client). So no more than 193 calls have a slot:
// there are 128 slots for watches. While they suffice, each read waits for as long as Wait says. If more watches queue, 64 of the slots are
// shared in turn, for a read of 1 s each, so with n watches a change is seen after about (n-64)/64 s at the latest, and one log line
// recommends TLS. Of n registrations, 24 entries are watched all the time; if there are more, 8 are, and the others in turn, each one again
// after about (n-8)/3 s. A heartbeat also notices that its entry is lost.
//
// If the agent refuses a connection all the same, since other programs use them, the driver halves the number of slots, and adds one for
// every 5 s without a refusal.
//
// # Elections
//
// Without a leader, a server delays reads and rechecks with exponential delays of up to 7 s, so a read sent during an election returns
// seconds after it ends. So if a read of a watch has failed for want of an agent, of its servers or of a leader, the next read waits until
// GET /v1/status/leader names one. Only one of the watches at an agent asks: about four times a second in the first 5 s, and then about
// once. If the answer does not say whether there is a leader, the read is made at once. No answer, or no leader within Timeout, is a
// failure. Each fourth attempt is a read, after any answer.
//
// A server that starts again replays its log while it already answers, with more of the set each time. So the read after such a failure,
// or after the index fell, is a consistent read, which comes after the replay. Others are not, unless Consistent is set: a lookup, the
// first read of a watch, and a read with Stale, which needs no leader and may show a part.
//
// # Bounds of an answer
//
// An answer is decoded as it arrives, and is an error as soon as it exceeds one of these bounds. All sizes are after decompression. A
// service of 50,000 instances with 1,500 bytes each is below all of them.
//
//	an answer with a set                           128 MiB, 200,000 entries, 2,000,000 tags, endpoints and pairs of meta
//	an entry of a set                              4 MiB
//	any other answer, such as of Services          16 MiB
//	the body of an error                           64 KiB
//	the time from the header to the end of a body  Timeout
//
// # Answers
//
// Which answers of a watch are used:
//
//   - An answer whose index is missing, 1, or lower than before is thrown away.
//   - An answer that is empty, if there were instances before, is confirmed by a read without an index, which fails if Consul does not
//     know the set. Once in a Wait, the same read confirms that nothing has changed.
//   - An answer without more than half of the instances, or of the passing ones, is confirmed by further reads. The first waits 500 ms at
//     most, and each later one as long as the instances have been missing, until half are back or a Wait is over: 8 waits by default.
//     So a wrong answer with an index that is too high does not make the watch wait for long.
//   - A store that has lost its data is empty until every instance is registered again: for [registry.Options].OutageGrace, the last good
//     set stays beside an error.
//
// Which errors there are:
//
//   - [registry.ErrDenied]: Consul refuses the read, or the ACLs have cut the answer. If no token is sent, Consul does not say that it has
//     cut an answer. So if such an answer is empty, another read follows, which Consul refuses in that case.
//   - [registry.ErrInvalid]: Consul calls the request bad. A 400 or 413 without a header of Consul's (X-Consul-…) comes from a proxy or
//     from an https port, and is ErrUnavailable.
//   - [registry.ErrUnavailable]: everything else.
package consul
