// Package registry is the portable layer of Rollcall: what applications use to announce and to find services, whatever
// the backend, and what backends implement.
//
// An application opens a [Registry] by URL through [Openers], or by a backend's own New, and depends on the interfaces
// [Registrar] and [Discovery]. A Registry goes on working when the store behind it does not: an announcement is made
// again until it stands, a watch keeps its last good set and says why it may be out of date, and neither ever gives up.
//
// A backend is a [Driver]: single attempts to write, hold, read and wait, without retries or caches. Package
// registrytest tests whether it keeps its promises.
//
// The package imports the standard library only.
package registry
