package pgrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/pgdata"
	"walship/internal/testpg"
	"walship/transport"
)

// soon is how long what must happen may take on a machine that is busy.
const soon = 2 * time.Minute

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are those for the cluster's server, with a log of its own.
func options(t *testing.T, c *testpg.Cluster) Options {
	t.Helper()
	d, err := pgdata.Open(c.Data)
	must(t, err)
	in, err := Find(t.Context(), d.Version, c.Bin)
	must(t, err)
	o, err := OwnerOf(c.Data)
	must(t, err)
	return Options{Install: in, Data: c.Data, Owner: o, Log: filepath.Join(c.Base, "run", "log"), Tied: true}
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(o)
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop(context.Background(), 0)) })
	return s
}

func TestFindNamesWhatItLookedAt(t *testing.T) {
	installed, err := testpg.Find(0)
	must(t, err)
	version := pgdata.Version(installed.Major * 10000)
	if in, err := Find(t.Context(), version, ""); err != nil || in.Version != version {
		t.Errorf("%+v, %v", in, err)
	}
	for name, c := range map[string]struct {
		version pgdata.Version
		dir     string
		says    []string
	}{
		"everywhere":     {90600, "", []string{"PostgreSQL 9.6: ", "/usr/lib/postgresql/9.6/bin", "/usr/pgsql-9.6/bin"}},
		"in a folder":    {version, t.TempDir(), []string{"looked in /"}},
		"another's":      {90100, installed.Bin, []string{installed.Bin + " (" + version.String() + ")"}},
		"what is broken": {version, broken(t), []string{"exit status 3"}},
	} {
		_, err := Find(t.Context(), c.version, c.dir)
		if !errors.Is(err, ErrNoServer) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, part := range c.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not say %q", name, err, part)
			}
		}
	}
}

// broken is a folder with a server that does not run.
func broken(t *testing.T) string {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "postgres"), []byte("#!/bin/sh\nexit 3\n"), 0o755))
	return dir
}

func TestStartAndStop(t *testing.T) {
	c := testpg.New(t, testpg.Options{})
	s := start(t, options(t, c))
	out, err := s.Recover(t.Context(), Recovery{})
	must(t, err)
	if out.Standing != Opened || !out.Report.Open {
		t.Errorf("%+v", out)
	}
	info, err := os.Stat(s.Log)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the log has mode %o", info.Mode().Perm())
	}
	sid, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid))
	must(t, err)
	if fields := strings.Fields(string(sid)); fields[5] != fmt.Sprint(s.Pid) {
		t.Errorf("it leads no session of its own: %s", sid)
	}
	must(t, s.Stop(t.Context(), soon))
	d, err := pgdata.Open(c.Data)
	must(t, err)
	if !s.HasEnded() || d.Control.State.String() != "shut down" {
		t.Errorf("ended %t, %s", s.HasEnded(), d.Control.State)
	}
	must(t, s.Stop(t.Context(), soon))
}

// A caller that has no time left gets the server stopped all the same.
func TestStopWithoutTime(t *testing.T) {
	s := start(t, options(t, testpg.New(t, testpg.Options{})))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, s.Stop(ctx, soon))
	if !s.HasEnded() {
		t.Error("it runs")
	}
}

func TestRootIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		_, err := OwnerOf("/")
		if !errors.Is(err, ErrOwner) {
			t.Errorf("%v", err)
		}
		return
	}
	for _, err := range []error{second(OwnerOf(t.TempDir())), second(Self()), second(OwnerNamed("root"))} {
		if !errors.Is(err, ErrOwner) {
			t.Errorf("%v", err)
		}
	}
}

func second(_ Owner, err error) error { return err }

