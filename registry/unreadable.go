package registry

// Unreadable is an entry of the store that is no instance, as far as a driver can tell, so that no set has it.
type Unreadable struct {
	Entry string // its key or ID in the store
	Err   error  // what is wrong with it, without the content, which may be private
}

// UnreadableReporter is implemented by a [Source] that leaves out what it cannot read, and lets its neighbours stand.
type UnreadableReporter interface {
	// Unreadable returns the entries that were found since the last call. Each is returned once until it changes, by
	// whichever of the driver's sources finds it first. It does not block, and is called after Next, never while that runs.
	Unreadable() []Unreadable
}

// UnreadableCounter is implemented by a [Driver] whose sources are UnreadableReporters.
type UnreadableCounter interface {
	// CountUnreadable returns the number of entries that could not be read when they were last looked at.
	CountUnreadable() int
}

// CountUnreadable returns the number of entries, of the services that were looked up or watched, that are left out of sets
// since they could not be read when they were last looked at. Each is logged once, and again when it has changed. It is 0
// where the backend does not count. It does not block.
func (r *Registry) CountUnreadable() int {
	if c, ok := r.driver.(UnreadableCounter); ok {
		return c.CountUnreadable()
	}
	return 0
}

// logAtOnce bounds what one read logs: a wrong prefix may make a whole store unreadable.
const logAtOnce = 10

func (r *Registry) logUnreadable(service string, src Source) {
	u, ok := src.(UnreadableReporter)
	if !ok {
		return
	}
	all := u.Unreadable()
	for _, e := range all[:min(len(all), logAtOnce)] {
		r.opts.Logger.Warn("rollcall: an entry cannot be read, and is left out", "registry", r.String(), "service", service,
			"entry", e.Entry, "error", e.Err)
	}
	if more := len(all) - logAtOnce; more > 0 {
		r.opts.Logger.Warn("rollcall: more entries cannot be read, and are left out", "registry", r.String(), "service", service,
			"entries", more)
	}
}
