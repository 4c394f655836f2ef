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

// recipe is a primary that is not set up for anything, an archive host, and the
// admin who is going to set it up.
type recipe struct {
	*admin
	sshd    *testsshd.Server
	root    string // the archive's folder on the host
	primary *testpg.Cluster
}

// newRecipe has an SSH that is set up already: the key is in, the host is known.
func newRecipe(t testing.TB, o testpg.Options) *recipe {
	t.Helper()
	return newRecipeAt(t, o, testsshd.Options{})
}

func newRecipeAt(t testing.TB, o testpg.Options, host testsshd.Options) *recipe {
	t.Helper()
	r := &recipe{admin: newAdmin(t), sshd: testsshd.Start(t, host)}
	r.root = filepath.Join(testpg.Dir(t), "archive")
	a := r.want(9, nil, "setup", "ssh", "--archive", r.url(), "--accept-new")
	must(t, os.WriteFile(r.sshd.Authorized, []byte(keyLine(t, a.stdout)), 0o644))
	r.want(0, nil, "setup", "ssh")
	r.primary = bare(t, o)
	r.path = r.primary.Bin + ":"
	must(t, r.primary.Start())
	return r
}

// bare is a cluster as initdb leaves it, but for what a test needs.
func bare(t testing.TB, o testpg.Options) *testpg.Cluster {
	t.Helper()
	own := o.Conf
	o.Conf = nil
	c := testpg.New(t, o)
	conf := filepath.Join(c.Data, "postgresql.conf")
	text, err := os.ReadFile(conf)
	must(t, err)
	for _, name := range []string{"wal_level", "max_wal_senders", "hot_standby", "listen_addresses"} {
		text = removeSetting(text, name)
	}
	must(t, os.WriteFile(conf, text, 0o600))
	must(t, testpg.Own(conf))
	c.SetConf(own)
	return c
}

// removeSetting takes the lines away that set a name.
func removeSetting(text []byte, name string) []byte {
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name+" ") {
			kept.WriteString(line)
		}
	}
	return []byte(kept.String())
}

func (r *recipe) url() string { return r.sshd.URL(r.root) }

// setup runs setup primary for the cluster.
func (r *recipe) setupPrimary(code int, texts []string, flags ...string) result {
	r.t.Helper()
	return r.want(code, texts, append([]string{"setup", "primary", "-D", r.primary.Data}, flags...)...)
}

// settled are the folders that must not change by a run that changes nothing:
// walship's own, and of the data directory what lies at its top, where all
// configuration is. The server itself writes below.
func (r *recipe) settled() map[string]string {
	r.t.Helper()
	return fingerprint(r.t, func(path string) bool {
		rest, inside := strings.CutPrefix(path, r.primary.Data+"/")
		return inside && (strings.Contains(rest, "/") || strings.HasPrefix(rest, "postmaster."))
	}, r.home, r.primary.Data)
}

