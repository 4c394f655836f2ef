// Package integration_test runs the built command the way PostgreSQL does: real
// servers archive through a real sshd and recover from what it holds.
package integration_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"walship/internal/testbin"
	"walship/internal/testnet"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// soon is how long what must happen may take on a machine that is busy.
const soon = 2 * time.Minute

func TestMain(m *testing.M) {
	defer testbin.Clean()
	flag.Parse()
	heedSignals()
	// Most of a test's time is waiting for servers, not work.
	must(nil, flag.Set("test.parallel", "8"))
	m.Run()
}

// heedSignals gives what the tests start the signals that whoever has started the
// tests ignores, as nohup does: a process inherits that.
func heedSignals() {
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s) // what has a handler is not inherited
		}
	}
}

// must ends the test, or without one the process, on an error.
func must(t testing.TB, err error) {
	if err == nil {
		return
	}
	if t == nil {
		panic(err)
	}
	t.Helper()
	t.Fatal(err)
}

// site is an archive host, a throwaway sshd, together with what leads walship
// there: a configuration, a key and known hosts that the server's user may read.
type site struct {
	t      testing.TB
	sshd   *testsshd.Server
	root   string // the archive's folder on the host
	home   string // of what the server's user reads
	addr   string // host:port that the configuration leads to
	more   string // further lines of the configuration
	binary string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, sshd: testsshd.Start(t, testsshd.Options{}), home: testpg.Dir(t), binary: testbin.Walship(t)}
	s.root = filepath.Join(testpg.Dir(t), "archive")
	key, err := os.ReadFile(s.sshd.KeyFile)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.home, "id_ed25519"), key, 0o600))
	s.through(s.sshd.Addr)
	s.tendAgents(t)
	return s
}

// through leads walship to addr: the host itself or a proxy in front of it.
func (s *site) through(addr string) {
	s.t.Helper()
	s.addr = addr
	line := knownhosts.Line([]string{addr}, s.sshd.HostKeys[0]) + "\n"
	must(s.t, os.WriteFile(s.knownHosts(), []byte(line), 0o600))
	s.configure(s.more)
}

// configure writes the configuration with further lines.
func (s *site) configure(more string) {
	s.t.Helper()
	s.more = more
	s.writeConfig(fmt.Sprintf("archive = \"sftp://%s@%s%s\"\nssh_key = %q\nknown_hosts = %q\n%s\n%s\n",
		s.sshd.User, s.addr, s.root, filepath.Join(s.home, "id_ed25519"), s.knownHosts(), s.agentSettings(), more))
}

func (s *site) writeConfig(text string) {
	s.t.Helper()
	// A server may be reading it.
	next := s.config() + ".next"
	must(s.t, os.WriteFile(next, []byte(text), 0o600))
	must(s.t, os.Rename(next, s.config()))
	must(s.t, testpg.Own(s.home))
}

func (s *site) config() string     { return filepath.Join(s.home, "walship.toml") }
func (s *site) knownHosts() string { return filepath.Join(s.home, "known_hosts") }

// push and fetch are the commands as PostgreSQL gets them.
func (s *site) push() string  { return s.command("push %p %f") }
func (s *site) fetch() string { return s.command("fetch %f %p") }

func (s *site) command(rest string) string {
	return s.binary + " --config " + s.config() + " " + rest
}

// archiving are the settings of a primary that archives here.
func (s *site) archiving() map[string]string {
	return map[string]string{"archive_mode": "on", "archive_command": s.push()}
}

// recovering are the settings of a server that recovers from here.
func (s *site) recovering() map[string]string {
	return map[string]string{"restore_command": s.fetch(), "recovery_target_timeline": "latest"}
}

// init makes the cluster's archive.
func (s *site) init(c *testpg.Cluster) {
	s.t.Helper()
	_, err := c.Run(s.binary, "--config", s.config(), "init", "-D", c.Data)
	must(s.t, err)
}

// stored finds the one stored file of that WAL file.
func (s *site) stored(name string) string {
	s.t.Helper()
	var found []string
	for _, folder := range []string{"wal/*", "history"} {
		matches, err := filepath.Glob(filepath.Join(s.root, "*", folder, name+".*"))
		must(s.t, err)
		for _, m := range matches {
			if rest := strings.TrimPrefix(filepath.Base(m), name); strings.Count(rest, ".") == 1 {
				found = append(found, m)
			}
		}
	}
	if len(found) != 1 {
		s.t.Fatalf("%s is stored as %q, want one file", name, found)
	}
	return found[0]
}

