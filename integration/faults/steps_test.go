//go:build linux

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walship/archive"
	"walship/internal/layout"
	"walship/internal/pgdata"
	"walship/internal/stored"
	"walship/internal/testbin"
	"walship/restore"
)

// limits are those of a call, and what a busy machine may add to them.
type limits struct{ silence, timeout, slack time.Duration }

var (
	hasty   = limits{2 * time.Second, 8 * time.Second, 30 * time.Second}
	patient = limits{time.Minute, 2 * time.Minute, 30 * time.Second}
)

// Exit codes, see the README. A call in this process ends with the one that the
// command would give it, or with codeOther.
const (
	codeConflict = 5
	codeCloned   = 6
	codeOther    = 16
	codeDoubt    = 126
	codeSignal   = -1
)

// outcome is how a call has ended.
type outcome struct {
	code int
	said string
}

// begin begins a step; the function that it returns waits for its end and judges
// it. A binary that is to stop on its way has done so when begin returns.
func (w *world) begin(a *actor, s step) (end func()) {
	finish := func(got outcome) { w.say("  %s -> %d %s", s, got.code, strings.TrimSpace(got.said)) }
	if strings.HasSuffix(s.at, "=stop") {
		// Every other call is judged where it is made.
		gone := make(chan outcome, 1)
		stopped := make(chan *process, 1)
		s := s
		go func() { gone <- w.step(a, s, stopped) }()
		p := <-stopped
		return func() {
			if p != nil {
				p.resume(2 * (w.limits.timeout + w.limits.slack))
			}
			finish(<-gone)
		}
	}
	return func() { finish(w.step(a, s, nil)) }
}

// step carries out one step. stopped, if not nil, gets the process once it has
// stopped itself, or nil if there is none to resume.
func (w *world) step(a *actor, s step, stopped chan<- *process) outcome {
	w.count(s.verb, 1)
	if s.at != "" {
		_, action, _ := strings.Cut(s.at, "=")
		w.count("binary: "+action, 1)
	}
	defer func() {
		if stopped != nil {
			select {
			case stopped <- nil: // it has no process
			default:
			}
		}
	}()
	switch s.verb {
	case "push":
		who := "primary"
		if a.name == "clone" && a.next >= w.fork || a.timeline > 1 {
			who = a.name
		}
		got := w.push(a, s, who, a.next, stopped)
		if got.code == 0 || got.code == codeConflict { // after a conflict the administrator has set it aside
			a.next++
		}
		return got
	case "promote":
		return w.promote(a, s, stopped)
	case "fetch":
		names := w.model.known()
		if len(names) == 0 || s.pick%8 == 0 { // what may not be there, as PostgreSQL asks at each start
			names = []string{"00000002.history", "00000003.history", w.miss}
		}
		return w.fetch(a, s, names[s.pick/8%len(names)], stopped)
	default:
		return w.prune(a, s, stopped)
	}
}

// push pushes a segment that the server called who has written.
func (w *world) push(a *actor, s step, who string, number uint64, stopped ...chan<- *process) outcome {
	name := segmentName(a.timeline, number)
	return w.pushFile(a, s, name, segmentContent(w.systemID, a.timeline, number, who), stopped)
}

// promote pushes the history of a new timeline, and follows that one once it is
// archived.
func (w *world) promote(a *actor, s step, stopped chan<- *process) outcome {
	if a.timeline > 1 {
		return outcome{code: 0, said: "is promoted already"}
	}
	fork := max(a.next, firstSegment+1) - 1
	got := w.pushFile(a, s, "00000002.history", historyContent(fork, a.name), []chan<- *process{stopped})
	if got.code == 0 {
		a.timeline, a.next = 2, fork
	}
	return got
}

