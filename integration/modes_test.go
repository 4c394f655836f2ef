package integration_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// openly runs walship with an umask that takes nothing away: what is closed then
// has been closed by walship.
func openly(t testing.TB, dir string, env []string, binary string, args ...string) result {
	t.Helper()
	return run(t, dir, env, "sh", append([]string{"-c", `umask 0; exec "$0" "$@"`, binary}, args...)...)
}

// writtenModes says of every file and folder that walship writes who may read
// and write it: the first pattern that fits its path, from the test's folder on.
// What holds WAL is for the owner, and for the owner's group to read on the
// archive host; what holds secrets is for the owner alone; nobody else may write
// to anything.
var writtenModes = []struct {
	pattern string
	mode    fs.FileMode
}{
	{`^conf$`, 0o755},
	{`^conf/id_ed25519$`, 0o600},
	{`^conf/(id_ed25519\.pub|known_hosts|walship\.toml)$`, 0o644},
	{`^conf/setup\.json$`, 0o600},
	{`^(sftp|local)$`, 0o750},
	{`^(sftp|local)/[0-9]+(/[a-z]+)?$`, 0o750},
	{`^(sftp|local)/[0-9]+/wal/[0-9A-F]{16}$`, 0o750},
	{`^(sftp|local)/[0-9]+/walship\.json$`, 0o640},
	{`^(sftp|local)/[0-9]+/(wal|history)/.*\.(zst|gz|sha256)$`, 0o640},
	{`^(sftp|local)/[0-9]+/refused/.*$`, 0o640},
	{`^(sftp|local)/[0-9]+/tmp/.*\.tmp$`, 0o640},
	{`^delivered/(RECOVERYXLOG|xlogtemp\.walship\..*)$`, 0o600},
	{`^state-(sftp|local)$`, 0o600},
	{`^metrics\.prom$`, 0o644},
}

