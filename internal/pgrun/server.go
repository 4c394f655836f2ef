package pgrun

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Options say which server is started, and how.
type Options struct {
	Install Install
	Data    string   // data directory, absolute
	Owner   Owner    // as whom it runs
	Log     string   // file that its output is appended to, absolute
	Args    []string // further arguments

	// Tied makes the server end with this process, however that ends, where the
	// system can do that (Linux). Elsewhere only Stop ends it.
	Tied bool
}

// toLog makes the server speak English and to its standard error alone, whatever
// its configuration says: how a recovery goes, its log tells. A configuration
// that was made for another server may lead to that one's log.
var toLog = []string{"-c", "log_destination=stderr", "-c", "logging_collector=off", "-c", "lc_messages=C"}

// Server is one that Start has started. Its methods may be used concurrently.
type Server struct {
	Pid  int
	Data string
	Log  string

	began time.Time
	logs  tail
	ended chan struct{}    // closed once the process has been reaped
	state *os.ProcessState // set before
}

// Start starts the server and does not wait for it: a server that does not come
// up is seen at Ended. It leads a session of its own and lives on when this
// process ends, unless it is tied.
func Start(o Options) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(o.Log), 0o700); err != nil {
		return nil, err
	}
	if err := o.Owner.Give(filepath.Dir(o.Log)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := o.Owner.Give(o.Log); err != nil {
		return nil, err
	}
	cmd := o.Owner.Command(filepath.Join(o.Install.Bin, "postgres"), slices.Concat([]string{"-D", o.Data}, toLog, o.Args)...)
	cmd.Stdout, cmd.Stderr = log, log
	if o.Tied {
		tie(cmd.SysProcAttr)
	}
	s := &Server{Data: o.Data, Log: o.Log, began: time.Now(), ended: make(chan struct{})}
	s.logs.begin(o.Log)
	started := make(chan error)
	go func() {
		// The kernel sends the signal that ties the server when the thread ends
		// that started it: this one is held for as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start PostgreSQL as %s: %w", o.Owner.Name, err)
			return
		}
		s.Pid = cmd.Process.Pid
		started <- nil
		_ = cmd.Wait() // the state tells
		s.state = cmd.ProcessState
		close(s.ended)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

// Ended is closed once the server is gone.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// HasEnded reports whether the server is gone.
func (s *Server) HasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// ErrStillRuns says that a server has survived every signal.
var ErrStillRuns = errors.New("the server still runs")

// Stop ends the server: fast, which takes a checkpoint, and once patience has
// passed, or ctx has ended, immediately. It returns when the server is gone; nil
// too if it was gone already.
func (s *Server) Stop(ctx context.Context, patience time.Duration) error {
	for _, step := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{{syscall.SIGINT, patience}, {syscall.SIGQUIT, 20 * time.Second}, {syscall.SIGKILL, 20 * time.Second}} {
		if step.signal == syscall.SIGINT && (ctx.Err() != nil || patience <= 0) {
			continue
		}
		if s.HasEnded() {
			return nil
		}
		_ = syscall.Kill(s.Pid, step.signal) // it is not reaped, so the id is still its own
		done := ctx.Done()
		if step.signal != syscall.SIGINT {
			done = nil
		}
		select {
		case <-s.ended:
			return nil
		case <-done:
		case <-time.After(step.limit):
		}
	}
	if s.HasEnded() {
		return nil
	}
	return fmt.Errorf("%w: process %d, %s", ErrStillRuns, s.Pid, s.Data)
}
