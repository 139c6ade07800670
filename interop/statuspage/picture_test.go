//go:build browser

package statuspage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/internal/watchtest"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// maxPicture is the size of a picture that a clone of the repository can bear.
const maxPicture = 150_000

// TestPage_Picture makes the pictures of the docs, which show a night with an incident:
//
//	SCREENSHOTS=$PWD/../../docs go test -tags browser -run TestPage_Picture .
//
// All times are from the clock of a bubble, so the pictures change only if the page does.
func TestPage_Picture(t *testing.T) {
	server := serveRecorded(t, night(t))
	for name, size := range map[string]emulation.SetDeviceMetricsOverrideParams{
		"statuspage-wide":   {Width: 1000, Height: 1210, DeviceScaleFactor: 1},
		"statuspage-narrow": {Width: 390, Height: 844, DeviceScaleFactor: 1, Mobile: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, server.URL, size.Width, call(emulation.SetDeviceMetricsOverride, size))
			b.wait("document.getElementById('live').textContent === 'live'")
			b.says("1 of 2 registrations lost for 4 min")
			b.says("1 of 2 watches mostly not passing for 2 min")
			b.says("1 of 2 clients below the panic threshold for 2 min")
			b.says("As of 2000-01-01 03:04:05 UTC")
			if wide := eval[float64](b, "document.documentElement.scrollWidth"); wide > float64(size.Width) {
				t.Errorf("the page is %v wide, want at most %d", wide, size.Width)
			}
			picture, again := b.png(), b.png()
			if len(picture) > maxPicture || !bytes.Equal(picture, again) {
				t.Errorf("the pictures have %d and %d bytes, want twice the same with at most %d", len(picture), len(again), maxPicture)
			}
			if dir := os.Getenv("SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b.wantQuiet()
		})
	}
}

// png returns a picture of the page with its most frequent 256 colors, which are enough and make it small.
func (b *tab) png() []byte {
	b.t.Helper()
	shot, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	from, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		b.t.Fatal(err)
	}
	to := image.NewPaletted(from.Bounds(), frequentColors(from))
	draw.Draw(to, to.Bounds(), from, image.Point{}, draw.Src)
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, to); err != nil {
		b.t.Fatal(err)
	}
	return out.Bytes()
}

func frequentColors(picture image.Image) color.Palette {
	counts := map[color.Color]int{}
	for y := range picture.Bounds().Dy() {
		for x := range picture.Bounds().Dx() {
			counts[picture.At(x, y)]++
		}
	}
	all := slices.SortedFunc(maps.Keys(counts), func(a, b color.Color) int {
		return cmp.Or(counts[b]-counts[a], cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)))
	})
	return all[:min(256, len(all))]
}

// serveRecorded serves a page as the handler did, with a stream that sends the same page once.
func serveRecorded(t *testing.T, page *httptest.ResponseRecorder) *httptest.Server {
	_, content, _ := strings.Cut(page.Body.String(), "<main>\n")
	content, _, _ = strings.Cut(content, "</main>")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name := range page.Header() {
			w.Header().Set(name, page.Header().Get(name))
		}
		if r.URL.Query().Get("format") == "" {
			_, _ = w.Write(page.Body.Bytes())
			return
		}
		w.Header().Del("Content-Length")
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: %s\n\n", strings.ReplaceAll(content, "\n", "\ndata: "))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(server.Close)
	return server
}

// named is a driver with the name of another store.
type named struct {
	registry.Driver
	name string
}

func (n named) Properties() registry.Properties {
	p := n.Driver.Properties()
	p.Name = n.name
	return p
}

// night returns the page of a process at four minutes past three: half of a service fails its checks, and a registration is lost.
func night(t *testing.T) *httptest.ResponseRecorder {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	page := httptest.NewRecorder()
	bubble.Test(t, func(t *testing.T) {
		store := memory.New()
		defer store.Close()
		fleet := store.Client()
		defer fleet.Close()
		reg, err := registry.New(named{store.Driver(), "consul 127.0.0.1:8500 dc1"}, registry.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer reg.Close()
		defer store.Heal()
		handler := statuspage.Handler(statuspage.Config{}, reg)

		for i := range 12 {
			in := registry.Instance{Service: "inventory", ID: fmt.Sprintf("inventory-%02d", i+1), Address: fmt.Sprintf("10.20.%d.%d:8443", i%3, 11+i),
				Version: "1.9.2", Zone: "eu-west-1" + string(rune('a'+i%3)), Weight: 10, Tags: []string{"grpc"}}
			watchtest.Register(t, fleet, in)
			if i < 4 {
				in.Service, in.ID, in.Version = "payments", fmt.Sprintf("payments-%02d", i+1), "2.15.0"
				if i == 3 {
					in.Version = "2.14.0"
				}
				watchtest.Register(t, fleet, in)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		var reading sync.WaitGroup
		defer func() { cancel(); reading.Wait() }()
		for _, client := range []struct {
			service, policy string
			endpoints       int
		}{{"inventory", "rollcall_p2c", 12}, {"payments", "rollcall_round_robin", 4}} {
			reading.Go(func() {
				for range reg.Watch(ctx, registry.Query{Service: client.service}) {
				}
			})
			c := clientstate.Add(clientstate.State{Kind: clientstate.GRPC, Target: "rollcall:///" + client.service + "?policy=" + client.policy,
				Service: client.service, Policy: client.policy, Discovery: reg})
			defer c.Remove()
			c.Set(client.endpoints, false, "")
			if client.service == "payments" {
				time.AfterFunc(night0301, func() { c.Set(4, true, "") })
			}
		}
		for _, id := range []string{"orders-1", "orders-admin-1"} {
			watchtest.Register(t, reg, registry.Instance{Service: "orders", ID: id, Address: "10.20.1.7:8080", Version: "7.3.1", Zone: "eu-west-1b"})
		}

		time.Sleep(night0300)
		store.RefuseWrites(errors.New("Unexpected response code: 500 (No cluster leader)"))
		store.Expire("orders", "orders-1")
		time.Sleep(night0301 - night0300)
		for i := range 3 {
			fleet.SetStatus("payments", fmt.Sprintf("payments-%02d", i+1), registry.Critical)
			synctest.Wait()
		}
		time.Sleep(2*time.Minute + 27*time.Second)
		handler.ServeHTTP(page, httptest.NewRequest("GET", "/debug/rollcall/", nil))
	})
	return page
}

// Moments of the night, after midnight.
const (
	night0300 = 3*time.Hour - 5*time.Second
	night0301 = 3*time.Hour + 98*time.Second
)
