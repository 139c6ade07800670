package callotel

import (
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const (
	noVersion  = "_none"  // the version of calls that went to no known instance
	other      = "_other" // all services, versions or queries beyond the bounds
	maxQueries = 20       // of each service
	// unusedAfter is how long a version must have had no call to make room for a new one. It is much longer than the interval between two
	// collections, so that all counts of the version were read, and bounds how many versions a service can have over time.
	unusedAfter = time.Hour
)

// counts are the numbers of calls. They are not counted by a counter of OpenTelemetry, since that never forgets a version: a process that
// lives through many rollouts would have no room for the newest version, which is the interesting one.
type counts struct {
	maxServices, maxVersions int

	mu       sync.RWMutex
	services map[string]*serviceCounts
}

type serviceCounts struct {
	versions map[string]*versionCounts
	queries  map[string]bool
}

type versionCounts struct {
	series map[seriesKey]*series
	usedAt time.Time // when the version was added, or the first collection after its newest call
}

// seriesKey identifies a series of a version.
type seriesKey struct {
	query string
	outcome
}

type series struct {
	n        atomic.Int64
	observed int64 // n at the last collection
	attrs    metric.MeasurementOption
}

func newCounts(maxServices, maxVersions int) *counts {
	return &counts{maxServices: maxServices, maxVersions: maxVersions, services: map[string]*serviceCounts{}}
}

// add counts one call.
func (c *counts) add(service, version, query string, o outcome) {
	if c.addKnown(service, version, query, o) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.create(service, version, query, o, time.Now()).n.Add(1)
}

// addKnown counts a call if there is a series under just these names. It locks for reading only, since almost all calls come here.
func (c *counts) addKnown(service, version, query string, o outcome) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	s := c.services[service]
	if s == nil {
		return false
	}
	v := s.versions[version]
	if v == nil {
		return false
	}
	n := v.series[seriesKey{query, o}]
	if n == nil {
		return false
	}
	n.n.Add(1)
	return true
}

// create returns the series for a call, under the names that the bounds allow. c.mu is locked.
func (c *counts) create(service, version, query string, o outcome, now time.Time) *series {
	s := c.services[service]
	if s == nil && len(c.services) >= c.maxServices {
		service = other
		s = c.services[other]
	}
	if s == nil {
		s = &serviceCounts{versions: map[string]*versionCounts{}, queries: map[string]bool{}}
		c.services[service] = s
	}
	version, v := s.version(version, c.maxVersions, now)
	if !s.queries[query] && len(s.queries) >= maxQueries {
		query = other
	}
	s.queries[query] = true
	key := seriesKey{query, o}
	if v.series[key] == nil {
		attrs := append(o.attributes(), keyService.String(service), keyVersion.String(version))
		if query != "" {
			attrs = append(attrs, keyQuery.String(query))
		}
		v.series[key] = &series{attrs: metric.WithAttributeSet(attribute.NewSet(attrs...))}
	}
	return v.series[key]
}

// version returns the counts of a version, and the name under which they are recorded.
func (s *serviceCounts) version(name string, most int, now time.Time) (string, *versionCounts) {
	if s.versions[name] == nil && name != noVersion && s.named() >= most && !s.forgetUnused(now) {
		name = other
	}
	if s.versions[name] == nil {
		s.versions[name] = &versionCounts{series: map[seriesKey]*series{}, usedAt: now}
	}
	return name, s.versions[name]
}

// named returns how many versions count against the bound.
func (s *serviceCounts) named() (n int) {
	for name := range s.versions {
		if name != noVersion && name != other {
			n++
		}
	}
	return n
}

// forgetUnused forgets the version that has had no call for longest. It reports whether there was such a version.
func (s *serviceCounts) forgetUnused(now time.Time) bool {
	oldest, found := now.Add(-unusedAfter), ""
	for name, v := range s.versions {
		if name != noVersion && name != other && !v.usedAt.After(oldest) && !v.hasNew() {
			oldest, found = v.usedAt, name
		}
	}
	if found == "" {
		return false
	}
	delete(s.versions, found)
	return true
}

// hasNew reports whether there are calls that no collection has read.
func (v *versionCounts) hasNew() bool {
	for _, n := range v.series {
		if n.n.Load() != n.observed {
			return true
		}
	}
	return false
}

// observe passes each series to f.
func (c *counts) observe(now time.Time, f func(int64, metric.MeasurementOption)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.services {
		for _, v := range s.versions {
			for _, one := range v.series {
				n := one.n.Load()
				if n != one.observed {
					one.observed, v.usedAt = n, now
				}
				f(n, one.attrs)
			}
		}
	}
}
