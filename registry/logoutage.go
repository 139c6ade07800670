package registry

import "time"

// outage decides which of several failures in a row are logged: the first failure, and the first failure of each other kind. Reminders
// follow at growing intervals. Error texts are not compared, because they change from one attempt to the next although nothing happened:
// they contain a source port, or the member that was dialled last.
//
// The zero value is ready for use. An outage has no lock and no goroutine: its owner calls it with a lock.
type outage struct {
	began    time.Time
	failures int
	kind     error               // the kind that was news last
	told     map[error]time.Time // when each kind was news last
	reminder time.Time           // when the next reminder is due
}

const (
	// firstReminder is the age of an outage at its first reminder. The next ones come at twice the age of the one before.
	firstReminder = time.Minute
	// maxReminderGap is the longest time between two reminders.
	maxReminderGap = time.Hour
	// sameKindGap is how long a repeated kind of failure is not news. If refusals and timeouts alternate, each kind is logged once in that
	// time.
	sameKindGap = time.Minute
)

// failed counts a failure. news reports whether it is the first failure of an outage, or the first of another kind. If it is no news,
// remind reports whether a reminder is due.
func (o *outage) failed(err error, now time.Time) (news, remind bool) {
	if o.failures == 0 {
		*o = outage{began: now, told: map[error]time.Time{}, reminder: now.Add(firstReminder)}
	}
	o.failures++
	kind := kindOf(err)
	at, known := o.told[kind]
	news = kind != o.kind && (!known || now.Sub(at) >= sameKindGap)
	remind = !news && !now.Before(o.reminder)
	if news || remind {
		o.kind = kind
		o.told[kind] = now
	}
	if !now.Before(o.reminder) {
		age := now.Sub(o.began)
		o.reminder = now.Add(min(age, maxReminderGap))
	}
	return news, remind
}

// ended records a success. It returns the number of failures since the last success, how long they lasted, and whether there was an outage
// at all.
func (o *outage) ended(now time.Time) (failures int, lasted time.Duration, was bool) {
	if o.failures == 0 {
		return 0, 0, false
	}
	failures, lasted = o.failures, now.Sub(o.began)
	*o = outage{}
	return failures, lasted, true
}
