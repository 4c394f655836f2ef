package testpg

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// archiving returns settings that archive into a folder and restore from it.
func archiving(t *testing.T) (archive, restore map[string]string) {
	folder := Dir(t)
	return map[string]string{
			"archive_mode":    "on",
			"archive_command": fmt.Sprintf("test ! -f %[1]s/%%f && cp %%p %[1]s/%%f", folder),
		}, map[string]string{
			"restore_command":          fmt.Sprintf("cp %s/%%f %%p", folder),
			"recovery_target_timeline": "latest",
		}
}

func TestPrimaryBackupRecoveryAndStandby(t *testing.T) {
	archive, restore := archiving(t)
	primary := New(t, Options{Checksums: true, Conf: archive})
	must(t, primary.Start())
	primary.Query("create table t (n int); insert into t values (1)")

	backup := filepath.Join(primary.Base, "backup")
	must(t, primary.BaseBackup(backup, false))
	primary.Query("insert into t values (2)")
	if out, err := primary.Pgbench("-i", "-s", "1", "-q"); err != nil {
		t.Fatal(out, err)
	}
	current := primary.CurrentWALFile()
	if name := primary.Archive(time.Minute); name != current {
		t.Errorf("closed %s, written to %s", name, current)
	}

	standby := Restore(t, backup)
	standby.WriteRecovery(true, restore)
	must(t, standby.Start())
	WaitFor(t, time.Minute, "the standby to replay", func() bool {
		n, err := standby.Psql("select count(*) from t")
		return err == nil && n == "2"
	})
	if got := standby.Query("select pg_is_in_recovery()"); got != "t" {
		t.Errorf("in recovery: %s", got)
	}
	must(t, standby.Stop(Fast))

	must(t, primary.Kill9())
	recovered := Restore(t, backup)
	recovered.WriteRecovery(false, restore)
	recovered.ClearLog()
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(time.Minute))
	recovered.WaitLog(time.Second, "archive recovery complete")
	if got := recovered.Query("select count(*) from t"); got != "2" {
		t.Errorf("%s rows", got)
	}
}

func TestCopyBackupAndPromote(t *testing.T) {
	primary := New(t, Options{SegmentMB: 1, Conf: map[string]string{"wal_keep_size": "64MB"}})
	must(t, primary.Start())
	primary.Query("create table t as select 1 as n")
	for _, wal := range []bool{true, false} {
		into := filepath.Join(primary.Base, fmt.Sprint("copy", wal))
		must(t, primary.copyBackup(into, wal))
		standby := Restore(t, into)
		standby.WriteRecovery(true, map[string]string{"primary_conninfo": primary.ConnInfo()})
		must(t, standby.Start())
		must(t, standby.Promote())
		must(t, standby.WaitPrimary(time.Minute))
		if got := standby.Query("select n from t"); got != "1" {
			t.Errorf("wal %t: %q", wal, got)
		}
	}
}

func TestStartOfABrokenServerFails(t *testing.T) {
	c := New(t, Options{})
	c.SetConf(map[string]string{"no_such_setting": "1"})
	err := c.Start()
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Fatalf("%v", err)
	}
	if code, err := c.WaitExit(0); code != 1 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if _, err := c.Psql("select 1"); err == nil {
		t.Error("psql succeeded without a server")
	}
}

// What is set is what the server reads.
func TestSettingsKeepTheirBytes(t *testing.T) {
	want := `it's a \ "back" slash %p`
	c := New(t, Options{Conf: map[string]string{"restore_command": want}})
	must(t, c.Start())
	if got := c.Query("select setting from pg_settings where name = 'restore_command'"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	c.SetConf(map[string]string{"restore_command": "true"})
	must(t, c.Reload())
	WaitFor(t, 10*time.Second, "the reload", func() bool { return c.Query("show restore_command") == "true" })
}

func TestFind(t *testing.T) {
	newest, err := Find(0)
	must(t, err)
	if newest.Major < 10 {
		t.Errorf("%+v", newest)
	}
	if _, err := Find(9); err == nil || !strings.Contains(err.Error(), "PostgreSQL 9 ") {
		t.Errorf("%v", err)
	}
	t.Setenv("PG_BIN", newest.Bin)
	t.Setenv("PATH", "")
	if chosen, err := Find(0); err != nil || chosen != newest {
		t.Errorf("%+v, %v", chosen, err)
	}
}

// Root's home is closed to the server's user, and so is a t.TempDir of root's.
func TestProgramsInAClosedFolderAreCopied(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "pg", "bin")
	must(t, os.MkdirAll(bin, 0o755))
	must(t, os.WriteFile(filepath.Join(bin, "postgres"), []byte("#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n"), 0o755))
	in, err := reachable(Install{Bin: bin, Major: 99}, Dir(t))
	must(t, err)
	cmd, err := As(exec.Command(filepath.Join(in.Bin, "postgres")))
	must(t, err)
	cmd.Dir = "/"
	out, err := run(cmd)
	must(t, err)
	if out != "postgres (PostgreSQL) 99.1\n" || in.Major != 99 {
		t.Errorf("%q, %+v", out, in)
	}
}
