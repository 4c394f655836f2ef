package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// The whole recipe: a primary and a standby are set up, one dies and comes back,
// the other is promoted, and the old primary rejoins.
func TestRecipe(t *testing.T) {
	t.Run("archive host", func(t *testing.T) {
		t.Parallel()
		theRecipe(t, testpg.Options{}, false)
	})
	t.Run("archive on the primary", func(t *testing.T) {
		t.Parallel()
		theRecipe(t, testpg.Options{}, true)
	})
}

// theRecipe plays it. onPrimary keeps the archive in a folder of the primary,
// which the standby reaches through SSH.
func theRecipe(t *testing.T, o testpg.Options, onPrimary bool) {
	host := testsshd.Options{}
	if onPrimary { // what arrives through SSH has to be the server's, too
		owner, err := testpg.ServerUser()
		must(t, err)
		host.User = owner.Name
	}
	r := newRecipeAt(t, o, host)
	from := r.admin // of the primary
	if onPrimary {
		from = newAdmin(t)
		from.path = r.path
	}
	old := r.primary
	setup := []string{"setup", "primary", "-D", old.Data, "--standby", "127.0.0.1"}
	if onPrimary {
		setup = append(setup, "--archive", "file://"+r.root)
	}
	from.want(0, []string{"restart needed"}, setup...)
	must(t, old.Restart(testpg.Fast))
	from.want(0, []string{"archiving works"}, setup...)
	old.Query("create table rows (n int primary key, at timestamptz)")
	if out, err := old.Pgbench("-i", "-q", "-I", "dtg"); err != nil {
		t.Fatal(out, err)
	}

	// The backup goes to the archive, or the copy comes from the primary.
	if !onPrimary {
		from.takeBackup(old)
	}
	r.takePassword(from)
	data := filepath.Join(testpg.Dir(t), "standby")
	port := testpg.FreePort(t)
	follow := []string{"setup", "standby", "-D", data, "--primary", fmt.Sprintf("127.0.0.1:%d", old.Port), "--port", fmt.Sprint(port)}
	r.want(0, []string{map[bool]string{true: "copied into", false: "restored into"}[onPrimary], "pg_ctl"}, follow...)
	standby := testpg.AdoptAt(t, data, port, old.Sockets)
	must(t, standby.Start())
	r.want(0, []string{"caught up", streams(old)}, follow...)

	// It follows, and takes no writes.
	if out, err := old.Pgbench("-c", "2", "-t", "50"); err != nil {
		t.Fatal(out, err)
	}
	insert(old)
	want, err := contents(old)
	must(t, err)
	waitContents(t, standby, want)
	if out, err := standby.Psql("insert into rows values (-1)"); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Fatalf("the standby takes a write: %s %v", out, err)
	}

	// Killed, and behind by more than the primary keeps: the archive has it.
	must(t, standby.Kill9())
	for range 6 {
		old.Query("select pg_create_restore_point('away') \\g /dev/null\ninsert into rows select count(*) + 1, now() from rows")
		old.Archive(soon)
	}
	old.Query("checkpoint")
	insert(old)
	want, err = contents(old)
	must(t, err)
	standby.ClearLog()
	must(t, standby.Start())
	waitContents(t, standby, want)
	standby.WaitLog(soon, "restored log file")
	r.want(0, []string{streams(old), "everything is as it should be"}, follow...)

	// Failover: the last row has been streamed when the primary dies. The segment of
	// its last checkpoint goes with the recovery at the begin of pg_rewind, which
	// needs it then: the archive has it.
	old.Query("checkpoint")
	old.Archive(soon)
	last := insert(old)
	testpg.WaitFor(t, soon, "the last row on the standby", func() bool {
		n, err := standby.Psql("select count(*) from rows")
		return err == nil && n == last
	})
	must(t, old.Kill9())
	if onPrimary && standby.Major >= 12 && standby.Major < 16 {
		must(t, os.WriteFile(filepath.Join(data, "walship.promote"), nil, 0o600))
		must(t, testpg.Own(filepath.Join(data, "walship.promote")))
	} else {
		must(t, standby.Promote())
	}
	must(t, standby.WaitPrimary(soon))
	insert(standby)
	standby.Archive(soon)
	if found, _ := filepath.Glob(filepath.Join(r.root, "*", "history", "00000002.history*")); len(found) == 0 {
		t.Error("the new timeline's history is not in the archive")
	}
	want, err = contents(standby)
	must(t, err)

	// The old primary rejoins: only if that is agreed to, and then it follows.
	rejoin := []string{"setup", "standby", "-D", old.Data, "--primary", fmt.Sprintf("127.0.0.1:%d", port), "--port", fmt.Sprint(old.Port)}
	from.want(5, []string{"is no standby", "--rejoin"}, rejoin...)
	rejoin = append(rejoin, "--rejoin")
	if !canRewind(old) {
		r.takeBackup(standby)
		rejoin = append(rejoin, "--new-copy")
	}
	from.want(5, []string{"parted timeline 1 went on as 2 at", "is lost, unless you save it first"}, rejoin...)
	from.want(0, []string{"parted"}, append(rejoin, "--force")...)
	old.ClearLog()
	must(t, old.Start())
	waitContents(t, old, want)
	from.want(0, []string{streams(standby)}, rejoin...)
	if n := standby.Query("select count(*) from pg_stat_replication where state = 'streaming'"); n != "1" {
		t.Errorf("%s servers stream from the new primary", n)
	}
}

// takeBackup takes a base backup of the cluster.
func (a *admin) takeBackup(c *testpg.Cluster) {
	a.t.Helper()
	a.env = []string{"PGHOST=" + c.Sockets, fmt.Sprintf("PGPORT=%d", c.Port)}
	a.want(0, nil, "backup", "--checkpoint", "fast")
	a.env = nil
}

// streams is what setup says of a standby that streams from c.
func streams(c *testpg.Cluster) string { return "streaming from 127.0.0.1" }

// canRewind reports whether the server's install brings pg_rewind.
func canRewind(c *testpg.Cluster) bool {
	_, err := os.Stat(filepath.Join(c.Bin, "pg_rewind"))
	return err == nil
}

// takePassword copies the password file from the primary's admin.
func (r *recipe) takePassword(from *admin) {
	r.t.Helper()
	if from == r.admin {
		return
	}
	text, err := os.ReadFile(from.config("pgpass"))
	must(r.t, err)
	must(r.t, os.WriteFile(r.config("pgpass"), text, 0o600))
	must(r.t, testpg.Own(r.config("pgpass")))
}
