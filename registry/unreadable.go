package registry

import "sync"

// unreadableEntries are the entries that the newest sets of all open watches leave out. An entry that several watches see is logged
// and counted once. The zero value is ready for use.
type unreadableEntries struct {
	mu      sync.Mutex
	lists   map[*feed][]Unreadable  // for each open watch, the list of its newest set, if it is not empty
	watches map[unreadableKey]int   // number of lists that have the entry
	logged  map[unreadableKey]error // the reason that was logged last for an entry; it outlives the watches
}

type unreadableKey struct{ service, entry string }

// maxLoggedRemembered bounds unreadableEntries.logged. Beyond it entries may be logged again.
const maxLoggedRemembered = 10_000

// replace makes now the list of f, and returns the entries in it that have to be logged.
func (u *unreadableEntries) replace(f *feed, now []Unreadable) (news []Unreadable) {
	u.mu.Lock()
	defer u.mu.Unlock()
	before := u.lists[f]
	if len(now) == len(before) && (len(now) == 0 || &now[0] == &before[0]) {
		return nil
	}
	if u.lists == nil || len(u.logged) > maxLoggedRemembered {
		u.logged = map[unreadableKey]error{}
	}
	if u.lists == nil {
		u.lists, u.watches = map[*feed][]Unreadable{}, map[unreadableKey]int{}
	}
	for _, e := range now {
		key := unreadableKey{f.query.Service, e.Entry}
		u.watches[key]++
		if logged := u.logged[key]; logged == nil || logged.Error() != e.Err.Error() {
			u.logged[key] = e.Err
			news = append(news, e)
		}
	}
	for _, key := range u.remove(f) {
		delete(u.logged, key) // it was repaired or deleted: if it comes back, that is news
	}
	if len(now) > 0 {
		u.lists[f] = now
	}
	return news
}

// end removes the list of f, whose watch has ended.
func (u *unreadableEntries) end(f *feed) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(f)
}

// remove removes the list of f, and returns the entries that are in no other list. u.mu is locked.
func (u *unreadableEntries) remove(f *feed) (last []unreadableKey) {
	for _, e := range u.lists[f] {
		key := unreadableKey{f.query.Service, e.Entry}
		u.watches[key]--
		if u.watches[key] == 0 {
			delete(u.watches, key)
			last = append(last, key)
		}
	}
	delete(u.lists, f)
	return last
}

// CountUnreadable returns the number of entries that the watches of this Registry leave out of their sets because they cannot be read.
// A Lookup counts as a watch, as long as that stays open: see [Options.Linger]. Each entry is logged once, and again if the reason
// changes. CountUnreadable is 0 if the backend does not report such entries. It does not block.
func (r *Registry) CountUnreadable() int {
	r.unreadable.mu.Lock()
	defer r.unreadable.mu.Unlock()
	return len(r.unreadable.watches)
}

// maxUnreadableLogged is how many entries are logged one by one after one read. A wrong prefix may make a whole store unreadable.
const maxUnreadableLogged = 10

// noteUnreadable replaces the list of f by now, the list of its newest set, and logs the new entries.
func (f *feed) noteUnreadable(now []Unreadable) {
	news := f.r.unreadable.replace(f, now)
	facts := []any{"registry", f.r.name, "service", f.query.Service}
	for _, e := range news[:min(len(news), maxUnreadableLogged)] {
		f.r.opts.Logger.Warn("rollcall: entry cannot be read, leaving it out", append(facts, "entry", e.Entry, "error", e.Err)...)
	}
	if more := len(news) - maxUnreadableLogged; more > 0 {
		f.r.opts.Logger.Warn("rollcall: more entries cannot be read, leaving them out", append(facts, "entries", more)...)
	}
}
