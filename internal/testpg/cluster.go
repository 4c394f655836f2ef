package testpg

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// startLimit is how long a start, stop or promotion may take.
const startLimit = time.Minute

// Options shape a new cluster. The zero value is the newest PostgreSQL with
// segments of 16 MB.
type Options struct {
	Major     int      // 0 is the newest
	SegmentMB int      // from PostgreSQL 11; 0 is 16
	Checksums bool     // data page checksums
	Args      []string // more for initdb
	Conf      map[string]string
	Env       []string // more of the server's environment, "NAME=value"

	// Base, if not empty, is the folder that the cluster is made in: it exists,
	// belongs to the server's user, and is not removed in the end.
	Base string
}

// Cluster is one data directory and the server that runs on it. Its methods
// are for one goroutine, but Psql, Pgbench, Log and the waits may run beside
// each other.
type Cluster struct {
	Install
	Base    string // parent of all that follows; belongs to the server's user
	Data    string // data directory
	Sockets string // folder of the unix socket: usable as host
	LogFile string // standard error of the server
	Port    int    // on 127.0.0.1 and in the socket's name

	t      TB
	env    []string
	server *process // nil before the first start
}

// New makes a cluster as initdb does and does not start it. Syncs are off, so it
// is quick and would not survive a power cut. It is stopped and removed when
// the test ends.
func New(t TB, o Options) *Cluster {
	t.Helper()
	c := place(t, o.Major, o.Env, o.Base)
	args := []string{"-U", "postgres", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"}
	if o.SegmentMB != 0 && (o.SegmentMB != 16 || c.Major > 10) {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", o.SegmentMB))
	}
	if o.Checksums {
		args = append(args, "-k")
	}
	if err := c.initdb(append(args, o.Args...)); err != nil {
		t.Fatalf("%v", err)
	}
	size := max(o.SegmentMB, 16)
	c.SetConf(map[string]string{
		"listen_addresses":            "127.0.0.1",
		"port":                        strconv.Itoa(c.Port),
		"unix_socket_directories":     c.Sockets,
		"fsync":                       "off",
		"shared_buffers":              "16MB",
		"dynamic_shared_memory_type":  "mmap", // goes with the data directory, also after a kill
		"max_connections":             "20",
		"max_wal_senders":             "5",
		"max_wal_size":                fmt.Sprintf("%dMB", 4*size),
		"min_wal_size":                fmt.Sprintf("%dMB", 2*size),
		"wal_level":                   "replica",
		"hot_standby":                 "on",
		"wal_retrieve_retry_interval": "3s",
		"log_line_prefix":             "%m [%p] ",
		"timezone":                    "UTC",
		"log_timezone":                "UTC",
	})
	c.SetConf(o.Conf)
	return c
}

// Restore makes a cluster of a copy of a data directory: a base backup or a
// stopped cluster's own. The copy keeps the settings that it was taken with,
// archive_command included; only port and socket are its own. from is not
// changed and may be used again.
func Restore(t TB, from string) *Cluster {
	t.Helper()
	c := place(t, majorOf(t, from), nil, "")
	if err := copyTree(from, c.Data); err != nil {
		t.Fatalf("%v", err)
	}
	for _, stale := range []string{"postmaster.pid", "postmaster.opts"} {
		if err := os.Remove(filepath.Join(c.Data, stale)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("%v", err)
		}
	}
	if err := Own(c.Data); err != nil {
		t.Fatalf("%v", err)
	}
	c.SetConf(map[string]string{"port": strconv.Itoa(c.Port), "unix_socket_directories": c.Sockets})
	return c
}

// Adopt makes a cluster of a data directory where it lies. Port and socket become
// the cluster's own; the directory is not removed in the end.
func Adopt(t TB, data string) *Cluster {
	t.Helper()
	c := place(t, majorOf(t, data), nil, "")
	c.Data = data
	c.SetConf(map[string]string{"port": strconv.Itoa(c.Port), "unix_socket_directories": c.Sockets})
	return c
}

// majorOf reads a data directory's version.
func majorOf(t TB, data string) int {
	t.Helper()
	version, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(version)))
	if err != nil {
		t.Fatalf("PG_VERSION of %s: %v", data, err)
	}
	return major
}

