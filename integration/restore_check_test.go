package integration_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// A cluster whose settings would keep a copy from starting, or let it reach what
// is production's, is drilled from cron; production does not notice.
func TestRestoreCheckOfAHostileConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{Conf: map[string]string{"max_prepared_transactions": "200"}})
	traces := testpg.Dir(t)
	space := filepath.Join(testpg.Dir(t), "space")
	must(t, os.Mkdir(space, 0o700))
	must(t, testpg.Own(space))
	primary.Query(fmt.Sprintf("create tablespace elsewhere location '%s'", space))
	primary.Query("create table large tablespace elsewhere as select g as n, repeat('x', 5000) as filler from generate_series(1, 1000) g; create index on large (n)")
	primary.Query("create database other; begin; insert into rows values (-1, now()); prepare transaction 'left open'")
	// None of this reaches the running server. It is what its next start would
	// find, or what a copy on another machine does.
	primary.SetConf(map[string]string{
		"shared_preload_libraries": "no_such_library",
		"external_pid_file":        filepath.Join(traces, "pid"),
		"recovery_end_command":     "touch " + filepath.Join(traces, "ended"),
		"archive_cleanup_command":  "touch " + filepath.Join(traces, "cleaned"),
		"ssl":                      "on",
		"ssl_cert_file":            "/no/such/file",
		"logging_collector":        "on",
		"log_directory":            traces,
		"shared_buffers":           "100GB",
	})
	must(t, os.WriteFile(filepath.Join(primary.Data, "pg_hba.conf"), []byte("local all all reject\n"), 0o600))
	id := s.backup(primary)
	// Its superuser has a name that nobody guesses.
	primary.Query("create role helper superuser login")
	asHelper, err := primary.Command("psql", "-XAtq", "-U", "helper", "-c", `alter role postgres rename to "the boss"`)
	must(t, err)
	if out, err := asHelper.CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	renamed := func(sql string) string {
		t.Helper()
		cmd, err := primary.Command("psql", "-XAtq", "-U", "the boss", "-c", sql)
		must(t, err)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s", out)
		}
		return strings.TrimSpace(string(out))
	}
	renamed("drop role helper")
	renamed("insert into rows values (1, now())")
	lsn := renamed("select pg_current_wal_lsn()")
	pid := primary.Pid()
	last := renamed("select pg_walfile_name(pg_switch_wal())")
	primary.WaitArchived(soon, last)
	before, err := os.ReadDir(s.home)
	must(t, err)

	dir := testpg.Dir(t)
	report, r := s.drill(dir)
	if r.code != 0 || report.Backup.Name != id || report.Check.Method != "pg_amcheck" || report.Check.Problems != 0 {
		t.Fatalf("%s", r)
	}
	if report.Check.Databases != 3 || report.Check.Relations < 100 || report.Check.Bytes < 8<<20 || report.Check.Rows != nil || report.Check.SamplePercent != 100 {
		t.Errorf("%+v", report.Check)
	}
	if report.RestoredTo.LSN < lsn || report.RestoredTo.LastTransaction == nil || *report.RestoredTo.AgeSeconds < 0 {
		t.Errorf("restored to %+v, want LSN %s", report.RestoredTo, lsn)
	}
	took := report.Seconds
	if took.Restore <= 0 || took.Recovery <= 0 || took.Check <= 0 || took.TimeToRecovery < took.Restore+took.Recovery || took.Total < took.TimeToRecovery+took.Check {
		t.Errorf("times: %+v", took)
	}
	if len(report.Warnings) == 0 || !strings.Contains(strings.Join(report.Warnings, "\n"), "no_such_library") {
		t.Errorf("warnings: %q", report.Warnings)
	}
	nothingLeft(t, dir)

	// Production has not been touched: no file written, no server but its own.
	entries, err := os.ReadDir(traces)
	must(t, err)
	for _, e := range entries {
		t.Errorf("the drill left %s", e.Name())
	}
	if primary.Pid() != pid || renamed("select count(*) from rows") != "1" {
		t.Errorf("production is not what it was")
	}
	if after, err := os.ReadDir(s.home); err != nil || len(after) != len(before) {
		t.Errorf("%v, %v", after, err)
	}
	if found, _ := filepath.Glob(filepath.Join(s.root, "*", "history", "*")); len(found) > 0 {
		t.Errorf("the copy has archived %q", found)
	}

	// The archive knows of it, and check tells how long ago it was.
	records := s.drills()
	if len(records) != 1 || !strings.HasSuffix(records[0], "-ok.json") {
		t.Fatalf("recorded: %q", records)
	}
	text, err := os.ReadFile(records[0])
	must(t, err)
	if string(text) != r.stdout {
		t.Errorf("recorded:\n%s\nprinted:\n%s", text, r.stdout)
	}
	metrics := filepath.Join(dir, "walship.prom")
	j := s.checkArchive("--max-drill-age", "8d", "--metrics", metrics)
	if found := j.of("drill"); !strings.HasPrefix(found, "OK: the last that has passed was ") || j.Figures["last_drill_timestamp_seconds"] == 0 {
		t.Errorf("%s, %v", found, j.Figures)
	}
	prom, err := os.ReadFile(metrics)
	must(t, err)
	if !strings.Contains(string(prom), "\nwalship_last_drill_timestamp_seconds{") || !strings.Contains(string(prom), `check="drill"} 0`) {
		t.Errorf("%s", prom)
	}
	if j = s.checkArchive("--max-drill-age", "1ms"); !strings.HasPrefix(j.of("drill"), "WARNING: the last that has passed was ") || j.Code != 1 {
		t.Errorf("%d, %s", j.Code, j.of("drill"))
	}
	for _, command := range []string{"verify", "list"} {
		if r := run(t, "/", nil, s.binary, "--config", s.config(), command); r.code != 0 || strings.Contains(r.stdout, "drills") {
			t.Errorf("%s", r)
		}
	}
}

