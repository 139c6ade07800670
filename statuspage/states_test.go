package statuspage_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

var web = registry.Query{Service: "web"}

func TestHandler_ShowsWhatIsWell(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		wantText(t, h, "Nothing is registered or watched", "This process has registered nothing here.", "This process watches nothing here.",
			"Nothing has changed since the page was set up.")
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: address, Version: "1.2", Zone: "east", Tags: []string{"blue"}})
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "b", Address: address, Status: registry.Critical, Weight: 5})
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "c", Address: address, Weight: registry.Drained, Version: "1.2"})
		watchtest.Watch(t, store, registry.Query{Service: "web"})
		synctest.Wait()
		time.Sleep(2*time.Hour + 5*time.Minute)
		wantText(t, h, "All is well: 3 registrations and 1 watch", "registered web/a for 2 h 5 min, since", "10.0.0.1:80 · version 1.2 · zone east",
			"current web 2 of 3 instances pass unchanged for 2 h 5 min", "The set is what the store says.", "1 reader · 1 read · 0 failures · 1 change",
			"Status passing 2 critical 1", "Version 1.2 2 none 1", "Zone none 2 east 1", "Weight drained 1 1 1 5 1",
			"Weight Tags critical b 10.0.0.1:80 5 passing a 10.0.0.1:80 1.2 east 1 blue passing c", "web/c registered")
	})
}

func TestHandler_ShowsAStaleWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		watchtest.Register(t, watchtest.NewMemoryClient(t, store), registry.Instance{Service: "web", ID: "a", Address: address})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		watchtest.Watch(t, store, web)
		synctest.Wait()
		store.Fail(errors.New("connection refused"))
		time.Sleep(3*time.Minute + time.Second)
		wantText(t, h, "1 of 1 watch stale for 3 min", "Last good set since 2000-01-01 00:00:00 UTC, because rollcall: watch web: unavailable: connection refused",
			"stale web 1 of 1 instance passes for 3 min", "web watch failed rollcall: watch web: unavailable: connection refused")
		store.Heal()
		time.Sleep(time.Minute)
		wantText(t, h, "All is well: 1 watch", "web watch recovered after 3 min")
	})
}

func TestHandler_ShowsADeniedWatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		store.Fail(registry.ErrDenied)
		watchtest.Watch(t, store, web)
		synctest.Wait()
		wantText(t, h, "1 of 1 watch denied", "There is no set, because rollcall: watch web: denied", "web watch denied")
		store.Fail(errors.New("down"))
		time.Sleep(time.Minute)
		wantText(t, h, "1 of 1 watch without a set")
	})
}

func TestHandler_ShowsAWatchThatHasNoAnswer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		store.Hang()
		watchtest.Watch(t, store, web)
		synctest.Wait()
		wantText(t, h, "no answer yet web", "The first answer of the store has not come yet.")
	})
}

func TestHandler_ShowsAWithheldSet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		other := watchtest.NewMemoryClient(t, store)
		watchtest.Register(t, other, registry.Instance{Service: "web", ID: "a", Address: address})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		watchtest.Watch(t, store, web)
		synctest.Wait()
		store.Fail(errors.New("down"))
		time.Sleep(time.Second)
		other.Fail(errors.New("down"))
		other.Expire("web", "a")
		store.Heal()
		time.Sleep(registry.DefaultBackoffMax)
		synctest.Wait()
		wantText(t, h, "1 of 1 watch withheld", "Readers keep the last good set since 2000-01-01 00:00:00 UTC: the store now says something suspect",
			"the registry answers again, but the set shrank from 1 to 0 instances", "web suspect set withheld")
		time.Sleep(registry.DefaultOutageGrace)
		synctest.Wait()
		wantText(t, h, "1 of 1 watch empty", "The store says that there is no instance.")
	})
}

