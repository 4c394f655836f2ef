package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"golang.org/x/term"
)

// dieLoudly turns a crash anywhere in the program, a panic in a library's
// goroutine and a fatal error of the runtime included, into a death by SIGABRT,
// which no server takes for an answer. It leaves no core file.
func dieLoudly() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	debug.SetTraceback("crash")
}

// dieQuietly gives a crash back the exit code 2, where that is no answer.
func dieQuietly() { debug.SetTraceback("single") }

// signalError is the cause of a context that a signal has ended.
type signalError struct{ signal os.Signal }

func (e signalError) Error() string { return "ended by signal: " + e.signal.String() }

// catchSignals ends the context at SIGTERM, SIGINT, SIGHUP and SIGQUIT. What was
// ignored when the program was started stays ignored, as nohup and PostgreSQL
// mean it, but for SIGTERM. A call that does not come to an end by itself is
// ended a moment later: after a fast stop PostgreSQL does not wait, and nothing
// may be written once it has been started again.
func catchSignals(ctx context.Context, c caller) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGTERM)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if !signal.Ignored(s) {
			signal.Notify(got, s)
		}
	}
	go func() {
		s, ok := <-got
		if !ok {
			return
		}
		cancel(signalError{s})
		select {
		case <-time.After(c.grace()):
		case <-got: // somebody does not want to wait
		}
		os.Exit(c.signalCode(s))
	}()
	return ctx, func() { signal.Stop(got); cancel(nil) }
}

// grace is how long a call may take to clean up after a signal.
const grace = time.Second

// graceRestore is for stopping a server and removing the copy of a drill.
const graceRestore = 5 * time.Minute

// graceBackup is for removing what was stored of a backup.
const graceBackup = 10 * time.Second

func (c caller) grace() time.Duration {
	switch c.command {
	case "restore":
		return graceRestore
	case "backup":
		return graceBackup
	case "agent":
		return agentDrain + 10*time.Second
	}
	return grace
}

// signalOf is the signal that has ended the context, or nil.
func signalOf(ctx context.Context) os.Signal {
	if e, ok := context.Cause(ctx).(signalError); ok {
		return e.signal
	}
	return nil
}

func isTerm(s os.Signal) bool { return s == syscall.SIGTERM }

func isTTY(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
