// Package etcd registers and finds instances in etcd, version 3.
//
//	reg, err := etcd.New(etcd.Config{Endpoints: []string{"127.0.0.1:2379"}})
//
// # Configuration
//
// Each setting is a field of [Config] and a parameter of the URL that [Open] takes. A setting that is missing has its default.
//
//	field                       URL parameter         default         unit
//	Endpoints                   (the hosts),          127.0.0.1:2379  host:port or http(s)://host:port; in the URL host:port,host:port
//	                            endpoint                              endpoint may be there several times
//	Format                      format                rollcall        rollcall, naming, kratos, gozero, gomicro
//	Prefix                      prefix                the format's    text; a slash ends it
//	Username, Password          (the user part)       none            text
//	TLS.Enable                  tls                   false           true, false
//	TLS.CAFile                  ca-file               the system's    PEM file
//	TLS.CAPath                  ca-path               none            folder of PEM files
//	TLS.CertFile                cert-file             none            PEM file
//	TLS.KeyFile                 key-file              none            PEM file
//	TLS.ServerName              server-name           the host        host name
//	TLS.InsecureSkipVerify      insecure              false           true, false
//	DialTimeout                 dial-timeout          5s              duration
//	Timeout                     timeout               5s              duration
//	KeepAliveTime               keepalive-time        10s             duration, 10s at the least, or off
//	KeepAliveTimeout            keepalive-timeout     5s              duration
//	TTL                         ttl                   15s             duration in whole seconds, 5s at the least
//	Options.CacheDir            cache-dir             none            folder
//	Options.Linger              linger                30s             duration, or off
//	Options.OutageGrace         outage-grace          10s             duration, or off
//	Options.KeepOnClose         keep-on-close         false           true, false
//	Options.CloseTimeout        close-timeout         5s              duration
//	Options.BackoffMin          backoff-min           50ms            duration
//	Options.BackoffMax          backoff-max           1.4s            duration
//	Options.Burst               burst                 4               reads
//	Options.Spacing             spacing               50ms            duration
//	Options.SpacingPerInstance  spacing-per-instance  120µs           duration
//	Options.Rate                rate                  none            reads a second
//
// Durations are written as in Go, such as 90s. "off" and 0 turn a setting off if the table says so; elsewhere 0 means the default.
// In a URL, a user or a password must percent-encode the characters / ? # @ : & ; + % and blanks.
//
// In a file, the names of the fields are in lower case with underscores, such as dial_timeout, and groups are nested:
// tls: {ca_file: …}. KeepAliveTime is keepalive_time, and KeepAliveTimeout is keepalive_timeout. endpoints may also be one text with
// commas. JSON also takes durations in nanoseconds.
//
// # Values
//
// The value of a key is at prefix + "_values/" + key, in every format. A role needs the permission to read or write that key, and a
// write with a condition needs both.
//
// # Entries
//
// An instance is the key prefix + service + "/" + ID. Its value is the JSON form of [registry.Instance].
//
//   - Each key has a lease of its own in etcd, which is renewed every third of its TTL. An entry with the same ID on another lease, or on
//     none, is of another registration: [registry.ErrReplaced].
//   - A watch of the key notices at once if the entry is deleted or replaced. A deleted entry is written again.
//   - After a broken connection, a registration goes on with its lease. It writes nothing if the entry is unchanged.
//   - A lease that lost its entry is never renewed, and is revoked when etcd can be reached.
//   - If etcd has no space (the NOSPACE alarm) or takes no more requests, it refuses writes but renews leases: the old content stays
//     registered.
//
// The leases of a process are renewed on one stream. If there are more than a few, a renewal waits for up to a thirtieth of the TTL, and
// half a second at most, to be sent with others. The watches of the keys share the stream of all watches.
//
// Registrations do not share a lease, although that would save renewals. A delayed write, such as by a member that hung, could bring
// back an entry after it was deregistered, and the other registrations would keep it alive. Without its lease the write fails.
//
// Deregister writes the status maintenance, and then revokes the lease, which removes the entry of this registration and no other. By
// that status, readers tell an instance that left on purpose from a lost instance, whose lease expired, whose key an operator deleted,
// or which the store lost. If the first write fails or takes a second, the lease is revoked all the same. The format gozero has no place for a
// status, so readers cannot tell the two apart.
//
// Watches also read values that other programs wrote as JSON of this form. A missing ID or service is taken from the key. An entry is left
// out, logged and counted if its value is no instance, or names another instance than its key: see
// [registry.Registry.CountUnreadable].
//
// # Formats of other frameworks
//
// With Config.Format, services move from another framework one at a time: clients of that framework find the instances of this package,
// and this package finds the instances of its servers. The key is prefix + service + "/" + ID in every format, and an ID may have any
// characters.
//
//	                   naming              kratos                       gozero           gomicro
//	framework          etcd's own client,  kratos v2                    go-zero,         go-micro v4,
//	                   naming/endpoints    contrib/registry/etcd        core/discov      plugins registry/etcd
//	default Prefix     none                /microservices/              none             /micro/registry/
//	service            target              name                         key              name, - for /
//	ID                 the rest of the key id                           number           node, - for /
//	Address            Addr                URL for grpc, or else grpcs, the whole value  address of the node
//	                                       or else the first
//	Endpoints          none                the other URLs, by scheme    none             none
//	Version            Metadata.version    version                      none             version
//	Zone               Metadata.zone       metadata.zone                none             metadata.zone
//	Metadata           Metadata            metadata                     none             of service and node
//	Weight             1                   metadata.weight, or 1;       1                1
//	                                       -1 (drained) for 0 or less
//	Tags               none                none                         none             none
//	Status             passing             passing                      passing          passing
//	can be registered  yes                 yes                          yes              no
//
// Details of the formats:
//
//   - naming: metadata that is no JSON object has the key metadata. A value in it that is no text is read as its JSON.
//   - naming and kratos: what the format has no place for is written as our own JSON, under the key rollcall of the metadata. Nothing is
//     lost between processes that use this package.
//   - gozero: everything but the address is dropped. A query that selects by anything else finds nothing.
//   - kratos: an instance that is not passing is written without URLs, because clients of kratos skip an instance without a URL for them.
//   - naming and gozero: registering an instance that is not passing, or updating one to that, is [registry.ErrUnsupported], because their
//     clients cannot be told. Deregister it instead.
//   - gomicro: registering is [registry.ErrUnsupported].
//
// Without a prefix, services share the root with everything else in etcd. Services then has to read every key, and returns the names
// with at least one entry of the format.
//
// # Consistency
//
// A watch reads the whole set once, linearizably and at one revision, and then only changes. An event costs the decoding of one value. All
// watches share one stream. A watch is never resumed: after a broken stream, or a compaction that it was too slow for, the set is read
// again. Resuming at the next revision, as etcd's own client does, misses changes if the store was wiped or restored meanwhile.
//
//   - A member that has no leader ends its watches. For 30 s it gets no calls, and neither does a member that does not answer.
//   - The same applies to a learner, which refuses nearly every call. A call that it refused is made again at another member.
//   - An idle connection is probed: see Config.KeepAliveTime.
//   - Every five minutes, the revision of the store is read once for all watches. If it fell, the store was restored. A watch that is
//     behind is verified.
//
// A store that lost its data is empty until the instances have registered again: see [registry.Options].OutageGrace.
//
// After an outage of any length, a watch recovers within about 10 s, because the pauses between attempts to connect grow from 0.6 s
// to 8 s. Registrations and lookups connect at once, and watches recover with them.
//
// # Members and proxies
//
// A host name in Endpoints may have several addresses. Each is a member. If connected members belong to different clusters, every
// call fails with an error that names them. A cluster that was replaced or restored has another ID too, which is no error.
//
// Everything works through etcd's own proxy (etcd grpc-proxy), with two differences:
//
//   - The proxy chooses the numbers of watches, and answers requests in any order, so watches are requested one at a time.
//   - It reports no progress on request, so every five minutes a watch without changes is read again if anything else was written.
//
// # Errors and limits
//
// Refused credentials and permissions are [registry.ErrDenied], and a request that etcd calls bad is [registry.ErrInvalid]. All other
// failures are [registry.ErrUnavailable], including answers that no etcd gives: without a header, with a key that was not asked
// for, with an event without an entry, with a lease without a usable TTL. Such an answer fails the call, or ends the stream, whose watches
// then start anew. The limits are:
//
//	one answer                                5 MiB; a list that does not fit is read in smaller pages
//	the value of one entry                    1 MiB; a larger one is left out
//	all entries of one service                128 MiB, counting keys, values, and 512 bytes more for each: 50,000 of 2 KiB fit
//	unread or incomplete changes              64 MiB for each stream, counted the same way, and 65,536 answers for each watch
//	attempts of a write that was overtaken    3
//	connections to a member                   one a second if each ends at once
//
// # Permissions
//
// With authentication, a role needs at least these permissions. S is prefix + service. A range ends before its second key.
//
//	operation                                    permission  keys
//	Watch, Lookup                                read        S/ to S0
//	Register, Update, Deregister, and renewing   readwrite   S/ID
//	Services                                     read        the prefix to the same with its last slash as 0;
//	                                                         without a prefix all, \x00 to \x00
//
// Leases need no permission of their own. A permission that is taken away shows as [registry.ErrDenied] when it is next needed. When it is
// given back, lost registrations are registered again. Tokens are fetched with the user and password, and again when etcd
// refuses them.
package etcd
