// Package statuspage shows what a process watches and has registered as one plain HTML page, for the person on call:
//
//	mux.Handle("/debug/rollcall/", statuspage.Handler(statuspage.Config{}, reg))
//
// The page begins with one line that says what is wrong. Then it shows, for each Registry:
//
//   - the registrations: their state, the reason, and since when;
//   - the watches: why readers have this set (current, the last good set, withheld, from memory or from disk), and the instances, those
//     that do not pass first;
//   - the clients: gRPC channels of package grpcx and HTTP transports of package httpx, with their policy, the number of endpoints, and
//     what is wrong. A gRPC channel is a client while it is not idle;
//   - the last 50 changes since the call of [Handler].
//
// Clients of other registries, of which the page is not, come at its end.
//
// The page needs no JavaScript and no other file. With JavaScript it is live. It sends nothing to a store: everything comes from
// [registry.Registry.Snapshot] and [registry.Registry.Observe].
package statuspage

import (
	"bytes"
	"context"
	"encoding/json"
	"hash/maphash"
	"net/http"
	"strconv"
	"sync"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/registry"
)

// Config is how a page is shown. The zero value works.
type Config struct {
	// ShowMetadata shows the metadata of instances, queries and targets of clients, on the page and in JSON. By default the metadata of
	// instances is left out, and the values in queries and targets are replaced by "(hidden)", because metadata is the application's and
	// may be confidential.
	ShowMetadata bool
}

// Handler returns the status page of the given registries, of which there is usually one. It answers GET and HEAD on any path, so it can
// be mounted anywhere. Nothing is registered with [http.DefaultServeMux], and the page has no access control: put it behind the access
// control of your other debug pages.
//
// The parameter format selects what is sent:
//
//   - without it, the page;
//   - format=json: {"registries": [...], "clients": [...]} with the [registry.Snapshot] of each registry, in the order of all, and the
//     clients of the process;
//   - format=events: the changing part of the page as a stream of server-sent events, for the page's own script.
//
// Any other format is answered with status 400.
//
// Handler observes each registry from now on, and keeps the newest 50 changes of each. That ends when the registry is closed, so make
// one Handler for a registry, not one for each request. A stream ends with its request's context, and when its [http.Server] is shut
// down. Handler does not block, and the result is safe for concurrent use.
func Handler(c Config, all ...*registry.Registry) http.Handler {
	h := &handler{config: c, seed: maphash.MakeSeed(), changed: make(chan struct{}), servers: map[*http.Server]chan struct{}{}}
	for _, r := range all {
		o := &observed{registry: r}
		h.registries = append(h.registries, o)
		r.Observe(func(e registry.Event) {
			if e.Kind == registry.Attempted {
				return // it changes numbers only, and there are many
			}
			o.add(newChange(e))
			h.notify()
		})
	}
	return h
}

type handler struct {
	config     Config
	registries []*observed
	seed       maphash.Seed // of the anchors: a plain hash of a query would let readers check guesses of its hidden metadata

	mu      sync.Mutex
	changed chan struct{} // closed, and replaced, by each change
	servers map[*http.Server]chan struct{}
}

func (h *handler) notify() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// nextChange returns a channel that is closed by the next change.
func (h *handler) nextChange() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// shutdown returns a channel that is closed when the server of ctx is shut down: Shutdown waits for all requests, and a stream would
// not end. It is nil if ctx has no server.
func (h *handler) shutdown(ctx context.Context) <-chan struct{} {
	server, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	if !ok {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ended, ok := h.servers[server]
	if !ok {
		ended = make(chan struct{})
		h.servers[server] = ended
		server.RegisterOnShutdown(sync.OnceFunc(func() { close(ended) }))
	}
	return ended
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", contentSecurityPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "the status page answers GET and HEAD only", http.StatusMethodNotAllowed)
		return
	}
	switch format := r.URL.Query().Get("format"); format {
	case "":
		body, err := h.page()
		answer(w, r, "text/html; charset=utf-8", body, err)
	case "json":
		body, err := json.Marshal(struct {
			Registries []registry.Snapshot `json:"registries"`
			Clients    []clientstate.State `json:"clients"`
		}{h.snapshots(), h.clients()})
		answer(w, r, "application/json", append(body, '\n'), err)
	case "events":
		h.serveEvents(w, r)
	default:
		http.Error(w, "format is neither json nor events", http.StatusBadRequest)
	}
}

func answer(w http.ResponseWriter, r *http.Request, contentType string, body []byte, err error) {
	if err != nil {
		http.Error(w, "the status page cannot be rendered: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // an error means that the client has gone
	}
}

// page returns the whole page.
func (h *handler) page() ([]byte, error) { return h.render("page") }

// content returns the part of the page that changes.
func (h *handler) content() ([]byte, error) { return h.render("content") }

func (h *handler) render(name string) ([]byte, error) {
	var b bytes.Buffer
	err := templates.ExecuteTemplate(&b, name, h.view())
	return b.Bytes(), err
}

// snapshots returns the snapshot of each registry, with the metadata hidden unless it is to be shown.
func (h *handler) snapshots() []registry.Snapshot {
	all := make([]registry.Snapshot, 0, len(h.registries))
	for _, o := range h.registries {
		s := o.registry.Snapshot()
		if !h.config.ShowMetadata {
			hideMetadata(&s)
		}
		all = append(all, s)
	}
	return all
}

// hideMetadata changes s, which is the caller's own, but none of its instances, which are shared.
func hideMetadata(s *registry.Snapshot) {
	for i := range s.Watches {
		w := &s.Watches[i]
		for j, in := range w.Instances {
			if len(in.Metadata) > 0 {
				hidden := *in
				hidden.Metadata = nil
				w.Instances[j] = &hidden
			}
		}
		if len(w.Query.Metadata) > 0 {
			hidden := make(map[string]string, len(w.Query.Metadata))
			for k := range w.Query.Metadata {
				hidden[k] = "(hidden)"
			}
			w.Query.Metadata = hidden
		}
	}
	for i := range s.Registrations {
		s.Registrations[i].Instance.Metadata = nil
	}
}
