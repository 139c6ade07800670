package testbed

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// A process is one run of a server.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended and was waited for
}

// startProcess runs the executable with both of its outputs in logFile.
//
// One goroutine, locked to its thread, starts the process and waits for it. The kernel sends the signal of Pdeathsig when the thread
// that forked ends. The Go runtime may end any thread except those with a locked goroutine.
func startProcess(executable string, args []string, logFile string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(executable, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = serverEnvironment()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	dieWithParent(p.cmd.SysProcAttr)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.exited)
		err := p.cmd.Start()
		_ = log.Close() // the process has its own copy
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended can be read in cmd.ProcessState
		}
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, err
	}
	return p, nil
}

// serverEnvironment returns the environment of the test without the variables that configure the servers themselves.
func serverEnvironment() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CONSUL_") && !strings.HasPrefix(v, "ETCD_") {
			env = append(env, v)
		}
	}
	return env
}

func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// signal sends a signal. It returns nil if the process has ended.
func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%v to process %d: %w", s, p.cmd.Process.Pid, err)
	}
	return nil
}

// kill ends the process at once, also a stopped one, and waits for its end.
func (p *process) kill() error {
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// terminate asks the process to end, and waits for its end up to the limit.
func (p *process) terminate(limit time.Duration) error {
	// A stopped process receives SIGTERM only after SIGCONT.
	if err := errors.Join(p.signal(syscall.SIGTERM), p.signal(sigContinue)); err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d still runs %s after SIGTERM", p.cmd.Process.Pid, limit)
	}
}

// stop halts the process. The kernel stops one thread after the other, and the process may still answer until the last.
func (p *process) stop(limit time.Duration) error {
	if err := p.signal(sigStop); err != nil {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		stopped, err := isStopped(p.cmd.Process.Pid)
		if stopped {
			return nil
		}
		select {
		case <-poll.C:
		case <-p.exited:
			return fmt.Errorf("cannot stop process %d, which has ended", p.cmd.Process.Pid)
		case <-timer.C:
			return fmt.Errorf("process %d has not stopped within %s of SIGSTOP: %w", p.cmd.Process.Pid, limit, err)
		}
	}
}
