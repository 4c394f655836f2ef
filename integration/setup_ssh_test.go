package integration_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testgosftp"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// keyLine is the line for authorized_keys in what setup has printed.
func keyLine(t testing.TB, stdout string) string {
	t.Helper()
	for line := range strings.Lines(stdout) {
		if strings.HasPrefix(line, `restrict,command="internal-sftp" ssh-ed25519 `) {
			return line
		}
	}
	t.Fatalf("no line for authorized_keys in\n%s", stdout)
	return ""
}

// From nothing to an archive host that is known, logged in to and probed, with
// what is refused on the way.
func TestSetupSSH(t *testing.T) {
	t.Parallel()
	srv := testsshd.Start(t, testsshd.Options{})
	must(t, os.WriteFile(srv.Authorized, nil, 0o644))
	a := newAdmin(t)
	root := filepath.Join(testpg.Dir(t), "archive", "wal")
	url := "sftp://" + srv.User + "@" + srv.Addr + root
	nothing := fingerprint(t, nil, a.home)

	a.want(3, []string{"no archive is set"}, "setup", "ssh")
	a.want(2, []string{"there is no SSH to set up"}, "setup", "ssh", "--archive", "file:///srv/wal")
	a.want(9, []string{srv.Fingerprint, "which is unknown", "--accept-new"}, "setup", "ssh", "--archive", url)
	a.want(9, []string{srv.Fingerprint, "not SHA256:wrong as --host-key says"}, "setup", "ssh", "--archive", url, "--host-key", "SHA256:wrong")
	a.want(0, []string{"would be made", "+archive = \"" + url, "nothing was changed"}, "setup", "ssh", "--archive", url, "--accept-new", "--dry-run")
	same(t, "after refusals and a dry run", nothing, fingerprint(t, nil, a.home))

	r := a.want(9, []string{"does not let the key in yet", "ssh-copy-id"}, "setup", "ssh", "--archive", url, "--host-key", srv.Fingerprint)
	must(t, os.WriteFile(srv.Authorized, []byte(keyLine(t, r.stdout)), 0o644))
	for name, mode := range map[string]os.FileMode{"id_ed25519": 0o600, "id_ed25519.pub": 0o644, "known_hosts": 0o644, "walship.toml": 0o644} {
		info, err := os.Stat(a.config(name))
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
	}
	// It is a key that OpenSSH's own tools read.
	half, err := exec.Command("ssh-keygen", "-y", "-P", "", "-f", a.config("id_ed25519")).CombinedOutput()
	public, _ := os.ReadFile(a.config("id_ed25519.pub"))
	if err != nil || !slices.Equal(strings.Fields(string(half))[:2], strings.Fields(string(public))[:2]) {
		t.Errorf("ssh-keygen -y: %v %s, want %s", err, half, public)
	}

	a.want(0, []string{"login accepted", "archive/wal, made", "sync of files yes", "sync of folders yes", "no overwriting yes", "free space", "durability full"}, "setup", "ssh")
	before := fingerprint(t, nil, a.home, root)
	a.want(0, []string{"everything is as it should be"}, "setup", "ssh")
	a.want(0, []string{"everything is as it should be"}, "setup", "ssh", "--dry-run")
	same(t, "a second run", before, fingerprint(t, nil, a.home, root))

	// A value that is there is not overruled in silence.
	other := "sftp://" + srv.User + "@" + srv.Addr + root + "2"
	a.want(5, []string{"replace it with", "--force says yes"}, "setup", "ssh", "--archive", other)
	same(t, "a refused change", before, fingerprint(t, nil, a.home, root))

	// Several archives are each looked at, and their list is the reader's own.
	text, err := os.ReadFile(a.config("walship.toml"))
	must(t, err)
	list := strings.Replace(string(text), "archive = \""+url+"\"", "archives = [\""+url+"\", \""+other+"\"]", 1)
	must(t, os.WriteFile(a.config("walship.toml"), []byte(list), 0o644))
	a.want(0, []string{"everything is as it should be"}, "setup", "ssh")
	a.want(0, []string{"archive/wal2, made"}, "setup", "ssh", "--archive", other)
	a.want(3, []string{"lists several archives", "edit the list itself"}, "setup", "ssh", "--archive", url+"3")
	if after, err := os.ReadFile(a.config("walship.toml")); string(after) != list {
		t.Errorf("walship.toml was changed: %v\n%s", err, after)
	}
	must(t, os.WriteFile(a.config("walship.toml"), text, 0o644))

	// A key that others can read is not used.
	must(t, os.Chmod(a.config("id_ed25519"), 0o644))
	a.want(3, []string{"can be read by others", "chmod 600"}, "setup", "ssh")
	must(t, os.Chmod(a.config("id_ed25519"), 0o600))

	srv.Stop()
	a.want(8, []string{"unreachable", "connection refused"}, "setup", "ssh")
}

