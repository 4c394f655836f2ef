package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// startReport is of what walship restore --start --json prints what tests look at.
type startReport struct {
	Restored bool
	Started  *struct {
		Standing, Stop, Log string
		Process             int
		Timeline            int
	}
}

// gone is a cluster with a backup and WAL after it, whose server has ended; so a
// copy can take its port and its socket.
type gone struct {
	*site
	primary *testpg.Cluster
	dir     string // of the server's user, for copies
	between string // a time between two transactions
}

func loseBackedUp(t *testing.T, o testpg.Options) *gone {
	l := &gone{site: newSite(t), dir: testpg.Dir(t)}
	l.primary = newPrimary(t, l.site, o)
	l.site.backup(l.primary)
	insert(l.primary)
	l.between = l.primary.Query("select clock_timestamp()")
	// Both sides of it differ in the server's own resolution.
	l.primary.Query("select pg_sleep(0.01)")
	insert(l.primary)
	l.primary.Archive(soon)
	must(t, l.primary.Stop(testpg.Fast))
	return l
}

// command prepares walship restore --start into a new folder, as the server's
// user, with nothing in its environment.
func (l *gone) command(binary string, env []string, args ...string) (data string, start func() (int, func() result)) {
	l.t.Helper()
	data, err := os.MkdirTemp(l.dir, "copy-")
	must(l.t, err)
	must(l.t, testpg.Own(data))
	l.t.Cleanup(func() { l.end(data) })
	args = append([]string{"--config", l.config(), "restore", "--start", "-D", data}, args...)
	return data, func() (int, func() result) { return begin(l.t, "/", env, binary, args...) }
}

func (l *gone) start(args ...string) (data string, r result) {
	l.t.Helper()
	data, start := l.command(l.binary, nil, args...)
	_, wait := start()
	return data, wait()
}

// end stops the server that runs in a data directory, if one does.
func (l *gone) end(data string) {
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	var pid int
	if _, err := fmt.Sscan(string(text), &pid); err != nil || !worksBelow(pid, data) {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT) // it may have ended
	testpg.WaitFor(l.t, soon, "the copy's server to end", func() bool { return len(workingIn(l.dir)) == 0 || !worksBelow(pid, data) })
}

func worksBelow(pid int, data string) bool {
	at, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && at == data
}

func TestRestoreStart(t *testing.T) {
	t.Parallel()
	l := loseBackedUp(t, testpg.Options{Conf: map[string]string{
		"logging_collector": "on", "log_directory": "log", "log_destination": "csvlog"}}) // what is read must not depend on them

	t.Run("paused at a time", func(t *testing.T) {
		data, r := l.start("--time", l.between)
		if r.code != 0 || !strings.Contains(r.stdout, ", paused at its target\n          recovery stopping before commit of transaction ") || !strings.Contains(r.stdout, "pg_wal_replay_resume") {
			t.Fatalf("%s", r)
		}
		if got := l.primary.Query("select count(*), pg_is_in_recovery() from rows"); got != "1|t" {
			t.Errorf("the copy says %s", got)
		}
		l.end(data)
	})
	t.Run("to the end, as JSON", func(t *testing.T) {
		data, r := l.start("--json")
		var report startReport
		must(t, json.Unmarshal([]byte(r.stdout), &report))
		if s := report.Started; r.code != 0 || !report.Restored || s == nil || s.Standing != "open" || s.Timeline != 2 || !worksBelow(s.Process, data) {
			t.Fatalf("%s", r)
		}
		if got := l.primary.Query("select count(*), pg_is_in_recovery() from rows; show archive_mode"); got != "2|f\noff" {
			t.Errorf("the copy says %s", got)
		}
		// Its port is taken now.
		_, second := l.start()
		if second.code != 17 || strings.Count(second.stderr, "\n") != 2 || !strings.Contains(second.stderr, "walship: restore: the server gave up: FATAL:  ") {
			t.Errorf("a second one: %s", second)
		}
		// Beside it there is room for another one, on another port.
		free := testpg.New(t, testpg.Options{}).Port
		third, r := l.start("--time", l.between, "--port", fmt.Sprint(free))
		if r.code != 0 {
			t.Errorf("on another port: %s", r)
		}
		if text, err := os.ReadFile(filepath.Join(third, "postmaster.pid")); err != nil || !strings.Contains(string(text), fmt.Sprintf("\n%d\n", free)) {
			t.Errorf("%s, %v", text, err)
		}
		l.end(third)
		l.end(data)
	})
	t.Run("shut down at a target", func(t *testing.T) {
		data, r := l.start("--time", l.between, "--target-action", "shutdown")
		if r.code != 0 || !strings.Contains(r.stdout, "the server has shut down at its target") || len(workingIn(data)) != 0 {
			t.Fatalf("%s", r)
		}
	})
	t.Run("a standby", func(t *testing.T) {
		data, r := l.start("--standby")
		if r.code != 0 || !strings.Contains(r.stdout, "a consistent standby") {
			t.Fatalf("%s", r)
		}
		l.end(data)
	})
	t.Run("a target that is never reached", func(t *testing.T) {
		data, r := l.start("--name", "nowhere")
		if r.code != 18 || !strings.Contains(r.stderr, "the recovery target was not reached: ") || len(workingIn(data)) != 0 {
			t.Fatalf("%s", r)
		}
	})
	t.Run("ended by a signal in the middle", func(t *testing.T) {
		data, start := l.command(testbin.Faulty(t), []string{"WALSHIP_FAULT=fetch.begin=hang"})
		pid, wait := start()
		waitFile(t, filepath.Join(data, "postmaster.pid"))
		must(t, syscall.Kill(pid, syscall.SIGTERM))
		if r := wait(); r.code != 15 || !strings.Contains(r.stderr, "pg_ctl start -D "+data) {
			t.Errorf("%s", r)
		}
		testpg.WaitFor(t, soon, "the server to end", func() bool { return len(workingIn(filepath.Dir(data))) == 0 })
	})
	t.Run("no server of the version", func(t *testing.T) {
		data, r := l.start("--bin-dir", l.dir)
		if r.code != 13 || !strings.Contains(r.stderr, "looked in "+l.dir) {
			t.Errorf("%s", r)
		}
		entries, err := os.ReadDir(data)
		must(t, err)
		if len(entries) != 0 {
			t.Errorf("it has written %v", entries)
		}
	})
}