// A server that archives nothing is set up: a dry run changes nothing, the run
// needs a restart and says so, the next one sees a segment arrive, the one after
// it changes nothing, and undo puts every byte back.
func TestSetupPrimary(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{Conf: map[string]string{
		"log_statement": "all",
		// No page is written but by a checkpoint, and none comes by itself.
		"autovacuum": "off", "bgwriter_lru_maxpages": "0", "checkpoint_timeout": "1h",
	}})
	untouched := r.settled()
	r.primary.Query("select count(*) from pg_roles where rolname = 'walship'; checkpoint")
	// The server itself writes there, a record now and then also while nobody asks.
	server := func(path string) bool {
		rest := strings.TrimPrefix(path, r.primary.Data)
		return strings.HasPrefix(rest, "/pg_dynshmem") || strings.HasPrefix(rest, "/pg_wal") || strings.HasPrefix(rest, "/pg_stat_tmp")
	}
	whole := fingerprint(t, server, r.home, r.primary.Data)

	r.setupPrimary(0, []string{"+archive_mode = 'on'", "+include 'walship.conf'", "would run CREATE ROLE", "nothing was changed"}, "--standby", "127.0.0.1", "--dry-run")
	same(t, "a dry run", whole, fingerprint(t, server, r.home, r.primary.Data))
	if out := r.primary.Query("select count(*) from pg_roles where rolname = 'walship'"); out != "0" {
		t.Fatal("a dry run has made the role")
	}

	r.setupPrimary(0, []string{"archive made", "ran CREATE ROLE", "restart needed for archive_mode"}, "--standby", "127.0.0.1")
	password := r.password()
	if info, err := os.Stat(r.config("pgpass")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password file: %v, %v", info, err)
	}
	if strings.Contains(r.primary.Log(), password) || !strings.Contains(r.primary.Log(), "SCRAM-SHA-256$4096:") {
		t.Errorf("the server's log shows the password, or no statement at all")
	}
	must(t, r.primary.Restart(testpg.Fast))
	r.setupPrimary(0, []string{"archiving works:", "was closed and is in the archive"}, "--standby", "127.0.0.1")
	if found, _ := filepath.Glob(filepath.Join(r.root, "*", "wal", "*", "*.zst")); len(found) == 0 {
		t.Error("no segment is in the archive")
	}

	// The role logs in with its password, over TCP, for replication, and not without.
	conn := fmt.Sprintf("host=127.0.0.1 port=%d user=walship dbname=replication replication=1", r.primary.Port)
	if _, err := r.primary.Run("psql", "-XAtqw", conn+" passfile="+r.config("pgpass"), "-c", "IDENTIFY_SYSTEM"); err != nil {
		t.Errorf("the role does not get in: %v", err)
	}
	if _, err := r.primary.Run("psql", "-XAtqw", conn+" passfile=/dev/null", "-c", "IDENTIFY_SYSTEM"); err == nil {
		t.Error("the role gets in without its password")
	}

	before := r.settled()
	r.setupPrimary(0, []string{"everything is as it should be"}, "--standby", "127.0.0.1")
	r.setupPrimary(0, []string{"everything is as it should be"}) // what was asked for before stays
	r.setupPrimary(0, []string{"everything is as it should be"}, "--standby", "127.0.0.1", "--dry-run")
	same(t, "a second run", before, r.settled())

	// Undo: refused while a file is not what setup has left, then byte for byte.
	conf := filepath.Join(r.primary.Data, "postgresql.conf")
	text, err := os.ReadFile(conf)
	must(t, err)
	must(t, os.WriteFile(conf, append(text, "# mine\n"...), 0o600))
	changed := r.settled()
	r.want(5, []string{"postgresql.conf: the file has changed meanwhile"}, "setup", "undo", "-D", r.primary.Data)
	same(t, "a refused undo", changed, r.settled())
	must(t, os.WriteFile(conf, text, 0o600))
	r.want(0, []string{"put back " + conf, "removed"}, "setup", "undo", "-D", r.primary.Data)
	for path, sum := range r.settled() {
		if inside := strings.HasPrefix(path, r.primary.Data); inside && untouched[path] != sum {
			t.Errorf("after undo %s is %q, was %q", path, sum, untouched[path])
		}
	}
	must(t, r.primary.Restart(testpg.Fast))
	if out := r.primary.Query("show archive_mode"); out != "off" {
		t.Errorf("after undo archive_mode is %s", out)
	}
}

// password is the one in the password file.
func (r *recipe) password() string {
	r.t.Helper()
	text, err := os.ReadFile(r.config("pgpass"))
	must(r.t, err)
	line := strings.TrimSpace(string(text))
	return line[strings.LastIndex(line, ":")+1:]
}

