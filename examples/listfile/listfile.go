// Package listfile is a backend that can only find: it reads instances from a JSON file that something else writes. It is an example of
// docs/backend.md.
package listfile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/rollcall-go/rollcall/registry"
)

// pollEvery is how often a watch reads the file.
const pollEvery = time.Second

// New returns a Registry over the file, which has a JSON list of instances.
func New(path string, o registry.Options) (*registry.Registry, error) {
	return registry.New(driver{path}, o)
}

type driver struct{ path string }

func (d driver) Properties() registry.Properties {
	return registry.Properties{Name: "listfile " + d.path}
}

func (d driver) Register(context.Context, *registry.Instance, registry.Lease) (registry.Lease, error) {
	return nil, fmt.Errorf("%w: instances are written to %s by hand", registry.ErrUnsupported, d.path)
}

func (d driver) Watch(q registry.Query) registry.Source {
	return &source{path: d.path, service: q.Service}
}

func (d driver) WatchValue(string) registry.ValueSource { return registry.NoValues() }

func (d driver) Services(context.Context) (names []string, err error) {
	text, err := read(d.path)
	if err != nil {
		return nil, err
	}
	instances, err := decode(text)
	seen := map[string]bool{}
	for _, in := range instances {
		if !seen[in.Service] {
			seen[in.Service] = true
			names = append(names, in.Service)
		}
	}
	return names, err
}

func (d driver) Close() error { return nil }

type source struct {
	path, service string
	last          []byte // the file as it was; nil if it must be read at once
}

func (s *source) Next(ctx context.Context) (registry.Set, error) {
	for {
		if s.last != nil {
			select {
			case <-time.After(pollEvery):
			case <-ctx.Done():
				return registry.Set{}, ctx.Err()
			}
		}
		text, err := read(s.path)
		if err != nil {
			s.last = nil
			return registry.Set{}, err
		}
		if s.last == nil || !bytes.Equal(text, s.last) {
			s.last = text
			return s.set()
		}
	}
}

func (s *source) set() (set registry.Set, err error) {
	instances, err := decode(s.last)
	if err != nil {
		s.last = nil
		return set, err
	}
	for _, in := range instances {
		if in.Service != s.service {
			continue
		}
		if err := in.Validate(); err != nil {
			set.Unreadable = append(set.Unreadable, registry.Unreadable{Entry: in.Service + "/" + in.ID, Err: err})
			continue
		}
		set.Instances = append(set.Instances, in)
	}
	return set, nil
}

func (s *source) Close() error { return nil }

func read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
	return text, nil
}

// decode reads the whole list. Half of a file that is being written is an error, not a smaller set.
func decode(text []byte) (instances []*registry.Instance, err error) {
	if err := json.Unmarshal(text, &instances); err != nil {
		return nil, fmt.Errorf("%w: %w", registry.ErrUnavailable, err)
	}
	return instances, nil
}
