package testbed

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	// readyTimeout is long enough for a machine under heavy load. On an idle machine both servers are ready in less than 2 s.
	readyTimeout = 60 * time.Second
	// signalTimeout bounds how long a server may take to stop or to end as it was asked to.
	signalTimeout = 20 * time.Second
	logTailLines  = 40
)

var errAddressInUse = errors.New("address already in use")

// A server is a program that runs with its own ports and folder for the length of a test, in one process after another.
type server struct {
	tb         testing.TB
	executable string
	name       string
	dir        string // all of its files
	ports      []int  // the first one serves clients
	configure  func() (args []string, err error)
	ready      func(ctx context.Context) error // nil when the server can be used; one attempt

	runs    int
	current *process // nil before the first start
}

// uniqueName returns a name that distinguishes a server from another process's server on a port that both have chosen.
func uniqueName() string { return "testbed-" + strings.ToLower(rand.Text()[:8]) }

// launch starts the server for the first time. If another program has opened a chosen port meanwhile, launch tries other ports.
func (s *server) launch(p *program, ports int) {
	s.tb.Helper()
	executable, err := p.executable()
	if err != nil {
		s.tb.Fatalf("testbed: %v", err)
	}
	s.executable, s.name = executable, p.name
	s.dir = s.tb.TempDir()
	s.tb.Cleanup(s.end) // after TempDir, hence before the folder is removed
	for attempt := 1; ; attempt++ {
		if s.ports, err = reservePorts(ports); err == nil {
			err = s.start()
		}
		if err == nil {
			return
		}
		if !errors.Is(err, errAddressInUse) || attempt == 5 {
			s.tb.Fatalf("testbed: %s: %v%s", s.name, err, s.logTail())
		}
		releasePorts(s.ports)
		s.removeData()
	}
}

// end kills the server if it runs. Its data is not needed after the test.
func (s *server) end() {
	if s.current != nil {
		if err := s.current.kill(); err != nil {
			s.tb.Errorf("testbed: %s: %v", s.name, err)
		}
	}
	if s.tb.Failed() && s.runs > 0 {
		s.tb.Logf("testbed: %s, run %d:%s", s.name, s.runs, s.logTail())
	}
	releasePorts(s.ports)
}

// start begins a run and waits until the server is ready, has ended or takes too long.
func (s *server) start() error {
	s.runs++
	args, err := s.configure()
	if err != nil {
		return err
	}
	p, err := startProcess(s.executable, args, s.logFile())
	if err != nil {
		return err
	}
	s.current = p
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-p.exited:
			cancel() // an answer could only come from another program on the port
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-ended }()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := s.ready(ctx)
		// A process that has ended is not ready. If there was an answer, another program on its port gave it.
		if p.hasExited() {
			if log, err := os.ReadFile(s.logFile()); err == nil && bytes.Contains(log, []byte(errAddressInUse.Error())) {
				return errAddressInUse
			}
			return fmt.Errorf("ended before it was ready: %s", p.cmd.ProcessState)
		}
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.exited:
		case <-ctx.Done():
			if p.hasExited() {
				continue
			}
			return errors.Join(fmt.Errorf("not ready within %s: %w", readyTimeout, err), p.kill())
		}
	}
}

// Addr is the host:port that serves clients. It stays the same over every Restart.
func (s *server) Addr() string { return loopback(s.ports[0]) }

// PID is the process ID of the present run.
func (s *server) PID() int { return s.current.cmd.Process.Pid }

// Kill ends the server at once with SIGKILL, as a crash would, and waits until it has ended.
func (s *server) Kill() {
	s.tb.Helper()
	s.must(s.current.kill())
}

// Terminate ends the server in good order with SIGTERM, also a stopped one, and waits until it has ended.
func (s *server) Terminate() {
	s.tb.Helper()
	s.must(s.current.terminate(signalTimeout))
}

// Stop halts the server with SIGSTOP: the kernel still accepts connections for it, and nothing answers. The server is halted when
// Stop returns, until Continue, Kill, Terminate or Restart.
func (s *server) Stop() {
	s.tb.Helper()
	s.must(s.current.stop(signalTimeout))
}

// Continue resumes a stopped server with SIGCONT.
func (s *server) Continue() {
	s.tb.Helper()
	s.must(s.current.signal(sigContinue))
}

// Restart starts the server again on its ports, with its data or with none, and blocks until it is ready. A server that
// still runs is killed first.
func (s *server) Restart(keepData bool) {
	s.tb.Helper()
	s.must(s.current.kill())
	if !keepData {
		s.removeData()
	}
	// Another program may have opened one of the ports, but not for long: the ports are not for outgoing connections, and another
	// test binary that checks whether a port is free closes it at once.
	deadline := time.Now().Add(signalTimeout)
	err := s.start()
	for errors.Is(err, errAddressInUse) && time.Now().Before(deadline) {
		err = s.start()
	}
	s.must(err)
}

func (s *server) must(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatalf("testbed: %s: %v%s", s.name, err, s.logTail())
	}
}

func (s *server) dataDir() string { return filepath.Join(s.dir, "data") }

func (s *server) removeData() {
	s.tb.Helper()
	if err := os.RemoveAll(s.dataDir()); err != nil {
		s.tb.Fatalf("testbed: %s: %v", s.name, err)
	}
}

// logFile returns the log file of the current run. Each run has its own, so that lines of an earlier run are not mistaken for new ones.
func (s *server) logFile() string {
	return filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", s.name, s.runs))
}

func (s *server) logTail() string {
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	lines = lines[max(0, len(lines)-logTailLines):]
	return fmt.Sprintf("\nthe end of its log:\n\t%s", strings.Join(lines, "\n\t"))
}

// probe makes the requests of readiness checks. It keeps no connection open, since a test may count connections, and uses no proxy
// from the environment.
var probe = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

// call makes one request to the server and returns the body of its answer. Any status but 200 is an error.
func (s *server) call(ctx context.Context, method, path, body string, header http.Header) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Addr()+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := probe.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(answer))
	}
	return answer, err
}

// soon reports whether ok returns true within readyTimeout.
func soon(ok func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(readyTimeout); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// retry makes attempts until one succeeds. After readyTimeout it returns the error of the last one.
func retry(attempt func(context.Context) error) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if !soon(func() bool { err = attempt(ctx); return err == nil }) {
		return err
	}
	return nil
}