// A host key that has changed is not waved through by any flag.
func TestSetupSSHHostKeyChanged(t *testing.T) {
	t.Parallel()
	srv := testsshd.Start(t, testsshd.Options{})
	a := newAdmin(t)
	stranger, _ := testsshd.NewKey(t, "stranger", "")
	must(t, os.MkdirAll(filepath.Dir(a.config("x")), 0o755))
	must(t, os.WriteFile(a.config("known_hosts"), []byte(srv.KnownHostsLine(stranger.PublicKey())), 0o644))
	must(t, testpg.Own(a.home))
	url := srv.URL("/srv/wal")
	before := fingerprint(t, nil, a.home)
	for _, flags := range [][]string{nil, {"--accept-new"}, {"--host-key", srv.Fingerprint}} {
		a.want(9, []string{"has changed", "someone may stand in between", "ssh-keygen -R"}, append([]string{"setup", "ssh", "--archive", url}, flags...)...)
	}
	same(t, "after a changed host key", before, fingerprint(t, nil, a.home))
}

// A server that lacks something: in plain words, and used only if that is agreed.
func TestSetupSSHLacking(t *testing.T) {
	t.Parallel()
	srv := testgosftp.Start(t, testgosftp.Options{})
	a := newAdmin(t)
	key, err := os.ReadFile(srv.KeyFile)
	must(t, err)
	must(t, os.MkdirAll(filepath.Dir(a.config("x")), 0o755))
	must(t, os.WriteFile(a.config("id_ed25519"), key, 0o600))
	must(t, testpg.Own(a.home))
	root := t.TempDir()
	url := "sftp://" + srv.User + "@" + srv.Addr + root
	a.want(12, []string{"sync of files no (the server does not offer it): a power cut there may lose or tear the last files", `at best "none"`, "--durability none"},
		"setup", "ssh", "--archive", url, "--accept-new")
	a.want(0, []string{"durability none: a power cut"}, "setup", "ssh", "--durability", "none")
	a.want(0, []string{"everything is as it should be"}, "setup", "ssh")
	if left, _ := os.ReadDir(root); len(left) != 0 {
		t.Errorf("the probe has left %v", left)
	}
}

// Killed at any step, a second run completes it.
func TestSetupSSHKilled(t *testing.T) {
	t.Parallel()
	srv := testsshd.Start(t, testsshd.Options{})
	for _, step := range []string{"setup.saved", "setup.written", "setup.renamed", "setup.key"} {
		a := newAdmin(t)
		a.binary = testbin.Faulty(t)
		url := srv.URL(filepath.Join(testpg.Dir(t), "archive"))
		a.env = []string{"WALSHIP_FAULT=" + step + "=kill"}
		if r := a.run("setup", "ssh", "--archive", url, "--accept-new"); r.code != -1 {
			t.Fatalf("%s: %v, want a death by signal", step, r)
		}
		a.env = nil
		r := a.want(9, []string{"does not let the key in yet"}, "setup", "ssh", "--archive", url, "--accept-new")
		line := keyLine(t, r.stdout)
		both, err := os.ReadFile(srv.Authorized)
		must(t, err)
		must(t, os.WriteFile(srv.Authorized, append(both, line...), 0o644))
		a.want(0, []string{"durability full"}, "setup", "ssh")
		a.want(0, []string{"everything is as it should be"}, "setup", "ssh")
	}
}