func (w *world) pushFile(a *actor, s step, name string, content []byte, stopped []chan<- *process) outcome {
	path := filepath.Join("pg_wal", name)
	must(w.t, os.WriteFile(filepath.Join(a.dir, path), content, 0o600))
	w.model.push(name, content)
	var got outcome
	if s.binary {
		got = w.call(a, s, stopped, "push", path, name)
	} else {
		got = w.within(a, s, func(ctx context.Context, store archiveStore, data *pgdata.Dir) error {
			p := &archive.Pusher{Store: store, Codec: stored.Zstd, HeaderCheck: true, CloneGuard: true, Warn: func(string) {}}
			return p.Push(ctx, data, filepath.Join(a.dir, path), name)
		})
	}
	if got.code > 125 {
		w.broken("e", "push of %s ended with %d, which ends PostgreSQL's archiver: %s", name, got.code, got.said)
	}
	if got.code == 0 {
		if err := w.model.ack(name, content); err != nil {
			w.broken("a", "%v", err)
		}
	}
	got.said = name + " " + got.said
	return got
}

// fetch asks for a file and judges the answer.
func (w *world) fetch(a *actor, s step, name string, stopped ...chan<- *process) outcome {
	target := filepath.Join("pg_wal", "RECOVERYXLOG")
	sure := w.model.hasAcked(name) // before it is asked for
	away := w.isUnmounted()
	var got outcome
	if s.binary {
		got = w.call(a, s, stopped, "fetch", name, target)
	} else {
		got = w.within(a, s, func(ctx context.Context, store archiveStore, data *pgdata.Dir) error {
			f := &restore.Fetcher{Store: store, ForkGuard: true, GapGuard: true, HeaderCheck: true, Warn: func(string) {}}
			return f.Fetch(ctx, restore.Request{Name: name, Path: filepath.Join(a.dir, target), Data: data, Mode: a.mode})
		})
	}
	got.said = name + " " + got.said

	content, err := os.ReadFile(filepath.Join(a.dir, target))
	os.Remove(filepath.Join(a.dir, target)) // as the server does
	switch {
	case err == nil: // also after a limit, a crash or a signal that came a moment later
		if err := w.model.delivered(name, content); err != nil {
			w.broken("c", "%v", err)
		}
	case got.code == 0:
		w.broken("c", "fetch of %s ended with 0 and delivered nothing: %v", name, err)
	}
	if a.mode != pgdata.ArchiveRecovery || got.code < 1 || got.code > 125 {
		return got
	}
	// PostgreSQL takes this for the end of WAL.
	switch {
	case got.code != 1:
		w.broken("d", "in archive recovery fetch of %s ended with %d: %s", name, got.code, got.said)
	case sure && !w.model.mayBeGone(name):
		w.broken("d", "in archive recovery %s, which is archived, is said to be not there: %s", name, got.said)
	case away:
		w.broken("d", "in archive recovery an archive that is not mounted has said that %s is not there: %s", name, got.said)
	case a.gate != nil && !a.gate.saidAbsent(w.stored(name), w.agent):
		w.broken("d", "in archive recovery %s is said to be not there, and no healthy archive has said so: %s", name, got.said)
	}
	return got
}

// prune keeps the archive from a file on that is surely there.
func (w *world) prune(a *actor, s step, stopped chan<- *process) outcome {
	var names []string
	for _, name := range w.model.known() {
		if strings.HasPrefix(name, "00000001") && !strings.Contains(name, ".") && w.model.hasAcked(name) {
			names = append(names, name)
		}
	}
	if len(names) < 2 {
		return outcome{said: "nothing to prune yet"}
	}
	from := names[s.pick%(len(names)/2+1)]
	rule, err := archive.ParseKeepFrom(from)
	must(w.t, err)
	w.model.prune(numberOf(from))
	if s.binary {
		got := w.call(a, s, []chan<- *process{stopped}, "prune", "--keep-from", from, "--yes")
		got.said = "from " + from + " " + got.said
		return got
	}
	got := w.within(a, s, func(ctx context.Context, store archiveStore, data *pgdata.Dir) error {
		p := &archive.Pruner{Store: store, Cluster: layout.Cluster{SystemID: w.systemID}}
		plan, err := p.Plan(ctx, archive.Rules{KeepFrom: rule})
		if err != nil {
			return err
		}
		_, err = p.Run(ctx, plan)
		return err
	})
	got.said = "from " + from + " " + got.said
	return got
}

func numberOf(name string) (n uint64) {
	var timeline, log, seg uint64
	fmt.Sscanf(name, "%08X%08X%08X", &timeline, &log, &seg)
	return log*perLog + seg
}

