package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/testbin"
	"walship/internal/testnet"
	"walship/internal/testpg"
)

// What the tests of base backups share.

// leadTo is the environment that leads to a server, as its superuser.
func leadTo(c *testpg.Cluster) []string {
	return []string{"PGHOST=" + c.Sockets, fmt.Sprintf("PGPORT=%d", c.Port), "PGUSER=postgres", "PGDATABASE=postgres"}
}

// by is the same archive by way of a proxy.
func (s *site) by(p *testnet.Proxy) *site {
	s.t.Helper()
	other := *s
	other.home = testpg.Dir(s.t)
	key, err := os.ReadFile(filepath.Join(s.home, "id_ed25519"))
	must(s.t, err)
	must(s.t, os.WriteFile(filepath.Join(other.home, "id_ed25519"), key, 0o600))
	other.through(p.Addr())
	return &other
}

// walship runs a command with the site's configuration against a server.
func (s *site) walship(c *testpg.Cluster, args ...string) result {
	s.t.Helper()
	return run(s.t, "/", leadTo(c), s.binary, append([]string{"--config", s.config()}, args...)...)
}

// backup takes a base backup without waiting for a checkpoint, and returns its
// name.
func (s *site) backup(c *testpg.Cluster, args ...string) (id string) {
	s.t.Helper()
	before := s.backups()
	r := s.walship(c, append([]string{"backup", "--checkpoint", "fast"}, args...)...)
	if r.code != 0 {
		s.t.Fatalf("backup: %s\n%s", r, c.Log())
	}
	for _, id := range s.backups() {
		if !slices.Contains(before, id) {
			return id
		}
	}
	s.t.Fatalf("backup: %s, and there is none", r)
	return ""
}

// backups lists the names of the backups that there are, in order.
func (s *site) backups() (ids []string) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, "*", "base", "*", basebackup.ManifestFile))
	must(s.t, err)
	for _, path := range found {
		ids = append(ids, filepath.Base(filepath.Dir(path)))
	}
	return ids
}

// unfinished lists the folders of backups that are none.
func (s *site) unfinished() (folders []string) {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, "*", "base", "*"))
	must(s.t, err)
	for _, path := range found {
		if _, err := os.Stat(filepath.Join(path, basebackup.ManifestFile)); err != nil {
			folders = append(folders, path)
		}
	}
	return folders
}

// backupFolder is where a backup lies.
func (s *site) backupFolder(id string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, "*", "base", id))
	must(s.t, err)
	if len(found) != 1 {
		s.t.Fatalf("backup %s is found as %q", id, found)
	}
	return found[0]
}

// backupManifest reads the manifest of a backup and checks it.
func (s *site) backupManifest(id string) basebackup.Manifest {
	s.t.Helper()
	name, err := basebackup.ParseID(id)
	must(s.t, err)
	data, err := os.ReadFile(filepath.Join(s.backupFolder(id), basebackup.ManifestFile))
	must(s.t, err)
	m, err := basebackup.ParseManifest(data, name)
	must(s.t, err)
	return m
}

