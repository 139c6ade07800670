// Package etcd announces and finds instances in etcd, version 3.
//
//	reg, err := etcd.New(etcd.Config{Endpoints: []string{"127.0.0.1:2379"}})
//
// # Configuration
//
// A setting comes from the field of [Config], or the parameter of the URL that [Open] is given, and where that is not set
// from the default.
//
//	field                   URL parameter      default         unit
//	Endpoints               (the hosts),       127.0.0.1:2379  host:port or http(s)://host:port; in the URL host:port,host:port
//	                        endpoint                           and as many more parameters as there are
//	Format                  format             rollcall        rollcall, naming, kratos, gozero, gomicro
//	Prefix                  prefix             the format's    text; a slash ends it
//	Username, Password      (the user part)    none            text
//	TLS.Enable              tls                false           true, false
//	TLS.CAFile              ca-file            the system's    PEM file
//	TLS.CertFile            cert-file          none            PEM file
//	TLS.KeyFile             key-file           none            PEM file
//	TLS.ServerName          server-name        the host        host name
//	TLS.InsecureSkipVerify  insecure           false           true, false
//	DialTimeout             dial-timeout       5s              duration
//	Timeout                 timeout            5s              duration
//	KeepAliveTime           keepalive-time     10s             duration, 10s at the least; negative: off
//	KeepAliveTimeout        keepalive-timeout  5s              duration
//	TTL                     ttl                15s             duration in whole seconds, 5s at the least
//	Options.CacheDir        cache-dir          none            folder
//	Options.Linger          linger             30s             duration
//
// The other Options have no URL parameter. Durations are written as in Go, such as 90s; in a JSON file they are
// nanoseconds.
//
// # What an announcement looks like
//
// An instance is a key, prefix + service + "/" + ID, whose value is the JSON form of [registry.Instance]. The key hangs on a
// lease that holds nothing else, which is renewed each third of its TTL. So what befalls one announcement concerns no other,
// and the lease tells whose an entry is: whatever has the same ID and another lease, or none, is another registration
// ([registry.ErrReplaced]). A watch of the key tells of that at once, and of a deletion, which is repaired. Announcements do
// not share a lease, although that would save renewals: what was deregistered could come back by a write that was given up
// and is late, as from a member that hung, and would be kept alive by the others; without a lease it comes to nothing.
//
// After a broken connection an announcement goes on with its lease, and writes nothing where the entry stands as it should.
// A lease that an entry no longer hangs on is revoked where etcd can be reached, and never renewed. To deregister is to
// revoke the lease, which removes the entry in the same step, and nobody else's.
//
// Values that others wrote are read where they are JSON of that form; a missing ID or service is that of the key. A value
// that is no instance, or another than its key says, is left out alone. It is logged, once until it is written again, and
// counted: see [registry.Registry.CountUnreadable].
//
// # Formats of other frameworks
//
// A fleet moves here one service at a time: with Config.Format a service is announced where the clients of another framework
// look for it, and found where its servers announce it. A key is prefix + service + "/" + ID in every format, and an ID is
// what the key says, whatever characters it has.
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
//	Weight             1                   metadata.weight, or 1        1                1
//	Tags               none                none                         none             none
//	Status             passing             passing                      passing          passing
//	can be announced   yes                 yes                          yes              no
//
// Metadata of naming that is no JSON object stands under the key metadata, and what in it is no text is its JSON. What naming
// and kratos have no place for stands in the metadata too, under the key rollcall and as our own form, so that between our own
// processes nothing is lost. go-zero has no place for anything but the address: the rest is not announced, and a query that
// selects by it finds nothing.
//
// A client of kratos passes an instance by that has no URL for it, so that is how one is announced that is not passing. The
// others cannot be told, and to announce such an instance, or to update one so, is [registry.ErrUnsupported]: deregister it.
// So is every announcement in gomicro.
//
// Without a prefix, services stand beside everything else that etcd holds. Services then lists what has at least one entry of
// the format, and needs to read every key to know.
//
// # What is believed
//
// A watch reads the whole set once, linearizably and at one revision, and then changes alone; an event costs the decoding
// of one value. All watches share a stream, and none is ever resumed: after each break, and after a compaction that it was too
// slow for, the set is read again. For etcd's own way, to resume at the next revision, is blind where the store was wiped or
// restored meanwhile. A member that has no leader ends its watches, and is avoided for half a minute, as is one that does not
// answer. A connection that is silent is probed. Every five minutes the store is asked for its revision, once for all watches:
// one that has fallen means that it began again, and a watch that has not come as far is asked for a sign of life. A store that
// has lost its data is empty until every instance has announced itself again: [registry.Options].EmptyHold says how long that is
// not believed.
//
// After an outage of any length a watch is well again within some 10 s, and sooner where something else in the process asks: while
// nobody does, the pauses between attempts to connect grow from 0.6 s to 8 s. Announcements do not wait for them.
//
// Credentials and permissions that etcd refuses are [registry.ErrDenied], a request that it calls bad is
// [registry.ErrInvalid]; everything else that goes wrong is [registry.ErrUnavailable].
//
// # Permissions
//
// With authentication on, the least that a role has to allow is this, where S is prefix + service. A range ends before its
// second key.
//
//	operation                                    permission  keys
//	Watch, Lookup                                read        S/ to S0
//	Register, Update, Deregister, and keeping    readwrite   S/ID
//	Services                                     read        the prefix to the same with its last slash as 0;
//	                                                         without a prefix all, \x00 to \x00
//
// Leases need no permission of their own. A permission that is taken away is noticed when it is next needed, as
// [registry.ErrDenied], and what it kept from standing is repaired when it is given back. Tokens are fetched with the user and
// password, and again whenever etcd does not know one any more.
package etcd
