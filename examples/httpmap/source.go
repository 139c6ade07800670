package httpmap

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rollcall-go/rollcall/registry"
)

// source reads one service. Registry selects by tags, version, metadata and status.
type source struct {
	d       *driver
	service string
	version string // of the last set
	failed  bool   // the last read failed, so the next one must not wait
}

func (s *source) Next(ctx context.Context) (registry.Set, error) {
	for {
		wait := s.version != "" && !s.failed
		a, err := s.d.read(ctx, s.service, s.version, wait)
		s.failed = err != nil
		if err != nil {
			return registry.Set{}, err
		}
		if !wait || a.Version != s.version {
			s.version = a.Version
			return setOf(a), nil
		}
	}
}

func (s *source) Close() error { return nil }

// setOf decodes the entries. An entry that is no instance is left out alone.
func setOf(a Answer) registry.Set {
	set := registry.Set{Departed: a.Left}
	for id, e := range a.Entries {
		in := new(registry.Instance)
		err := json.Unmarshal([]byte(e.Value), in)
		if err == nil && in.ID != id {
			err = fmt.Errorf("the instance has the ID %q", in.ID)
		}
		if err == nil {
			err = in.Validate()
		}
		if err != nil {
			set.Unreadable = append(set.Unreadable, registry.Unreadable{Entry: id, Err: err})
			continue
		}
		set.Instances = append(set.Instances, in)
	}
	return set
}
