// Package rolling tests packages serve and httpx together: it restarts, crashes and cuts off the servers of a service under load, on each
// backend.
package rolling

import (
	"io"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	if settings := os.Getenv(childVariable); settings != "" {
		runChild(settings)
		return
	}
	goleak.VerifyTestMain(m)
}
