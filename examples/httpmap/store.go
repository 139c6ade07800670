package httpmap

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Store is the server: a map of entries behind HTTP. It knows nothing of Rollcall. An entry belongs to its owner, and is removed
// if that does not renew it within its TTL.
//
//	GET    /                                             the names of all services
//	GET    /SERVICE?since=VERSION&wait=DURATION          an Answer
//	PUT    /SERVICE/ID?owner=OWNER&ttl=DURATION          writes an entry, also over another owner's
//	PUT    /SERVICE/ID?owner=OWNER&ttl=DURATION&update=1 writes it if OWNER has it: otherwise 404 or 409
//	POST   /SERVICE/ID?owner=OWNER                       renews it: otherwise 404 or 409
//	DELETE /SERVICE/ID?owner=OWNER                       removes it: otherwise 404 or 409
type Store struct {
	epoch string // is another after a restart, so that no old version equals a new one

	mu       sync.Mutex
	services map[string]*service
}

type service struct {
	version int
	changed chan struct{} // closed by the next change
	entries map[string]*entry
	left    map[string]int // the version in which the owner of this ID removed it
}

type entry struct {
	Owner  string
	Value  string
	ttl    time.Duration
	expiry *time.Timer
}

// Answer is what the store says of a service.
type Answer struct {
	Version string
	Entries map[string]*entry // by ID
	Left    []string          // the IDs that their owners have removed since the version in the request
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{epoch: rand.Text(), services: map[string]*service{}} }

// ServeHTTP implements [http.Handler].
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, id, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case name == "":
		json.NewEncoder(w).Encode(s.names())
	case r.Method == http.MethodGet:
		json.NewEncoder(w).Encode(s.read(name, r))
	default:
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(s.write(name, id, r, value))
	}
}

func (s *Store) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := []string{}
	for name, v := range s.services {
		if len(v.entries) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// read answers at once if the service has changed since the version, and otherwise after a change or the given time.
func (s *Store) read(name string, r *http.Request) Answer {
	since := r.FormValue("since")
	wait, _ := time.ParseDuration(r.FormValue("wait"))
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(name)
	if since == s.version(v) && wait > 0 {
		changed := v.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(wait):
		case <-r.Context().Done():
		}
		s.mu.Lock()
	}
	a := Answer{Version: s.version(v), Entries: map[string]*entry{}}
	for id, e := range v.entries {
		a.Entries[id] = &entry{Owner: e.Owner, Value: e.Value}
	}
	if n, ok := strings.CutPrefix(since, s.epoch+"-"); ok {
		from, _ := strconv.Atoi(n)
		for id, version := range v.left {
			if version > from {
				a.Left = append(a.Left, id)
			}
		}
	}
	return a
}

// write returns the status of the answer.
func (s *Store) write(name, id string, r *http.Request, value []byte) int {
	owner, update := r.FormValue("owner"), r.FormValue("update") != ""
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(name)
	e := v.entries[id]
	if r.Method != http.MethodPut || update {
		if e == nil {
			return http.StatusNotFound
		} else if e.Owner != owner {
			return http.StatusConflict
		}
	}
	switch r.Method {
	case http.MethodPut:
		ttl, err := time.ParseDuration(r.FormValue("ttl"))
		if err != nil || ttl <= 0 {
			return http.StatusBadRequest
		}
		if e != nil {
			e.expiry.Stop()
		}
		v.entries[id] = &entry{owner, string(value), ttl, time.AfterFunc(ttl, func() { s.Remove(name, id, owner) })}
		delete(v.left, id)
		v.change()
	case http.MethodPost:
		e.expiry.Reset(e.ttl)
	case http.MethodDelete:
		v.remove(id)
		v.left[id] = v.version
	default:
		return http.StatusMethodNotAllowed
	}
	return http.StatusNoContent
}

// Remove removes an entry as if it had expired. With an empty owner it removes any entry.
func (s *Store) Remove(name, id, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.service(name)
	if e := v.entries[id]; e != nil && (owner == "" || e.Owner == owner) {
		v.remove(id)
	}
}

func (s *Store) service(name string) *service {
	if s.services[name] == nil {
		s.services[name] = &service{changed: make(chan struct{}), entries: map[string]*entry{}, left: map[string]int{}}
	}
	return s.services[name]
}

func (s *Store) version(v *service) string { return fmt.Sprintf("%s-%d", s.epoch, v.version) }

func (v *service) remove(id string) {
	v.entries[id].expiry.Stop()
	delete(v.entries, id)
	v.change()
}

func (v *service) change() {
	v.version++
	close(v.changed)
	v.changed = make(chan struct{})
}
