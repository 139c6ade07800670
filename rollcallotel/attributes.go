package rollcallotel

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"

	"github.com/rollcall-go/rollcall/rollcallotel/internal/errortype"
)

// otherServices is the name of all services beyond Config.MaxServices.
const otherServices = "_other"

const (
	keyService   = attribute.Key("service.peer.name")
	keyRegistry  = attribute.Key("rollcall.registry")
	keyState     = attribute.Key("rollcall.state")
	keyStatus    = attribute.Key("rollcall.status")
	keyOp        = attribute.Key("rollcall.op")
	keyErrorType = attribute.Key("error.type")
)

// serviceNames bounds the number of services that have metrics of their own. It is safe for concurrent use.
type serviceNames struct {
	max   int
	mu    sync.Mutex
	known map[string]bool
}

// of returns the name under which a service is recorded. It stays the same, since a sum that moved to another name would be wrong in both.
func (s *serviceNames) of(service string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.known[service]:
		return service
	case len(s.known) >= s.max:
		return otherServices
	}
	s.known[service] = true
	return service
}

// withError adds error.type to attrs, unless err is nil.
func withError(err error, attrs ...attribute.KeyValue) []attribute.KeyValue {
	if err != nil {
		attrs = append(attrs, keyErrorType.String(errortype.Of(err)))
	}
	return attrs
}
