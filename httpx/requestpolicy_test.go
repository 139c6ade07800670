package httpx_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

const configKey = "rollcall/config/" + service

// configured is a network with a client that takes its service config from a registry.
type configured struct {
	*network
	reg    *memory.Registry
	tr     *httpx.Transport
	client *http.Client
	log    *bytes.Buffer
}

func withServiceConfig(t *testing.T, test func(*configured)) {
	t.Helper()
	inANetwork(t, func(n *network) {
		reg := memory.New()
		n.Cleanup(func() { reg.Close() })
		log := &bytes.Buffer{}
		tr := &httpx.Transport{
			Discovery: reg, Base: &http.Transport{DialContext: n.dial}, ServiceConfigKey: "rollcall/config/SERVICE",
			Logger: slog.New(slog.NewTextHandler(log, nil)),
		}
		n.Cleanup(func() { tr.Close() })
		test(&configured{n, reg, tr, &http.Client{Transport: tr}, log})
	})
}

func (c *configured) register(address string) {
	c.Helper()
	if _, err := c.reg.Register(c.Context(), registry.Instance{ID: address, Service: service, Address: address}); err != nil {
		c.Fatal(err)
	}
}

// put writes the service config, and waits until the client has it.
func (c *configured) put(document string) {
	c.Helper()
	if _, err := c.reg.PutValue(c.Context(), configKey, []byte(document), registry.PutOptions{}); err != nil {
		c.Fatal(err)
	}
	c.settle()
}

// settle waits until the client has the value. A watch may make a pause between two values.
func (c *configured) settle() {
	time.Sleep(time.Second) // of the bubble
	synctest.Wait()
}

// ends asks a server that never answers, and returns after which time the request fails, by the context or the service config.
func (c *configured) ends(limit time.Duration) (after time.Duration, err error) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://greeter/slow", nil)
	if err != nil {
		c.Fatal(err)
	}
	began := time.Now()
	_, err = read(c.client.Do(req))
	if err == nil {
		c.Fatal("the request succeeds")
	}
	return time.Since(began), err
}

// unlessSlow answers all requests but those for /slow.
func unlessSlow(_ http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		<-r.Context().Done()
	}
}

func TestServiceConfigKey_LimitsRequests(t *testing.T) {
	withServiceConfig(t, func(c *configured) {
		c.listen("a:1", unlessSlow)
		c.register("a:1")
		if _, err := get(c.client); err != nil {
			c.Fatal(err)
		}
		const own = time.Minute // the caller's limit
		wants := func(when string, want time.Duration) {
			c.Helper()
			after, err := c.ends(own)
			var timeout interface{ Timeout() bool }
			if after != want || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
				c.Errorf("%s: a request ends after %v, want %v: %v", when, after, want, err)
			}
			if says := strings.Contains(err.Error(), "service config"); says != (want < own) {
				c.Errorf("%s: the error is %v", when, err)
			}
		}
		wants("without a value", own)
		c.put(`{"methodConfig": [{"name": [{"service": "greeter"}], "timeout": "1s"}, {"name": [{}], "timeout": "2.5s"}]}`)
		wants("with a timeout", 2500*time.Millisecond)
		c.put(`{"methodConfig": [{"name": [{}], "timeout": "none"}]}`)
		wants("after an invalid value", 2500*time.Millisecond)
		c.reg.Fail(nil)
		wants("while the registry is away", 2500*time.Millisecond)
		c.reg.Heal()
		c.put(`{"methodConfig": [{"name": [{}], "timeout": "300s"}]}`)
		wants("with a longer timeout than the caller's", own)
		c.put(`{"methodConfig": [{"name": [{}], "timeout": "1s"}]}`)
		if err := c.reg.DeleteValue(c.Context(), configKey, registry.PutOptions{}); err != nil {
			c.Fatal(err)
		}
		c.settle()
		wants("after a deletion", own)
		synctest.Wait()
		if n := strings.Count(c.log.String(), "service config invalid"); n != 1 {
			c.Errorf("%d lines say that the value is invalid:\n%s", n, c.log)
		}
	})
}

