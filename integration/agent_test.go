package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// withAgent configures the site for an agent, whatever the mode of the run is.
func (s *site) withAgent() *site {
	s.configure(fmt.Sprintf("agent = \"auto\"\nagent_dir = %q", s.agentDir()))
	return s
}

// agentStatus is what "agent status --json" prints.
type agentStatus struct {
	PID         int
	Pushed      int
	Fetched     int
	Failed      int
	Ahead       struct{ Published, Used int }
	Prefetch    struct{ Fetched, Used int }
	MemoryBytes uint64 `json:"memory_bytes"`
	Goroutines  int
}

// asks the site's agents what they have done.
func (s *site) agentStatus(c *testpg.Cluster) []agentStatus {
	s.t.Helper()
	out, err := c.Run(s.binary, "--config", s.config(), "agent", "status", "--json")
	must(s.t, err)
	var all []agentStatus
	must(s.t, json.Unmarshal([]byte(out), &all))
	return all
}

// backlog starts a primary, with segments of 1 MB, for whose archiver at least n
// of them wait, and returns a base backup, too.
func backlog(t *testing.T, s *site, n int) (primary *testpg.Cluster, base string) {
	t.Helper()
	primary = newPrimary(t, s, testpg.Options{SegmentMB: 1})
	if out, err := primary.Pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}
	base = backup(t, primary, false)
	pile(t, primary, n)
	return primary, base
}

// pile lets no less than n segments wait for the archiver.
func pile(t *testing.T, primary *testpg.Cluster, n int) {
	t.Helper()
	primary.SetConf(map[string]string{"archive_command": ""})
	must(t, primary.Reload())
	for len(waiting(t, primary)) < n {
		if out, err := primary.Pgbench("-n", "-c", "2", "-t", "300"); err != nil {
			t.Fatal(out, err)
		}
		insert(primary)
		primary.SwitchWAL()
	}
}

// waiting lists the files that wait for the archiver.
func waiting(t testing.TB, c *testpg.Cluster) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.Data, "pg_wal/archive_status/*.ready"))
	must(t, err)
	return found
}

// drained waits until the archiver has handed over all that waits.
func drained(t *testing.T, c *testpg.Cluster) {
	t.Helper()
	testpg.WaitFor(t, 2*soon, "the backlog to be archived", func() bool { return len(waiting(t, c)) == 0 })
}

// inArchivedOrder fails if a segment is older in the archive than one before it:
// the link that publishes a file sets its time of change.
func (s *site) inArchivedOrder() {
	s.t.Helper()
	stored, err := filepath.Glob(filepath.Join(s.root, "*/wal/*", strings.Repeat("[0-9A-F]", 24)+".zst"))
	must(s.t, err)
	var last time.Time
	for _, path := range stored {
		var st syscall.Stat_t
		must(s.t, syscall.Stat(path, &st))
		at := time.Unix(st.Ctim.Unix())
		if at.Before(last) {
			s.t.Errorf("%s was published %v before its predecessor", filepath.Base(path), last.Sub(at))
		}
		last = at
	}
}