// readOnly leads walship to a server of the same archive where the account may
// only read.
func (s *site) readOnly() {
	s.t.Helper()
	s.sshd = testsshd.Start(s.t, testsshd.Options{Subsystem: "internal-sftp -R"})
	key, err := os.ReadFile(s.sshd.KeyFile)
	must(s.t, err)
	must(s.t, os.WriteFile(filepath.Join(s.home, "id_ed25519"), key, 0o600))
	s.through(s.sshd.Addr)
}

// drills are the records of drills in the archive.
func (s *site) drills() []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.folder(), "drills", "*"))
	must(s.t, err)
	return found
}

// checkArchive is walship check of the archive alone.
func (s *site) checkArchive(args ...string) (j checked) {
	s.t.Helper()
	r := run(s.t, "/", nil, s.binary, append([]string{"--config", s.config(), "check", "--archive-only", "--min-free", "0%", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(r.stdout), &j); err != nil || j.Code != r.code {
		s.t.Fatalf("%v: %s", err, r)
	}
	return j
}

// A drill to a target, by every way to check, and what is said of one that is
// never reached.
func TestRestoreCheckTargets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	primary.Query("insert into rows select n, now() from generate_series(1, 1000) n; create materialized view seen as select * from rows; create materialized view unseen as select * from rows with no data; create extension amcheck version '1.2'")
	s.backup(primary)
	primary.Query("select pg_create_restore_point('here')")
	insert(primary)
	primary.Archive(soon)
	s.readOnly()

	t.Run("pg_amcheck of a sample", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		first, r := s.drill(dir, "--name", "here", "--sample", "20%", "--seed", "7")
		if r.code != 0 || first.Check.Method != "pg_amcheck" || first.Check.Seed == nil || *first.Check.Seed != 7 || first.Check.SamplePercent != 20 ||
			first.Target.Kind != "name" || first.Target.Value != "here" || !strings.Contains(first.RestoredTo.Stop, `"here"`) {
			t.Fatalf("%s", r)
		}
		if len(first.Warnings) != 1 || !strings.HasPrefix(first.Warnings[0], "the drill is not recorded in the archive (--no-record does without): ") {
			t.Errorf("warnings: %q", first.Warnings)
		}
		nothingLeft(t, dir)
	})
	t.Run("every row", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		report, r := s.drill(dir, "--bin-dir", withoutAmcheck(t, primary), "--no-record")
		if len(report.Warnings) > 0 {
			t.Errorf("warnings: %q", report.Warnings)
		}
		if r.code != 0 || report.Check.Method != "read" || report.Check.Why == "" || report.Check.Rows == nil || *report.Check.Rows < 2000 || report.Check.Problems != 0 {
			t.Fatalf("%s", r)
		}
		nothingLeft(t, dir)
	})
	t.Run("as the server's user, for people", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		long := filepath.Join(dir, strings.Repeat("long", 30))
		must(t, os.Mkdir(long, 0o700))
		must(t, testpg.Own(long))
		cmd, err := testpg.As(primaryCommand(primary, s.binary, "--config", s.config(), "restore", "--check", "--sample", "50%"))
		must(t, err)
		cmd.Env = []string{"PATH=/usr/bin:/bin", "TMPDIR=" + long}
		out, err := cmd.Output()
		must(t, err)
		text := string(out)
		for _, part := range []string{"drill passed: cluster ", "time to recovery", "pg_amcheck: no problems", "a sample of 50%, --seed "} {
			if !strings.Contains(text, part) {
				t.Errorf("%q is missing in\n%s", part, text)
			}
		}
		for _, line := range strings.Split(text, "\n") {
			if len(line) > 80 {
				t.Errorf("longer than 80 columns: %s", line)
			}
		}
		nothingLeft(t, long)
		if left, _ := filepath.Glob("/tmp/walship-drill-*-s"); len(left) > 0 {
			for _, folder := range left {
				if socket := filepath.Join(folder, ".s.PGSQL.5432"); !listens(socket) {
					t.Errorf("left behind: %s", folder)
				}
			}
		}
	})
	t.Run("a target that is never reached", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		report, r := s.drill(dir, "--name", "nowhere")
		if r.code != 18 || !strings.Contains(report.Error, "target was not reached") || report.Check.Method != "" || strings.Count(r.stderr, "\n") > 4 {
			t.Fatalf("%s", r)
		}
		nothingLeft(t, dir)
	})
	t.Run("an archive that goes away", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		// The drill's own connection is up; the server's fetch finds none.
		report, r := s.report2(run(t, "/", []string{"WALSHIP_FAULT=fetch.begin=panic"}, testbin.Faulty(t), "--config", s.config(), "restore", "--check", "--json", "--dir", dir))
		if r.code != 17 || !strings.Contains(report.Error, "could not restore file") {
			t.Fatalf("%s", r)
		}
		nothingLeft(t, dir)
	})
	t.Run("no server of the version", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		report, r := s.drill(dir, "--bin-dir", dir)
		if r.code != 13 || !strings.Contains(report.Error, "looked in "+dir) {
			t.Fatalf("%s", r)
		}
		nothingLeft(t, dir)
	})
	t.Run("a folder that the server's user cannot enter", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			return // the server's user is this one
		}
		dir := t.TempDir() // root's own
		must(t, os.Chmod(filepath.Dir(dir), 0o700))
		report, r := s.drill(dir)
		if r.code != 13 || !strings.Contains(report.Error, "the server's user ") || report.Seconds.Restore != 0 {
			t.Fatalf("%s", r)
		}
		nothingLeft(t, dir)
	})
	t.Run("ended by a signal", func(t *testing.T) {
		t.Parallel()
		dir := testpg.Dir(t)
		pid, wait := begin(t, "/", []string{"WALSHIP_FAULT=fetch.begin=hang"}, testbin.Faulty(t), "--config", s.config(), "restore", "--check", "--json", "--dir", dir)
		waitFile(t, filepath.Join(dir, "walship-drill-*", "data", "postmaster.pid"))
		must(t, syscall.Kill(pid, syscall.SIGTERM))
		if _, r := s.report2(wait()); r.code != 15 {
			t.Errorf("%s", r)
		}
		testpg.WaitFor(t, soon, "what the server has started to end", func() bool { return len(workingIn(dir)) == 0 })
		nothingLeft(t, dir)
	})
	t.Run("killed", func(t *testing.T) {
		t.Parallel()
		for _, step := range []string{"drill.place", "restore.unpacked", "drill.recovered"} {
			dir := testpg.Dir(t)
			r := run(t, "/", []string{"WALSHIP_FAULT=" + step + "=kill"}, testbin.Faulty(t), "--config", s.config(), "restore", "--check", "--dir", dir)
			if r.signal != syscall.SIGKILL {
				t.Fatalf("%s: %s", step, r)
			}
			left := waitFile(t, filepath.Join(dir, "walship-drill-*"))
			// Its server dies with it, if it had one.
			testpg.WaitFor(t, soon, "the server to end", func() bool { return len(workingIn(dir)) == 0 })
			_, r = s.drill(dir, "--sample", "10%", "--immediate")
			if r.code != 0 || !strings.Contains(r.stderr, "cleared away "+left) {
				t.Fatalf("%s: %s", step, r)
			}
			nothingLeft(t, dir)
		}
	})
}

