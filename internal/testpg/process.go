package testpg

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// commandLimit is how long a program that is expected to end may take.
const commandLimit = 2 * time.Minute

// process is a child that has been started and is being waited for.
type process struct {
	pid   int
	ended chan struct{}    // closed once the child has been reaped
	state *os.ProcessState // set before ended is closed
	err   error            // of Wait, likewise
}

// start starts cmd. The kernel sends the parent-death signal when the thread
// that forked ends, so one thread is held for as long as the child lives.
func start(cmd *exec.Cmd) (*process, error) {
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		p.state = cmd.ProcessState
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// hasEnded reports whether the child is gone.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// wait waits at most limit and reports whether the child is gone.
func (p *process) wait(limit time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(limit):
		return p.hasEnded()
	}
}

// run runs cmd to its end and returns its standard output; the error of a
// failure carries what it wrote to standard error.
func run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	p, err := start(cmd)
	if err != nil {
		return "", err
	}
	if !p.wait(commandLimit) {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // not reaped yet, so it is still this child
		<-p.ended
		return stdout.String(), fmt.Errorf("%s did not end within %s: %s", cmd.Args[0], commandLimit, stderr.String())
	}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), p.err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), p.err
}