func TestServiceConfigKey_LimitsTheReadingOfAResponse(t *testing.T) {
	withServiceConfig(t, func(c *configured) {
		c.listen("a:1", func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "begins")
			w.(http.Flusher).Flush()
			if r.URL.Path == "/endless" {
				<-r.Context().Done()
			}
		})
		c.register("a:1")
		if _, err := get(c.client); err != nil {
			c.Fatal(err)
		}
		c.put(`{"methodConfig": [{"name": [{}], "timeout": "2s"}]}`)
		began := time.Now()
		resp, err := c.client.Get("http://greeter/endless")
		if err != nil {
			c.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if after := time.Since(began); string(text) != "begins" || !errors.Is(err, context.DeadlineExceeded) || after != 2*time.Second {
			c.Errorf("the response is %q, %v after %v", text, err, after)
		}
		resp, err = c.client.Get("http://greeter/short")
		if err != nil {
			c.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble
		if text, err := io.ReadAll(resp.Body); string(text) != "begins" || err != nil {
			c.Errorf("a response that is read in time is %q, %v", text, err)
		}
		resp.Body.Close()
	})
}

func TestServiceConfigKey_SaysHowOftenARequestIsSent(t *testing.T) {
	withServiceConfig(t, func(c *configured) {
		s := c.listen("a:1", dropConnection)
		c.register("a:1")
		sent := func() int64 {
			before := s.requests.Load()
			if _, err := get(c.client); err == nil {
				c.Error("the request succeeds")
			}
			return s.requests.Load() - before
		}
		if n := sent(); n != httpx.DefaultMaxAttempts {
			c.Errorf("without a value a request is sent %d times", n)
		}
		for attempts, want := range map[string]int64{"2": 2, "5": 5, "9": 5} {
			c.put(`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": ` + attempts + `}}]}`)
			if n := sent(); n != want {
				c.Errorf("with maxAttempts %s a request is sent %d times", attempts, n)
			}
		}
	})
}

func TestServiceConfigKey_RefusesWhatItCannotApply(t *testing.T) {
	withServiceConfig(t, func(c *configured) {
		c.listen("a:1", nil)
		c.register("a:1")
		if _, err := get(c.client); err != nil {
			c.Fatal(err)
		}
		for document, text := range map[string]string{
			`{`:                   "unexpected end",
			`{"methodConfig": 1}`: "number",
			`{"methodConfig": [{"name": [{}], "timeout": "0s"}]}`:                     "0s",
			`{"methodConfig": [{"name": [{}], "timeout": "-1s"}]}`:                    "-1s",
			`{"methodConfig": [{"name": [{}], "timeout": "5m"}]}`:                     "5m",
			`{"methodConfig": [{"name": [{}]}, {"name": [{}]}]}`:                      "two entries",
			`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 1}}]}`:   "maxAttempts: 1",
			`{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2.5}}]}`: "maxAttempts: 2.5",
		} {
			c.log.Reset()
			c.put(document)
			if !strings.Contains(c.log.String(), "service config invalid") || !strings.Contains(c.log.String(), text) {
				c.Errorf("%s is logged as %q", document, c.log)
			}
		}
		if text, err := get(c.client); text != "a:1" || err != nil {
			c.Errorf("after invalid values only, a request gets %q, %v", text, err)
		}
	})
}

func TestServiceConfigKey_NeedsADiscoveryWithValues(t *testing.T) {
	for key, text := range map[string]string{"rollcall/config/SERVICE": "WatchValue", "/SERVICE": "/x"} {
		inANetwork(t, func(n *network) {
			tr := &httpx.Transport{Discovery: n.script, ServiceConfigKey: key}
			_, err := get(&http.Client{Transport: tr})
			failsWith(n.T, err, registry.ErrInvalid, "ServiceConfigKey", text)
		})
	}
}
