package integration_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// restoreSteps are those at which a restore is killed, in order.
var restoreSteps = []string{"restore.begin", "restore.mark", "restore.marked", "restore.part", "restore.unpacked", "restore.linked",
	"restore.configured", "restore.synced", "restore.control", "restore.unmark", "restore.done"}

// aRestore is a backup to be restored again and again.
type aRestore struct {
	*site
	space  string // of its tablespace
	binary string
}

// backedUp makes an archive with a backup and stops its server.
func backedUp(t *testing.T, s *site, primary *testpg.Cluster) *aRestore {
	t.Helper()
	r := &aRestore{site: s, space: newDir(t), binary: testbin.Faulty(t)}
	primary.Query("create tablespace space location '" + r.space + "'; create table far tablespace space as select generate_series(1, 1000) n")
	s.backup(primary)
	insert(primary)
	primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast))
	return r
}

// into is the command line of a restore to the folders, with a fault.
func (r *aRestore) into(dir, fault string) *exec.Cmd {
	cmd := exec.Command(r.binary, "--config", r.config(), "restore", "-D", dir, "--tablespace-mapping", r.space+"="+dir+"-space")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "WALSHIP_FAULT=" + fault}
	return cmd
}

// run runs a restore and returns its exit code, -1 for a death by a signal, and
// all that it has said.
func (r *aRestore) run(dir, fault string) (code int, said string) {
	r.t.Helper()
	cmd := r.into(dir, fault)
	out, _ := cmd.CombinedOutput() // its state tells
	return cmd.ProcessState.ExitCode(), string(out)
}

// sum is that of the restored folders.
func (r *aRestore) sum(dir string) string { return treeSum(r.t, dir, dir+"-space") }

// kill -9 of restore at every step: what is there is whole, or marked and such
// that no server starts in it; the same command then succeeds, and gives the same
// files as one that nobody has disturbed.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	r := backedUp(t, s, primary)
	dir := newDir(t)
	if code, said := r.run(dir, ""); code != 0 {
		t.Fatal(code, said)
	}
	want := r.sum(dir)
	for _, step := range restoreSteps {
		dir := newDir(t)
		if code, said := r.run(dir, step+"=kill"); code != -1 {
			t.Fatalf("%s: code %d instead of death by the signal: %s", step, code, said)
		}
		if step == "restore.done" {
			if code, said := r.run(dir, ""); code != 13 || !strings.Contains(said, "not empty") {
				t.Errorf("%s: code %d: %s", step, code, said)
			}
		} else {
			switch step {
			case "restore.begin":
			case "restore.control", "restore.unmark":
				if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err != nil {
					t.Errorf("%s: %v", step, err)
				}
			default:
				half(t, dir)
			}
			code, said := r.run(dir, "")
			if code != 0 || strings.Contains(said, "by an earlier run") != (step == "restore.control" || step == "restore.unmark") {
				t.Errorf("%s: the same again: code %d: %s", step, code, said)
			}
		}
		if got := r.sum(dir); got != want {
			t.Errorf("%s: another tree", step)
		}
		must(t, os.RemoveAll(dir))
		must(t, os.RemoveAll(dir+"-space"))
	}
	must(t, testpg.Own(dir, dir+"-space"))
	if got := s.recovered(dir).Query("select count(*) from far"); got != "1000" {
		t.Error(got)
	}
}

// The connection is lost in the middle, or the archive's host for good.
func TestRestoreLosesArchive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := backedUp(t, s, newPrimary(t, s, testpg.Options{SegmentMB: 1}))
	dir := newDir(t)
	if code, said := r.run(dir, ""); code != 0 {
		t.Fatal(code, said)
	}
	want := r.sum(dir)
	begin := func(dir string) (cmd *exec.Cmd, said *strings.Builder) {
		t.Helper()
		cmd, said = r.into(dir, "restore.marked=stop"), &strings.Builder{}
		cmd.Stdout, cmd.Stderr = said, said
		must(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
		testpg.WaitFor(t, soon, "the restore to stop itself", func() bool { return hostileState(cmd.Process.Pid) == "T" })
		return cmd, said
	}
	end := func(cmd *exec.Cmd) int {
		t.Helper()
		must(t, cmd.Process.Signal(syscall.SIGCONT))
		_ = cmd.Wait() // its state tells
		return cmd.ProcessState.ExitCode()
	}
	lost := newDir(t)
	cmd, said := begin(lost)
	hostileKill(t, s.sshd, "all")
	if code := end(cmd); code != 0 || r.sum(lost) != want {
		t.Errorf("the connection is lost: code %d: %s", code, said)
	}
	gone := newDir(t)
	cmd, said = begin(gone)
	s.sshd.Stop()
	if code := end(cmd); code != 8 || !strings.Contains(said.String(), "is incomplete and marked so") {
		t.Errorf("the host is gone: code %d: %s", code, said)
	}
	half(t, gone)
	s.sshd.Restart()
	if code, said := r.run(gone, ""); code != 0 || r.sum(gone) != want {
		t.Errorf("the host is back: code %d: %s", code, said)
	}
}

// Single random faults in the files of a real backup: either the very same tree
// comes back, or an error that leaves nothing to start a server in. (Many more
// of them, in a smaller backup: TestRandomFaults of package restore.)
func TestRestoreRandomFaults(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	r := backedUp(t, s, primary)
	dir := newDir(t)
	if code, said := r.run(dir, ""); code != 0 {
		t.Fatal(code, said)
	}
	want := r.sum(dir)
	files, err := filepath.Glob(filepath.Join(s.backupFolder(s.backups()[0]), "*"))
	must(t, err)
	random := rand.New(rand.NewPCG(5, 6))
	for i := range 16 {
		path := files[i%len(files)]
		sound, err := os.ReadFile(path)
		must(t, err)
		bad := append([]byte{}, sound...)
		at := random.IntN(len(bad))
		what := fmt.Sprintf("%s at %d", filepath.Base(path), at)
		switch random.IntN(3) {
		case 0:
			bad[at] ^= 1 << random.IntN(8)
		case 1:
			bad = bad[:at]
		default:
			clear(bad[at:min(at+4096, len(bad))])
		}
		must(t, os.WriteFile(path, bad, 0o600))
		dir := newDir(t)
		code, said := r.run(dir, "")
		switch {
		case code == 0 && r.sum(dir) != want:
			t.Fatalf("%s: a silent wrong restore: %s", what, said)
		case code == 0:
		case code != 14 && code != 18:
			t.Errorf("%s: code %d: %s", what, code, said)
		default:
			if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
				half(t, dir)
			}
		}
		must(t, os.WriteFile(path, sound, 0o600))
		must(t, os.RemoveAll(dir))
		must(t, os.RemoveAll(dir+"-space"))
	}
}
