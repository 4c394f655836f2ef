package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// What a standby was set up with stays when setup runs again without it: slot,
// name, and the removal of what it does not need from the archive, which is there
// only if it was asked for, and works.
func TestSetupStandbyStays(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	old := r.primary
	setup := []string{"setup", "primary", "-D", old.Data, "--standby", "127.0.0.1", "--slot", "db2"}
	r.want(0, nil, setup...)
	must(t, old.Restart(testpg.Fast))
	r.want(0, []string{"archiving works"}, setup...)
	first := old.Archive(soon)
	r.takeBackup(old)
	data, port := filepath.Join(testpg.Dir(t), "standby"), testpg.FreePort(t)
	follow := []string{"setup", "standby", "-D", data, "--primary", fmt.Sprintf("127.0.0.1:%d", old.Port), "--port", fmt.Sprint(port)}
	r.want(0, nil, append(follow, "--slot", "db2", "--standby-name", "db 2")...)
	written := func() string {
		text, err := os.ReadFile(filepath.Join(data, "walship.conf"))
		must(t, err)
		return string(text)
	}
	if strings.Contains(written(), "archive_cleanup_command") {
		t.Fatal("archive_cleanup_command is there, and nobody has asked for it")
	}
	standby := testpg.AdoptAt(t, data, port, old.Sockets)
	must(t, standby.Start())
	r.want(0, []string{"streaming", "everything is as it should be"}, follow...)

	r.want(0, []string{"speaks of this one standby", "prune --keep-backups N", "reads its new settings when it is restarted"}, append(follow, "--archive-cleanup")...)
	before := written()
	r.want(0, []string{"everything is as it should be"}, follow...)
	if now := written(); now != before || !strings.Contains(now, "prune --keep-from %r --yes") || !strings.Contains(now, "primary_slot_name = 'db2'") || !strings.Contains(now, `application_name=''db 2''`) {
		t.Errorf("after a run without those flags:\n%s\nbefore:\n%s", now, before)
	}
	must(t, standby.Restart(testpg.Fast))
	testpg.WaitFor(t, soon, first+" to be removed from the archive", func() bool {
		old.Query("select pg_create_restore_point('on') \\g /dev/null\ncheckpoint")
		if _, err := standby.Psql("checkpoint"); err != nil { // a restartpoint, which runs the command
			return false
		}
		found, err := filepath.Glob(filepath.Join(r.root, "*", "wal", "*", first+".*"))
		return err == nil && len(found) == 0
	})
	if got := old.Query("select application_name || ' ' || active from pg_stat_replication, pg_replication_slots"); got != "db 2 true" {
		t.Errorf("the primary sees %q", got)
	}
	r.want(0, []string{"wrote"}, append(follow, "--archive-cleanup=false")...)
	if strings.Contains(written(), "archive_cleanup_command") {
		t.Error("it cannot be taken back")
	}

	// What somebody has written into postgresql.conf by hand is asked about once, and
	// replaced wherever it stands.
	conf := filepath.Join(data, "postgresql.conf")
	text, err := os.ReadFile(conf)
	must(t, err)
	must(t, os.WriteFile(conf, append(text, "primary_conninfo = 'host=elsewhere'\n"...), 0o600))
	r.want(5, []string{"primary_conninfo = 'host=elsewhere' (" + conf + ", line", "--force says yes"}, follow...)
	r.want(0, []string{"wrote " + conf}, append(follow, "--force")...)
	must(t, standby.Reload())
	testpg.WaitFor(t, soon, "the standby to read its files", func() bool { return strings.Contains(standby.Query("show primary_conninfo"), "user=walship") })
	r.want(0, []string{"everything is as it should be"}, follow...)
}
