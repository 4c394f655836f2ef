package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/term"
)

// stage is what the story is played on: it knows what has to be cleared away in
// the end, and how to stop in the middle. It is the TB of the packages that run
// servers for tests.
type stage struct {
	out    *os.File
	colour bool
	begun  time.Time
	number int           // of the step
	stop   chan struct{} // closed by an interrupt

	mu      sync.Mutex
	clearup []func()
	failed  bool
}

func newStage(out *os.File) *stage {
	return &stage{
		out:    out,
		colour: term.IsTerminal(int(out.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		begun:  time.Now(),
		stop:   make(chan struct{}),
	}
}

// play runs the story in a goroutine of its own, so that Fatalf can end it.
func (s *stage) play(story func(*stage)) (ended chan struct{}) {
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			if p := recover(); p != nil && !s.interrupted() {
				s.fail(fmt.Sprintf("panic: %v", p))
			}
		}()
		story(s)
	}()
	return ended
}

// interrupt makes the story end at the next point where it looks.
func (s *stage) interrupt() { close(s.stop) }

func (s *stage) interrupted() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// look ends the story if it has been interrupted.
func (s *stage) look() {
	if s.interrupted() {
		runtime.Goexit()
	}
}

// clear stops and removes everything, what came last first.
func (s *stage) clear() {
	for {
		s.mu.Lock()
		n := len(s.clearup)
		if n == 0 {
			s.mu.Unlock()
			return
		}
		last := s.clearup[n-1]
		s.clearup = s.clearup[:n-1]
		s.mu.Unlock()
		done := make(chan struct{})
		go func() { // it may end its goroutine
			defer close(done)
			last()
		}()
		<-done
	}
}

// Helper does nothing: functions that have it are not part of a test here.
func (s *stage) Helper() {}

// Cleanup remembers f for the end.
func (s *stage) Cleanup(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clearup = append(s.clearup, f)
}

// Failed reports whether the story has gone wrong, other than by an interrupt.
func (s *stage) Failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Logf reports what may explain a failure.
func (s *stage) Logf(format string, args ...any) {
	if !s.interrupted() {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}

// Fatalf ends the story.
func (s *stage) Fatalf(format string, args ...any) {
	if !s.interrupted() {
		s.fail(fmt.Sprintf(format, args...))
	}
	runtime.Goexit()
}

func (s *stage) fail(text string) {
	s.mu.Lock()
	s.failed = true
	s.mu.Unlock()
	fmt.Fprintf(os.Stderr, "\ndemo: failed: %s\n", text)
}

// check ends the story on an error.
func (s *stage) check(err error) {
	if err != nil {
		s.Fatalf("%v", err)
	}
}

// wait asks done until it is true.
func (s *stage) wait(limit time.Duration, what string, done func() bool) {
	deadline := time.Now().Add(limit)
	for !done() {
		s.look()
		if time.Now().After(deadline) {
			s.Fatalf("waited %s for %s", limit, what)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-s.stop:
		}
	}
}

// start starts a program that was prepared for the server's user, and returns a
// function that waits for its end and returns what it has written. An interrupt
// kills it, with all that it has started in its session's process group.
func (s *stage) start(cmd *exec.Cmd, err error) (result func() (string, error)) {
	s.check(err)
	s.look()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The program dies with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	s.check(<-started)
	done := make(chan struct{})
	var failure error
	go func() {
		defer close(done)
		select {
		case failure = <-ended:
		case <-s.stop:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it leads a session
			<-ended
		}
	}()
	s.Cleanup(func() {
		select {
		case <-done:
		default:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-done
		}
	})
	return func() (string, error) {
		<-done
		s.look()
		return strings.TrimSpace(out.String()), failure
	}
}
