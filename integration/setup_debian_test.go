package integration_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// debian is a place where Debian's own tools keep clusters, apart from those of
// the machine: PG_CLUSTER_CONF_ROOT leads them, and walship, there.
type debian struct {
	*admin
	base    string // etc, lib and log are below it
	version string
}

func newDebian(a *admin) *debian {
	a.t.Helper()
	install, err := testpg.Find(0)
	must(a.t, err)
	d := &debian{admin: a, base: testpg.Dir(a.t), version: strconv.Itoa(install.Major)}
	a.env = append(a.env, "PG_CLUSTER_CONF_ROOT="+filepath.Join(d.base, "etc"))
	return d
}

// tool runs a program as the server's user, and wants it to succeed.
func (d *debian) tool(name string, args ...string) string {
	d.t.Helper()
	cmd, err := testpg.As(exec.Command(name, args...))
	must(d.t, err)
	cmd.Dir = "/"
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "LC_ALL=C", "HOME=" + d.home}, d.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// debianCluster is one made by pg_createcluster: its configuration lies in etc,
// its data in lib.
type debianCluster struct {
	*debian
	name, etc, data string
	port            int
}

// create makes a cluster, which is stopped and removed in the end.
func (d *debian) create(name string) *debianCluster {
	d.t.Helper()
	c := &debianCluster{
		debian: d, name: name, port: testpg.FreePort(d.t),
		etc: filepath.Join(d.base, "etc", d.version, name), data: filepath.Join(d.base, "lib", name),
	}
	d.t.Cleanup(func() {
		cmd, err := testpg.As(exec.Command("pg_ctlcluster", d.version, name, "stop", "-m", "immediate"))
		must(d.t, err)
		cmd.Dir, cmd.Env = "/", append([]string{"PATH=/usr/bin:/bin"}, d.env...)
		_ = cmd.Run() // it may not run
	})
	d.tool("pg_createcluster", "--createclusterconf=/dev/null", "-d", c.data, "-s", d.base, "-l", filepath.Join(d.base, name+".log"), "-p", fmt.Sprint(c.port),
		"-o", "fsync=off", "-o", "shared_buffers=16MB", "-o", "dynamic_shared_memory_type=mmap", d.version, name, "--", "--no-sync", "--locale=C")
	return c
}

func (c *debianCluster) ctl(action ...string) {
	c.t.Helper()
	c.tool("pg_ctlcluster", append([]string{c.version, c.name}, action...)...)
}

func (c *debianCluster) query(sql string) string {
	c.t.Helper()
	return c.tool("psql", "-XAtqw", "-v", "ON_ERROR_STOP=1", "-h", c.base, "-p", fmt.Sprint(c.port), "-d", "postgres", "-c", sql)
}

// files sums up the cluster's configuration, and the top of its data directory,
// where what makes a server a standby lies.
func (c *debianCluster) files() map[string]string {
	c.t.Helper()
	return fingerprint(c.t, func(path string) bool {
		rest, inside := strings.CutPrefix(path, c.data+"/")
		return inside && (strings.Contains(rest, "/") || strings.HasPrefix(rest, "postmaster."))
	}, c.etc, c.data)
}

// odd makes a postgresql.conf of what there is only more of the kind that people
// leave behind: settings given twice, an include, CRLF, UTF-8 and Latin-1 in
// comments, and no newline at the end.
func (c *debianCluster) odd() {
	c.t.Helper()
	path := filepath.Join(c.etc, "postgresql.conf")
	text, err := os.ReadFile(path)
	must(c.t, err)
	lines := strings.ReplaceAll(string(text), "\n", "\r\n")
	lines += "include 'mine.conf'\r\n# Größe, gro\xdfe Gr\xfc\xdfe\r\nwork_mem = 5MB\r\n  WORK_MEM '6MB'   # twice\r\nmaintenance_work_mem=17MB # no newline"
	must(c.t, os.WriteFile(path, []byte(lines), 0o644))
	must(c.t, os.WriteFile(filepath.Join(c.etc, "mine.conf"), []byte("max_connections = 23\n"), 0o644))
	must(c.t, testpg.Own(c.etc))
}