// unpackByHand unpacks a backup as docs/recovery-without-walship.md says, with
// zstd and tar alone, into a new folder of the server's user's. Each tablespace
// goes to a folder of its own beside it.
func (s *site) unpackByHand(id string) (data string) {
	t := s.t
	t.Helper()
	page, err := os.ReadFile("../docs/recovery-without-walship.md")
	must(t, err)
	m := s.backupManifest(id)
	base := testpg.Dir(t)
	data = filepath.Join(base, "data")
	lines := regexp.MustCompile(`(?s)\n    mkdir -m 700 NEW.*?\n\n`).FindAllString(string(page), -1)
	if len(lines) != 1 {
		t.Fatalf("the page has %d blocks of commands that unpack a backup, want one", len(lines))
	}
	places := strings.NewReplacer("/srv/wal/ID/base/BACKUP", s.backupFolder(id), "NEW", data)
	script := "set -e\n" + places.Replace(lines[0])
	if m.ServerManifest == nil { // before 13
		script = regexp.MustCompile(`(?m)^.*backup_manifest.*$`).ReplaceAllString(script, "")
	}
	space := regexp.MustCompile(`\n    mkdir -m 700 LOCATION.*\n.*\n`).FindString(string(page))
	for _, ts := range m.Tablespaces {
		to := filepath.Join(base, fmt.Sprint(ts.OID))
		script += strings.NewReplacer("/srv/wal/ID/base/BACKUP", s.backupFolder(id), "LOCATION", to, "OID", fmt.Sprint(ts.OID)).Replace(space)
		script += fmt.Sprintf("cd %s\nsed -i 's|^%d .*|%d %s|' tablespace_map\n", data, ts.OID, ts.OID, to)
		script += fmt.Sprintf("ln -s %s pg_tblspc/%d\n", to, ts.OID)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	must(t, testpg.Own(base))
	return data
}

// beginBackup begins a backup, with a fault if there is one, in the binary that
// has them.
func (s *site) beginBackup(c *testpg.Cluster, fault string, args ...string) *backupCall {
	s.t.Helper()
	said := filepath.Join(s.t.TempDir(), "said")
	file, err := os.Create(said)
	must(s.t, err)
	defer file.Close()
	cmd := exec.Command(testbin.Faulty(s.t), append([]string{"--config", s.config(), "backup", "--checkpoint", "fast"}, args...)...)
	cmd.Env = append(leadTo(c), "PATH=/usr/bin:/bin", "WALSHIP_FAULT="+fault)
	cmd.Stdout, cmd.Stderr = file, file
	must(s.t, cmd.Start())
	b := &backupCall{t: s.t, cmd: cmd, said: said, ended: make(chan struct{})}
	go func() {
		defer close(b.ended)
		_ = cmd.Wait() // its state tells
	}()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-b.ended
	})
	return b
}

// backupCall is a backup under way.
type backupCall struct {
	t     testing.TB
	cmd   *exec.Cmd
	said  string // file with all that it has said
	ended chan struct{}
}

// text is what it has said so far.
func (b *backupCall) text() string {
	b.t.Helper()
	text, err := os.ReadFile(b.said)
	must(b.t, err)
	return string(text)
}

// says waits until it has said something.
func (b *backupCall) says(text string) {
	b.t.Helper()
	testpg.WaitFor(b.t, soon, "the backup to say "+text, func() bool { return strings.Contains(b.text(), text) || b.over() })
	if !strings.Contains(b.text(), text) {
		b.t.Fatalf("it never says %q: %s", text, b.text())
	}
}

func (b *backupCall) over() bool {
	select {
	case <-b.ended:
		return true
	default:
		return false
	}
}

// wait waits for the end and returns the exit code, -1 after a death by a signal.
func (b *backupCall) wait() int {
	b.t.Helper()
	testpg.WaitFor(b.t, soon, "the backup to end", b.over)
	return b.cmd.ProcessState.ExitCode()
}

// stopped waits until the process has stopped itself.
func (b *backupCall) stopped() {
	b.t.Helper()
	testpg.WaitFor(b.t, soon, "the backup to stop itself", func() bool { return b.over() || hostileState(b.cmd.Process.Pid) == "T" })
	if b.over() {
		b.t.Fatalf("it never came to its step: %s", b.text())
	}
}

// goOn sends signals and lets it go on to its end, through every further stop.
func (b *backupCall) goOn(signals ...syscall.Signal) (code int) {
	b.t.Helper()
	for _, s := range signals {
		must(b.t, b.cmd.Process.Signal(s))
	}
	testpg.WaitFor(b.t, soon, "the backup to end", func() bool {
		if !b.over() && hostileState(b.cmd.Process.Pid) == "T" {
			_ = b.cmd.Process.Signal(syscall.SIGCONT) // it may have ended
		}
		return b.over()
	})
	return b.wait()
}

// noBackupMode waits until the server sees no backup under way any more.
func noBackupMode(t testing.TB, c *testpg.Cluster) {
	t.Helper()
	testpg.WaitFor(t, soon, "the server to end the backup", func() bool {
		return c.Query("select count(*) from pg_stat_progress_basebackup") == "0"
	})
}

// decode reads JSON and nothing else.
func decode(t testing.TB, text string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil || d.More() {
		t.Fatalf("%v in %q", err, text)
	}
}
