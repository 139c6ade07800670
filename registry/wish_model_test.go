package registry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

// Faults come and go while Updates are made and given up. In the end the store has the newest content.
func TestUpdate_NewestWinsDespiteFaults(t *testing.T) {
	for seed := range uint64(100) {
		bubble.Test(t, func(t *testing.T) { updateAmongFaults(t, seed) })
		if t.Failed() {
			return
		}
	}
}

func updateAmongFaults(t *testing.T, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	store, err := memory.NewWith(memory.Config{TTL: 5 * time.Second, Options: registry.Options{Logger: slog.New(slog.DiscardHandler)}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	client := store.Client()
	defer client.Close()
	g, err := client.Register(t.Context(), instance("a"))
	if err != nil {
		t.Fatal(err)
	}
	faults := map[string]func(){
		"hang":   client.Hang,
		"fail":   func() { client.Fail(errors.New("injected")) },
		"refuse": func() { client.RefuseWrites(errors.New("injected")) },
		"expire": func() { store.Expire("web", "a") },
		"heal":   client.Heal,
	}
	names := slices.Sorted(maps.Keys(faults))
	var updates sync.WaitGroup
	var history []string
	newest := ""
	for i := range 30 {
		if random.IntN(2) == 0 {
			name := names[random.IntN(len(names))]
			history = append(history, name)
			faults[name]()
		} else {
			in := instance("a")
			in.Version = fmt.Sprint(i)
			newest = in.Version
			history = append(history, "update "+newest)
			limit := upTo(4 * time.Second)
			updates.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				g.Update(ctx, in)
			})
			synctest.Wait()
			if got := g.Instance().Version; got != newest {
				t.Errorf("seed %d: right after the call Instance has version %s, want %s", seed, got, newest)
			}
		}
		time.Sleep(upTo(3 * time.Second))
	}
	client.Heal()
	updates.Wait()
	time.Sleep(time.Minute)
	set, err := store.Lookup(t.Context(), web)
	if err != nil || len(set) != 1 || set[0].Version != newest || g.Instance().Version != newest || g.Err() != nil {
		t.Errorf("seed %d, %s: a minute after the end the store has %v, %v; Instance has version %s and Err is %v, want version %s",
			seed, strings.Join(history, ", "), set, err, g.Instance().Version, g.Err(), newest)
	}
	if err := g.Deregister(t.Context()); err != nil {
		t.Errorf("seed %d: %v", seed, err)
	}
}
