//go:build browser

package statuspage

import (
	"cmp"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// serve serves the status page of the registries under a path, as applications do.
func serve(t *testing.T, c statuspage.Config, all ...*memory.Registry) *httptest.Server {
	var registries []*registry.Registry
	for _, r := range all {
		registries = append(registries, r.Registry)
	}
	mux := http.NewServeMux()
	mux.Handle("/debug/rollcall/", statuspage.Handler(c, registries...))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// tab is an open page of a browser.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	messages []string // errors and violations of the policy, from the console
}

// open starts a browser of the given width and shows the page. It fails the test, at its end, for each error in the console.
func open(t *testing.T, url string, width int64, before ...chromedp.Action[chromedp.Void]) *tab {
	t.Helper()
	program, err := exec.LookPath(cmp.Or(os.Getenv("CHROMIUM"), "chromium"))
	if err != nil {
		t.Fatalf("this test needs a browser: install Debian's package chromium, or set CHROMIUM to the path of one (%v)", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	b := &tab{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	t.Cleanup(cancel)
	b.run(call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}))
	b.run(call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 600}))
	b.run(before...)
	b.run(chromedp.Navigate(url + "/debug/rollcall/"))
	return b
}

// call is the action that calls a method of the browser's protocol.
func call[P, R any](c cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if !strings.Contains(e.Entry.URL, "favicon") {
			b.messages = append(b.messages, e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.messages = append(b.messages, e.ExceptionDetails.Text)
	}
}

// wantQuiet fails the test if the console has an error or a violation of the policy.
func (b *tab) wantQuiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.messages) > 0 {
		b.t.Errorf("the console says %q", b.messages)
	}
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// eval returns the value of an expression of JavaScript.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// wait waits until an expression of JavaScript is true. The page's policy does not allow to evaluate texts, so the page cannot poll.
func (b *tab) wait(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !eval[bool](b, expression) {
		select {
		case <-ctx.Done():
			b.t.Fatalf("%s is not true; the page says %s", expression, eval[string](b, "document.body.innerText"))
		case <-tick.C:
		}
	}
}

// click clicks the first element of a CSS selector.
func (b *tab) click(selector string) {
	b.t.Helper()
	eval[bool](b, "(document.querySelector("+quote(selector)+").click(), true)")
}

// says waits until the page has the text.
func (b *tab) says(text string) {
	b.t.Helper()
	b.wait("document.body.innerText.includes(" + quote(text) + ")")
}

// screenshot writes a picture of the page to the folder that SCREENSHOTS names, if it is set.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