// Damage in the running cluster that nobody has noticed is in the backup, and
// the drill finds it. There are no checksums that would have told.
func TestRestoreCheckFindsDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	primary.Query("create table victim with (autovacuum_enabled = false) as select g as n, md5(g::text) as text from generate_series(1, 20000) g; create index victim_n on victim (n)")
	// Within a leaf of an index: only pg_amcheck finds that.
	spoil(t, primary, "victim_n", 10, 4096, strings.Repeat("\x7f", 2000))
	s.backup(primary)
	t.Run("in an index", func(t *testing.T) {
		report, r := s.drill(testpg.Dir(t))
		if r.code != 14 || report.Check.Problems == 0 || !strings.Contains(strings.Join(report.Check.FirstProblems, "\n"), "victim_n") || !strings.Contains(r.stderr, "damage: ") {
			t.Fatalf("%s", r)
		}
		if records := s.drills(); len(records) != 1 || !strings.HasSuffix(records[0], "-failed.json") {
			t.Errorf("recorded: %q", records)
		}
		j := s.checkArchive("--max-drill-age", "8d")
		if want := "WARNING: none that is recorded has passed; the newest, "; !strings.HasPrefix(j.of("drill"), want) {
			t.Error(j.of("drill"))
		}
		if j = s.checkArchive(); !strings.HasPrefix(j.of("drill"), "OK: ") {
			t.Error(j.of("drill"))
		}
	})
	// A page header that is none: a read finds it too.
	spoil(t, primary, "victim", 10, 0, strings.Repeat("\x7f", 64))
	s.backup(primary)
	t.Run("in a table, read", func(t *testing.T) {
		report, r := s.drill(testpg.Dir(t), "--bin-dir", withoutAmcheck(t, primary))
		if r.code != 14 || report.Check.Problems != 1 || report.Check.Method != "read" || !strings.Contains(report.Check.FirstProblems[0], "table postgres.public.victim: ") {
			t.Fatalf("%s", r)
		}
	})
}