// One agent, one login, works off a backlog and feeds a recovery; it has nothing
// of PostgreSQL's, tells what it has done, and ends when it is told to.
func TestAgent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary, base := backlog(t, s, 24)
	s.withAgent()
	logins := strings.Count(s.sshd.Log(), "Accepted publickey")
	primary.SetConf(map[string]string{"archive_command": s.push()})
	must(t, primary.Reload())
	drained(t, primary)
	s.inArchivedOrder()
	want, err := contents(primary)
	must(t, err)

	all := s.agentStatus(primary)
	if len(all) != 1 || all[0].Ahead.Used < 12 || all[0].Failed != 0 {
		t.Fatalf("agents: %+v", all)
	}
	agent := all[0].PID
	// One of the agent; the first call found none and logged in itself.
	if n := strings.Count(s.sshd.Log(), "Accepted publickey") - logins; n > 3 {
		t.Errorf("%d logins for %d segments", n, all[0].Pushed)
	}
	s.belongsToNobody(agent)

	must(t, primary.Stop(testpg.Fast))
	recovered := testpg.Restore(t, base)
	recovered.WriteRecovery(false, s.recovering())
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	waitContents(t, recovered, want)
	after := s.agentStatus(recovered)
	if len(after) != 1 || after[0].PID != agent || after[0].Prefetch.Used < 12 {
		t.Errorf("agents: %+v", after)
	}

	out, err := recovered.Run(s.binary, "--config", s.config(), "agent", "status")
	must(t, err)
	if !strings.Contains(out, fmt.Sprintf("agent %d, of this configuration", agent)) {
		t.Errorf("status: %s", out)
	}
	_, err = recovered.Run(s.binary, "--config", s.config(), "agent", "stop")
	must(t, err)
	testpg.WaitFor(t, soon, "the agent to end", func() bool { return !slices.Contains(s.agents(), agent) })
	if left, _ := filepath.Glob(filepath.Join(s.root, "*", "tmp", "*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// belongsToNobody fails unless the agent is a session of its own, works in the
// root folder and has no descriptor but its own.
func (s *site) belongsToNobody(pid int) {
	s.t.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(proc + "/stat")
	must(s.t, err)
	_, rest, _ := strings.Cut(string(stat), ") ")
	if session := strings.Fields(rest)[3]; session != fmt.Sprint(pid) {
		s.t.Errorf("it is of session %s", session)
	}
	if dir, err := os.Readlink(proc + "/cwd"); dir != "/" || err != nil {
		s.t.Errorf("it works in %s, %v", dir, err)
	}
	fds, err := filepath.Glob(proc + "/fd/*")
	must(s.t, err)
	for _, fd := range fds {
		to, err := os.Readlink(fd)
		if err != nil {
			continue // closed since
		}
		switch {
		case to == "/dev/null", strings.HasPrefix(to, "socket:"), strings.HasPrefix(to, "anon_inode:"), strings.HasPrefix(to, "/sys/fs/cgroup/"),
			strings.HasPrefix(to, s.agentDir()+"/"), strings.HasPrefix(to, "pipe:") && filepath.Base(fd) > "2":
		default:
			s.t.Errorf("it has %s open", to)
		}
	}
}

// The agent is killed or frozen at its steps, during a backlog: all comes through,
// in order.
func TestAgentTroubled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.binary = testbin.Faulty(t)
	primary, _ := backlog(t, s, 3)
	s.withAgent()
	for _, step := range []string{"agent.asked", "put.created", "put.written", "put.synced", "put.published", "put.folder-synced", "agent.done"} {
		for _, what := range []string{"kill", "stop"} {
			if what == "stop" && (step == "put.written" || step == "put.synced" || step == "put.folder-synced") {
				continue // to who waits they look like the step before
			}
			pile(t, primary, 3)
			troubled := s.faultyAgent(primary, step+"="+what)
			primary.SetConf(map[string]string{"archive_command": s.push()})
			must(t, primary.Reload())
			drained(t, primary)
			s.met(troubled, step, what)
		}
	}
	s.inArchivedOrder()
}

// The same while a server recovers: it comes to the last row.
func TestAgentTroubledInRecovery(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.binary = testbin.Faulty(t)
	primary, base := backlog(t, s, 3)
	primary.SetConf(map[string]string{"archive_command": s.push()})
	must(t, primary.Reload())
	drained(t, primary)
	s.withAgent()
	want, err := contents(primary)
	must(t, err)
	must(t, primary.Stop(testpg.Fast))
	for _, step := range []string{"agent.asked", "agent.done"} {
		for _, what := range []string{"kill", "stop"} {
			troubled := s.faultyAgent(primary, step+"="+what)
			recovered := testpg.Restore(t, base)
			settings := s.recovering()
			settings["archive_mode"] = "off"
			recovered.WriteRecovery(false, settings)
			must(t, recovered.Start())
			must(t, recovered.WaitPrimary(4*soon)) // a frozen agent costs each call a second
			waitContents(t, recovered, want)
			must(t, recovered.Stop(testpg.Fast))
			s.met(troubled, step, what)
		}
	}
}

// met fails unless the agent has met its fault, and ends it.
func (s *site) met(pid int, step, what string) {
	s.t.Helper()
	state := ""
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, rest, _ := strings.Cut(string(stat), ") ")
		state = rest[:1]
	}
	if what == "kill" && state != "" && state != "Z" || what == "stop" && state != "T" {
		s.t.Errorf("%s: the agent has not met its %s: its state is %q", step, what, state)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// faultyAgent starts an agent that meets the fault, and waits until it is there.
func (s *site) faultyAgent(c *testpg.Cluster, fault string) (pid int) {
	s.t.Helper()
	testpg.WaitFor(s.t, soon, "the last agents to be gone", func() bool {
		running := s.agents()
		for _, pid := range running { // a call that was just ending may have started one more
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return len(running) == 0
	})
	cmd, err := c.Command(s.binary, "agent")
	must(s.t, err)
	// The environment that PostgreSQL gives, or the agent would be another's.
	cmd.Env = append(cmd.Env, "WALSHIP_CONFIG="+s.config(), "WALSHIP_FAULT="+fault)
	log := filepath.Join(s.t.(*testing.T).TempDir(), "log")
	file, err := os.Create(log)
	must(s.t, err)
	defer file.Close()
	cmd.Stderr = file
	must(s.t, cmd.Start())
	go func() { _ = cmd.Wait() }()
	testpg.WaitFor(s.t, soon, "the agent", func() bool { return strings.Contains(readAll(log), "ready, for") })
	return cmd.Process.Pid
}

func readAll(path string) string {
	text, _ := os.ReadFile(path) // not there yet
	return string(text)
}

// A new build has an agent of its own; the old one serves nobody any more.
func TestAgentOfAnotherBuild(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.binary = filepath.Join(testpg.Dir(t), "walship")
	old, err := os.ReadFile(testbin.Program(testbin.Walship(t)))
	must(t, err)
	must(t, os.WriteFile(s.binary, old, 0o755))
	primary, _ := backlog(t, s, 4)
	s.withAgent()
	primary.SetConf(map[string]string{"archive_command": s.push()})
	must(t, primary.Reload())
	drained(t, primary)
	before := s.agentStatus(primary)

	must(t, os.WriteFile(s.binary+".new", old, 0o755))
	must(t, os.Rename(s.binary+".new", s.binary))
	for range 3 {
		primary.Archive(soon)
	}
	testpg.WaitFor(t, soon, "a second agent", func() bool { return len(s.agentStatus(primary)) == 2 })
	for range 3 {
		primary.Archive(soon)
	}
	for _, a := range s.agentStatus(primary) {
		if a.PID == before[0].PID && a.Pushed != before[0].Pushed {
			t.Errorf("the old agent has served %d calls of the new build", a.Pushed-before[0].Pushed)
		}
		if a.PID != before[0].PID && a.Pushed == 0 {
			t.Error("the new agent serves nobody")
		}
	}
	out, err := primary.Run(s.binary, "--config", s.config(), "agent", "stop", "--all")
	must(t, err)
	if strings.Count(out, " ends") != 2 {
		t.Errorf("stop --all: %s", out)
	}
}

// A folder that others can reach, or that is another's, is not used; calls work
// without an agent.
func TestAgentFolder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	s.withAgent()
	for what, spoil := range map[string]func() error{
		"open to a group":  func() error { return os.Chmod(s.agentDir(), 0o770) },
		"a symbolic link":  func() error { return os.Symlink(s.home, s.agentDir()) },
		"another's folder": func() error { return os.Chown(s.agentDir(), os.Getuid(), os.Getgid()) },
	} {
		must(t, os.RemoveAll(s.agentDir()))
		if what != "a symbolic link" {
			must(t, os.Mkdir(s.agentDir(), 0o700))
			must(t, testpg.Own(s.agentDir()))
		}
		must(t, spoil())
		primary.Archive(soon)
		if os.Getuid() != 0 && what == "another's folder" {
			continue // it is the server's own
		}
		if running := s.agents(); len(running) != 0 {
			t.Errorf("%s: an agent is running: %v", what, running)
		}
	}
}
