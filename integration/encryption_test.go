package integration_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walship/internal/basebackup"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// ageKey makes a key with age's own tool: the file of the identity, readable to
// the server's user alone, and the recipient.
func ageKey(t testing.TB) (file, recipient string) {
	t.Helper()
	file = filepath.Join(testpg.Dir(t), "identity.txt")
	r := run(t, "/", nil, "age-keygen", "-o", file)
	if r.code != 0 {
		t.Fatal(r)
	}
	must(t, testpg.Own(filepath.Dir(file)))
	r = run(t, "/", nil, "age-keygen", "-y", file)
	return file, strings.TrimSpace(r.stdout)
}

// ageContent is what age and zstd alone make of a stored file.
func ageContent(t testing.TB, identity, stored string) []byte {
	t.Helper()
	out, err := exec.Command("sh", "-c", "age -d -i "+identity+" "+stored+" | zstd -dcq").Output()
	if err != nil {
		t.Fatalf("%s: %v", stored, err)
	}
	return out
}

// storedNow finds the stored files of a name in the cluster's folder.
func (s *site) storedNow(name string) []string {
	s.t.Helper()
	var all []string
	for _, pattern := range []string{"wal/*/", "history/"} {
		found, err := filepath.Glob(filepath.Join(s.root, "*", pattern+name+".*"))
		must(s.t, err)
		all = append(all, found...)
	}
	return all
}

// sealedArchive is a real server's life in an encrypted archive: WAL, a backup,
// a change of keys, more WAL, a backup, and the end of the server.
type sealedArchive struct {
	*site
	first, second string // identity files
	both          string // both identities in one file
	backups       []string
	want          string // contents
	before, after string // segments of before and after the change
	raw           []byte // content of before
}

func newSealedArchive(t testing.TB) *sealedArchive {
	a := &sealedArchive{site: newSite(t)}
	var one, two string
	a.first, one = ageKey(t)
	a.second, two = ageKey(t)
	a.both = filepath.Join(testpg.Dir(t), "both.txt")
	var text []byte
	for _, file := range []string{a.first, a.second} {
		b, err := os.ReadFile(file)
		must(t, err)
		text = append(text, b...)
	}
	must(t, os.WriteFile(a.both, text, 0o600))
	must(t, testpg.Own(filepath.Dir(a.both)))

	a.configure("recipients = ['" + one + "', '" + two + "']") // the second is announced
	primary := testpg.New(t, testpg.Options{Checksums: true, Conf: map[string]string{
		"archive_mode": "on", "archive_command": a.push(), "wal_keep_size": "512MB"}})
	initialise := func(args ...string) string {
		t.Helper()
		out, err := primary.Run(a.binary, append([]string{"--config", a.config(), "init", "-D", primary.Data}, args...)...)
		must(t, err)
		return out
	}
	initialise("--recipient", one)
	must(t, primary.Start())
	primary.Query("create table rows (n int primary key, at timestamptz)")
	if out, err := primary.Pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}
	a.backups = append(a.backups, a.backup(primary))
	insert(primary)
	a.before = primary.Archive(soon)
	var err error
	a.raw, err = os.ReadFile(filepath.Join(primary.Data, "pg_wal", a.before))
	must(t, err)

	if out := initialise("--recipient", two); !strings.Contains(out, "exists already") {
		t.Error(out)
	}
	insert(primary)
	a.after = primary.Archive(soon)
	a.backups = append(a.backups, a.backup(primary))
	insert(primary)
	a.want, err = contents(primary)
	must(t, err)
	primary.Archive(soon)

	// The primary has no key: it opens nothing, and knows what is archived.
	r := run(t, primary.Data, nil, a.binary, "--config", a.config(), "fetch", a.before, filepath.Join(testpg.Dir(t), "x"))
	if r.code != 1 && r.code != 126 || !strings.Contains(r.stderr, "identity_file") {
		t.Errorf("a fetch without the key: %s", r)
	}
	if r := run(t, primary.Data, nil, a.binary, "--config", a.config(), "push", "pg_wal/"+a.before, a.before); r.code != 0 {
		t.Errorf("pushed again: %s", r)
	}
	must(t, primary.Stop(testpg.Fast))
	return a
}

