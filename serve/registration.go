package serve

import (
	"context"
	"errors"
	"sync"

	"github.com/rollcall-go/rollcall/registry"
)

// registration is a registration of a server, whose content the application updates and whose status the server updates. Both may do so at
// any time, and neither overwrites what the other has written.
type registration struct {
	registry.Registration

	mu        sync.Mutex
	want      registry.Instance // of the newest Update of the application, with the status that it has while the service is ready
	minStatus registry.Status   // set by the server; the registered status is at least as severe
	updates   int               // number of changes of want
	changes   int               // number of changes of want and minStatus
}

// newRegistration returns r, which has registered in with minStatus.
func newRegistration(r registry.Registration, in registry.Instance, minStatus registry.Status) *registration {
	want := r.Instance() // has the ID, which Register may have filled in
	want.Status = in.Status
	return &registration{Registration: r, want: want, minStatus: minStatus}
}

// Update implements [registry.Registration].
func (r *registration) Update(ctx context.Context, in registry.Instance) error {
	r.mu.Lock()
	before := r.want
	r.want = *in.Clone()
	if in.Status == max(before.Status, r.minStatus) {
		r.want.Status = before.Status // the caller passes on the status that Instance returned, and does not change it
	}
	r.updates++
	r.changes++
	update := r.updates
	r.mu.Unlock()

	err := r.write(ctx)
	if errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrUnsupported) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.updates == update {
			r.want = before // is still registered
		}
	}
	return err
}

// setMinStatus changes minStatus, and writes the registration.
func (r *registration) setMinStatus(ctx context.Context, s registry.Status) error {
	r.mu.Lock()
	r.minStatus = s
	r.changes++
	r.mu.Unlock()
	return r.write(ctx)
}

// write updates the registration until it has written the newest content and status. It does not lock r.mu meanwhile, since Update waits
// for the registry. So a concurrent write may overwrite newer content with older content; write checks afterwards whether what it wrote is
// still the newest, and otherwise writes again.
func (r *registration) write(ctx context.Context) error {
	for {
		in, change := r.newest()
		err := r.Registration.Update(ctx, in)
		if _, now := r.newest(); now == change {
			return err
		}
	}
}

func (r *registration) newest() (registry.Instance, int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	in := *r.want.Clone()
	in.Status = max(in.Status, r.minStatus)
	return in, r.changes
}
