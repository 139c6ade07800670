package choose

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
)

// Condition is a state of a client whose begin and end are logged.
type Condition int

const (
	Emptied   Condition = iota // a grace period for an empty set
	Panicking                  // instances that do not pass are used
)

// A process may have thousands of clients with the same query, which are all in the same condition. The begin and the end of a condition
// are logged once for all of them.
var conditions struct {
	sync.Mutex
	current map[conditionKey]*conditionClients
}

// conditionKey identifies what is logged once: a condition of a query to a registry, for one logger.
type conditionKey struct {
	Condition
	logger   *slog.Logger
	registry string
	query    string
}

// conditionClients are the clients in one condition.
type conditionClients struct {
	count     int
	endLogged bool // a client for which the condition is over has logged its end
}

func (s *State) conditionKey(c Condition) conditionKey {
	query, err := json.Marshal(s.Rules.Query)
	if err != nil {
		panic(err) // strings and a bool always marshal
	}
	return conditionKey{c, s.Rules.Logger, s.Registry, string(query)}
}

// logBegin logs that c begins, unless another client has logged it. Locked.
func (s *State) logBegin(c Condition, level slog.Level, text string, attrs ...any) {
	key := s.conditionKey(c)
	if s.logged == nil {
		s.logged = map[Condition]bool{}
	}
	s.logged[c] = true
	conditions.Lock()
	defer conditions.Unlock()
	clients := conditions.current[key]
	if clients == nil {
		if conditions.current == nil {
			conditions.current = map[conditionKey]*conditionClients{}
		}
		clients = &conditionClients{endLogged: true}
		conditions.current[key] = clients
	}
	clients.count++
	if clients.endLogged {
		clients.endLogged = false
		s.log(level, text, attrs...)
	}
}

// logEnd logs that c is over, unless another client has logged it. Locked.
func (s *State) logEnd(c Condition, level slog.Level, text string, attrs ...any) {
	if s.endCondition(c) {
		s.log(level, text, attrs...)
	}
}

// endCondition removes the client from the clients in condition c, and reports whether c is over for no client before it. Locked.
func (s *State) endCondition(c Condition) bool {
	if !s.logged[c] {
		return false
	}
	delete(s.logged, c)
	key := s.conditionKey(c)
	conditions.Lock()
	defer conditions.Unlock()
	clients := conditions.current[key]
	first := !clients.endLogged
	clients.endLogged = true
	clients.count--
	if clients.count == 0 {
		delete(conditions.current, key)
	}
	return first
}

// forgetConditions removes a client that closes. For the other clients the conditions go on, so nothing is logged. Locked.
func (s *State) forgetConditions() {
	for c := range s.logged {
		key := s.conditionKey(c)
		conditions.Lock()
		if clients := conditions.current[key]; clients.count > 1 {
			clients.count--
		} else {
			delete(conditions.current, key)
		}
		conditions.Unlock()
	}
	s.logged = nil
}

func (s *State) log(level slog.Level, text string, attrs ...any) {
	s.Rules.Logger.Log(context.Background(), level, text,
		append([]any{"registry", s.Registry, "service", s.Rules.Query.Service}, attrs...)...)
}
