//go:build bench

package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

var (
	backlogSize = flag.Int("backlog", 48, "how many segments wait for the archiver")
	trips       = flag.String("trips", "0,20ms,80ms", "round trips to measure at")
	agentOnly   = flag.Bool("agent-only", false, "measure the agent alone, for who tunes it")
)

// server is a primary with a backlog of segments of a pgbench load that stay.
type server struct {
	*testpg.Cluster
	segments []string
	home     string // what the server's user may read
}

func newBacklog(t *testing.T, srv *testsshd.Server) *server {
	s := &server{Cluster: testpg.New(t, testpg.Options{}), home: testpg.Dir(t)}
	s.SetConf(map[string]string{"archive_mode": "on", "archive_command": "", "wal_keep_size": "8GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h", "shared_buffers": "256MB"})
	must(t, s.Start())
	_, err := s.Pgbench("-i", "-s", "10", "-q")
	must(t, err)
	s.Query("select pg_switch_wal()")
	first := s.CurrentWALFile()
	for len(s.segments) < *backlogSize {
		_, err := s.Pgbench("-c", "4", "-t", "2000")
		must(t, err)
		s.Query("checkpoint") // full pages, as a busy server writes them
		s.segments = nil
		for _, name := range s.marks(t, ".ready") {
			if name >= first {
				s.segments = append(s.segments, name)
			}
		}
	}
	s.segments = s.segments[:*backlogSize]
	key, err := os.ReadFile(srv.KeyFile)
	must(t, err)
	must(t, os.WriteFile(s.home+"/key", key, 0o600))
	return s
}

func (s *server) status(name, mark string) string {
	return filepath.Join(s.Data, "pg_wal", "archive_status", name+mark)
}

func (s *server) marks(t *testing.T, mark string) []string {
	found, err := filepath.Glob(s.status("*", mark))
	must(t, err)
	var names []string
	for _, f := range found {
		names = append(names, strings.TrimSuffix(filepath.Base(f), mark))
	}
	return names
}

// ship lets the archiver work off the backlog with the command and returns the
// time from its first success to its last, by the marks' own times.
func (s *server) ship(t *testing.T, command string) took {
	for _, name := range s.marks(t, ".ready") {
		must(t, os.Rename(s.status(name, ".ready"), s.status(name, ".done")))
	}
	for _, name := range s.segments {
		must(t, os.Rename(s.status(name, ".done"), s.status(name, ".ready")))
	}
	s.SetConf(map[string]string{"archive_command": command})
	before := busy(t)
	s.Query("select pg_reload_conf()")
	testpg.WaitFor(t, 5*time.Minute, "the backlog to be archived", func() bool { return len(s.marks(t, ".ready")) == 0 })
	cpu := busy(t) - before
	s.SetConf(map[string]string{"archive_command": ""})
	s.Query("select pg_reload_conf()")
	var at []time.Time
	for _, name := range s.segments {
		var st syscall.Stat_t
		must(t, syscall.Stat(s.status(name, ".done"), &st))
		at = append(at, time.Unix(st.Ctim.Unix()))
	}
	slices.SortFunc(at, time.Time.Compare)
	return took{at[len(at)-1].Sub(at[0]), cpu}
}

// config writes walship's configuration for one run, and makes the archive.
func (s *server) config(t *testing.T, h *host, walship, root, agent string) string {
	known, err := os.ReadFile(h.known)
	must(t, err)
	must(t, os.WriteFile(s.home+"/known", known, 0o600))
	conf := fmt.Sprintf("%s/walship-%s.toml", s.home, filepath.Base(root))
	must(t, os.WriteFile(conf, fmt.Appendf(nil, "archive = \"sftp://%s@%s%s\"\nssh_key = %q\nknown_hosts = %q\nagent = %q\nagent_dir = %q\n",
		h.User, h.addr, root, s.home+"/key", s.home+"/known", agent, s.home+"/agent"), 0o600))
	must(t, testpg.Own(s.home))
	if _, err := s.Run(walship, "--config", conf, "init", "-D", s.Data); err != nil {
		t.Fatal(err)
	}
	return conf
}

func (s *server) stopAgent(t *testing.T, walship, conf string) {
	out, err := s.Run(walship, "--config", conf, "agent", "status", "--json")
	must(t, err)
	var all []struct {
		PID      int
		Memory   uint64 `json:"memory_bytes"`
		Ahead    any
		Prefetch any
	}
	must(t, json.Unmarshal([]byte(out), &all))
	for _, a := range all {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.PID))
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmHWM") {
				fmt.Printf("    agent: ahead %v, prefetch %v, peak memory %s", a.Ahead, a.Prefetch, strings.TrimPrefix(line, "VmHWM:\t"))
			}
		}
		fmt.Printf("    agent: CPU %v a segment\n", cpuOf(a.PID)/time.Duration(len(s.segments)))
	}
	_, err = s.Run(walship, "--config", conf, "agent", "stop")
	must(t, err)
	for _, a := range all {
		testpg.WaitFor(t, time.Minute, "the agent to end", func() bool { return syscall.Kill(a.PID, 0) != nil })
	}
}

