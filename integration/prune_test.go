package integration_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/basebackup"
	"walship/internal/testbin"
	"walship/internal/testpg"
)

// kept is an archive of small segments that a primary and the standby that took
// its place have made: three backups, WAL between them, and nobody who writes to
// it any more. It begins with the first backup and ends with the last.
func kept(t *testing.T) (s *site, c *testpg.Cluster, backups []string) {
	t.Helper()
	s = newSite(t)
	old := newPrimary(t, s, testpg.Options{SegmentMB: 1})
	insert(old)
	backups = append(backups, s.backup(old))
	for range 3 {
		insert(old)
		old.Archive(soon)
	}
	backups = append(backups, s.backup(old))
	dir, r := s.restore("--standby", "--take-over")
	if r.code != 0 {
		t.Fatal(r)
	}
	insert(old)
	old.Archive(soon)
	c = testpg.Adopt(t, dir)
	must(t, c.Start())
	waitContents(t, c, mustContents(t, old))
	must(t, old.Kill9())
	must(t, c.Promote())
	must(t, c.WaitPrimary(soon))
	c.SetConf(s.archiving())
	must(t, c.Restart(testpg.Fast))
	for range 2 {
		insert(c)
		c.Archive(soon)
	}
	backups = append(backups, s.backup(c))
	must(t, c.Kill9())
	if r := s.as(c, "prune", "--keep-backups", "3", "--yes"); r.code != 0 {
		t.Fatal(r)
	}
	return s, c, backups
}

// copied is the same archive in another folder, for a test of its own.
func (s *site) copied(t testing.TB) *site {
	t.Helper()
	other := *s
	other.t = t
	other.home, other.root = testpg.Dir(t), filepath.Join(testpg.Dir(t), "archive")
	out, err := exec.Command("cp", "-a", s.root, other.root).CombinedOutput()
	if err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	key, err := os.ReadFile(filepath.Join(s.home, "id_ed25519"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other.home, "id_ed25519"), key, 0o600))
	other.through(s.addr)
	return &other
}

// runs runs the command with the site's configuration, outside of any data
// directory.
func (s *site) runs(args ...string) result {
	s.t.Helper()
	return run(s.t, "/", nil, s.binary, append([]string{"--config", s.config()}, args...)...)
}

// age makes all of the archive's files older.
func (s *site) age(d time.Duration) {
	s.t.Helper()
	must(s.t, filepath.WalkDir(s.root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := time.Now().Add(-d)
		return os.Chtimes(path, at, at)
	}))
}

func TestPrune(t *testing.T) {
	t.Parallel()
	s, c, backups := kept(t)
	t.Run("command", func(t *testing.T) { pruneCommand(t, s.copied(t), c, backups) })
	t.Run("killed", func(t *testing.T) { pruneKilled(t, s, c, backups) })
}

