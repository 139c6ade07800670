package registry

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// tellings runs an outage of one failure each second and returns the ages at which it was news and at which it was due for a reminder.
func tellings(o *outage, seconds int, errAt func(i int) error) (news, reminders []time.Duration) {
	start := time.Unix(1_700_000_000, 0)
	for i := range seconds {
		age := time.Duration(i) * time.Second
		n, r := o.failed(errAt(i), start.Add(age))
		if n {
			news = append(news, age)
		}
		if r {
			reminders = append(reminders, age)
		}
	}
	return news, reminders
}

func TestOutage_ChangingTextIsNoNews(t *testing.T) {
	var o outage
	news, _ := tellings(&o, 59, func(i int) error {
		return fmt.Errorf("%w: read tcp 127.0.0.1:%d->127.0.0.1:8500: connection reset by peer", ErrUnavailable, 40000+i)
	})
	if len(news) != 1 || news[0] != 0 {
		t.Errorf("news at %v, want once at the start", news)
	}
}

func TestOutage_OtherKindIsNews(t *testing.T) {
	var o outage
	news, _ := tellings(&o, 30, func(i int) error {
		if i < 10 {
			return ErrUnavailable
		}
		return fmt.Errorf("%w: attempt %d", ErrDenied, i)
	})
	if want := []time.Duration{0, 10 * time.Second}; !slices.Equal(news, want) {
		t.Errorf("news at %v, want at %v", news, want)
	}
}

func TestOutage_AlternatingKindsAreBounded(t *testing.T) {
	var o outage
	news, reminders := tellings(&o, 600, func(i int) error {
		return []error{ErrUnavailable, ErrDenied}[i%2]
	})
	if n := len(news) + len(reminders); n > 2*10+4 {
		t.Errorf("told %d times in 10 minutes, want at most 2 a minute and the reminders", n)
	}
}

func TestOutage_RemindsAtGrowingIntervals(t *testing.T) {
	var o outage
	_, reminders := tellings(&o, 4*3600, func(int) error { return ErrUnavailable })
	want := []time.Duration{}
	for _, m := range []int{1, 2, 4, 8, 16, 32, 64, 124, 184} {
		want = append(want, time.Duration(m)*time.Minute)
	}
	if !slices.Equal(reminders, want) {
		t.Errorf("reminders at %v, want at %v", reminders, want)
	}
}

func TestOutage_EndedCountsAndStartsAnew(t *testing.T) {
	var o outage
	start := time.Unix(1_700_000_000, 0)
	if _, _, was := o.ended(start); was {
		t.Error("a success without a failure before it ended an outage")
	}
	o.failed(ErrUnavailable, start)
	o.failed(ErrUnavailable, start.Add(time.Second))
	if failures, lasted, was := o.ended(start.Add(3 * time.Second)); failures != 2 || lasted != 3*time.Second || !was {
		t.Errorf("ended with %d failures after %v, %v; want 2 after 3s, true", failures, lasted, was)
	}
	if _, _, was := o.ended(start.Add(4 * time.Second)); was {
		t.Error("an outage ended twice")
	}
	if news, _ := o.failed(ErrUnavailable, start.Add(5*time.Second)); !news {
		t.Error("the first failure of the next outage is no news")
	}
}

func TestKindOf_UnknownErrorIsUnavailable(t *testing.T) {
	if got := kindOf(errors.New("boom")); got != ErrUnavailable {
		t.Errorf("kindOf = %v, want ErrUnavailable", got)
	}
	if got := kindOf(fmt.Errorf("%w: %w", ErrUnavailable, ErrDenied)); got != ErrDenied {
		t.Errorf("kindOf = %v, want ErrDenied", got)
	}
}