// An encrypted archive: what lies in it, who can open it, what works without a
// key; a restore of walship's, and recoveries with age, zstd and ssh alone, with
// the lines of docs/encryption.md.
func TestEncryptedArchive(t *testing.T) {
	t.Parallel()
	a := newSealedArchive(t)

	// All is encrypted but what has to be known.
	count := 0
	must(t, filepath.WalkDir(a.root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "walship.json" || d.Name() == basebackup.ManifestFile {
			return err
		}
		file, err := os.ReadFile(path)
		if count++; err != nil || !strings.HasSuffix(path, ".age") || !bytes.HasPrefix(file, []byte("age-encryption.org/v1\n-> walship 1 ")) {
			t.Errorf("%s is not encrypted: %v", path, err)
		}
		return nil
	}))
	if count < 10 {
		t.Errorf("%d files were looked at", count)
	}

	// The plain tools give the segment, each key what was stored for it.
	before, after := a.storedNow(a.before), a.storedNow(a.after)
	if len(before) != 1 || len(after) != 1 {
		t.Fatalf("%q, %q", before, after)
	}
	if got := ageContent(t, a.first, before[0]); !bytes.Equal(got, a.raw) {
		t.Errorf("age and zstd give %d bytes, SHA-256 %x, want %x", len(got), sha256.Sum256(got), sha256.Sum256(a.raw))
	}
	if got := ageContent(t, a.second, after[0]); len(got) != 16<<20 {
		t.Errorf("age and zstd give %d bytes with the second key", len(got))
	}
	if r := run(t, "/", nil, "age", "-d", "-i", a.second, before[0]); r.code == 0 {
		t.Error("the second key opens what was stored before it")
	}

	// Without a key, and with it.
	server := a.more
	for _, c := range []struct {
		conf string
		says string
	}{{server, "are encrypted: they are what was stored"}, {"identity_file = '" + a.second + "'", "no key in"}, {"identity_file = '" + a.both + "'", ""}} {
		a.configure(c.conf)
		r := run(t, "/", nil, a.binary, "--config", a.config(), "verify", "-q")
		if r.code != 0 || (c.says == "") != (r.stderr == "") || !strings.Contains(r.stderr, c.says) || strings.Count(r.stderr, "\n") > 1 {
			t.Errorf("verify, %s: %s", c.conf, r)
		}
	}
	if r := run(t, "/", nil, a.binary, "--config", a.config(), "list"); r.code != 0 || !strings.Contains(r.stdout, "encrypted to age1") {
		t.Errorf("list: %s", r)
	}

	// A second site is filled by who has no key, and is worth as much.
	a.configure(server)
	second := filepath.Join(testpg.Dir(t), "second")
	if v := a.sync(0, a.root, second).Syncs[0]; v.Backups != len(a.backups) {
		t.Errorf("sync: %+v", v)
	}
	sameArchive(t, a.root, second)

	a.refuses(t)
	first := a.root
	a.root = second
	a.configure("identity_file = '" + a.both + "'")
	copied := a.restored("--latest", "--backup", a.backups[0]) // of before the change
	waitContents(t, copied, a.want)
	must(t, copied.Stop(testpg.Fast))
	a.root = first
	a.byHand(t)
}

// refuses: a restore and a fetch with the wrong key, or none, end with one clear
// line.
func (a *sealedArchive) refuses(t *testing.T) {
	a.configure("")
	a.refused(3, []string{"no identity_file is set"}, "--latest")
	a.configure("identity_file = '" + a.first + "'")
	a.refused(3, []string{"none of the identities in " + a.first}, "--latest", "--backup", a.backups[1])
	must(t, os.Chmod(a.first, 0o644))
	a.refused(3, []string{"others may read it"}, "--latest", "--backup", a.backups[0])
	must(t, os.Chmod(a.first, 0o600))

	for mode, code := range map[string]int{"archive-recovery": 126, "standby": 1, "ending": 1, "by-hand": 126} {
		target := filepath.Join(t.TempDir(), "RECOVERYXLOG")
		a.configure("identity_file = '" + a.second + "'")
		r := run(t, "/", nil, a.binary, "--config", a.config(), "fetch", "--mode", mode, a.before, target)
		if _, err := os.Stat(target); r.code != code || err == nil || !strings.Contains(r.stderr, "none of the identities in "+a.second) || strings.Count(r.stderr, "\n") > 2 {
			t.Errorf("fetch with the wrong key, %s: %s", mode, r)
		}
	}
}