// kill -9 of prune at each of its steps leaves an archive that verify finds whole,
// and from whose oldest backup a server recovers to the very end. The next prune
// leaves what one that was not interrupted leaves.
func pruneKilled(t *testing.T, whole *site, c *testpg.Cluster, backups []string) {
	want := mustOffline(t, c)
	whole.age(48 * time.Hour)
	dead := filepath.Join(whole.folder(), "base", "000000010000000000000001-20200101T000000Z")
	must(t, os.Mkdir(dead, 0o755))
	must(t, os.WriteFile(filepath.Join(dead, "base-000001.tar.zst"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(whole.folder(), "tmp", "x.0123456789abcdef.tmp"), []byte("x"), 0o644))
	whole.age(48 * time.Hour)

	uninterrupted := whole.copied(t)
	if r := uninterrupted.runs("prune", "--keep-backups", "2", "--yes"); r.code != 0 || !strings.Contains(r.stdout, "freed ") {
		t.Fatal(r)
	}
	rest := uninterrupted.files()
	for i, step := range []string{"prune.begin", "prune.label-removed", "prune.manifest-removed", "prune.parts-removed", "prune.folder-removed",
		"prune.wal-removed", "prune.wal-done", "prune.abandoned-removed", "prune.swept"} {
		s := whole.copied(t)
		s.binary = testbin.Faulty(t)
		r := run(t, "/", []string{"WALSHIP_FAULT=" + step + "=kill"}, s.binary, "--config", s.config(), "prune", "--keep-backups", "2", "--yes")
		if r.signal != syscall.SIGKILL {
			t.Errorf("%s: it was not killed: %s", step, r)
			continue
		}
		// What the dead backup has left is reported until it is swept.
		if r := s.runs("verify"); r.code != 0 && strings.Count(r.stdout, "\nmissing") != strings.Count(r.stdout, "there is no manifest") {
			t.Errorf("%s: verify: %s", step, r)
		}
		if i%3 == 2 || step == "prune.wal-removed" { // each kind of what is left
			oldest := backups[1]
			if got := s.restored("--backup", oldest); mustContents(t, got) != want {
				t.Errorf("%s: the server has %s, want %s", step, mustContents(t, got), want)
			} else {
				must(t, got.Kill9())
			}
		}
		s.age(48 * time.Hour) // an empty folder of today looks like a backup that has begun
		if r := s.runs("prune", "--keep-backups", "2", "--yes"); r.code != 0 {
			t.Errorf("%s: once more: %s", step, r)
		}
		if left := s.files(); left != rest {
			t.Errorf("%s: left\n%s\nwant\n%s", step, left, rest)
		}
	}
	if r := uninterrupted.runs("verify"); r.code != 0 {
		t.Error(r)
	}
}

// mustOffline starts the cluster once more, without archiving, for its contents.
func mustOffline(t *testing.T, c *testpg.Cluster) string {
	t.Helper()
	c.SetConf(map[string]string{"archive_mode": "off"})
	must(t, c.Start())
	defer func() { must(t, c.Kill9()) }()
	return mustContents(t, c)
}

// files lists the archive, a line for each file and folder.
func (s *site) files() string {
	s.t.Helper()
	var all []string
	must(s.t, filepath.WalkDir(s.root, func(path string, _ os.DirEntry, err error) error {
		all = append(all, strings.TrimPrefix(path, s.root))
		return err
	}))
	return strings.Join(all, "\n")
}

// The command line: what it shows, what it refuses, what it tells a script.
func pruneCommand(t *testing.T, s *site, c *testpg.Cluster, backups []string) {
	before := s.files()
	for _, x := range []struct {
		args string
		code int
		says string
	}{
		{"", 2, "what to keep is missing"},
		{"--keep-backups 2", 2, "there is no terminal to ask on"},
		{"--keep-backups 0 --yes", 2, "not a number from 1 on"},
		{"--keep-backups x --yes", 2, "not a number from 1 on"},
		{"--older-than 30 --yes", 2, "lacks a unit"},
		{"--keep-from x --yes", 2, "not a WAL file name"},
		{"--keep-from 00000002.history --yes", 2, "stands for no place in WAL"},
		{"--keep-from FF/0 --yes", 4, "behind the newest segment"},
		{"--keep-backups 2 --yes --cluster 7", 7, "nothing of cluster 7"},
		{"--keep-backups 2 --dry-run", 0, ""},
		{"--keep-backups 2 --dry-run --json", 0, ""},
		{"--keep-backups 3 --yes", 0, ""},
		{"--older-than 30d --yes", 0, ""},
	} {
		r := s.runs(append([]string{"prune"}, strings.Fields(x.args)...)...)
		if r.code != x.code || !strings.Contains(r.stderr, x.says) || x.says == "" && r.stderr != "" {
			t.Errorf("prune %s: %s, want code %d, %q", x.args, r, x.code, x.says)
		}
		for _, line := range strings.Split(r.stdout, "\n") {
			if len([]rune(line)) > 80 {
				t.Errorf("prune %s: a line of %d columns: %s", x.args, len([]rune(line)), line)
			}
		}
	}
	if s.files() != before {
		t.Fatalf("something is gone:\n%s\nof\n%s", s.files(), before)
	}

	// A backup whose manifest is damaged: nothing goes.
	manifest := filepath.Join(s.backupFolder(backups[0]), basebackup.ManifestFile)
	text, err := os.ReadFile(manifest)
	must(t, err)
	must(t, os.WriteFile(manifest, text[:len(text)-9], 0o644))
	if r := s.runs("prune", "--keep-backups", "2", "--yes"); r.code != 14 || !strings.Contains(r.stderr, backups[0]) || s.files() != before {
		t.Error(r)
	}
	must(t, os.WriteFile(manifest, text, 0o644))

	// On a terminal it asks. Only yes is yes.
	for _, x := range [][2]string{{"n", "16"}, {"", "16"}, {"yes", "0"}} {
		answer, code := x[0], x[1]
		command := fmt.Sprintf("%s --config %s prune --keep-backups 2; echo code $?", s.binary, s.config())
		cmd := exec.Command("script", "-qec", command, "/dev/null")
		cmd.Stdin = strings.NewReader(answer + "\n")
		cmd.Env = []string{"PATH=/usr/bin:/bin", "NO_COLOR=1", "TERM=xterm"}
		out, err := cmd.CombinedOutput()
		must(t, err)
		if text := string(out); !strings.Contains(text, "remove 1 base backup") || !strings.Contains(text, "code "+code) || strings.Contains(text, "\x1b[3") {
			t.Errorf("answer %q: %s", answer, text)
		}
		if gone := s.files() != before; gone != (code == "0") {
			t.Errorf("answer %q: something is gone: %v", answer, gone)
			before = s.files()
		}
		if code == "0" {
			before = s.files()
		}
	}
	if left := s.backups(); len(left) != 2 || left[0] != backups[1] {
		t.Errorf("left %q", left)
	}

	// In JSON, with the cluster taken from the data directory.
	r := s.as(c, "prune", "--keep-backups", "1", "--yes", "--json", "-D", c.Data)
	var told struct {
		Version int `json:"format_version"`
		Cut     struct {
			Segment string `json:"segment"`
		} `json:"keeps_wal_from"`
		Backups []struct {
			Name string `json:"name"`
			Keep bool   `json:"stays"`
		} `json:"backups"`
		Freed struct {
			Backups int   `json:"backups"`
			Size    int64 `json:"stored_size"`
		} `json:"freed"`
	}
	if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || r.code != 0 || r.stderr != "" {
		t.Fatal(r, err)
	}
	if told.Version != 1 || told.Cut.Segment != backups[2][:24] || len(told.Backups) != 2 || told.Backups[0].Keep || !told.Backups[1].Keep || told.Freed.Backups != 1 || told.Freed.Size < 1000 {
		t.Errorf("%+v", told)
	}
	if r := s.runs("verify"); r.code != 0 || !strings.Contains(r.stdout, "no fault found") {
		t.Error(r)
	}
}

// As archive_cleanup_command of a standby it removes what no restartpoint needs,
// and never goes across a backup.
func TestPruneCleanup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{SegmentMB: 1})
	insert(primary)
	first := primary.Archive(soon)
	base := filepath.Join(primary.Base, "copy")
	must(t, primary.Stop(testpg.Fast)) // a copy that leaves no label
	out, err := exec.Command("cp", "-a", primary.Data, base).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must(t, primary.Start())
	standby := testpg.Restore(t, base)
	settings := s.recovering()
	settings["archive_cleanup_command"] = s.command("prune --keep-from %r --yes")
	standby.WriteRecovery(true, settings)
	must(t, standby.Start())
	var last string
	for range 3 {
		insert(primary)
		primary.Query("checkpoint")
		last = primary.Archive(soon)
	}
	waitContents(t, standby, mustContents(t, primary))
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(s.folder(), "wal", name[:16], name+".zst"))
		return err == nil
	}
	testpg.WaitFor(t, soon, "the standby to clean up", func() bool {
		_, err := standby.Psql("checkpoint")
		return err == nil && !there(first)
	})
	if !there(last) {
		t.Errorf("%s, which no restartpoint lies behind, is gone", last)
	}
	if !standby.Running() {
		t.Error(standby.Log())
	}

	// A backup holds it up.
	id := s.backup(primary)
	for range 3 {
		insert(primary)
		primary.Query("checkpoint")
		last = primary.Archive(soon)
	}
	waitContents(t, standby, mustContents(t, primary))
	standby.Query("checkpoint")
	if r := s.runs("prune", "--keep-from", last, "--yes"); r.code != 0 || !there(id[:24]) {
		t.Error(r)
	}
}
