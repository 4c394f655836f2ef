package pgdata

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

const pgBin = "/usr/lib/postgresql/15/bin/"

// pg runs a program of PostgreSQL's and returns its output. Servers refuse to
// run as root: root runs them as the user postgres.
func pg(t testing.TB, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(pgBin+program, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	cmd.Dir = "/"
	if os.Getuid() == 0 {
		cred := &syscall.Credential{}
		cred.Uid, cred.Gid = postgresIDs(t)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	}
	// Into a file: a server keeps the output open after pg_ctl has gone.
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	runErr := cmd.Run()
	text, err := os.ReadFile(out.Name())
	if runErr != nil || err != nil {
		t.Fatalf("%s %q: %v %v\n%s", program, args, runErr, err, text)
	}
	return string(text)
}

func postgresIDs(t testing.TB) (uid, gid uint32) {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	a, err1 := strconv.ParseUint(u.Uid, 10, 32)
	b, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return uint32(a), uint32(b)
}

// home makes a folder for the user who runs the servers.
func home(t testing.TB) string {
	t.Helper()
	// A short path: sockets have little room for theirs.
	dir, err := os.MkdirTemp("", "pgdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getuid() == 0 {
		uid, gid := postgresIDs(t)
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// controldata returns what pg_controldata says, by its words.
func controldata(t testing.TB, dir string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for line := range strings.Lines(pg(t, "pg_controldata", "-D", dir)) {
		what, value, _ := strings.Cut(line, ":")
		said[what] = strings.TrimSpace(value)
	}
	return said
}

// compare opens dir and compares it with what pg_controldata says.
func compare(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	said := controldata(t, dir)
	for what, got := range map[string]any{
		"Database system identifier":         d.Control.SystemID,
		"pg_control version number":          d.Control.ControlVersion,
		"Catalog version number":             d.Control.CatalogVersion,
		"Database cluster state":             d.Control.State,
		"Bytes per WAL segment":              d.Control.SegmentSize,
		"Latest checkpoint's TimeLineID":     uint32(d.Control.Timeline),
		"Min recovery ending loc's timeline": uint32(d.Control.MinRecoveryTimeline),
		"Data page checksum version":         d.Control.DataChecksums,
	} {
		if said[what] != fmt.Sprint(got) {
			t.Errorf("%s: %v, pg_controldata says %q", what, got, said[what])
		}
	}
	return d
}

// A real cluster, from initdb over a standby to a promoted server on timeline 2,
// whose configuration lies elsewhere as Debian's does.
func TestRealServer(t *testing.T) {
	base := home(t)
	dir := filepath.Join(base, "data")
	pg(t, "initdb", "-D", dir, "--wal-segsize=4", "-k", "-A", "trust", "--no-sync")
	d := compare(t, dir)
	if d.Version != 150000 || d.Control.SegmentSize != 4<<20 || d.Control.DataChecksums != 1 || d.Control.State.String() != "shut down" {
		t.Errorf("after initdb: %+v", d)
	}
	if got := DetectMode(dir); got != Ending {
		t.Errorf("after initdb: %s", got)
	}

	etc := filepath.Join(base, "etc with space")
	if err := os.MkdirAll(filepath.Join(etc, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "postgresql.conf"), filepath.Join(etc, "postgresql.conf")); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(etc, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("include_dir 'conf.d'\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	put(t, filepath.Join(etc, "conf.d", "x.conf"), "Recovery_Target_Timeline 3\nrestore_command = 'false'\nlisten_addresses = ''\n"+
		"recovery_target_timeline = 'c\\165rrent' # octal for u\n")
	put(t, filepath.Join(dir, "standby.signal"), "")
	if got := DetectMode(dir); got != Standby {
		t.Errorf("with standby.signal: %s", got)
	}

	start := func(more string) {
		t.Helper()
		pg(t, "pg_ctl", "-D", dir, "-w", "-l", filepath.Join(base, "log"), "start",
			"-o", fmt.Sprintf("-F -c unix_socket_directories=%s -c 'config_file=%s/postgresql.conf' %s", base, etc, more))
	}
	stop := func() { pg(t, "pg_ctl", "-D", dir, "-w", "-m", "fast", "stop") }
	running := func() bool { return exists(dir, "postmaster.pid") }
	t.Cleanup(func() {
		if running() {
			pg(t, "pg_ctl", "-D", dir, "-w", "-m", "immediate", "stop")
		}
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(base, "log"))
			t.Logf("%s", log)
		}
	})
	effective := func() string {
		t.Helper()
		return strings.TrimSpace(pg(t, "psql", "-h", base, "-d", "postgres", "-Atc", "show recovery_target_timeline"))
	}
	aim := func(want Target) {
		t.Helper()
		d := compare(t, dir)
		if got, err := d.RecoveryTarget(); err != nil || got != want {
			t.Errorf("the server says %q: %+v, %v, want %+v", effective(), got, err, want)
		}
	}

	start("")
	if got := effective(); got != "current" {
		t.Errorf("the server reads %q", got)
	}
	aim(Target{Current: true, Timeline: 1})
	if d := compare(t, dir); d.Control.State.String() != "in archive recovery" {
		t.Errorf("standby: %+v", d.Control)
	}
	stop()

	start("--recovery-target-timeline=latest")
	if got := effective(); got != "latest" {
		t.Errorf("the server reads %q", got)
	}
	aim(Target{Latest: true})
	pg(t, "pg_ctl", "-D", dir, "-w", "promote")
	if got := DetectMode(dir); got != Ending {
		t.Errorf("promoted: %s", got)
	}
	pg(t, "psql", "-h", base, "-d", "postgres", "-c", "alter system set recovery_target_timeline = '0x2'")
	stop()

	start("") // and no option of the command line any more
	if got := effective(); got != "0x2" {
		t.Errorf("the server reads %q", got)
	}
	aim(Target{Timeline: 2})
	d = compare(t, dir)
	if d.Control.Timeline != 2 {
		t.Errorf("promoted: %+v", d.Control)
	}
	all, err := d.Histories()
	if err != nil || len(all) != 1 || all[0].Timeline != 2 || all[0].Ancestors[0].Switch == 0 {
		t.Errorf("histories: %+v, %v", all, err)
	}
	stop()
}
