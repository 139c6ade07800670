package httpx_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-go/rollcall/httpx"
)

var errBody = errors.New("the file cannot be read")

// failing is a body that fails after a second, when some of it was read.
func failing() io.ReadCloser {
	return io.NopCloser(io.MultiReader(strings.NewReader("hel"), readerFunc(func([]byte) (int, error) {
		time.Sleep(time.Second)
		return 0, errBody
	})))
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTransport_BodyThatCannotBeSentIsNoFaultOfAnInstance(t *testing.T) {
	text := func(s string) func() io.ReadCloser {
		return func() io.ReadCloser { return io.NopCloser(strings.NewReader(s)) }
	}
	for name, c := range map[string]struct {
		body   func() io.ReadCloser
		length int64
		want   string
	}{
		"failing":                {failing, 5, errBody.Error()},
		"failing, chunked":       {failing, -1, errBody.Error()},
		"short":                  {text("hel"), 5, "ContentLength=5 with Body length 3"},
		"short, of another type": {func() io.ReadCloser { return newBody("hel") }, 5, "ContentLength=5 with Body length 3"},
	} {
		for _, hasCopies := range []bool{true, false} {
			t.Run(fmt.Sprint(name, hasCopies), func(t *testing.T) {
				inANetwork(t, func(n *network) {
					n.listen("a:1", echo("a"))
					n.listen("b:1", echo("b"))
					var events []httpx.Event
					client := n.connected(&httpx.Transport{Policy: "p2c", Observe: func(e httpx.Event) { events = append(events, e) }}, passing("a:1", "b:1")...)
					count(client, 10)
					req, err := http.NewRequest(http.MethodPut, "http://greeter/", c.body())
					if err != nil {
						n.Fatal(err)
					}
					req.ContentLength = c.length
					if hasCopies {
						req.GetBody = func() (io.ReadCloser, error) { return c.body(), nil }
					}
					_, err = read(client.Do(req))
					last := events[len(events)-1]
					if err == nil || !strings.Contains(err.Error(), c.want) || last.Attempts != 1 {
						n.Errorf("after %d attempts the request ends with %v", last.Attempts, err)
					}
					for _, in := range client.Transport.(*httpx.Transport).Snapshot().Services[0].Instances {
						if in.Latency >= time.Second || in.Outstanding != 0 {
							n.Errorf("%s has a latency of %v, and %d outstanding requests", in.Address, in.Latency, in.Outstanding)
						}
					}
				})
			})
		}
	}
}

func TestTransport_FailureOfGetBodyEndsTheRequest(t *testing.T) {
	inANetwork(t, func(n *network) {
		a, b := n.listen("a:1", dropConnection), n.listen("b:1", dropConnection)
		client := n.connected(nil, passing("a:1", "b:1")...)
		before := a.requests.Load() + b.requests.Load()
		req, err := http.NewRequest(http.MethodPut, "http://greeter/", newBody("hello"))
		if err != nil {
			n.Fatal(err)
		}
		req.GetBody = func() (io.ReadCloser, error) { return nil, errBody }
		_, err = read(client.Do(req))
		if sent := a.requests.Load() + b.requests.Load() - before; !errors.Is(err, errBody) || !errors.Is(err, io.EOF) || sent != 1 {
			n.Errorf("the request was sent %d times and ends with %v", sent, err)
		}
	})
}

// net/http reads the body in a goroutine of its own. There, a nil body would end the process.
func TestTransport_GetBodyWithoutABodyEndsTheRequest(t *testing.T) {
	inANetwork(t, func(n *network) {
		n.listen("a:1", dropConnection)
		n.listen("b:1", dropConnection)
		client := n.connected(nil, passing("a:1", "b:1")...)
		req, err := http.NewRequest(http.MethodPut, "http://greeter/", newBody("hello"))
		if err != nil {
			n.Fatal(err)
		}
		req.GetBody = func() (io.ReadCloser, error) { return nil, nil }
		_, err = read(client.Do(req))
		if want := "GetBody: it returned neither a body nor an error"; err == nil || !strings.Contains(err.Error(), want) {
			n.Errorf("the request ends with %v, want %s", err, want)
		}
	})
}

func TestTransport_SendsBodyFromGetBodyAgain(t *testing.T) {
	for name, first := range map[string]func() io.Reader{
		"memory": func() io.Reader { return bytes.NewBufferString("hello") }, // of which http.NewRequest makes a GetBody
		"other":  func() io.Reader { return newBody("hello") },
	} {
		inANetwork(t, func(n *network) {
			a := n.listen("a:1", dropConnection)
			client := n.connected(nil, passing("a:1")...)
			n.listen("b:1", echo("b"))
			n.says(nil, passing("a:1", "b:1")...)
			for range 2 { // one of them goes to a first
				req, err := http.NewRequest(http.MethodPut, "http://greeter/", first())
				if err != nil {
					n.Fatal(err)
				}
				copies := 0
				if getBody := req.GetBody; getBody == nil {
					req.GetBody = func() (io.ReadCloser, error) { copies++; return newBody("hello"), nil }
				}
				if text, err := read(client.Do(req)); err != nil || text != "b hello<nil>" || copies > 1 {
					n.Errorf("%s: the response is %q, %v after %d copies", name, text, err, copies)
				}
			}
			if a.requests.Load() == 0 {
				n.Error("no request went to a")
			}
		})
	}
}