// Every file that walship writes has the mode that the table says, whatever the
// umask: nothing can be written by others, and no WAL and no secret read.
func TestModes(t *testing.T) {
	t.Parallel()
	c := hostileData(t)
	srv := testsshd.Start(t, testsshd.Options{Config: []string{"ForceCommand internal-sftp -u 0"}})
	key := mustRead(t, srv.Authorized)
	must(t, os.WriteFile(srv.Authorized, nil, 0o644))
	base := t.TempDir()
	in := func(names ...string) string { return filepath.Join(append([]string{base}, names...)...) }
	must(t, os.Mkdir(in("delivered"), 0o700))

	// setup does not run as root.
	a := newAdmin(t)
	conf := filepath.Dir(a.config("x"))
	sh, err := testpg.As(exec.Command("sh", "-c", `umask 0; exec "$0" --config conf/walship.toml setup ssh --archive "$1" --accept-new`, a.binary, srv.URL(in("sftp"))))
	must(t, err)
	sh.Dir, sh.Env = a.home, []string{"PATH=/usr/bin:/bin", "HOME=" + a.home}
	if out, err := sh.CombinedOutput(); sh.ProcessState.ExitCode() != 9 { // the key is not let in
		t.Fatalf("%v\n%s", err, out)
	}
	must(t, os.CopyFS(in("conf"), os.DirFS(conf))) // with their modes, but for the umask
	must(t, filepath.WalkDir(conf, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(in("conf", strings.TrimPrefix(path, conf)), info.Mode().Perm())
	}))

	must(t, os.WriteFile(srv.Authorized, key, 0o644))
	for root, archive := range map[string]string{"sftp": srv.URL(in("sftp")), "local": "file://" + in("local")} {
		env := []string{"WALSHIP_ARCHIVE=" + archive, "WALSHIP_SSH_KEY=" + srv.KeyFile, "WALSHIP_KNOWN_HOSTS=" + srv.KnownHosts}
		do := func(code int, binary string, args ...string) {
			t.Helper()
			if r := openly(t, c.Dir, env, binary, args...); r.code != code {
				t.Fatalf("%s: walship %q: %v", root, args, r)
			}
		}
		walship, faulty := testbin.Walship(t), testbin.Faulty(t)
		do(0, walship, "init")
		path, name, content := c.addSegment(1, 1)
		do(0, walship, "push", path, name)
		conflict := c.add(c.name(2), c.segment(2, 1))
		do(0, walship, "push", conflict, c.name(2))
		c.add(c.name(2), c.segment(2, 2))
		do(0, walship, "set-aside", c.name(2))
		c.add("00000002.history", []byte("1\t0/300000\tno recovery target specified\n"))
		do(0, walship, "push", "pg_wal/00000002.history", "00000002.history")
		do(0, walship, "fetch", name, in("delivered", "RECOVERYXLOG"))
		if got := mustRead(t, in("delivered", "RECOVERYXLOG")); string(got) != string(content) {
			t.Errorf("%s: other content", root)
		}
		_ = openly(t, c.Dir, env, walship, "check", "--archive-only", "--metrics", in("metrics.prom")) // its verdict is none of this test's
		// What is there for a moment only stays when the call dies in it.
		env = append(env, "WALSHIP_FAULT=fetch.written=kill")
		do(-1, faulty, "fetch", name, in("delivered", "RECOVERYXLOG"))
		env[len(env)-1] = "WALSHIP_FAULT=put.synced=kill"
		path, name, _ = c.addSegment(3, 1)
		do(-1, faulty, "push", path, name)
		env[len(env)-1] = "WALSHIP_FAULT=verify.saved=kill"
		do(-1, faulty, "verify", "-q", "--state", in("state-"+root))
	}

	used := map[string]bool{}
	must(t, filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, base), "/")
		info, err := d.Info()
		if err != nil || name == "" || name == "delivered" {
			return err
		}
		for _, m := range writtenModes {
			if regexp.MustCompile(m.pattern).MatchString(name) {
				used[m.pattern] = true
				if got := info.Mode().Perm(); got != m.mode {
					t.Errorf("%s has mode %04o, want %04o", name, got, m.mode)
				}
				return nil
			}
		}
		t.Errorf("%s (mode %v) is not in the table", name, info.Mode())
		return nil
	}))
	for _, m := range writtenModes {
		if !used[m.pattern] {
			t.Errorf("nothing is called %s", m.pattern)
		}
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// A password in a URL, which is refused, and one in an environment are in no
// message, no result and no argument of a process that walship starts.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-p4ssw0rd"
	c := hostileData(t)
	path, name, _ := c.addSegment(1, 1)
	file := filepath.Join(t.TempDir(), "walship.toml")
	key := filepath.Join(t.TempDir(), "id_broken")
	must(t, os.WriteFile(key, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\n"+secret+"\n-----END OPENSSH PRIVATE KEY-----\n"), 0o600))
	commands := [][]string{
		{"push", path, name}, {"fetch", name, "pg_wal/x"}, {"init"}, {"list"}, {"list", "--json"}, {"verify", "-q"}, {"prune", "--dry-run", "--keep-backups", "1"},
		{"check"}, {"check", "--json"}, {"config"}, {"config", "--json"}, {"backup", "-d", "host=/nowhere password=" + secret}, {"restore", "-D", "new"},
		{"restore", "--check"}, {"set-aside", name}, {"setup", "ssh"},
	}
	for _, url := range []string{
		"sftp://wal:" + secret + "@127.0.0.1:1/srv", "sftp://wal:" + secret + "@127.0.0.1:1", "ftp://wal:" + secret + "@h/x", "wal:" + secret + "@h:/srv",
		"sftp://wal@127.0.0.1:1/srv?password=" + secret, "sftp://wal:" + secret + "/@h/x\n", "file:///proc/nowhere",
	} {
		must(t, os.WriteFile(file, fmt.Appendf(nil, "archive = %q\nssh_key = %q\n", url, key), 0o600))
		for _, env := range [][]string{
			{"WALSHIP_CONFIG=" + file, "PGPASSWORD=" + secret, "PGHOST=/nowhere"},
			{"WALSHIP_ARCHIVE=" + url, "WALSHIP_SSH_KEY=" + key, "PGPASSWORD=" + secret, "PGHOST=/nowhere"},
		} {
			for _, args := range commands {
				r := run(t, c.Dir, env, testbin.Walship(t), args...)
				if strings.Contains(r.stdout+r.stderr, secret) || strings.Contains(r.stdout+r.stderr, "s3cr3t") {
					t.Errorf("%s: walship %q shows it: %v", url, args[0], r)
				}
				if r.code == -1 {
					t.Errorf("%s: walship %q: %v", url, args[0], r)
				}
			}
		}
	}
}