// cpuOf is the CPU time that a process has used so far.
func cpuOf(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	var user, system int64
	fmt.Sscan(fields[11], &user)
	fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// busy is the CPU time that all of the machine has used so far: the archiver, what
// it calls, the agent, sshd and the proxy before it.
func busy(t *testing.T) time.Duration {
	text, err := os.ReadFile("/proc/stat")
	must(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	var ticks time.Duration
	for i, f := range strings.Fields(first) {
		var n int64
		if fmt.Sscan(f, &n); i != 4 && i != 5 && i < 8 { // idle, iowait, steal
			ticks += time.Duration(n)
		}
	}
	return ticks * 10 * time.Millisecond
}

// took is how long all but the first segment took, and the whole machine's CPU time.
type took struct{ time, cpu time.Duration }

func TestAgent(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups 100"}})
	walship := testbin.Walship(t)
	s := newBacklog(t, srv)
	for _, text := range strings.Split(*trips, ",") {
		rtt, err := time.ParseDuration(text)
		must(t, err)
		h := at(t, srv, rtt)
		root := t.TempDir()
		must(t, os.Chmod(root, 0o755))
		fmt.Printf("\n%v round trip: a backlog of %d segments, as the archiver ships it\n", rtt, len(s.segments))
		plain := folder(t, root, "scp")
		known := s.home + "/known"
		off := s.config(t, h, walship, root+"/off", "off")
		auto := s.config(t, h, walship, root+"/auto", "auto")
		scpArgs := strings.Join(h.args(), " ")
		scpArgs = strings.ReplaceAll(strings.ReplaceAll(scpArgs, h.KeyFile, s.home+"/key"), h.known, known)
		var base time.Duration
		row := func(name string, took took) {
			if base == 0 {
				base = took.time
			}
			n := float64(len(s.segments) - 1)
			fmt.Printf("%-42s %6.1f/s %7.2fx %6.0f ms CPU\n", name, n/took.time.Seconds(), float64(base)/float64(took.time), took.cpu.Seconds()*1000/float64(len(s.segments)))
		}
		if !*agentOnly {
			row("scp", s.ship(t, fmt.Sprintf("scp -q %s %%p %s:%s/%%f", scpArgs, h.Target(), plain)))
			row("walship push, no agent", s.ship(t, walship+" --config "+off+" push %p %f"))
		}
		row("walship push, agent", s.ship(t, walship+" --config "+auto+" push %p %f"))
		s.stopAgent(t, walship, auto)
		row("walship push, agent, archived already", s.ship(t, walship+" --config "+auto+" push %p %f"))
		s.stopAgent(t, walship, auto)

		fmt.Printf("\n%v round trip: the same back, as recovery asks for it\n", rtt)
		base = 0
		for _, replay := range []time.Duration{0, 100 * time.Millisecond} {
			fmt.Printf("  %v of replay a segment\n", replay)
			base = 0
			back := newRecovery(t, s)
			if !*agentOnly {
				row("scp", back.take(t, replay, fmt.Sprintf("scp -q %s %s:%s/%%f %%p", scpArgs, h.Target(), plain)))
				row("walship fetch, no agent", back.take(t, replay, walship+" --config "+off+" fetch %f %p"))
			}
			row("walship fetch, agent", back.take(t, replay, walship+" --config "+auto+" fetch %f %p"))
			s.stopAgent(t, walship, auto)
		}
	}
}

// recovery asks for segments as a server in archive recovery does.
type recovery struct {
	*server
	data string
}

func newRecovery(t *testing.T, s *server) *recovery {
	r := &recovery{s, filepath.Join(testpg.Dir(t), "data")}
	for _, dir := range []string{"pg_wal", "global"} {
		folder(t, r.data, dir)
	}
	for _, f := range []string{"PG_VERSION", "global/pg_control"} {
		must(t, exec.Command("cp", filepath.Join(s.Data, f), filepath.Join(r.data, f)).Run())
	}
	must(t, os.WriteFile(r.data+"/recovery.signal", nil, 0o600))
	must(t, os.WriteFile(r.data+"/postgresql.conf", []byte("recovery_target_timeline = 'latest'\n"), 0o600))
	must(t, testpg.Own(filepath.Dir(r.data)))
	return r
}

// take asks for all segments in turn, with a pause for each replay, and returns
// the time from the first answer to the last, and prints the median call's.
func (r *recovery) take(t *testing.T, replay time.Duration, command string) took {
	var begin time.Time
	before := busy(t)
	var calls []time.Duration
	for i, name := range r.segments {
		c := strings.ReplaceAll(strings.ReplaceAll(command, "%f", name), "%p", "pg_wal/RECOVERYXLOG")
		start := time.Now()
		_, err := r.runIn(r.data, c)
		must(t, err)
		calls = append(calls, time.Since(start))
		if i == 0 {
			begin = time.Now()
		} else {
			time.Sleep(replay)
		}
		want, err := os.Stat(filepath.Join(r.Data, "pg_wal", name))
		must(t, err)
		got, err := os.Stat(r.data + "/pg_wal/RECOVERYXLOG")
		must(t, err)
		if got.Size() != want.Size() {
			t.Fatal(name, got.Size())
		}
		must(t, os.Remove(r.data+"/pg_wal/RECOVERYXLOG"))
	}
	all := took{time.Since(begin), busy(t) - before}
	fmt.Printf("    median call %v\n", median(calls).Round(100*time.Microsecond))
	return all
}

// runIn runs a shell command in dir as the server does.
func (s *server) runIn(dir, command string) (string, error) {
	cmd, err := s.Command("/bin/sh", "-c", command)
	if err != nil {
		return "", err
	}
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return string(out), err
}
