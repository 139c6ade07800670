package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall-go/rollcall/httpx"
	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
)

func TestSend_CountsAnswersByInstance(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	for _, id := range []string{"web-1", "web-2"} {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer s.Close()
		if _, err := reg.Register(t.Context(), registry.Instance{ID: id, Service: "web", Address: s.Listener.Addr().String()}); err != nil {
			t.Fatal(err)
		}
	}
	answers := answers{by: map[string]int{}}
	ctx, cancel := context.WithCancel(t.Context())
	events := 0
	transport := &httpx.Transport{Discovery: reg, Observe: func(e httpx.Event) {
		answers.count(e)
		answers.mu.Lock()
		defer answers.mu.Unlock()
		if events++; events == 20 {
			cancel()
		}
	}}
	defer transport.Close()
	send(ctx, &http.Client{Transport: transport}, "http://web/", 1000)
	var out strings.Builder
	if err := answers.print(&out); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"  web-1\n", "  web-2\n", " 0  failed\n"} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("the table is\n%s", out.String())
		}
	}
}

func TestPrint_FailsIfNothingSucceeded(t *testing.T) {
	reg := memory.New()
	defer reg.Close()
	answers := answers{by: map[string]int{}}
	client := &http.Client{Transport: &httpx.Transport{Discovery: reg, Observe: answers.count}}
	defer client.CloseIdleConnections()
	if resp, err := client.Get("http://web/"); err == nil {
		resp.Body.Close()
	}
	if err := answers.print(new(strings.Builder)); err == nil || !strings.Contains(err.Error(), "no passing instance") {
		t.Errorf("the error is %v", err)
	}
}
