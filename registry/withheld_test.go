package registry_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
)

// TestWatch_LogsWhyASetIsWithheld: without an outage there is no earlier error that the line could repeat.
func TestWatch_LogsWhyASetIsWithheld(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var log strings.Builder
		reg := watchtest.NewMemory(t, registry.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		operator := watchtest.NewMemoryClient(t, reg)
		watchtest.Register(t, operator, registry.Instance{ID: "1", Service: "web", Address: "10.0.0.1:80"})
		for _, err := range reg.Watch(t.Context(), registry.Query{Service: "web"}) {
			if err != nil {
				break
			}
			operator.SetStatus("web", "1", registry.Critical)
		}
		synctest.Wait()
		if got := log.String(); !strings.Contains(got, "suspect set withheld") || !strings.Contains(got, "the set shrank suddenly") || strings.Contains(got, "<nil>") {
			t.Errorf("it logs %s", got)
		}
	})
}

func TestWatch_SaysHowFarASuspectSetShrank(t *testing.T) {
	critical := func(ids ...string) (set []registry.Instance) {
		for _, id := range ids {
			set = append(set, withStatus(id, registry.Critical))
		}
		return set
	}
	for _, c := range []struct {
		gone     []string
		critical []registry.Instance
		want     string
	}{
		{[]string{"1", "2"}, nil, "from 3 to 1 instances"},
		{nil, critical("1", "2"), "from 3 to 1 passing instances"},
		{[]string{"0"}, critical("1", "2"), "from 3 to 2 instances (passing: 3 to 0)"},
	} {
		inService(t, 3, func(t *testing.T, d *departing, passing, _ *watchtest.Watcher) {
			open := d.shut()
			d.crash(c.gone...)
			d.put(c.critical...)
			open() // all at once
			synctest.Wait()
			if got, want := fmt.Sprint(passing.Last().Err), "the set shrank suddenly "+c.want+"; the missing ones are kept for 2.4s"; !strings.Contains(got, want) {
				t.Errorf("the error is %s, want in it: %s", got, want)
			}
		})
	}
}