// running lists the walship processes that work with the site's configuration.
func (s *site) running() []string {
	var found []string
	paths, _ := filepath.Glob("/proc/[0-9]*/cmdline") // the pattern is well formed
	for _, path := range paths {
		line, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		words := strings.Split(strings.TrimRight(string(line), "\x00"), "\x00")
		if words[0] == s.binary && strings.Contains(string(line), s.config()) {
			found = append(found, strings.Join(words, " "))
		}
	}
	return found
}

// result is how a command has ended.
type result struct {
	code   int            // -1 if a signal ended it
	signal syscall.Signal // 0 if none did
	stdout string
	stderr string
}

func (r result) String() string {
	return fmt.Sprintf("exit code %d, signal %d, stdout %q, stderr %q", r.code, r.signal, r.stdout, r.stderr)
}

// begin starts a command in dir with nothing but env and a PATH in its
// environment. wait waits for its end.
func begin(t testing.TB, dir string, env []string, name string, args ...string) (pid int, wait func() result) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, env...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	done := false
	t.Cleanup(func() {
		if !done {
			_ = cmd.Process.Kill() // it may have ended
		}
	})
	return cmd.Process.Pid, func() result {
		t.Helper()
		var err error
		select {
		case err = <-ended:
		case <-time.After(soon):
			t.Fatalf("%s does not end", cmd)
		}
		done = true
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
		if w := cmd.ProcessState.Sys().(syscall.WaitStatus); w.Signaled() {
			r.signal = w.Signal()
		}
		return r
	}
}

// run runs a command to its end.
func run(t testing.TB, dir string, env []string, name string, args ...string) result {
	t.Helper()
	_, wait := begin(t, dir, env, name, args...)
	return wait()
}

// Cluster helpers.

// insert commits a row and returns how many there are.
func insert(c *testpg.Cluster) string {
	return c.Query("insert into rows select count(*) + 1, now() from rows; select count(*) from rows")
}

// contents sums up every row that tests write; two servers with the same rows
// have the same contents.
func contents(c *testpg.Cluster) (string, error) {
	return c.Psql(`select 'rows', count(*), coalesce(sum(hashtext(r::text)::bigint), 0) from rows r
union all select 'accounts', count(*), coalesce(sum(hashtext(a::text)::bigint), 0) from pgbench_accounts a
union all select 'history', count(*), coalesce(sum(hashtext(h::text)::bigint), 0) from pgbench_history h`)
}

// waitContents waits until the server has those rows.
func waitContents(t testing.TB, c *testpg.Cluster, want string) {
	t.Helper()
	var last string
	var err error
	if !testpg.Poll(soon, func() bool {
		last, err = contents(c)
		return last == want && err == nil || !c.Running()
	}) || last != want || err != nil {
		t.Fatalf("the server has\n%s (%v), want\n%s\n%s", last, err, want, c.Log())
	}
}

// timeline is the one that a primary writes.
func timeline(c *testpg.Cluster) string {
	name := c.CurrentWALFile()
	return strings.TrimLeft(name[:8], "0")
}

// newPrimary starts a primary that archives to the site and has the tables of
// contents, all empty.
func newPrimary(t testing.TB, s *site, o testpg.Options) *testpg.Cluster {
	t.Helper()
	conf := s.archiving()
	for name, value := range o.Conf {
		conf[name] = value
	}
	o.Conf = conf
	c := testpg.New(t, o)
	s.init(c)
	must(t, c.Start())
	c.Query("create table rows (n int primary key, at timestamptz)")
	if out, err := c.Pgbench("-i", "-q", "-I", "dt"); err != nil {
		t.Fatal(out, err)
	}
	return c
}

// backup takes a base backup beside the cluster's data directory.
func backup(t testing.TB, c *testpg.Cluster, wal bool) string {
	t.Helper()
	into := filepath.Join(c.Base, "backup")
	for n := 2; ; n++ { // the server may have had one taken before
		if _, err := os.Lstat(into); err != nil {
			break
		}
		into = filepath.Join(c.Base, "backup"+strconv.Itoa(n))
	}
	must(t, c.BaseBackup(into, wal))
	return into
}

// follow starts a standby of the backup. With a primary it streams from it too.
func follow(t testing.TB, s *site, from string, primary *testpg.Cluster) *testpg.Cluster {
	t.Helper()
	c := testpg.Restore(t, from)
	settings := s.recovering()
	if primary != nil {
		settings["primary_conninfo"] = primary.ConnInfo()
	}
	c.WriteRecovery(true, settings)
	must(t, c.Start())
	return c
}

// aKey is the file of a new key.
func aKey(t testing.TB) []byte {
	t.Helper()
	_, file := testsshd.NewKey(t, "test", "")
	return file
}

// waitConnected waits until a call has come to the proxy.
func waitConnected(t testing.TB, p *testnet.Proxy) {
	t.Helper()
	testpg.WaitFor(t, soon, "the call to connect", func() bool { return p.Connections() > 0 })
}