// place finds the programs and makes the folders, all but the data directory.
// An empty base is a new folder.
func place(t TB, major int, env []string, base string) *Cluster {
	t.Helper()
	install, err := Find(major)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if base == "" {
		base = Dir(t)
	}
	if install, err = reachable(install, base); err != nil {
		t.Fatalf("%v", err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatalf("%v", err)
	}
	c := &Cluster{
		Install: install,
		Base:    base,
		Data:    filepath.Join(base, "data"),
		Sockets: base,
		LogFile: filepath.Join(base, "log"),
		Port:    port,
		t:       t,
		env:     env,
	}
	t.Cleanup(c.end)
	return c
}

// ports counts those that were given away. Each test process has a hundred of its
// own and goes through them in turn: a server may start long after it was given one.
var ports atomic.Int64

// freePort is a port that nobody listens on. It lies below those that the kernel
// hands out, so that no connection takes it before the server does.
func freePort() (int, error) {
	first := 20000 + os.Getpid()%100*100
	for range 100 {
		port := first + int(ports.Add(1)%100)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// Start starts the server and waits until it accepts connections; a standby
// does so once it is consistent. The error of a server that gave up carries the
// end of its log.
func (c *Cluster) Start() error {
	if err := c.Launch(); err != nil {
		return err
	}
	return c.WaitReady(startLimit)
}

// Launch starts the server without waiting for it, in the environment of a
// server that was not started from a shell: no HOME, no USER, no PGDATA.
func (c *Cluster) Launch() error {
	if c.Running() {
		return fmt.Errorf("the server in %s runs already", c.Data)
	}
	log, err := os.OpenFile(c.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd, err := As(exec.Command(filepath.Join(c.Bin, "postgres"), "-D", c.Data))
	if err != nil {
		return err
	}
	cmd.Dir = c.Base
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C"}, c.env...)
	cmd.Stdout, cmd.Stderr = log, log
	c.server, err = start(cmd)
	return err
}

// WaitReady waits until the server accepts connections and fails when it ends
// before or has not done so after limit.
func (c *Cluster) WaitReady(limit time.Duration) error {
	if c.server == nil {
		return errors.New("the server has not been started")
	}
	ready := Poll(limit, func() bool { return c.server.hasEnded() || c.status() == "ready" })
	switch {
	case c.server.hasEnded():
		return fmt.Errorf("the server ended (%v):\n%s", c.server.state, tail(c.Log(), 20))
	case !ready:
		return fmt.Errorf("the server does not accept connections after %s:\n%s", limit, tail(c.Log(), 20))
	}
	return nil
}

// status is what the server says of itself in the eighth line of
// postmaster.pid: starting, stopping, standby or ready.
func (c *Cluster) status() string {
	data, err := os.ReadFile(filepath.Join(c.Data, "postmaster.pid"))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 8 || strings.TrimSpace(lines[0]) != strconv.Itoa(c.server.pid) {
		return ""
	}
	return strings.TrimSpace(lines[7])
}

// Running reports whether the server's first process lives.
func (c *Cluster) Running() bool { return c.server != nil && !c.server.hasEnded() }

// Pid is the server's first process, or 0 when it does not run.
func (c *Cluster) Pid() int {
	if !c.Running() {
		return 0
	}
	return c.server.pid
}

// Mode is a way of shutting a server down.
type Mode syscall.Signal

// Smart waits for clients, Fast ends their sessions and writes a checkpoint,
// Immediate leaves the rest to the recovery at the next start.
const (
	Smart     = Mode(syscall.SIGTERM)
	Fast      = Mode(syscall.SIGINT)
	Immediate = Mode(syscall.SIGQUIT)
)

// Stop shuts the server down and waits for it. It does nothing to one that does
// not run.
func (c *Cluster) Stop(mode Mode) error {
	if !c.Running() {
		return nil
	}
	if err := syscall.Kill(c.server.pid, syscall.Signal(mode)); err != nil {
		return err
	}
	_, err := c.WaitExit(startLimit)
	return err
}

// WaitExit waits until the server is gone and returns its exit code, or -1 when
// a signal ended it.
func (c *Cluster) WaitExit(limit time.Duration) (int, error) {
	if c.server == nil {
		return 0, errors.New("the server has not been started")
	}
	if !c.server.wait(limit) {
		return 0, fmt.Errorf("the server still runs after %s:\n%s", limit, tail(c.Log(), 20))
	}
	return c.server.state.ExitCode(), nil
}

// Restart stops the server and starts it.
func (c *Cluster) Restart(mode Mode) error {
	if err := c.Stop(mode); err != nil {
		return err
	}
	return c.Start()
}

// Kill9 kills the server and all that it has started, running archive_command
// and restore_command included, and waits until they are gone.
func (c *Cluster) Kill9() error {
	if !c.Running() {
		return nil
	}
	_ = syscall.Kill(c.server.pid, syscall.SIGSTOP) // let it start no more children; it may have just ended
	below := descendants(c.server.pid)
	_ = syscall.Kill(c.server.pid, syscall.SIGKILL)
	if !c.server.wait(startLimit) {
		return fmt.Errorf("the server still runs %s after SIGKILL", startLimit)
	}
	return killAll(below)
}

func killAll(all []relative) error {
	for _, p := range all {
		p.kill()
	}
	for _, p := range all {
		if !Poll(startLimit, func() bool { return !p.alive() }) {
			return fmt.Errorf("%+v still runs after SIGKILL", p)
		}
	}
	return nil
}

// end stops everything, at the end of the test.
func (c *Cluster) end() {
	if c.t.Failed() {
		c.t.Logf("the end of %s:\n%s", c.LogFile, tail(c.Log(), 40))
	}
	if !c.Running() {
		return
	}
	below := descendants(c.server.pid)
	if err := syscall.Kill(c.server.pid, syscall.SIGQUIT); err != nil || !c.server.wait(10*time.Second) {
		if err := c.Kill9(); err != nil {
			c.t.Logf("%v", err)
		}
	}
	// A child that ignores the shutdown outlives the server.
	if err := killAll(below); err != nil {
		c.t.Logf("%v", err)
	}
}

// Reload makes the server read its configuration again; it does so a moment
// after this returns.
func (c *Cluster) Reload() error {
	if !c.Running() {
		return errors.New("the server does not run")
	}
	return syscall.Kill(c.server.pid, syscall.SIGHUP)
}

// Log is what the server has written since the start or the last ClearLog.
func (c *Cluster) Log() string {
	data, err := os.ReadFile(c.LogFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(data)
}

// ClearLog empties the log, so that WaitLog sees only what follows.
func (c *Cluster) ClearLog() {
	c.t.Helper()
	if err := os.Truncate(c.LogFile, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatalf("%v", err)
	}
}

// WaitLog waits until the log matches the regular expression, and fails the
// test when it does not within limit.
func (c *Cluster) WaitLog(limit time.Duration, pattern string) {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	if !Poll(limit, func() bool { return re.MatchString(c.Log()) }) {
		c.t.Fatalf("waited %s for %q in the log:\n%s", limit, pattern, tail(c.Log(), 40))
	}
}

// SetConf appends settings to postgresql.conf; the last value of a name counts.
// A running server sees them after Reload or Restart.
func (c *Cluster) SetConf(settings map[string]string) {
	c.t.Helper()
	if err := appendSettings(filepath.Join(c.Data, "postgresql.conf"), maps.All(settings)); err != nil {
		c.t.Fatalf("%v", err)
	}
}
