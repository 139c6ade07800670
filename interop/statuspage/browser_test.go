//go:build browser

package statuspage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings always marshal
	}
	return string(b)
}

// incident returns registries in all states that the page knows.
func incident(t *testing.T) []*memory.Registry {
	down := errors.New("dial tcp 10.0.0.2:8500: connection refused")
	options := registry.Options{OutageGrace: 1 << 40, CacheDir: t.TempDir(), Linger: -1}

	here := watchtest.NewMemory(t, options)
	fleet := watchtest.NewMemoryClient(t, here)
	for i := range 24 {
		in := registry.Instance{Service: "checkout", ID: fmt.Sprintf("checkout-%02d", i+1), Address: fmt.Sprintf("10.0.%d.%d:8080", i%3, 10+i),
			Version: "2.14.0", Zone: "eu-west-1" + string(rune('a'+i%3)), Weight: 10, Tags: []string{"grpc"}}
		switch {
		case i < 2:
			in.Version, in.Status = "2.15.0-rc1", registry.Critical
		case i == 7:
			in.Status = registry.Warning
		case i == 12:
			in.Weight = registry.Drained
		}
		watchtest.Register(t, fleet, in)
	}
	watchtest.Register(t, fleet, registry.Instance{Service: "payments", ID: "payments-1", Address: "10.0.0.7:8080"})
	watchtest.Watch(t, here, registry.Query{Service: "checkout"}).First()
	watchtest.Watch(t, here, registry.Query{Service: "payments"}).First()
	for _, id := range []string{"orders-1", "orders-admin-1", "orders-metrics-1"} {
		watchtest.Register(t, here, registry.Instance{Service: "orders", ID: id, Address: "10.0.0.7:8080", Version: "7.3.1", Zone: "eu-west-1a"})
	}
	here.RefuseWrites(errors.New("etcdserver: mvcc: database space exceeded"))
	here.Expire("orders", "orders-admin-1")
	watchtest.Eventually(t, "a registration is lost", func() bool { return here.Snapshot().Registrations[1].Err != nil })

	denied := watchtest.NewMemory(t, options)
	watchtest.Register(t, denied, registry.Instance{Service: "orders", ID: "orders-1", Address: "10.0.0.7:8080"})
	denied.RefuseWrites(registry.ErrDenied)
	denied.Expire("orders", "orders-1")
	watchtest.Eventually(t, "a registration is denied", func() bool { return denied.Snapshot().Registrations[0].Err != nil })

	stale := watchtest.NewMemory(t, options)
	other := watchtest.NewMemoryClient(t, stale)
	watchtest.Register(t, other, registry.Instance{Service: "billing", ID: "billing-1", Address: "10.0.0.7:8080", Version: "1.0"})
	watchtest.Watch(t, stale, registry.Query{Service: "billing"}).First()
	stale.Fail(down)
	watchtest.Eventually(t, "the watch is stale", func() bool { return stale.Snapshot().Watches[0].Err != nil })

	withheld := watchtest.NewMemory(t, options)
	wiped := watchtest.NewMemoryClient(t, withheld)
	watchtest.Register(t, wiped, registry.Instance{Service: "search", ID: "search-1", Address: "10.0.0.7:8080"})
	watchtest.Watch(t, withheld, registry.Query{Service: "search"}).First()
	withheld.Fail(down)
	watchtest.Eventually(t, "the watch is stale", func() bool { return withheld.Snapshot().Watches[0].Err != nil })
	wiped.Fail(down)
	wiped.Expire("search", "search-1")
	withheld.Heal()
	watchtest.Eventually(t, "the set is withheld", func() bool { return withheld.Snapshot().Watches[0].Withheld })

	options.CacheDir = t.TempDir()
	saved := watchtest.NewMemory(t, options)
	watchtest.Register(t, watchtest.NewMemoryClient(t, saved), registry.Instance{Service: "mail", ID: "mail-1", Address: "10.0.0.7:8080"})
	if _, err := saved.Lookup(t.Context(), registry.Query{Service: "mail"}); err != nil {
		t.Fatal(err)
	}
	watchtest.Eventually(t, "the set is saved", func() bool {
		files, err := os.ReadDir(options.CacheDir)
		return err == nil && len(files) > 0 && !strings.HasPrefix(files[0].Name(), ".")
	})
	restarted := watchtest.NewMemoryClient(t, saved)
	restarted.Fail(down)
	watchtest.Watch(t, restarted, registry.Query{Service: "mail"}).First()
	return []*memory.Registry{here, denied, stale, withheld, restarted}
}