// encryptionLines are the lines for restore_command on the page, for that folder,
// identity and host.
func encryptionLines(t *testing.T, folder, identity, target string) (lines []string) {
	t.Helper()
	page, err := os.ReadFile("../docs/encryption.md")
	must(t, err)
	places := strings.NewReplacer("''", "'", "/srv/wal/ID", folder, "/etc/walship/identity.txt", identity, "dba@backup.example.com", target)
	for _, m := range regexp.MustCompile(`(?m)^    restore_command = '(.*)'$`).FindAllStringSubmatch(string(page), -1) {
		lines = append(lines, places.Replace(m[1]))
	}
	if len(lines) != 2 || !strings.Contains(lines[1], "ssh ") {
		t.Fatalf("the page has other lines: %q", lines)
	}
	return lines
}

// byHand recovers a real server by the lines of the page alone.
func (a *sealedArchive) byHand(t *testing.T) {
	page, err := os.ReadFile("../docs/encryption.md")
	must(t, err)
	folder := filepath.Dir(filepath.Dir(a.backupFolder(a.backups[0])))
	data := filepath.Join(testpg.Dir(t), "data")
	unpack := regexp.MustCompile(`(?s)\n    mkdir -m 700 NEW.*?\n\n`).FindString(string(page))
	script := strings.NewReplacer("/srv/wal/ID", folder, "BACKUP", a.backups[0], "/etc/walship/identity.txt", a.both, "NEW", data).Replace(unpack)
	if out, err := exec.Command("sh", "-c", "set -e\n"+script).CombinedOutput(); script == "" || err != nil || len(out) > 0 {
		t.Fatalf("%s\n%v: %s", script, err, out)
	}
	must(t, testpg.Own(data))
	must(t, testpg.Own(a.root)) // the archive as it is on the server's own machine
	c := testpg.Restore(t, data)
	c.WriteRecovery(false, map[string]string{"recovery_target_timeline": "latest", "restore_command": encryptionLines(t, folder, a.both, "nobody")[0]})
	c.SetConf(map[string]string{"archive_mode": "off"})
	must(t, c.Start())
	must(t, c.WaitPrimary(soon))
	waitContents(t, c, a.want)
}

// The lines of docs/encryption.md answer as they promise: 1 only for a file that
// is absent, 126 and above for whatever goes wrong.
func TestEncryptionLines(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	identity, recipient := ageKey(t)
	other, _ := ageKey(t)
	for i, way := range []string{"here", "ssh"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		c.must(0, env, "init", "--recipient", recipient)
		path, name, content := c.addSegment(1, 1)
		c.must(0, env, "push", path, name)
		history := c.fixture("00000002.history")
		c.must(0, env, "push", "--no-clone-guard", c.add("00000002.history", history), "00000002.history")
		folder := filepath.Dir(c.tmp(root))
		target := filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")
		ask := func(what, identity, name string, want int, content []byte) {
			t.Helper()
			line := encryptionLines(t, folder, identity, hostileClient(t, server))[i]
			os.Remove(target)
			code, said := hostileShell(c.Dir, strings.NewReplacer("%f", name, "%p", "pg_wal/RECOVERYXLOG").Replace(line))
			if code != want {
				t.Errorf("%s, %s: code %d instead of %d: %s", way, what, code, want, said)
			}
			if got, _ := os.ReadFile(target); content != nil && !bytes.Equal(got, content) {
				t.Errorf("%s, %s: %d bytes instead of %d", way, what, len(got), len(content))
			}
			if left, _ := filepath.Glob(target + ".*"); content != nil && len(left) > 0 {
				t.Errorf("%s, %s: left %q", way, what, left)
			}
		}
		ask("a segment", identity, name, 0, content)
		ask("a history", identity, "00000002.history", 0, history)
		ask("an absent segment", identity, c.name(2), 1, nil)
		ask("another key", other, name, 126, nil)
		file := c.stored(root, name) + ".zst.age"
		sound, err := os.ReadFile(file)
		must(t, err)
		must(t, os.WriteFile(file, sound[:len(sound)-1], 0o600))
		ask("a file cut short", identity, name, 126, nil)
		sound[len(sound)/2] ^= 1
		must(t, os.WriteFile(file, sound, 0o600))
		ask("a flipped bit", identity, name, 126, nil)
	}
}
