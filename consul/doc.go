// Package consul announces and finds instances in HashiCorp Consul, by way of an agent.
//
//	reg, err := consul.New(consul.Config{Address: "127.0.0.1:8500"})
//
// # Configuration
//
// A setting comes from the field of [Config], or the parameter of the URL that [Open] is given, and where that is not set
// from the environment variable that Consul's own tools read, and then from the default.
//
//	field                  URL parameter      environment              default         unit
//	Address                (the host)         CONSUL_HTTP_ADDR         127.0.0.1:8500  host:port or http(s)://host:port
//	Scheme                 tls                CONSUL_HTTP_SSL          http            http, https (tls: true, false)
//	Username, Password     (the user part)    CONSUL_HTTP_AUTH         none            text (environment: user:password)
//	Token                  token              CONSUL_HTTP_TOKEN_FILE,  none            text (or a file with it)
//	                                          CONSUL_HTTP_TOKEN
//	TLS.CAFile             ca-file            CONSUL_CACERT            the system's    PEM file
//	(none)                 (none)             CONSUL_CAPATH            none            folder of PEM files
//	(none)                 (none)             CONSUL_CLIENT_CERT,      none            PEM files
//	                                          CONSUL_CLIENT_KEY
//	(none)                 (none)             CONSUL_TLS_SERVER_NAME   the host        host name
//	TLS.InsecureSkipVerify insecure           CONSUL_HTTP_SSL_VERIFY   false           true, false (environment: the opposite)
//	Datacenter             dc                 (none)                   the agent's     name
//	Near                   near               (none)                   none            node name or _agent
//	Limit                  limit              (none)                   0, all          instances
//	Stale                  stale              (none)                   false           true, false
//	Consistent             consistent         (none)                   false           true, false
//	Wait                   wait               (none)                   60s             duration, 1s to 10m
//	Timeout                timeout            (none)                   12s             duration
//	TTL                    ttl                (none)                   15s             duration, 3s at the least
//	DeregisterAfter        deregister-after   (none)                   1m              duration, 1m at the least
//	Options.CacheDir       cache-dir          (none)                   none            folder
//	Options.Linger         linger             (none)                   30s             duration
//
// The other Options have no URL parameter. Durations are written as in Go, such as 90s; in a JSON file they are
// nanoseconds. CONSUL_NAMESPACE and CONSUL_PARTITION are passed on too, and refused by a Consul that has neither.
//
// # What the token has to be allowed
//
// Where ACLs deny by default, these rules are enough, and none of them can be left out:
//
//	Register, Update, Deregister  service "NAME" { policy = "write" }
//	Lookup, Watch                 service "NAME" { policy = "read" }  node_prefix "" { policy = "read" }
//	Services                      service_prefix "" { policy = "read" }
//
// # What an announcement looks like
//
// An instance is a service of the agent whose ID is service:id, and service:id~mark where either has an upper-case letter,
// since the catalog does not tell a from A. Address, port, tags and weights stand in the fields of the same name, endpoints
// in the tagged addresses, version, zone and metadata in the meta. The meta also names the announcement, rollcall-owner,
// and has what Consul does not take as it is in rollcall-more-0 and so on, as JSON: keys with other characters than
// letters, digits, '-' and '_', values of more than 512 bytes, more than 64 pairs, names that are taken.
//
// A TTL check, rollcall:service:id, passes as long as the process gives signs of life. [registry.Warning] and
// [registry.Critical] are statuses of that check, [registry.Maintenance] is Consul's maintenance mode of the service with a
// reason of our own. An operator has the last word: maintenance with another reason survives updates and new
// announcements, and ends only by hand.
//
// A registration of the same ID on the same agent is noticed ([registry.ErrReplaced]); the same ID on two agents stands in
// Consul twice. Consul has no write under a condition: where two processes write one ID in the same moment, the later one
// stands, and the other finds out.
//
// Entries that others wrote are read as they are: the ID is Consul's, without the name of the service and a colon where it
// begins so, metadata is the meta, version and zone are taken from the keys of that name, and the address is the node's
// where the service has none.
//
// # What is believed
//
// A watch is one blocking query. Its answers are taken with caution, as Consul answers 200 and an empty list in many
// cases in which it does not know: one whose index is missing, 1 or lower than before is thrown away, one that is empty
// where there were instances is confirmed by a read without an index, which fails where it should, and so is, once in a
// Wait, that nothing has changed. A store that has lost its data is empty until every instance has announced itself again:
// [registry.Options].EmptyHold says how long that is not believed. An answer that the ACLs cut is
// [registry.ErrDenied], as is one that Consul refuses; a request that it calls bad is [registry.ErrInvalid]; everything else
// that goes wrong is [registry.ErrUnavailable].
package consul
