package statuspage_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

func TestHandler_AnswersGetAndHeadOnly(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	mux := http.NewServeMux()
	mux.Handle("/debug/rollcall/", statuspage.Handler(statuspage.Config{}, store.Registry))
	for _, c := range []struct {
		method, target, contentType string
		status                      int
		body                        bool
	}{
		{"GET", "/debug/rollcall/", "text/html; charset=utf-8", 200, true},
		{"HEAD", "/debug/rollcall/", "text/html; charset=utf-8", 200, false},
		{"GET", "/debug/rollcall/?format=json", "application/json", 200, true},
		{"HEAD", "/debug/rollcall/?format=json", "application/json", 200, false},
		{"HEAD", "/debug/rollcall/?format=events", "text/event-stream", 200, false},
		{"GET", "/debug/rollcall/?format=xml", "text/plain; charset=utf-8", 400, true},
		{"POST", "/debug/rollcall/", "text/plain; charset=utf-8", 405, true},
		{"DELETE", "/debug/rollcall/", "text/plain; charset=utf-8", 405, true},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			w := get(mux, c.method, c.target)
			header := w.Header()
			if w.Code != c.status || header.Get("Content-Type") != c.contentType || (w.Body.Len() > 0) != c.body {
				t.Errorf("got %d, %q and %d bytes", w.Code, header.Get("Content-Type"), w.Body.Len())
			}
			if header.Get("Cache-Control") != "no-store" || !strings.HasPrefix(header.Get("Content-Security-Policy"), "default-src 'none'; ") ||
				header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("the header is %v", header)
			}
			if allow := header.Get("Allow"); (c.status == http.StatusMethodNotAllowed) != (allow == "GET, HEAD") {
				t.Errorf("Allow is %q", allow)
			}
		})
	}
}

func TestHandler_AllowsOnlyItsOwnStyleAndScript(t *testing.T) {
	store := watchtest.NewMemory(t, registry.Options{})
	w := get(statuspage.Handler(statuspage.Config{}, store.Registry), "GET", "/")
	policy, page := w.Header().Get("Content-Security-Policy"), w.Body.String()
	for _, element := range []string{"style", "script"} {
		found := regexp.MustCompile(`(?s)<`+element+`>(.*?)</`+element+`>`).FindAllStringSubmatch(page, -1)
		if len(found) != 1 {
			t.Fatalf("there are %d %s elements, want 1", len(found), element)
		}
		sum := sha256.Sum256([]byte(found[0][1]))
		if want := fmt.Sprintf("; %s-src 'sha256-%s'", element, base64.StdEncoding.EncodeToString(sum[:])); !strings.Contains(policy, want) {
			t.Errorf("the policy is %q, want %q in it", policy, want)
		}
	}
	for _, forbidden := range []string{" style=", " onclick=", " src=", "unsafe"} {
		if strings.Contains(page+policy, forbidden) {
			t.Errorf("the page or its policy has %q", forbidden)
		}
	}
}

func TestHandler_EscapesNames(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const hostile = `"><script>alert(1)</script>&'`
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{ShowMetadata: true}, store.Registry)
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: address, Version: hostile, Zone: hostile, Tags: []string{hostile, "x\r\nevent: y"},
			Metadata: map[string]string{"key": hostile}})
		watchtest.Watch(t, store, registry.Query{Service: "web", Tags: []string{hostile}, Metadata: map[string]string{"key": hostile}})
		watchtest.Watch(t, store, registry.Query{Service: "none", Version: hostile})
		synctest.Wait()
		synctest.Wait()
		wantNoText(t, h, "<script>alert", `"><`+"script")
		wantText(t, h, "&lt;script&gt;alert(1)&lt;/script&gt;", "version &#34;&gt;&lt;script&gt;")
		if events := firstEvent(t, h); strings.Contains(events, "\r") || strings.Contains(events, "\nevent") || strings.Contains(events, "<script>") {
			t.Errorf("the stream is %q", events)
		}
	})
}

func TestHandler_HidesMetadata(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		watchtest.Register(t, store, registry.Instance{Service: "web", ID: "a", Address: address, Metadata: map[string]string{"owner": "tiger"}})
		watchtest.Watch(t, store, registry.Query{Service: "web", Metadata: map[string]string{"owner": "tiger"}})
		synctest.Wait()
		hidden := statuspage.Handler(statuspage.Config{}, store.Registry)
		wantNoText(t, hidden, "tiger")
		wantText(t, hidden, "metadata owner=(hidden)")
		if body := get(hidden, "GET", "/?format=json").Body.String(); strings.Contains(body, "tiger") {
			t.Errorf("the JSON has metadata: %s", body)
		}
		if w := store.Snapshot().Watches[0]; w.Instances[0].Metadata["owner"] != "tiger" || w.Query.Metadata["owner"] != "tiger" {
			t.Errorf("the handler has changed what others see: %+v", w)
		}
		shown := statuspage.Handler(statuspage.Config{ShowMetadata: true}, store.Registry)
		wantText(t, shown, "weight 1 · owner=tiger", "metadata owner=tiger", "Tags Metadata")
		if body := get(shown, "GET", "/?format=json").Body.String(); strings.Count(body, `"owner":"tiger"`) != 3 {
			t.Errorf("the JSON is %s", body)
		}
	})
}

func TestHandler_JSON(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		one, two := watchtest.NewMemory(t, registry.Options{}), watchtest.NewMemory(t, registry.Options{})
		watchtest.Register(t, one, registry.Instance{Service: "web", ID: "a", Address: address})
		var got struct{ Registries []json.RawMessage }
		body := get(statuspage.Handler(statuspage.Config{}, one.Registry, two.Registry), "GET", "/?format=json").Body.Bytes()
		if err := json.Unmarshal(body, &got); err != nil || len(got.Registries) != 2 {
			t.Fatalf("got %s, %v", body, err)
		}
		for i, r := range []*registry.Registry{one.Registry, two.Registry} {
			if want, err := json.Marshal(r.Snapshot()); err != nil || string(got.Registries[i]) != string(want) {
				t.Errorf("registry %d is %s, want %s, %v", i, got.Registries[i], want, err)
			}
		}
		if body := get(statuspage.Handler(statuspage.Config{}), "GET", "/?format=json").Body.String(); body != `{"registries":[],"clients":[]}`+"\n" {
			t.Errorf("without a registry: %s", body)
		}
	})
}

func TestHandler_ManyInstances(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		store := watchtest.NewMemory(t, registry.Options{})
		h := statuspage.Handler(statuspage.Config{}, store.Registry)
		const n = 2000
		for i := range n {
			in := registry.Instance{Service: "web", ID: fmt.Sprintf("n%04d", i), Address: address, Version: fmt.Sprint(i % 2)}
			if i >= n-3 {
				in.Status = registry.Critical
			}
			watchtest.Register(t, store, in)
		}
		watchtest.Watch(t, store, web)
		synctest.Wait()
		wantText(t, h, "1,997 of 2,000 instances pass", "Status passing 1,997 critical 3", "Version 0 1,000 1 1,000", "critical n1997", "passing n0196",
			"1,800 more are not shown; all of them pass. The numbers above count all.", "Registrations 2,000", "1,800 more are not shown.")
		body := get(h, "GET", "/").Body.String()
		if rows := strings.Count(body, "<tr>"); rows != 201 || len(body) > 300_000 {
			t.Errorf("there are %d rows in %d bytes, want 200 and the head in less than 300 kB", rows, len(body))
		}
	})
}
