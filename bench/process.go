package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/rollcall-go/rollcall/bench/contender"
)

// childVariable tells the program to run a contender.
const childVariable = "ROLLCALL_BENCH_CONTENDER"

// verboseVariable lets the contenders, and Rollcall's servers, log to the standard error.
const verboseVariable = "ROLLCALL_BENCH_VERBOSE"

// process runs a contender, behind a proxy that counts.
type process struct {
	contender.Contender
	proxy *proxy
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// start runs c against the registry at address.
func start(c contender.Contender, address string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{Contender: c}
	if p.proxy, err = newProxy(address); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), childVariable+"=1")
	if os.Getenv(verboseVariable) != "" {
		p.cmd.Stderr = os.Stderr // contenders log to it
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = p.ask(ask{Do: "open", Backend: c.Backend, Name: c.Name, Address: p.proxy.address()})
	return p, err
}

// ask sends q and returns the answer.
func (p *process) ask(q ask) (answer, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return answer{}, fmt.Errorf("%s: %w", p.Name, err)
	}
	if line, err = p.out.ReadBytes('\n'); err != nil {
		return answer{}, fmt.Errorf("%s: %s: the process ended: %w", p.Name, q.Do, err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return answer{}, fmt.Errorf("%s: %s: %w", p.Name, q.Do, err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s: %s: %s", p.Name, q.Do, a.Error)
	}
	return a, nil
}

// expectation describes the set that is expected.
type expectation struct {
	has, hasnt string
	len        int // -1 is any
}

// after makes the change and returns how long after its end, and after its beginning, the contender had a set as expected.
func (p *process) after(e expectation, limit time.Duration, change func() error) (sinceEnd, sinceBegin time.Duration, never bool, err error) {
	if _, err = p.ask(ask{Do: "expect", Has: e.has, Hasnt: e.hasnt, Len: e.len}); err != nil {
		return 0, 0, false, err
	}
	begin := time.Now()
	if err = change(); err != nil {
		return 0, 0, false, err
	}
	end := time.Now()
	a, err := p.ask(ask{Do: "await", Limit: limit})
	// The monotonic clocks of two processes differ; the wall clock is the same for both.
	return a.At.Sub(end.Round(0)), a.At.Sub(begin.Round(0)), a.Never, err
}

// follow begins a watch and waits until it has n instances.
func (p *process) follow(service string, n int, probe bool) error {
	do := "watch"
	if probe {
		do = "probe"
	}
	_, _, never, err := p.after(expectation{len: n}, time.Minute, func() error {
		_, err := p.ask(ask{Do: do, Service: service})
		return err
	})
	if err == nil && never {
		a, _ := p.ask(ask{Do: "usage"})
		err = fmt.Errorf("%s: did not have the %d instances within a minute, but %d", p.Name, n, a.Size)
	}
	return err
}

// stop kills the process, which needs no orderly end.
func (p *process) stop() {
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	p.proxy.close()
}
