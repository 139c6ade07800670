package statuspage

import (
	"bytes"
	"context"
	"net/http"
	"time"

	"github.com/rollcall-go/rollcall/internal/clientstate"
)

const (
	// refreshInterval is how often a stream sends the page without a change: the ages and numbers.
	refreshInterval = 5 * time.Second
	// minInterval is the least time between two pages of a stream, so that a storm of changes costs little.
	minInterval = 500 * time.Millisecond
	// writeTimeout is how long a client may take to receive one page. It replaces the server's WriteTimeout, which would end the stream.
	writeTimeout = 30 * time.Second
)

// serveEvents streams the part of the page that changes, until the request's context ends or the server is shut down.
func (h *handler) serveEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events back
	if r.Method == http.MethodHead {
		return
	}
	shutdown := h.shutdown(r.Context())
	defer clientstate.Notify(h.notify)()
	for {
		changed := h.nextChange() // before the page is made, so that no change is missed
		if err := h.sendContent(w); err != nil {
			return
		}
		if !sleep(r.Context(), shutdown, nil, minInterval) || !sleep(r.Context(), shutdown, changed, refreshInterval-minInterval) {
			return
		}
	}
}

// sleep waits until changed is closed or d is over. It reports false if the stream is to end.
func sleep(ctx context.Context, shutdown, changed <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-shutdown:
		return false
	case <-changed:
	case <-timer.C:
	}
	return true
}

func (h *handler) sendContent(w http.ResponseWriter) error {
	content, err := h.content()
	if err != nil {
		return err
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // a writer without deadlines is fine
	if _, err := w.Write(event(content)); err != nil {
		return err
	}
	return control.Flush()
}

// event returns the event with the given data. Carriage returns end a line of an event, so a name that has one must not keep it.
func event(data []byte) []byte {
	data = bytes.ReplaceAll(data, []byte("\r"), []byte(" "))
	var b bytes.Buffer
	for line := range bytes.Lines(data) {
		b.WriteString("data: ")
		b.Write(bytes.TrimSuffix(line, []byte("\n")))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}
