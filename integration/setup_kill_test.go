package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// startable fails the test if the server would not start with the files as they
// are now.
func (r *recipe) startable(step string) {
	r.t.Helper()
	if out, err := r.primary.Run("postgres", "-D", r.primary.Data, "-C", "archive_mode"); err != nil {
		r.t.Fatalf("killed at %s: the server would not start: %s %v", step, out, err)
	}
	if bad := r.primary.Query("select name, error from pg_file_settings where error is not null and error <> 'setting could not be applied'"); bad != "" {
		r.t.Fatalf("killed at %s: %s", step, bad)
	}
}

// killed runs setup with a death at that step, and reports whether it died.
func (r *recipe) killed(step string, args ...string) bool {
	r.t.Helper()
	r.env = append(r.env, "WALSHIP_FAULT="+step+"=kill")
	got := r.run(args...)
	r.env = r.env[:len(r.env)-1]
	if got.code != -1 && got.code != 0 {
		r.t.Fatalf("at %s: %v", step, got)
	}
	return got.code == -1
}

// Killed at any step, setup primary leaves a server that can start, and a second
// run completes what the first has begun; so with undo.
func TestSetupPrimaryKilled(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	r.binary = testbin.Faulty(t)
	setup := []string{"setup", "primary", "-D", r.primary.Data, "--standby", "127.0.0.1"}
	undo := []string{"setup", "undo", "-D", r.primary.Data}
	untouched, err := os.ReadFile(filepath.Join(r.primary.Data, "postgresql.conf"))
	must(t, err)
	again := func(step string) {
		t.Helper()
		r.startable(step)
		r.want(0, []string{"restart needed for archive_mode"}, setup...)
		before := r.settled()
		r.want(0, []string{"restart needed for archive_mode"}, setup...)
		same(t, "a run after that which completed "+step, before, r.settled())
	}
	// Each run gets one file further.
	deaths := 0
	for ; deaths < 10 && r.killed("setup.renamed", setup...); deaths++ {
		r.startable("setup.renamed")
	}
	if deaths != 4 { // password file, walship.conf, postgresql.conf, pg_hba.conf
		t.Errorf("%d deaths at setup.renamed", deaths)
	}
	again("setup.renamed")
	for _, step := range []string{"setup.archive", "setup.passfile", "setup.role", "setup.noted", "setup.saved", "setup.written", "setup.files"} {
		r.want(0, nil, undo...)
		r.primary.Query("drop role if exists walship")
		must(t, os.RemoveAll(r.config("pgpass")))
		if !r.killed(step, setup...) {
			t.Fatalf("it does not come to %s", step)
		}
		again(step)
	}
	for deaths = 0; deaths < 10 && r.killed("setup.undone", undo...); deaths++ {
		r.startable("setup.undone")
	}
	if now, err := os.ReadFile(filepath.Join(r.primary.Data, "postgresql.conf")); deaths != 3 || err != nil || string(now) != string(untouched) {
		t.Errorf("%d deaths at setup.undone; %v, postgresql.conf is as it was: %v", deaths, err, string(now) == string(untouched))
	}
}