// within carries out a call in this process, on a connection of its own.
func (w *world) within(a *actor, s step, do func(context.Context, archiveStore, *pgdata.Dir) error) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), w.limits.timeout)
	defer cancel()
	if s.cancel > 0 {
		time.AfterFunc(s.cancel, cancel) // the moment is a matter of chance
	}
	ended := make(chan error, 1)
	go func() {
		ended <- func() error {
			data, err := pgdata.Open(a.dir)
			if err != nil {
				return err
			}
			store, err := w.open(context.WithoutCancel(ctx), a)
			if err != nil {
				return err
			}
			defer store.Close()
			return do(ctx, store, data)
		}()
	}()
	select {
	case err := <-ended:
		return outcome{code(a, s, err), said(err)}
	case <-time.After(w.limits.timeout + w.limits.slack):
		w.broken("e", "%s has not ended %s after its limit", s, w.limits.slack)
		return outcome{codeSignal, "does not end"}
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// code is the exit code that the command would give the error, as far as that
// matters here.
func code(a *actor, s step, err error) int {
	switch {
	case err == nil:
		return 0
	case s.verb != "fetch" && errors.Is(err, archive.ErrConflict):
		return codeConflict
	case s.verb != "fetch" && errors.Is(err, archive.ErrCloned):
		return codeCloned
	case s.verb != "fetch":
		return codeOther
	case errors.Is(err, restore.ErrNotThere) || a.mode == pgdata.Standby:
		return 1
	}
	return codeDoubt
}

// process is a running binary.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// call runs the binary in the actor's data directory, as PostgreSQL does.
func (w *world) call(a *actor, s step, stopped []chan<- *process, args ...string) outcome {
	faults := strings.Trim(s.at+","+w.skip, ",")
	bin := testbin.Walship(w.t)
	if faults != "" {
		bin = testbin.Faulty(w.t)
	}
	if s.inject != "" {
		failed := filepath.Join(w.t.TempDir(), "strace")
		args = append(append(injecting(failed, s.inject), bin), args...)
		bin, args = args[0], args[1:]
		defer func() {
			if injected(failed) {
				w.count("client's system call fails", 1)
			}
		}()
	}
	var out bytes.Buffer
	p := &process{cmd: exec.Command(bin, args...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = a.dir, &out, &out
	p.cmd.Env = []string{
		"PATH=/usr/local/bin:/usr/bin:/bin", "WALSHIP_FAULT=" + faults, "WALSHIP_ARCHIVE=" + a.url,
		"WALSHIP_TIMEOUT=" + w.limits.timeout.String(), "WALSHIP_SILENCE=" + w.limits.silence.String(),
	}
	if w.agent && s.inject == "" { // strace would wait for the agent as well
		p.cmd.Env = append(p.cmd.Env, "WALSHIP_AGENT=auto", "WALSHIP_AGENT_DIR="+a.agentDir)
	}
	if key := w.key(); key != "" {
		p.cmd.Env = append(p.cmd.Env, "WALSHIP_SSH_KEY="+key, "WALSHIP_KNOWN_HOSTS="+a.known)
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	must(w.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait() // how it ended is looked at below
		close(p.done)
	}()
	limit := w.limits.timeout + w.limits.slack
	if len(stopped) > 0 && stopped[0] != nil && strings.HasSuffix(s.at, "=stop") {
		waitFor(limit, func() bool { return p.ended() || p.state() == "T" })
		stopped[0] <- p
	}
	if strings.HasSuffix(s.at, "=stop") {
		limit *= 2 // others had their turn meanwhile
	}
	select {
	case <-p.done:
	case <-time.After(limit):
		w.broken("e", "%s has not ended %s after its limit of %s", s, limit-w.limits.timeout, w.limits.timeout)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
	return outcome{p.cmd.ProcessState.ExitCode(), out.String()}
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// state is the letter for the state of the process; T is stopped.
func (p *process) state() string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	_, rest, _ := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}

// resume lets the process go on, through every further stop.
func (p *process) resume(limit time.Duration) {
	go waitFor(limit, func() bool {
		if !p.ended() && p.state() == "T" {
			_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT)
		}
		return p.ended()
	})
}