// Debian's layout, with Debian's own tools: of two clusters of one user only the
// one that is meant is changed and restarted, through pg_ctlcluster; a third
// follows it. A configuration that is full of oddities survives, and undo puts
// every byte back.
func TestSetupDebian(t *testing.T) {
	t.Parallel()
	d := newDebian(newAdmin(t))
	archive := filepath.Join(testpg.Dir(t), "archive")
	must(t, os.Mkdir(archive, 0o700))
	must(t, testpg.Own(archive))
	one, other := d.create("main"), d.create("other")
	one.odd()
	one.ctl("start")
	other.ctl("start")
	one.query("checkpoint")
	untouched, others, started := one.files(), other.files(), other.query("select pg_postmaster_start_time()")

	d.want(2, []string{"several servers run here: name one with -D: " + one.data + ", " + other.data}, "setup", "primary", "--archive", "file://"+archive)
	tcp := []string{"PGHOST=127.0.0.1", fmt.Sprintf("PGPORT=%d", one.port)}
	login := func(env []string, texts ...string) {
		t.Helper()
		d.env = append(d.env, env...)
		d.want(17, append(texts, "password authentication failed"), "setup", "primary", "--archive", "file://"+archive)
		d.env = d.env[:len(d.env)-len(env)]
	}
	login(tcp, "no password was given", "~/.pgpass")
	login(append(tcp, "PGPASSWORD=wrong"), "the password comes from PGPASSFILE, ~/.pgpass, PGPASSWORD")
	setup := []string{"setup", "primary", "-D", one.data, "--archive", "file://" + archive, "--standby", "127.0.0.1"}
	d.want(0, []string{"+++ " + one.etc + "/walship.conf", "+include 'walship.conf'", "nothing was changed"}, append(setup, "--dry-run")...)
	same(t, "a dry run", untouched, one.files())
	before := one.query("select pg_postmaster_start_time()")
	d.want(0, []string{"wrote " + one.etc + "/walship.conf", "pg_ctlcluster " + d.version + " main restart", "archiving works"}, append(setup, "--restart")...)
	if now := one.query("select pg_postmaster_start_time()"); now == before {
		t.Error("the server was not restarted")
	}
	if got := one.query("select setting || ' ' || current_setting('max_connections') || ' ' || current_setting('archive_mode') from pg_settings where name = 'work_mem'"); got != "6144 23 on" {
		t.Errorf("after the restart: %s", got)
	}
	settled := one.files()
	d.want(0, []string{"everything is as it should be"}, setup...)
	same(t, "a second run", settled, one.files())
	same(t, "the other cluster", others, other.files())
	if other.query("select pg_postmaster_start_time()") != started || other.query("show archive_mode") != "off" {
		t.Error("the other cluster was restarted, or archives")
	}

	// A cluster as the package makes it, of which a standby is to become one: its
	// configuration is used, its data is not overwritten.
	d.env = append(d.env, "PGHOST="+d.base, fmt.Sprintf("PGPORT=%d", one.port))
	d.want(0, nil, "backup", "--checkpoint", "fast")
	d.env = d.env[:len(d.env)-2]
	third := d.create("third")
	follow := []string{"setup", "standby", "-D", third.data, "--primary", fmt.Sprintf("127.0.0.1:%d", one.port), "--start"}
	d.want(5, []string{"holds cluster", "a standby is a copy of its primary", "mv " + third.data}, follow...)
	must(t, os.Rename(third.data, third.data+".old"))
	d.want(0, []string{"restored into", "wrote " + third.etc + "/walship.conf", "pg_ctlcluster " + d.version + " third start", "streaming from 127.0.0.1"}, follow...)
	if got := third.query("select pg_is_in_recovery() || ' ' || current_setting('config_file')"); got != "true "+third.etc+"/postgresql.conf" {
		t.Errorf("the standby: %s", got)
	}
	d.want(0, []string{"everything is as it should be"}, follow...)
	same(t, "the primary", settled, one.files())

	// The way back.
	d.want(0, []string{"put back " + one.etc + "/postgresql.conf"}, "setup", "undo", "-D", one.data)
	same(t, "after undo", untouched, one.files())
	one.ctl("restart")
	if got := one.query("show archive_mode"); got != "off" {
		t.Errorf("after undo archive_mode is %s", got)
	}
}
