// Package registry is the portable layer of Rollcall. Applications use it to register and to find services with any
// backend, and backends implement its [Driver].
//
// An application opens a [Registry] by URL through [Openers], or by a backend's own New, and depends on the interfaces
// [Registrar] and [Discovery]. A Registry goes on working when the store behind it does not: it registers a lost instance
// again as soon as the store allows, and a watch keeps its last good set and says why it may be out of date. Neither ever gives up.
// In this documentation, "the registry" means the store behind the Registry, such as Consul.
//
// # What readers see when something goes wrong
//
// If the registry fails, a watch keeps its last good set and a Lookup returns it. An error beside the set says so; the [StaleError] in
// it tells how old the set is and its [Origin]. A set without an error is what the registry said last. The grace periods are
// G = [Options.OutageGrace], 10 s by default, and S = [Options.BackoffMax] + 1 s, 2.4 s by default, but at most G.
//
//	what happened                                        readers see                                        for how long
//	---------------------------------------------------  -------------------------------------------------  ------------------------------
//	the registry fails, refuses or does not answer       the last good set and the error                    until it answers
//	the same, to a new watch of a query that was         the set from memory or, if a CacheDir is set and   until it answers
//	watched or looked up before                          there is none in memory, from disk, and the error
//	the same, to a query that never had an answer        nil and the error                                  until it answers
//	instances deregister, or are in Maintenance          the set without them, no error                     from then on
//	and then go
//	instances go within LookupPause of the first Lookup  the next Lookup may still have them; then the      from then on
//	of a query, whose watch pauses then                  set without them, no error
//	at most half of the instances go within S            the set without them, no error                     from then on
//	more than half go within S, or stop passing within   the missing ones as they were, beside an error     S, or until half are back
//	S: leases expire, a server crashes, an operator      that lists them; all others as they are
//	deletes entries, the store loses data
//	after an outage, or within S of its end: all go or   the same                                           G, or until half are back
//	stop passing
//	after an outage, or within S of its end: more than   the same                                           S, or until half are back
//	half, but not all
//	the first set of a watch, however small              that set, no error                                 from then on
//
// Details:
//
//   - More than half means more than half of the largest set within the last S. Instances that left on purpose since are not counted.
//   - Instances are lost if they stop passing by themselves, as with [Critical]; [Maintenance] is a departure.
//   - A last good set from memory or disk may be old. So the first set after it is withheld only if all instances have gone.
//   - At the end of a grace period the newest set is published, and the next one is compared with it.
//   - Grace periods that follow one another have a limit together: the newest set is published after G + S at the latest, or after S if
//     there was no outage. Failures of up to S in between do not extend that limit.
//   - The set after a [LookupPause] counts as a first set, because nothing watches during the pause. Exception: if the registry fails right
//     before or after the pause, the set is compared as usual.
//   - A negative OutageGrace turns all of this off.
//
// # Backends
//
// A backend is a [Driver], which makes single attempts to write, renew, read and wait, without retries or caches. [Failover] makes one
// driver of several. Package registrytest tests whether a backend keeps its promises.
//
// Apart from packages of this module, the package imports the standard library only.
package registry
