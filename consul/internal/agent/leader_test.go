package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/internal/bubble"
	"github.com/rollcall-go/rollcall/registry"
)

// leaderAnswer answers each question for the leader.
type leaderAnswer struct{}

func (leaderAnswer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`"10.0.0.1:8300"`))}, nil
}

// A datacenter in an election does not keep another one from being read.
func TestAwaitLeader_TellsDatacentersApart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		a := unused(t, "127.0.0.1:1").InUse()
		if err := a.SetTransport(leaderAnswer{}); err != nil {
			t.Fatal(err)
		}
		a.BlockElection("a")
		q := Request{What: "read service s", Limit: time.Second}
		if err := a.AwaitLeader(t.Context(), q, "b"); err != nil {
			t.Errorf("the other datacenter: %v", err)
		}
		if err := a.AwaitLeader(t.Context(), q, "a"); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("the datacenter in an election: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.AwaitLeader(ctx, q, "a"); !errors.Is(err, context.Canceled) {
			t.Errorf("a call that gave up: %v", err)
		}
	})
}
