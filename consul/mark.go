package consul

import (
	"crypto/rand"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// mark says which write an entry is of. Consul has no condition that a registration could be made under, so a write that
// seems to have failed can be late instead: an agent that hung reads it when it goes on, and puts it in the place of what was
// written meanwhile. By its mark it is known for what it is.
type mark struct {
	client string
	lease  uint64 // counts the announcements of the client
	turn   uint64 // counts the contents of one announcement
}

// marks hands out those of one driver, and remembers those of announcements that seemed to fail: what they wrote may stand.
type marks struct {
	client string
	leases atomic.Uint64

	mu    sync.Mutex
	tried map[string]attempts // by service ID
}

// attempts are announcements of one entry that seemed to fail, since one succeeded last.
type attempts struct {
	from, to uint64 // their leases
	last     time.Time
}

// longAgo is when the entry of an announcement that nobody holds is taken to have expired.
const longAgo = time.Hour

// failed notes that the announcement with mark of seemed to fail.
func (m *marks) failed(serviceID string, of mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tried == nil {
		m.tried = map[string]attempts{}
	}
	maps.DeleteFunc(m.tried, func(_ string, a attempts) bool { return time.Since(a.last) > longAgo })
	a, ok := m.tried[serviceID]
	if !ok {
		a.from = of.lease
	}
	a.to, a.last = of.lease, time.Now()
	m.tried[serviceID] = a
}

// settled notes that an announcement of the entry has succeeded, or that the entry is gone.
func (m *marks) settled(serviceID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.tried, serviceID)
}

// hasTried reports whether mark of is that of an announcement of the entry that seemed to fail.
func (m *marks) hasTried(serviceID string, of mark) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a, ok := m.tried[serviceID]
	return ok && of.client == m.client && a.from <= of.lease && of.lease <= a.to
}

func newMarks() *marks { return &marks{client: rand.Text()} }

// next is the mark of another announcement, before its first content.
func (m *marks) next() mark { return mark{client: m.client, lease: m.leases.Add(1)} }

func (m mark) String() string { return fmt.Sprintf("%s.%d.%d", m.client, m.lease, m.turn) }

// parseMark reads what String writes. What is none is the mark of a client that nobody is.
func parseMark(text string) mark {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return mark{}
	}
	lease, err1 := strconv.ParseUint(parts[1], 10, 64)
	turn, err2 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil {
		return mark{}
	}
	return mark{parts[0], lease, turn}
}

// outdates reports whether an entry with the other mark is an earlier write of the same client.
func (m mark) outdates(other mark) bool {
	return m.client == other.client && (other.lease < m.lease || other.lease == m.lease && other.turn < m.turn)
}

// isOf reports whether other is the mark of the same announcement, or of an earlier one of the same client.
func (m mark) isOf(other mark) bool { return m.client == other.client && other.lease <= m.lease }
