//go:build bench

package bench

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// How large the databases of a base backup are, as pgbench's scale: 15 MB each.
var (
	scale = flag.Int("scale", 33, "pgbench scale of the database that is backed up: 33 makes 500 MB")
	large = flag.Int("large", 270, "pgbench scale of the large one, for its memory: 270 makes 4 GB")
	bases = flag.Int("bases", 3, "how often each base backup and restore is run")
)

// site is a running primary that archives to an SFTP server.
type site struct {
	*testpg.Cluster
	t                   *testing.T
	walship, home, root string
	turns               map[time.Duration]func() int // by round trip
}

// newSite starts a primary with an empty archive.
func newSite(t *testing.T, walship string) *site {
	owner, err := testpg.ServerUser()
	must(t, err)
	s := &site{t: t, Cluster: testpg.New(t, testpg.Options{}), walship: walship, home: testpg.Dir(t), turns: make(map[time.Duration]func() int)}
	srv := testsshd.Start(t, testsshd.Options{User: owner.Name, Config: []string{"MaxStartups 100"}})
	s.root = folder(t, s.home, "archive")
	key, err := os.ReadFile(srv.KeyFile)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(s.home, "key"), key, 0o600))
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond} {
		h := at(t, srv, rtt)
		s.turns[rtt] = h.turns
		known, err := os.ReadFile(h.known)
		must(t, err)
		must(t, os.WriteFile(s.known(rtt), known, 0o644))
		text := fmt.Sprintf("archive = \"sftp://%s@%s%s\"\nssh_key = %q\nknown_hosts = %q\n", h.User, h.addr, s.root, filepath.Join(s.home, "key"), s.known(rtt))
		must(t, os.WriteFile(s.config(rtt), []byte(text), 0o644))
		args := h.args()
		for i, a := range args { // the client's key and hosts, where the server's user can read them
			switch {
			case a == srv.KeyFile:
				args[i] = filepath.Join(s.home, "key")
			case strings.HasPrefix(a, "IdentityFile="):
				args[i] = "IdentityFile=" + filepath.Join(s.home, "key")
			case strings.HasPrefix(a, "UserKnownHostsFile="):
				args[i] = "UserKnownHostsFile=" + s.known(rtt)
			}
		}
		script := "#!/bin/sh\nexec ssh " + strings.Join(args, " ") + " " + h.Target() + " \"$@\"\n"
		must(t, os.WriteFile(s.ssh(rtt), []byte(script), 0o755))
	}
	must(t, testpg.Own(s.home))
	run(t, s.command(walship, "--config", s.config(0), "init", "-D", s.Data))
	s.SetConf(map[string]string{"archive_mode": "on", "archive_command": walship + " --config " + s.config(0) + " push %p %f"})
	must(t, s.Start())
	return s
}

func (s *site) known(rtt time.Duration) string  { return filepath.Join(s.home, "known"+rtt.String()) }
func (s *site) config(rtt time.Duration) string { return filepath.Join(s.home, "conf"+rtt.String()) }
func (s *site) ssh(rtt time.Duration) string    { return filepath.Join(s.home, "ssh"+rtt.String()) }

// command is a command line of the server's user.
func (s *site) command(name string, args ...string) *exec.Cmd {
	cmd, err := s.Cluster.Command(name, args...)
	must(s.t, err)
	return cmd
}

// bash is a pipe of which every part must succeed.
func (s *site) bash(script string) *exec.Cmd {
	return s.command("/bin/bash", "-c", "set -eo pipefail; "+script)
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// backup and restore are walship's command lines.
func (s *site) backup(rtt time.Duration) *exec.Cmd {
	return s.command(s.walship, "--config", s.config(rtt), "backup", "--checkpoint", "fast")
}

func (s *site) restore(rtt time.Duration, to string) *exec.Cmd {
	return s.command(s.walship, "--config", s.config(rtt), "restore", "-D", to)
}

// TestBackup measures a base backup and its restore against the shell lines that
// come nearest.
func TestBackup(t *testing.T) {
	s := newSite(t, testbin.Walship(t))
	_, err := s.Pgbench("-i", "-s", fmt.Sprint(*scale), "-q")
	must(t, err)
	fmt.Printf("\na base backup of a database of %s, each way %d times in turn, medians\n", s.Query("select pg_size_pretty(sum(pg_database_size(oid))) from pg_database"), *bases)
	to := filepath.Join(s.home, "new")
	fresh := func(int) { must(t, os.RemoveAll(to)) }
	for _, rtt := range []time.Duration{0, 20 * time.Millisecond} {
		tar := filepath.Join(s.root, "base.tar.zst")
		all := []*contender{
			{name: "pg_basebackup -Ft | zstd -1 | ssh", turns: s.turns[rtt], run: func(int) *exec.Cmd {
				return s.bash(fmt.Sprintf("pg_basebackup -D - -Ft -X none -c fast | zstd -1 -qc | %s 'cat > %s && sync %s'", s.ssh(rtt), tar, tar))
			}},
			{name: "the same, zstd -1 -T0", turns: s.turns[rtt], run: func(int) *exec.Cmd {
				return s.bash(fmt.Sprintf("pg_basebackup -D - -Ft -X none -c fast | zstd -1 -T0 -qc | %s 'cat > %s && sync %s'", s.ssh(rtt), tar, tar))
			}},
			{name: "walship backup", turns: s.turns[rtt], run: func(int) *exec.Cmd { return s.backup(rtt) }},
		}
		measure(t, *bases, all)
		report(fmt.Sprintf("base backup, %v round trip", rtt), all)

		all = []*contender{
			{name: "ssh cat | zstd -dc | tar x, sync", turns: s.turns[rtt], prep: fresh, run: func(int) *exec.Cmd {
				return s.bash(fmt.Sprintf("mkdir -m 700 %s && %s cat %s | zstd -qdc | tar x -C %s && sync -f %s", to, s.ssh(rtt), tar, to, to))
			}},
			{name: "walship restore", turns: s.turns[rtt], prep: fresh, run: func(int) *exec.Cmd { return s.restore(rtt, to) }},
		}
		measure(t, *bases, all)
		report(fmt.Sprintf("restore, %v round trip", rtt), all)
	}
}

// TestBackupMemory measures the peak memory for a small and a large database. Both
// have large tables enough that as many parts are under way at once as may be.
func TestBackupMemory(t *testing.T) {
	fmt.Printf("\npeak memory of a base backup and its restore\n")
	for _, n := range []int{*scale, *large} {
		s := newSite(t, testbin.Walship(t))
		s.SetConf(map[string]string{"max_wal_size": "4GB"})
		_, err := s.Pgbench("-i", "-s", fmt.Sprint(n), "-q", "-I", "dtg", "--partitions", "16")
		must(t, err)
		size := s.Query("select pg_size_pretty(sum(pg_database_size(oid))) from pg_database")
		backup, restore := s.backup(0), s.restore(0, filepath.Join(s.home, "new"))
		fmt.Printf("%-8s backup %3d MB, restore %3d MB\n", size, peak(t, backup)>>10, peak(t, restore)>>10)
		must(t, s.Kill9())
		must(t, os.RemoveAll(s.home))
	}
}