// The same for setup standby: in the end the standby follows. And what keeps a
// server from being made a standby is said.
func TestSetupStandbyKilled(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	setup := []string{"setup", "primary", "-D", r.primary.Data, "--standby", "127.0.0.1"}
	r.want(0, nil, setup...)
	must(t, r.primary.Restart(testpg.Fast))
	r.want(0, []string{"archiving works"}, setup...)

	r.binary = testbin.Faulty(t)
	data := filepath.Join(testpg.Dir(t), "standby")
	port := testpg.FreePort(t)
	at := fmt.Sprintf("127.0.0.1:%d", r.primary.Port)
	follow := []string{"setup", "standby", "-D", data, "--primary", at, "--port", fmt.Sprint(port)}

	// Errors first: they leave nothing.
	r.want(2, []string{"-D DIR is missing"}, "setup", "standby", "--primary", at)
	r.want(2, []string{"--primary HOST is missing"}, "setup", "standby", "-D", data)
	r.want(17, []string{"connection refused", "does the server run at 127.0.0.1:1, and listen to more than its own machine"}, "setup", "standby", "-D", data, "--primary", "127.0.0.1:1")
	r.want(13, []string{"is not empty, and no data directory"}, "setup", "standby", "-D", r.home, "--primary", at)
	r.want(17, []string{"127.0.0.1"}, append(follow, "--role", "nobody")...)
	r.want(13, []string{"there is no password file", "copy it from the primary"}, append(follow, "--passfile", r.config("none"))...)
	pass, err := os.ReadFile(r.config("pgpass"))
	must(t, err)
	wrong := r.config("wrong")
	must(t, os.WriteFile(wrong, []byte("*:*:*:walship:wrong\n"), 0o644))
	must(t, testpg.Own(wrong))
	r.want(13, []string{"can be read by others", "chmod 600"}, append(follow, "--passfile", wrong)...)
	must(t, os.Chmod(wrong, 0o600))
	got := r.want(17, []string{"password authentication failed", "comes from " + wrong, "a copy of the file that setup primary has made"}, append(follow, "--passfile", wrong)...)
	if strings.Contains(got.stderr, strings.TrimSpace(string(pass))) {
		t.Error("the password is shown")
	}
	hba := filepath.Join(r.primary.Data, "pg_hba.conf")
	lets, err := os.ReadFile(hba)
	must(t, err)
	must(t, os.WriteFile(hba, append([]byte("host replication walship 127.0.0.1/32 reject\n"), lets...), 0o600))
	must(t, r.primary.Reload())
	testpg.WaitFor(t, soon, "the primary to read its pg_hba.conf", func() bool {
		return strings.Contains(r.run(append(follow, "--dry-run")...).stderr, "pg_hba.conf rejects")
	})
	r.want(17, []string{"pg_hba.conf rejects", "on the primary, walship setup primary --standby with this machine's address"}, follow...)
	must(t, os.WriteFile(hba, lets, 0o600))
	must(t, r.primary.Reload())
	testpg.WaitFor(t, soon, "the primary to read its pg_hba.conf", func() bool { return r.run(append(follow, "--dry-run")...).code == 0 })
	other := bare(t, testpg.Options{})
	r.want(5, []string{"holds cluster", "is cluster", "a standby is a copy of its primary"}, "setup", "standby", "-D", other.Data, "--primary", at)
	r.want(0, []string{"would run", "nothing was changed"}, append(follow, "--dry-run")...)
	if _, err := os.Stat(data); err == nil {
		t.Error("what has failed has made the data directory")
	}

	for _, step := range []string{"setup.standby", "setup.basebackup", "setup.copied"} {
		if !r.killed(step, follow...) {
			t.Fatalf("it does not come to %s", step)
		}
	}
	for n := 0; r.killed("setup.renamed", follow...); n++ {
		if n == 10 {
			t.Fatal("it dies at setup.renamed again and again")
		}
	}
	standby := testpg.AdoptAt(t, data, port, r.primary.Sockets)
	must(t, standby.Start())
	r.want(0, []string{"caught up", "streaming", "everything is as it should be"}, follow...)

	// What ALTER SYSTEM has set wins over walship's file: it is replaced on a yes.
	standby.Query("alter system set primary_conninfo = 'host=elsewhere'")
	r.want(5, []string{"primary_conninfo = 'host=elsewhere'", "postgresql.auto.conf, line", "--force says yes"}, follow...)
	r.want(0, []string{"wrote " + filepath.Join(data, "postgresql.auto.conf")}, append(follow, "--force")...)
	must(t, standby.Reload())
	r.want(0, []string{"streaming", "everything is as it should be"}, follow...)
	r.want(5, []string{"would start as a second primary"}, "setup", "undo", "-D", data)
	r.want(17, []string{"this server is a standby"}, "setup", "primary", "-D", data)
	r.want(5, []string{"is no standby", "--rejoin"}, "setup", "standby", "-D", r.primary.Data, "--primary", at)
	r.want(17, []string{"runs", "stop it first"}, "setup", "standby", "-D", r.primary.Data, "--primary", at, "--rejoin")
}

// With --restart and --start two commands do it all.
func TestSetupRestartAndStart(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	data := filepath.Join(testpg.Dir(t), "standby")
	port := testpg.FreePort(t)
	for _, dir := range []string{r.primary.Data, data} {
		t.Cleanup(func() { // who started them is pg_ctl
			_, _ = r.primary.Run("pg_ctl", "-D", dir, "-m", "immediate", "stop") // it may not run
		})
	}
	r.want(0, []string{"restart for archive_mode", "archiving works", "walship backup, and then: copy"}, "setup", "primary", "-D", r.primary.Data, "--standby", "127.0.0.1", "--restart", "--slot", "db2")
	follow := []string{"setup", "standby", "-D", data, "--primary", fmt.Sprintf("127.0.0.1:%d", r.primary.Port), "--port", fmt.Sprint(port), "--slot", "db2", "--standby-name", "db2"}
	r.want(0, []string{"copied into", "caught up", "streaming from 127.0.0.1"}, append(follow, "--start")...)
	if got := r.primary.Query("select application_name, state, usename from pg_stat_replication"); got != "db2|streaming|walship" {
		t.Errorf("the primary sees %q", got)
	}
	if got := r.primary.Query("select slot_name, active from pg_replication_slots"); got != "db2|t" {
		t.Errorf("the slot is %q", got)
	}
	r.want(0, []string{"everything is as it should be"}, follow...)
	r.want(0, []string{"everything is as it should be"}, append(follow, "--start")...)
}
