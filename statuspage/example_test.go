package statuspage_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/rollcall-go/rollcall/memory"
	"github.com/rollcall-go/rollcall/registry"
	"github.com/rollcall-go/rollcall/statuspage"
)

// Serve the page beside the other debug pages, on an address that only operators reach.
func ExampleHandler() {
	openers := registry.Openers{"memory": memory.Open}
	reg, err := openers.Open(context.Background(), "memory://")
	if err != nil {
		log.Fatal(err)
	}
	defer reg.Close()

	mux := http.NewServeMux()
	mux.Handle("/debug/rollcall/", statuspage.Handler(statuspage.Config{}, reg))

	debug := httptest.NewServer(mux) // a program has http.ListenAndServe("127.0.0.1:6060", mux) here
	defer debug.Close()
	resp, err := debug.Client().Get(debug.URL + "/debug/rollcall/")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, resp.Header.Get("Content-Type"))
	// Output: 200 OK text/html; charset=utf-8
}
