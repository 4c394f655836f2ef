package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// guardLimit is how long what must happen may take on a loaded machine.
const guardLimit = 90 * time.Second

// guardArchive is an archive in a local folder.
type guardArchive struct {
	t       *testing.T
	root    string
	walship string
}

func newGuardArchive(t *testing.T) *guardArchive {
	return &guardArchive{t, testpg.Dir(t), testbin.Walship(t)}
}

// copy is the same archive once more, for a test that breaks it.
func (a *guardArchive) copy(t *testing.T) *guardArchive {
	b := newGuardArchive(t)
	must(t, os.CopyFS(filepath.Join(b.root, "copy"), os.DirFS(a.root)))
	b.root = filepath.Join(b.root, "copy")
	must(t, testpg.Own(b.root))
	return b
}

func (a *guardArchive) url() string { return "file://" + a.root }

// push is an archive_command, fetch a restore_command.
func (a *guardArchive) push(flags ...string) string {
	return strings.Join(append([]string{a.walship, "push", "--archive=" + a.url()}, append(flags, "%p", "%f")...), " ")
}

func (a *guardArchive) fetch(flags ...string) string {
	return strings.Join(append([]string{a.walship, "fetch", "--archive=" + a.url()}, append(flags, "%f", "%p")...), " ")
}

// stored is the path of the file that holds the WAL file, "" if there is none.
func (a *guardArchive) stored(name string) string {
	a.t.Helper()
	found := ""
	must(a.t, filepath.WalkDir(a.root, func(path string, _ fs.DirEntry, err error) error {
		if filepath.Base(path) == name+".zst" && !strings.Contains(path, "/refused/") {
			found = path
		}
		return err
	}))
	return found
}

// take moves a stored file out of the archive; the function that it returns
// brings it back.
func (a *guardArchive) take(name string) (back func()) {
	a.t.Helper()
	path := a.stored(name)
	if path == "" {
		a.t.Fatalf("%s is not archived", name)
	}
	kept := filepath.Join(testpg.Dir(a.t), "kept")
	must(a.t, os.Rename(path, kept))
	return func() {
		a.t.Helper()
		must(a.t, os.Rename(kept, path))
	}
}

// refused lists what lies under refused/.
func (a *guardArchive) refused() []string {
	a.t.Helper()
	found, err := filepath.Glob(filepath.Join(a.root, "*", "refused", "*"))
	must(a.t, err)
	return found
}

// guardPrimary starts a primary that archives into a, with the table t.
func guardPrimary(t *testing.T, a *guardArchive, conf map[string]string) *testpg.Cluster {
	t.Helper()
	p := testpg.New(t, testpg.Options{SegmentMB: 1, Checksums: true, Conf: map[string]string{
		"listen_addresses": "", // the socket is enough, and no port can be taken
		"autovacuum":       "off",
		"archive_mode":     "on",
		"archive_command":  a.push(),
		"wal_keep_size":    "64MB",
	}})
	p.SetConf(conf)
	_, err := p.Run(a.walship, "init", "-D", p.Data, "--archive="+a.url())
	must(t, err)
	must(t, p.Start())
	p.Query("create table t (n serial, tag text)")
	return p
}

// guardBackup takes a base backup without WAL.
func guardBackup(t *testing.T, c *testpg.Cluster) string {
	t.Helper()
	backup := filepath.Join(c.Base, "backup")
	must(t, c.BaseBackup(backup, false))
	return backup
}

// guardServer makes a server of a base backup that will recover. It does not
// archive, unless settings say so, and aims at the latest timeline.
func guardServer(t *testing.T, backup string, standby bool, settings map[string]string) *testpg.Cluster {
	t.Helper()
	c := testpg.Restore(t, backup)
	c.SetConf(map[string]string{"archive_mode": "off", "recovery_target_timeline": "latest"})
	c.WriteRecovery(standby, settings)
	return c
}

func guardAdd(c *testpg.Cluster, tags ...string) {
	for _, tag := range tags {
		c.Query("insert into t (tag) values ('" + tag + "')")
	}
}

// guardRows are the tags in the order of their insertion; "" while the server
// does not answer.
func guardRows(c *testpg.Cluster) string {
	out, err := c.Psql("select string_agg(tag, ' ' order by n) from t")
	if err != nil {
		return ""
	}
	return out
}

func guardWaitRows(t *testing.T, c *testpg.Cluster, want string) {
	t.Helper()
	last := ""
	testpg.WaitFor(t, guardLimit, "rows "+want, func() bool {
		last = guardRows(c)
		return last == want
	})
}

func guardTimeline(c *testpg.Cluster) string {
	return c.Query("checkpoint; select timeline_id from pg_control_checkpoint()")
}

// guardPromote makes a standby a primary.
func guardPromote(t *testing.T, c *testpg.Cluster) {
	t.Helper()
	must(t, c.Promote())
	must(t, c.WaitPrimary(guardLimit))
}

// guardRecovers starts a server and waits until it has recovered and is a
// primary with these rows.
func guardRecovers(t *testing.T, c *testpg.Cluster, want string) {
	t.Helper()
	must(t, c.Start())
	must(t, c.WaitPrimary(guardLimit))
	if got := guardRows(c); got != want {
		t.Errorf("recovered %q, want %q", got, want)
	}
}

// guardStops starts a server whose recovery must stop with FATAL, as fetch exits
// with 126 ("command not executable"), and a line of walship's that matches why.
// Nothing is lost: the server can be started again.
func guardStops(t *testing.T, c *testpg.Cluster, why string) {
	t.Helper()
	c.ClearLog()
	must(t, c.Launch())
	if code, err := c.WaitExit(guardLimit); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v", code, err)
	}
	log := c.Log()
	for _, pattern := range []string{why, `FATAL:  could not restore file "[0-9A-F]{8,24}(\.history)?" from archive: command not executable`} {
		if !regexp.MustCompile(pattern).MatchString(log) {
			t.Fatalf("no %q in the log:\n%s", pattern, log)
		}
	}
	if strings.Contains(log, "selected new timeline") {
		t.Fatalf("it was promoted:\n%s", log)
	}
}

// guardFailures is how often the archiver has failed.
func guardFailures(c *testpg.Cluster) string {
	return c.Query("select failed_count from pg_stat_archiver")
}

// guardNoChild is what PostgreSQL says of a timeline that left its own before the
// point up to which it has recovered already.
const guardNoChild = "(is not a child of this server's history|does not contain minimum recovery point)"

// guardDead is a primary_conninfo that leads nowhere.
func guardDead(c *testpg.Cluster) string { return fmt.Sprintf("host=%s port=1", c.Base) }

// guardScript writes an executable script that the server can run.
func guardScript(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(testpg.Dir(t), "script")
	must(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
	return path
}