func TestServerThatDoesNotStart(t *testing.T) {
	for name, c := range map[string]struct {
		conf map[string]string
		says string
	}{
		"unknown setting": {map[string]string{"no_such_setting": "1"}, `unrecognized configuration parameter "no_such_setting"`},
		"missing library": {map[string]string{"shared_preload_libraries": "no_such_library"}, `could not access file "no_such_library"`},
		"no such address": {map[string]string{"listen_addresses": "192.0.2.1"}, "could not create"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := testpg.New(t, testpg.Options{Conf: c.conf})
			_, err := start(t, options(t, cluster)).Recover(t.Context(), Recovery{})
			if !errors.Is(err, ErrServerEnded) || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}

// A recovery from an archive by cp: to a target, past it, and into a
// restore_command that fails.
func TestRecover(t *testing.T) {
	archive := testpg.Dir(t)
	primary := testpg.New(t, testpg.Options{SegmentMB: 1, Conf: map[string]string{
		"archive_mode": "on", "archive_command": fmt.Sprintf("test ! -f %[1]s/%%f && cp %%p %[1]s/%%f", archive),
	}})
	must(t, primary.Start())
	primary.Query("create table t (n int)")
	backup := filepath.Join(primary.Base, "backup")
	must(t, primary.BaseBackup(backup, false))
	primary.Query("insert into t values (1)")
	primary.Archive(soon)
	primary.Query("select pg_create_restore_point('one')")
	primary.Query("insert into t values (2)")
	last := primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast))

	restore := fmt.Sprintf("cp %s/%%f %%p", archive)
	for name, c := range map[string]struct {
		settings map[string]string
		collect  bool // the server's own logging collector takes over
		check    func(t *testing.T, out Outcome, segments []string, err error)
	}{
		"paused at a target": {settings: map[string]string{"recovery_target_name": "one"},
			check: func(t *testing.T, out Outcome, segments []string, err error) {
				if err != nil || out.Standing != Paused || !strings.Contains(out.Report.Stop, `"one"`) || out.ToConsistency == 0 || len(segments) == 0 {
					t.Errorf("%+v, %q, %v", out, segments, err)
				}
			}},
		"with a log collector": {settings: map[string]string{"recovery_target_name": "one"}, collect: true,
			check: func(t *testing.T, out Outcome, segments []string, err error) {
				if err != nil || out.Standing != Paused || len(segments) == 0 {
					t.Errorf("%+v, %q, %v", out, segments, err)
				}
			}},
		"shut down at a target": {settings: map[string]string{"recovery_target_name": "one", "recovery_target_action": "shutdown"},
			check: func(t *testing.T, out Outcome, _ []string, err error) {
				if err != nil || out.Standing != Shut {
					t.Errorf("%+v, %v", out, err)
				}
			}},
		"opened at a target": {settings: map[string]string{"recovery_target_name": "one", "recovery_target_action": "promote", "hot_standby": "off"},
			check: func(t *testing.T, out Outcome, _ []string, err error) {
				if err != nil || out.Standing != Opened || out.Report.Timeline != 2 || out.Report.Done == 0 {
					t.Errorf("%+v, %v", out, err)
				}
			}},
		"to the end": {settings: map[string]string{},
			check: func(t *testing.T, out Outcome, segments []string, err error) {
				if err != nil || out.Standing != Opened || out.Report.Last == "" || segments[len(segments)-1] != last {
					t.Errorf("%+v, %q, %v", out, segments, err)
				}
			}},
		"a target never reached": {settings: map[string]string{"recovery_target_name": "two"},
			check: func(t *testing.T, _ Outcome, _ []string, err error) {
				if !errors.Is(err, ErrUnreached) || !errors.Is(err, ErrServerEnded) || !strings.Contains(err.Error(), "recovery ended before configured recovery target was reached") {
					t.Errorf("%v", err)
				}
			}},
		"restore_command in doubt": {settings: map[string]string{
			"restore_command": "echo 'walship: fetch: the archive is away' >&2; echo 'walship: hint: call it back' >&2; exit 126"},
			check: func(t *testing.T, _ Outcome, _ []string, err error) {
				if !errors.Is(err, ErrServerEnded) || !strings.Contains(err.Error(), "the archive is away") || transport.Hint(err) != "call it back" {
					t.Errorf("%v, hint %q", err, transport.Hint(err))
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := testpg.Restore(t, backup)
			settings := map[string]string{"restore_command": restore, "archive_mode": "off"}
			for k, v := range c.settings {
				settings[k] = v
			}
			if c.collect {
				settings["logging_collector"] = "on"
			}
			copied.WriteRecovery(false, settings)
			s := start(t, options(t, copied))
			var segments []string
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			out, err := s.Recover(ctx, Recovery{Targeted: true && c.settings["recovery_target_name"] != "", Progress: func(n string) { segments = append(segments, n) }})
			c.check(t, out, segments, err)
			if t.Failed() {
				text, _ := os.ReadFile(s.Log)
				t.Logf("%s", text)
			}
		})
	}
}

// A recovery that goes on is left when nobody waits for it any more.
func TestRecoverHeedsItsContext(t *testing.T) {
	c := testpg.New(t, testpg.Options{})
	must(t, c.Start()) // with its settings, fewer than initdb's
	must(t, c.Stop(testpg.Fast))
	c.WriteRecovery(true, map[string]string{"restore_command": "false"})
	s := start(t, options(t, c))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("nobody waits")
	time.AfterFunc(200*time.Millisecond, func() { cancel(why) })
	if _, err := s.Recover(ctx, Recovery{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// A server that is tied dies with its process, and what a kill of both has left
// is told from other processes.
func TestTiedServerDiesWithItsProcess(t *testing.T) {
	if data := os.Getenv("PGRUN_DATA"); data != "" {
		t.Setenv("PGRUN_DATA", "")
		holdServer(data)
		return
	}
	c := testpg.New(t, testpg.Options{})
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PGRUN_DATA="+c.Data, "PGRUN_BIN="+c.Bin)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var pid int
	if _, err := fmt.Sscan(line, &pid); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if !WorksIn(pid, c.Data) {
		t.Fatalf("process %d does not work in %s", pid, c.Data)
	}
	must(t, cmd.Process.Signal(syscall.SIGKILL))
	_ = cmd.Wait() // it was killed
	testpg.WaitFor(t, soon, "the server to end", func() bool { return !WorksIn(pid, c.Data) })
}

// holdServer starts a server, tells its process id and waits to be killed.
func holdServer(data string) {
	o, err := OwnerOf(data)
	if err == nil {
		var s *Server
		s, err = Start(Options{Install: Install{Bin: os.Getenv("PGRUN_BIN")}, Data: data, Owner: o, Log: filepath.Join(filepath.Dir(data), "held"), Tied: true})
		if err == nil {
			_, err = s.Recover(context.Background(), Recovery{})
			fmt.Println(s.Pid)
			time.Sleep(soon)
		}
	}
	fmt.Println(err)
}

func TestStopStray(t *testing.T) {
	c := testpg.New(t, testpg.Options{})
	must(t, c.Start())
	pid := c.Pid()
	must(t, StopStray(c.Data))
	if WorksIn(pid, c.Data) {
		t.Error("it runs")
	}
	must(t, StopStray(c.Data)) // nothing is left to stop
	// The id belongs to a process of another kind now.
	must(t, os.WriteFile(filepath.Join(c.Data, "postmaster.pid"), fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600))
	must(t, StopStray(c.Data))
	if !FitForSocket("/tmp") || FitForSocket(strings.Repeat("x", MaxSocketFolder+1)) || FitForSocket("/a,b") {
		t.Error("sockets")
	}
}
