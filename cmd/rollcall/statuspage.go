package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rollcall-go/rollcall/internal/clientstate"
	"github.com/rollcall-go/rollcall/registry"
)

const (
	// defaultPagePath is used if a URL has no path. Programs usually serve their status page there.
	defaultPagePath = "/debug/rollcall/"
	maxRedirects    = 3
)

// maxPageSize bounds the answer. 10,000 instances with metadata have a few MB. Tests lower it.
var maxPageSize = 64 << 20

// statusPage is the JSON form of a status page, as package statuspage writes it. States of instances are text, so that the page of a
// newer version can be read.
type statusPage struct {
	Registries []pageRegistry
	Clients    []clientstate.State
}

type pageRegistry struct {
	Registry      string
	Time          time.Time
	Watches       []pageWatch
	Registrations []pageRegistration
}

type pageWatch struct {
	Query      registry.Query
	Readers    int
	Instances  []struct{ Status string }
	Known      bool
	Origin     string
	Withheld   bool
	Error      string
	StaleSince time.Time `json:"stale_since"`
	ChangedAt  time.Time `json:"changed_at"`

	Reads, Failures, Changes uint64
	Unreadable               []struct{ Entry, Error string }
}

type pageRegistration struct {
	Instance struct{ Service, ID, Address, Version, Zone string }
	Error    string
	Since    time.Time
	Losses   uint64
}

// parsePageURL returns the URL of the JSON form of the page that text names, and that URL as it may be shown.
func parsePageURL(text string) (u *url.URL, shown string, err error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err = url.Parse(text)
	if err != nil {
		return nil, "", usage("URL: %v", withoutURL(err)) // it may contain a password
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, "", usage("URL: it does not have the form http://HOST:PORT%s", defaultPagePath)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = defaultPagePath
	}
	shown = (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	q := u.Query()
	q.Set("format", "json")
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u, shown, nil
}

// readPage returns the JSON at u, and what it says. shown names u in errors.
func readPage(ctx context.Context, u *url.URL, shown string) (body []byte, page *statusPage, err error) {
	unreachable := func(format string, args ...any) ([]byte, *statusPage, error) {
		return nil, nil, &exitError{exitUnreachable, shown + ": " + fmt.Sprintf(format, args...)}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return unreachable("%v", err)
	}
	req.Header.Set("Accept", "application/json")
	client := &http.Client{CheckRedirect: sameHost}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return unreachable("no answer within --timeout")
		}
		return unreachable("%v", withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return unreachable("the answer has status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, int64(maxPageSize)+1))
	switch {
	case err != nil:
		return unreachable("reading the answer: %v", err)
	case len(body) > maxPageSize:
		return unreachable("the answer has more than %d MB", maxPageSize>>20)
	}
	page = new(statusPage)
	if err := json.Unmarshal(body, page); err != nil || page.Registries == nil {
		return unreachable("the answer is not the JSON of a status page")
	}
	return body, page, nil
}

// sameHost refuses redirections to other hosts: the user has named the host that is asked.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("more than %d redirections", maxRedirects)
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return errors.New("the answer is a redirection to another host")
	}
	return nil
}

// state returns a word for g, with a colour. The reason, which tells a lost entry from a replaced one, is in the error.
func (g *pageRegistration) state() (word, colour string) {
	if g.Error != "" {
		return "not registered", red
	}
	return "registered", green
}

// passing returns the number of instances that pass. The status of these is left out of JSON.
func (w *pageWatch) passing() int {
	n := 0
	for _, in := range w.Instances {
		if in.Status == "" || in.Status == registry.Passing.String() {
			n++
		}
	}
	return n
}

// state returns the word of the status page for w, with a colour.
func (w *pageWatch) state() (word, colour string) {
	passing, all := w.passing(), len(w.Instances)
	switch {
	case w.Error == "" && !w.Known:
		return "no answer yet", plain
	case !w.Known:
		return "without a set", red
	case w.Error != "":
		return w.staleState(), staleColour(passing)
	case all == 0:
		return "empty", red
	case passing == 0:
		return "not passing", red
	case 2*passing < all:
		return "mostly not passing", yellow
	case len(w.Unreadable) > 0:
		return "partly unreadable", yellow
	}
	return "current", green
}

func (w *pageWatch) staleState() string {
	switch {
	case w.Withheld:
		return "withheld"
	case w.Origin == registry.FromMemory.String():
		return "from memory"
	case w.Origin == registry.FromDisk.String():
		return "from disk"
	}
	return "stale"
}

func staleColour(passing int) string {
	if passing == 0 {
		return red
	}
	return yellow
}

// since returns when w entered its state, or the zero time.
func (w *pageWatch) since() time.Time {
	if w.Error != "" {
		return w.StaleSince
	}
	return w.ChangedAt
}

// fails reports whether readers of w have no instance that passes.
func (w *pageWatch) fails() bool { return w.passing() == 0 && (w.Known || w.Error != "") }