// What the administrator has set is kept, and what stands against archiving is
// replaced only if that is agreed to, wherever it stands.
func TestSetupPrimaryConflicts(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{Conf: map[string]string{
		"archive_mode": "on", "archive_command": "cp %p /nowhere/%f", "wal_level": "logical", "archive_timeout": "300", "max_wal_senders": "7",
	}})
	before := r.settled()
	r.setupPrimary(5, []string{"archive_command = 'cp %p /nowhere/%f'", "postgresql.conf, line", "--force says yes",
		"kept wal_level = 'logical'", "kept archive_timeout = '300'", "kept max_wal_senders = '7'"}, "--standby", "127.0.0.1")
	same(t, "a refused change", before, r.settled())

	// ALTER SYSTEM wins over every line of postgresql.conf.
	r.primary.Query("alter system set archive_command = 'true'")
	r.setupPrimary(5, []string{"archive_command = 'true'", "postgresql.auto.conf, line"}, "--standby", "127.0.0.1")
	r.setupPrimary(0, []string{"ran ALTER SYSTEM RESET archive_command", "archiving works"}, "--force")
	if got := r.primary.Query("show archive_command"); !strings.Contains(got, "walship") || !strings.HasSuffix(got, " push %p %f") {
		t.Errorf("archive_command is %q", got)
	}
	r.setupPrimary(0, []string{"everything is as it should be"}) // agreed to once is enough

	// A line behind the include wins, too.
	conf := filepath.Join(r.primary.Data, "postgresql.conf")
	text, err := os.ReadFile(conf)
	must(t, err)
	must(t, os.WriteFile(conf, append(text, "archive_command = 'false'\n"...), 0o600))
	r.setupPrimary(5, []string{"archive_command = 'false'"})
	r.setupPrimary(0, []string{"archiving works"}, "--force")
	if got := r.primary.Query("show archive_command"); !strings.Contains(got, "walship") {
		t.Errorf("archive_command is %q", got)
	}
	r.setupPrimary(0, []string{"everything is as it should be"})
}

// What goes wrong is said in one line, with what to do, and changes nothing.
func TestSetupPrimaryErrors(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, testpg.Options{})
	before := r.settled()
	r.primary.Query("create role plain login")
	r.want(13, []string{"not a PostgreSQL data directory"}, "setup", "primary", "-D", r.home)
	r.setupPrimary(2, []string{`--slot "No!"`}, "--slot", "No!")
	r.setupPrimary(2, []string{"is no address"}, "--standby", "a b")
	r.env = []string{"PGUSER=plain"}
	r.setupPrimary(17, []string{"role plain is no superuser", "PGUSER"})
	r.env = []string{"PGUSER=nobody"}
	r.setupPrimary(17, []string{`role "nobody" does not exist`})
	r.env = nil
	same(t, "after refusals", before, r.settled())

	// The archive host is gone, or no longer who it was.
	r.sshd.Stop()
	r.setupPrimary(8, []string{"archive unreachable", "connection refused"})
	r.sshd.Restart()
	authorized, err := os.ReadFile(r.sshd.Authorized)
	must(t, err)
	must(t, os.WriteFile(r.sshd.Authorized, nil, 0o644))
	r.setupPrimary(9, []string{"login refused", "walship setup ssh leads to a login that works"})
	stranger, _ := testsshd.NewKey(t, "stranger", "")
	must(t, os.WriteFile(r.config("known_hosts"), []byte(r.sshd.KnownHostsLine(stranger.PublicKey())), 0o644))
	r.setupPrimary(9, []string{"host key", "has changed"})

	// Archiving that does not work is found out, with the reason.
	must(t, os.WriteFile(r.config("known_hosts"), []byte(r.sshd.KnownHostsLine(r.sshd.HostKeys[0])), 0o644))
	must(t, os.WriteFile(r.sshd.Authorized, authorized, 0o644))
	r.setupPrimary(0, []string{"restart needed"})
	must(t, r.primary.Restart(testpg.Fast))
	wal, err := filepath.Glob(filepath.Join(r.root, "*", "wal"))
	if err != nil || len(wal) != 1 {
		t.Fatalf("%v %v", wal, err)
	}
	must(t, os.WriteFile(filepath.Join(wal[0], "0000000100000000"), nil, 0o600))
	r.setupPrimary(17, []string{"it cannot archive 0000000100000000000000", "(archived 0, failed", "the folder has vanished"})

	// A port where nobody listens, and a server that is stopped.
	r.env = []string{"PGHOST=127.0.0.1", "PGPORT=1"}
	r.want(17, []string{"connection refused", "does the server run"}, "setup", "primary")
	r.env = nil
	must(t, r.primary.Stop(testpg.Fast))
	r.setupPrimary(17, []string{"no server runs in " + r.primary.Data, "start it"})
}
