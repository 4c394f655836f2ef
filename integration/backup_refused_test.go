package integration_test

import (
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

func newBinary(t testing.TB) string { return testbin.Walship(t) }

// What can be known is found out before anything is copied: one line, one hint,
// the class's exit code, and nothing in the archive.
func TestBackupRefused(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	primary.Query("create role plain login")
	const noConfigFiles = "walship: warning: configuration files outside the data directory, if there are any, are not saved: role plain may not see where they lie (it takes a superuser, or from PostgreSQL 10 on a member of pg_read_all_settings)\n"
	config := "archive = \"file://" + s.root + "\"\n"
	for _, c := range []struct {
		what   string
		conf   map[string]string // of the server
		config string
		args   []string
		code   int
		says   []string
	}{
		{what: "nobody is there", args: []string{"-p", "1"}, code: 17, says: []string{"no such socket"}},
		{what: "no REPLICATION", args: []string{"-U", "plain"}, code: 17, says: []string{"REPLICATION"}},
		{what: "no archive", config: "archive = \"file://" + s.root + "/absent\"\n", code: 7, says: []string{"absent", "hint: "}},
		{what: "another's archive", config: "archive = \"file://" + s.home + "\"\n", code: 7, says: []string{"walship init"}},
		{what: "no archive named", config: "\n", code: 3, says: []string{"archive"}},
		{what: "archive away", config: "archive = \"sftp://wal@127.0.0.1:1/wal\"\n", code: 9, says: []string{"backup: "}},
		{what: "archive_command empty", conf: map[string]string{"archive_command": ""}, code: 17, says: []string{"archive_command is empty", "--no-archiver-check"}},
		{what: "an argument", args: []string{"all"}, code: 2, says: []string{"1 arguments instead of 0"}},
		{what: "a method", args: []string{"--method", "rsync"}, code: 2, says: []string{"unknown method"}},
		{what: "a checkpoint", args: []string{"--checkpoint", "slow"}, code: 2, says: []string{"unknown checkpoint"}},
		{what: "a rate", args: []string{"--max-rate", "1G"}, code: 2, says: []string{"--max-rate 1G"}},
		{what: "a low rate", args: []string{"--max-rate", "31k"}, code: 2, says: []string{"not between 32k and 1024M"}},
		{what: "a limit", args: []string{"--wal-timeout", "1d"}, code: 2, says: []string{"more than 12h"}},
		{what: "a limit without a unit", args: []string{"--wal-timeout", "60"}, code: 2, says: []string{"lacks a unit"}},
		{what: "a port", args: []string{"--port", "x"}, code: 2, says: []string{"not a port"}},
		{what: "a data directory", args: []string{"-D", "/"}, code: 2, says: []string{"--method files"}},
		{what: "two places", args: []string{"-d", "postgresql://localhost/", "--host", "x"}, code: 2, says: []string{"beside a connection URI"}},
	} {
		if c.conf != nil {
			primary.SetConf(c.conf)
			must(t, primary.Reload())
			testpg.WaitFor(t, soon, "the setting", func() bool { return primary.Query("show archive_command") == "" })
		}
		s.writeConfig(config)
		if c.config != "" {
			s.writeConfig(c.config)
		}
		r := s.walship(primary, append([]string{"backup"}, c.args...)...)
		if r.code != c.code || r.stdout != "" || strings.Contains(r.stderr, "checkpoint, which") {
			t.Errorf("%s: %s", c.what, r)
		}
		for _, want := range c.says {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%s: no %q in %s", c.what, want, r.stderr)
			}
		}
		if err := hostileLines(strings.TrimPrefix(r.stderr, noConfigFiles)); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		if left := append(s.unfinished(), s.backups()...); len(left) > 0 {
			t.Errorf("%s: left are %q", c.what, left)
		}
	}
	s.writeConfig(config)

	primary.SetConf(map[string]string{"archive_mode": "off"})
	must(t, primary.Restart(testpg.Fast))
	r := s.walship(primary, "backup")
	if r.code != 17 || !strings.Contains(r.stderr, "archive_mode is off") || len(s.unfinished()) > 0 {
		t.Error(r)
	}
}

// WAL that never comes has a limit, and so has the unfinished backup; the
// message tells that it is the archiver that fails.
func TestBackupWALNeverComes(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	primary.SetConf(map[string]string{"archive_command": "false"})
	must(t, primary.Reload())
	primary.SwitchWAL()
	testpg.WaitFor(t, soon, "a failure of the archiver", func() bool { return primary.Query("select failed_count > 0 from pg_stat_archiver") == "t" })
	r := s.walship(primary, "backup", "--checkpoint", "fast", "--wal-timeout", "500ms")
	if r.code != 17 || r.stdout != "" {
		t.Error(r)
	}
	for _, want := range []string{"WAL is missing in the archive: 00000001", "has not come within", "the server's archiver fails, last with 00000001", "there is no backup"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("no %q in %s", want, r.stderr)
		}
	}
	if left := append(s.unfinished(), s.backups()...); len(left) > 0 {
		t.Errorf("left are %q", left)
	}
	noBackupMode(t, primary)

	// Something else may bring it.
	primary.SetConf(map[string]string{"archive_command": ""})
	must(t, primary.Reload())
	testpg.WaitFor(t, soon, "the setting", func() bool { return primary.Query("show archive_command") == "" })
	call := s.beginBackup(primary, "", "--no-archiver-check")
	call.says("waiting for ")
	primary.SetConf(s.archiving())
	must(t, primary.Reload())
	if code := call.wait(); code != 0 {
		t.Errorf("code %d: %s", code, call.text())
	}
}
