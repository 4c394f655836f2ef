package pgrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walship/internal/pgdata"
	"walship/transport"
)

// Why a recovery came to nothing, for errors.Is.
var (
	// ErrUnreached is a recovery that ended before its target: what the target
	// asks for is not in the WAL that there is.
	ErrUnreached = errors.New("the recovery target was not reached")
	// ErrServerEnded is a server that gave up.
	ErrServerEnded = errors.New("the server gave up")
)

// Standing is where a recovery has come to stand.
type Standing uint8

const (
	// Opened: recovery has ended and the server takes connections and writes.
	Opened Standing = iota
	// Paused: recovery waits at its target.
	Paused
	// Shut: the server has shut down at its target, as it was told to.
	Shut
	// Following: a standby is consistent and goes on.
	Following
)

// Outcome is how a recovery went.
type Outcome struct {
	Standing Standing
	Report   Report
	Took     time.Duration // from the start to this standing
	// ToConsistency is the time from the start to the line that says that the
	// copy is consistent; 0 if there was none.
	ToConsistency time.Duration
}

// Recovery says what is expected of a recovery.
type Recovery struct {
	// Targeted: it stops at a target. Servers before 13 open without a word when
	// they have not found it.
	Targeted bool
	// Standby: it goes on for ever, and is waited for until it is consistent.
	Standby bool
	// Progress, if not nil, is called now and then with the name of the last segment
	// that has come from the archive.
	Progress func(segment string)
	// Ask, if not nil, asks the server itself whether it is paused or open, now and
	// then, beside what its log tells. ok is false if it does not answer.
	Ask func(ctx context.Context) (s Standing, ok bool)
}

// pause is the time between two looks at the log, askEvery that between two
// questions to the server itself.
const (
	pause    = 50 * time.Millisecond
	askEvery = 3 * time.Second
)

// Recover watches a server that has just been started until its recovery has
// come to stand. It never stops the server: after an error that may still run,
// unless the error wraps ErrServerEnded. A target that was not reached is
// ErrUnreached; before 13 the server has then opened. An error quotes the line
// of the log that decided.
func (s *Server) Recover(ctx context.Context, r Recovery) (Outcome, error) {
	var out Outcome
	asked := time.Now()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		ended := s.HasEnded() // before the last look at the log
		segment := out.Report.Segment
		if err := s.logs.lines(ended, out.Report.Line); err != nil {
			return out, fmt.Errorf("log of the server: %w", err)
		}
		if now := out.Report.Segment; now != segment && r.Progress != nil {
			r.Progress(now)
		}
		if out.Report.Consistent && out.ToConsistency == 0 {
			out.ToConsistency = time.Since(s.began)
		}
		out.Took = time.Since(s.began)
		switch {
		case ended:
			return s.endedAs(out)
		case out.Report.Open || s.open():
			if !out.Report.Open && !out.settled(s, time.Second) {
				continue // the last lines of the log follow
			}
			err := out.opened(r)
			return out, err
		case r.Standby && out.Report.Consistent:
			out.Standing = Following
			return out, nil
		case out.Report.Paused:
			err := out.paused()
			return out, err
		}
		if r.Ask != nil && time.Since(asked) > askEvery {
			asked = time.Now()
			if standing, ok := r.Ask(ctx); ok && standing == Paused {
				if err := s.logs.lines(false, out.Report.Line); err != nil { // it was written before
					return out, fmt.Errorf("log of the server: %w", err)
				}
				return out, out.paused()
			}
		}
		select {
		case <-ctx.Done():
			return out, context.Cause(ctx)
		case <-s.ended:
		case <-tick.C:
		}
	}
}

// settled waits a moment for what the log has yet to say of a server that is
// open already; true if it has nothing to say.
func (o *Outcome) settled(s *Server, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		if s.logs.lines(false, o.Report.Line) != nil || o.Report.Open {
			return o.Report.Open
		}
		time.Sleep(pause)
	}
	return true
}

// opened judges a server that takes writes.
func (o *Outcome) opened(r Recovery) error {
	o.Standing = Opened
	// What is silent, or speaks another language, has not said the contrary.
	if r.Targeted && o.Report.Stop == "" && (o.Report.Done != 0 || o.Report.Redo != 0) {
		return transport.WithHint(fmt.Errorf("%w: the server has opened at the end of the WAL, %s%s", ErrUnreached, o.Report.Done, o.Report.lastCommit()), unreachedHint)
	}
	return nil
}

func (o *Outcome) paused() error {
	o.Standing = Paused
	if o.Report.Stop == "" {
		return transport.WithHint(
			fmt.Errorf("recovery has paused before its target: %s", cmp.Or(o.Report.warning, "the log says nothing of the target")),
			"settings that the cluster has raised since, such as max_connections, have to be as high here: raise what the log names in postgresql.auto.conf of the copy, and start it")
	}
	return nil
}

// endedAs judges a server that is gone.
func (s *Server) endedAs(out Outcome) (Outcome, error) {
	r := &out.Report
	if r.Shut || r.Stop != "" && r.fatal == "" && s.state.Success() {
		out.Standing = Shut
		return out, nil
	}
	line, hint := r.Decisive()
	if r.unreached() {
		return out, transport.WithHint(endedUnreached{fmt.Errorf("%w: the server says %q%s", ErrUnreached, line, r.lastCommit())}, unreachedHint)
	}
	if line == "" {
		line = s.state.String()
	}
	return out, transport.WithHint(fmt.Errorf("%w: %s", ErrServerEnded, line), hint)
}

// unreachedHint goes with ErrUnreached.
const unreachedHint = "the archived WAL ends before the target, or does not hold what it names on this timeline; if the target is a time, no transaction has ended after it, and --latest gives the same"

// endedUnreached is an ErrUnreached of a server that is gone.
type endedUnreached struct{ error }

func (e endedUnreached) Unwrap() []error { return []error{e.error, ErrServerEnded} }

func (r *Report) lastCommit() string {
	switch {
	case r.Last != "":
		return ", after the last transaction of " + r.Last
	case r.Segment != "":
		return ", behind segment " + r.Segment
	}
	return ""
}

// open reports whether the server takes connections, as from 10 on the eighth
// line of postmaster.pid says, and no file tells any more that it recovers.
func (s *Server) open() bool {
	text, err := os.ReadFile(filepath.Join(s.Data, "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[0]) != fmt.Sprint(s.Pid) || strings.TrimSpace(lines[7]) != "ready" {
		return false
	}
	return pgdata.DetectMode(s.Data) == pgdata.Ending
}

// StopStray ends, immediately, the server that still runs in a data directory
// which nobody needs any more, and waits until it is gone. A process of another
// kind that has got the server's id is left alone.
func StopStray(data string) error {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return nil // none was started, or it has been stopped
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil || pid <= 1 || !WorksIn(pid, data) {
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		if syscall.Kill(pid, signal) != nil {
			return nil
		}
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(pause) {
			if !WorksIn(pid, data) {
				return nil
			}
		}
	}
	return fmt.Errorf("%w: process %d, %s", ErrStillRuns, pid, data)
}