func TestHandler_ShowsASetFromDiskAndFromMemory(t *testing.T) {
	dir := t.TempDir()
	bubble.Test(t, func(t *testing.T) {
		options := registry.Options{CacheDir: dir, Linger: -1}
		store := watchtest.NewMemory(t, options)
		watchtest.Register(t, watchtest.NewMemoryClient(t, store), registry.Instance{Service: "web", ID: "a", Address: address})
		if _, err := store.Lookup(t.Context(), web); err != nil {
			t.Fatal(err)
		}
		saved := time.Now()
		time.Sleep(time.Minute)
		store.Fail(errors.New("down"))
		memory := statuspage.Handler(statuspage.Config{}, store.Registry)
		watchtest.Watch(t, store, web)
		synctest.Wait()
		wantText(t, memory, "1 of 1 watch from memory for 1 min", "The set is from memory: an earlier watch knew it until "+saved.Format("2006-01-02 15:04:05 MST"))

		restarted := watchtest.NewMemoryClient(t, store)
		restarted.Fail(errors.New("down"))
		disk := statuspage.Handler(statuspage.Config{}, restarted.Registry)
		watchtest.Watch(t, restarted, web)
		synctest.Wait()
		wantText(t, disk, "1 of 1 watch from disk for 1 min", "The set is from disk, saved "+saved.Format("2006-01-02 15:04:05 MST"), "down")
	})
}

func TestHandler_ShowsWatchesThatPassTooLittle(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{OutageGrace: -1})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		for i := range 3 {
			watchtest.Register(t, store, registry.Instance{Service: "web", ID: fmt.Sprint(i), Address: address, Status: registry.Status(min(i, 2))})
		}
		watchtest.Watch(t, store, web)
		synctest.Wait()
		wantText(t, h, "1 of 1 watch mostly not passing", "The set is what the store says: 1 of 3 instances passes.")
		store.SetStatus("web", "0", registry.Critical)
		time.Sleep(time.Minute)
		wantText(t, h, "1 of 1 watch not passing for 1 min", "none of 3 instances passes.")
	})
}

func TestHandler_ShowsRegistrationsThatAreNotThere(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		for _, id := range []string{"a", "b", "c"} {
			watchtest.Register(t, store, registry.Instance{Service: "web", ID: id, Address: address})
		}
		time.Sleep(time.Hour)
		store.RefuseWrites(errors.New("disk full"))
		store.Expire("web", "b")
		time.Sleep(4 * time.Minute)
		wantText(t, h, "1 of 3 registrations lost for 4 min", "lost web/b for 4 min, since", "disk full", "lost once so far",
			"web/b registration lost")
		store.RefuseWrites(registry.ErrDenied)
		time.Sleep(time.Minute)
		wantText(t, h, "1 of 3 registrations denied for 5 min", "denied web/b")
		store.Heal()
		time.Sleep(time.Minute)
		wantText(t, h, "All is well: 3 registrations", "web/b registered again after 5 min")

		watchtest.Register(t, watchtest.NewMemoryClient(t, store), registry.Instance{Service: "web", ID: "c", Address: address})
		time.Sleep(time.Minute)
		wantText(t, h, "1 of 3 registrations replaced for", "replaced web/c", "web/c registration replaced")
	})
}

func TestHandler_NamesTheFirstThingsThatAreWrong(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		for _, id := range []string{"a", "b", "c", "d"} {
			watchtest.Register(t, store, registry.Instance{Service: "web", ID: id, Address: address})
		}
		store.RefuseWrites(errors.New("disk full"))
		for i, want := range []string{
			"1 of 4 registrations lost for 1 min web/a As of", "2 of 4 registrations lost for 2 min web/a, web/b As of",
			"3 of 4 registrations lost for 3 min web/a, web/b and 1 more As of",
		} {
			store.Expire("web", string(rune('a'+i)))
			time.Sleep(time.Minute)
			wantText(t, h, want)
		}
	})
}

func TestHandler_KeepsTheNewestChanges(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		for i := range 60 {
			watchtest.Register(t, store, registry.Instance{Service: "web", ID: fmt.Sprintf("n%02d", i), Address: address})
		}
		synctest.Wait()
		wantText(t, h, "Last changes 50", "web/n59 registered", "web/n10 registered")
		for _, g := range []string{"web/n09</b> registered"} {
			wantNoText(t, h, g)
		}
	})
}

func TestHandler_ShowsEveryRegistry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		one, two := watchtest.NewMemory(t, registry.Options{}), watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, one.Registry, two.Registry)
		watchtest.Register(t, one, registry.Instance{Service: "web", ID: "a", Address: address})
		watchtest.Register(t, two, registry.Instance{Service: "mail", ID: "b", Address: address})
		wantText(t, h, "All is well: 2 registrations", "registered web/a", "registered mail/b")
	})
}