func TestRestoreCheckCommandLine(t *testing.T) {
	t.Parallel()
	walship := testbin.Walship(t)
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"a new folder":    {[]string{"--check", "-D", "/x"}, "-D and --check exclude each other"},
		"sample":          {[]string{"--check", "--sample", "0"}, "--sample"},
		"sample above":    {[]string{"--check", "--sample", "101%"}, "--sample"},
		"seed alone":      {[]string{"--check", "--seed", "1"}, "--seed is for --sample"},
		"jobs":            {[]string{"--check", "--jobs", "0"}, "--jobs"},
		"port alone":      {[]string{"-D", "/x", "--port", "1"}, "--port is for --start"},
		"no port":         {[]string{"-D", "/x", "--start", "--port", "0"}, "--port"},
		"record alone":    {[]string{"-D", "/x", "--no-record"}, "--no-record is for --check"},
		"no check":        {[]string{"-D", "/x", "--sample", "10"}, "--sample is for --check"},
		"start and check": {[]string{"--check", "--start"}, "--start and --check exclude each other"},
	} {
		r := run(t, "/", nil, walship, append([]string{"restore"}, c.args...)...)
		if r.code != 2 || !strings.Contains(r.stderr, c.says) || r.stdout != "" {
			t.Errorf("%s: %s", name, r)
		}
	}
}

// withoutAmcheck is a folder with the cluster's server, but without pg_amcheck.
func withoutAmcheck(t testing.TB, c *testpg.Cluster) string {
	t.Helper()
	dir := testpg.Dir(t)
	must(t, os.Symlink(filepath.Join(c.Bin, "postgres"), filepath.Join(dir, "postgres")))
	return dir
}

func listens(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	return c.Close() == nil
}