func TestPage_ShowsAllStates(t *testing.T) {
	server := serve(t, statuspage.Config{}, incident(t)...)
	for _, width := range []int64{1200, 390} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			b := open(t, server.URL, width)
			b.wait("document.getElementById('live').textContent === 'live'")
			summary := eval[string](b, "document.getElementById('summary').innerText")
			for _, part := range []string{"1 of 4 registrations lost", "1 of 4 registrations denied", "1 of 5 watches stale", "1 of 5 watches withheld", "1 of 5 watches from disk"} {
				if !strings.Contains(summary, part) {
					t.Errorf("the summary is %q, want %q in it", summary, part)
				}
			}
			if title := eval[string](b, "document.title"); !strings.Contains(title, "1 of 4 registrations lost") {
				t.Errorf("the title is %q", title)
			}
			if y := eval[float64](b, "document.getElementById('summary').getBoundingClientRect().bottom"); y > 350 {
				t.Errorf("the summary ends at %v, want it at the top", y)
			}
			if wide := eval[float64](b, "document.documentElement.scrollWidth"); wide > float64(width) {
				t.Errorf("the page is %v wide, want at most %d", wide, width)
			}
			if colors := eval[int](b, "new Set([...document.querySelectorAll('.badge')].map(e => getComputedStyle(e).backgroundColor)).size"); colors != 3 {
				t.Errorf("the badges have %d colors, want 3", colors)
			}
			b.screenshot(fmt.Sprintf("incident-%d", width))
			b.run(call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}))
			if dark := eval[string](b, "getComputedStyle(document.body).backgroundColor"); dark != "rgb(18, 22, 28)" {
				t.Errorf("the dark background is %s", dark)
			}
			b.screenshot(fmt.Sprintf("incident-dark-%d", width))
			eval[string](b, "location.hash = document.querySelectorAll('#summary a')[2].hash")
			b.screenshot(fmt.Sprintf("incident-watch-%d", width))
			b.wantQuiet()
		})
	}
}

func TestPage_IsLive(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: "10.0.0.7:8080"})
	watchtest.Watch(t, store, registry.Query{Service: "web"}).First()
	server := serve(t, statuspage.Config{}, store)
	b := open(t, server.URL, 1200)
	b.says("All is well: 1 registration and 1 watch")
	b.wait("document.getElementById('live').textContent === 'live'")
	b.screenshot("well-1200")
	if eval[bool](b, "document.querySelector('details').open") {
		t.Error("the details of a watch that is well are open")
	}
	b.click("summary")
	b.wait("document.querySelector('details').open")
	watchtest.Register(t, store, registry.Instance{Service: "web", ID: "b", Address: "10.0.0.7:8080"})
	b.says("web/b")
	b.says("1 added (b)")
	if !eval[bool](b, "document.querySelector('details').open") {
		t.Error("a change has closed what was opened")
	}
	store.Fail(errors.New("the store has caught fire"))
	b.says("the store has caught fire")
	b.wait("document.title.includes('1 of 1 watch stale')")
	store.Heal()
	b.wait("document.title.startsWith('All is well')")
	b.wantQuiet()

	server.CloseClientConnections()
	server.Listener.Close()
	b.says("connection lost, the page is outdated")
}

func TestPage_RunsNoScriptOfAName(t *testing.T) {
	const hostile = `"'></title></style></script><script>window.hacked=1</script><img src=x onerror=window.hacked=1><b>`
	store := watchtest.NewMemory(t, registry.Options{})
	watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: "10.0.0.7:8080", Version: hostile, Zone: hostile, Tags: []string{hostile}, Status: registry.Critical,
		Metadata: map[string]string{"key": hostile}})
	watchtest.Watch(t, store, registry.Query{Service: "web", Tags: []string{hostile}}).First()
	b := open(t, serve(t, statuspage.Config{ShowMetadata: true}, store).URL, 390)
	b.wait("document.getElementById('live').textContent === 'live'")
	b.says(hostile)
	if eval[bool](b, "'hacked' in window || document.querySelector('main script, img, main svg ~ b') !== null") {
		t.Error("the name has become a part of the page")
	}
	if wide := eval[float64](b, "document.documentElement.scrollWidth"); wide > 390 {
		t.Errorf("a long name makes the page %v wide", wide)
	}
	b.wantQuiet()
}

