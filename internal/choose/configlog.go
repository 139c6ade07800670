package choose

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/rollcall-go/rollcall/internal/scrub"
	"github.com/rollcall-go/rollcall/registry"
)

// servicePart is the part of a ServiceConfigKey that the name of the service replaces.
const servicePart = "SERVICE"

// ConfigKey returns the key of the service config of a service, or "" if there is none.
func ConfigKey(pattern, service string) (key string, err error) {
	key = strings.ReplaceAll(pattern, servicePart, service)
	if key == "" {
		return "", nil
	}
	return key, registry.ValidateKey(key)
}

// CheckValues returns an error if there is a key and d has no values.
func CheckValues(key string, d registry.Discovery) error {
	if _, ok := d.(ValueWatcher); key == "" || ok {
		return nil
	}
	return fmt.Errorf("%w: ServiceConfigKey (config): %q cannot be read, since %T has no method WatchValue, as *registry.Registry has",
		registry.ErrInvalid, key, d)
}

// A process may have thousands of clients with the same service config. What happens to it is logged once for all of them.
var configLogs struct {
	sync.Mutex
	all map[configLogKey]*ConfigLog
}

// configLogKey identifies what is logged once.
type configLogKey struct {
	logger        *slog.Logger
	registry, key string
}

// ConfigLog logs what happens to one service config in the registry.
type ConfigLog struct {
	id      configLogKey
	service string
	clients int // number of clients that use it; guarded by configLogs

	mu    sync.Mutex
	bad   uint64 // the newest revision that cannot be used; 0 is none
	good  uint64 // the newest revision that can be used; 0 is an absence
	known bool   // good is set
}

// JoinConfigLog returns the log of the service config of a service. The caller must call Leave.
func JoinConfigLog(logger *slog.Logger, registryName, service, key string) *ConfigLog {
	id := configLogKey{logger, registryName, key}
	configLogs.Lock()
	defer configLogs.Unlock()
	l := configLogs.all[id]
	if l == nil {
		if configLogs.all == nil {
			configLogs.all = map[configLogKey]*ConfigLog{}
		}
		l = &ConfigLog{id: id, service: service}
		configLogs.all[id] = l
	}
	l.clients++
	return l
}

// Leave ends what JoinConfigLog began.
func (l *ConfigLog) Leave() {
	configLogs.Lock()
	defer configLogs.Unlock()
	if l.clients--; l.clients == 0 {
		delete(configLogs.all, l.id)
	}
}

// Refused logs a value that cannot be used.
func (l *ConfigLog) Refused(v *registry.Value, why error) {
	revision := revisionOf(v)
	l.mu.Lock()
	isNew := l.bad != revision
	l.bad = revision
	l.mu.Unlock()
	if isNew {
		l.id.logger.Warn("rollcall: service config invalid, keeping last good one", l.facts("revision", revision, "error", scrub.Line(why.Error()))...)
	}
}

// Accepted logs a value that differs from the last one, or a nil value for a key that was deleted.
func (l *ConfigLog) Accepted(v *registry.Value) {
	revision := revisionOf(v)
	l.mu.Lock()
	isNew := l.known && l.good != revision || !l.known && l.bad != 0
	l.good, l.known = revision, true
	l.mu.Unlock()
	switch {
	case !isNew:
	case v == nil:
		l.id.logger.Info("rollcall: service config deleted, using the client's own", l.facts()...)
	default:
		l.id.logger.Info("rollcall: service config changed", l.facts("revision", revision)...)
	}
}

func (l *ConfigLog) facts(more ...any) []any {
	return append([]any{"registry", l.id.registry, "service", l.service, "key", l.id.key}, more...)
}

// revisionOf returns 0 for an absence.
func revisionOf(v *registry.Value) uint64 {
	if v == nil {
		return 0
	}
	return v.Revision
}