func TestPage_ShowsClientsLive(t *testing.T) {
	const hostile = `<img src=x onerror=window.hacked=1>`
	store := watchtest.NewMemory(t, registry.Options{})
	c := clientstate.Add(clientstate.State{Kind: clientstate.GRPC, Target: "rollcall:///web?tag=" + hostile, Service: "web", Policy: "rollcall_p2c",
		Subset: 20, Discovery: store.Registry})
	defer c.Remove()
	c.Set(20, false, "")
	b := open(t, serve(t, statuspage.Config{}, store).URL, 390)
	b.wait("document.getElementById('live').textContent === 'live'")
	b.says("All is well: 1 client")
	b.says("subset of 20")
	c.Set(0, false, "no passing instance is registered in "+hostile)
	b.says("1 of 1 client without an endpoint")
	b.says("no passing instance is registered in " + hostile)
	if color := eval[string](b, "getComputedStyle(document.querySelector('li.card')).borderLeftColor"); color != "rgb(192, 38, 45)" {
		t.Errorf("the card of a client without an endpoint has the color %s", color)
	}
	if wide := eval[float64](b, "document.documentElement.scrollWidth"); wide > 390 || eval[bool](b, "'hacked' in window") {
		t.Errorf("the page is %v wide, or a target has become a part of it", wide)
	}
	b.screenshot("client-390")
	c.Remove()
	b.wait("!document.body.innerText.includes('Clients') && !document.body.innerText.includes('CLIENTS')")
	b.says("Nothing is registered or watched")
	b.wantQuiet()
}

func TestPage_NeedsNoScript(t *testing.T) {
	b := open(t, serve(t, statuspage.Config{}, incident(t)...).URL, 1200, call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}))
	text, err := chromedp.Run(b.ctx, chromedp.Text("body"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"Reload the page for news.", "1 of 4 registrations lost", "database space exceeded", "Last good set since", "from disk, saved", "search-1"} {
		if !strings.Contains(text, part) {
			t.Errorf("the page does not say %q: %s", part, text)
		}
	}
	b.wantQuiet()
}

func TestPage_ShowsTenThousandInstances(t *testing.T) {
	const n = 10_000
	store := watchtest.NewMemory(t, registry.Options{})
	fleet := watchtest.NewMemoryClient(t, store)
	for i := range n {
		in := registry.Instance{Service: "web", ID: fmt.Sprintf("web-%05d", i), Address: "10.0.0.7:8080", Version: fmt.Sprint(i % 5), Zone: fmt.Sprint("zone-", i%3)}
		if i >= n-20 {
			in.Status = registry.Critical
		}
		watchtest.Register(t, fleet, in)
	}
	watchtest.Watch(t, store, registry.Query{Service: "web"}).First()
	watchtest.Eventually(t, "all instances are there", func() bool { return len(store.Snapshot().Watches[0].Instances) == n })
	b := open(t, serve(t, statuspage.Config{}, store).URL, 1200)
	b.wait("document.getElementById('live').textContent === 'live'")
	b.says("9,980 of 10,000 instances pass")
	b.click("summary")
	b.says("9,800 more are not shown; all of them pass.")
	if first := eval[string](b, "document.querySelector('tbody tr').innerText"); !strings.Contains(first, "critical") {
		t.Errorf("the first row is %q, want an instance that does not pass", first)
	}
	if nodes := eval[int](b, "document.querySelectorAll('*').length"); nodes > 5000 {
		t.Errorf("the page has %d elements", nodes)
	}
	eval[float64](b, "document.querySelector('.scroll').scrollTop = 1000")
	b.wait("document.querySelector('.scroll').rollcallTop === 1000")
	b.screenshot("many-1200")
	fleet.SetStatus("web", "web-00000", registry.Critical)
	b.says("9,979 of 10,000 instances pass")
	if top := eval[float64](b, "document.querySelector('.scroll').scrollTop"); top != 1000 {
		t.Errorf("a change has scrolled the table to %v", top)
	}
	b.wantQuiet()
}
