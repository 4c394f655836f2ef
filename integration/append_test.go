package integration_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// hostLines takes the lines for the archive host out of what setup has printed.
func hostLines(t testing.TB, stdout string) (match []string, key string) {
	t.Helper()
	inMatch := false
	for line := range strings.Lines(stdout) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "Match User "):
			inMatch = true
		case inMatch && strings.HasPrefix(line, "    "):
			match = append(match, strings.TrimSpace(line))
		case strings.HasPrefix(line, `restrict,command="internal-sftp -p `):
			key, inMatch = line, false
		default:
			inMatch = false
		}
	}
	if len(match) == 0 || key == "" {
		t.Fatalf("no Match block or no key in\n%s", stdout)
	}
	return match, key
}

// The archive host is set up with the lines that setup prints. A real archiver
// and a backup work there. Who has the primary's key then tries every way to
// change or remove what is there: each works with a key that may do everything,
// and none with the primary's. The other key tidies up.
func TestAppendOnly(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		return // only root can set up such an account
	}
	a := newAdmin(t)
	open := testsshd.Start(t, testsshd.Options{})
	must(t, os.WriteFile(open.Authorized, nil, 0o644))
	first := a.want(9, []string{"does not let the key in yet", "what it costs", "ChrootDirectory", "walship_keys"},
		"setup", "ssh", "--append-only", "--archive", open.URL("/wal"), "--accept-new")
	match, line := hostLines(t, first.stdout)

	// An ordinary account is found out.
	must(t, os.WriteFile(open.Authorized, []byte(keyOf(t, a, `restrict,command="internal-sftp"`)), 0o644))
	plain := filepath.Join(testpg.Dir(t), "wal")
	r := a.want(12, []string{"is not append-only: the key can leave its folder", "(setstat)", "(fsetstat)", "(lsetstat)", "(symlink)",
		"truncate a file", "(posix-rename)", "(rmdir)", "Match User"},
		"setup", "ssh", "--archive", open.URL(plain), "--force")
	if left, _ := os.ReadDir(plain); len(left) > 2 {
		t.Errorf("the probe of an ordinary account has left %v\n%v", left, r)
	}

	other, otherFile := testsshd.NewKey(t, "operator", "")
	reader, readerFile := testsshd.NewKey(t, "standby", "")
	public := func(key ssh.Signer) string {
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	}
	h := newAppendHost(t, match, []string{line, `restrict,command="internal-sftp" ` + public(other), `restrict,command="internal-sftp -R" ` + public(reader)})
	url := h.URL("/wal")
	a.want(0, []string{"append-only yes", "what it costs", "durability full"}, "setup", "ssh", "--append-only", "--archive", url, "--accept-new", "--force")
	a.want(0, []string{"append-only yes", "everything is as it should be"}, "setup", "ssh")

	// A normal archiver, a backup, a check and a fetch.
	s := &site{t: t, sshd: h.Server, root: h.archive, home: filepath.Dir(a.config("x")), addr: h.Addr, binary: a.binary}
	c := newPrimary(t, s, testpg.Options{})
	name := c.Archive(soon)
	backup := []string{"backup", "--checkpoint", "fast", "-d", fmt.Sprintf("host=%s port=%d", c.Sockets, c.Port)}
	a.want(0, nil, backup...)
	name2 := c.Archive(soon)
	checked := a.run("check", "-D", c.Data, "--json")
	if !strings.Contains(checked.stdout, "did not let this key remove a file") {
		t.Errorf("check: %v", checked)
	}
	segment := s.stored(name)
	for file := range portraits(t, h.archive) {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o440 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}

	// The attacks, on a file of each kind.
	before := portraits(t, h.archive)
	var victims []string
	for _, pattern := range []string{"walship.json", "wal/*/" + name + ".zst", "base/*/manifest.json", "base/*/base-000001.tar.zst"} {
		found, err := filepath.Glob(filepath.Join(h.archive, "*", pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		victims = append(victims, found[0])
	}
	mine := primaryKey(t, a)
	evil, free := h.session(t, mine), h.session(t, other)
	seen := func(file string) string { return "/wal" + strings.TrimPrefix(file, h.archive) }
	for i, attack := range attacks() {
		// That it is an attack at all, a key without limits shows on a file of its own.
		victim := filepath.Join(h.archive, fmt.Sprintf("ground-%d", i), "victim")
		must(t, os.Mkdir(filepath.Dir(victim), 0o750))
		must(t, os.WriteFile(victim, []byte("what was there"), 0o640))
		must(t, testpg.Own(filepath.Dir(victim)))
		was := portrait(victim)
		own := fmt.Sprintf("/wal/free-%d", i)
		free.write(free.open(own, flagWrite|flagCreate, nil))
		attack.do(free, seen(victim), own)
		if portrait(victim) == was {
			t.Errorf("%s: harms nothing even with a key that may do everything", attack.what)
		}
		for j, victim := range victims {
			own := fmt.Sprintf("/wal/evil-%d-%d", i, j)
			evil.write(evil.open(own, flagWrite|flagCreate, nil))
			attack.do(evil, seen(victim), own)
			if portrait(victim) != before[victim] {
				t.Errorf("%s: %s was %s, is %s", attack.what, seen(victim), before[victim], portrait(victim))
			}
		}
	}
	for _, handle := range []string{"\x00\x00\x00\x00", "\x00\x00\x00\x01", "\x00\x00\x00\x07"} { // another session's, guessed
		evil.ask(rawWrite, handle, uint64(0), "x")
		evil.ask(rawFsetstat, handle, attrs(attrBySize, 0))
	}
	evil.ask(rawRmdir, seen(filepath.Dir(segment)))
	for file, was := range before {
		if is := portrait(file); is != was {
			t.Errorf("%s was %s, is %s", file, was, is)
		}
	}
	// Out of the folder: no other key can be let in.
	for _, out := range []string{"/etc/passwd", "/.ssh/authorized_keys2", "/../../etc/ssh/walship_keys", "/walship_keys", "/new"} {
		if evil.open(out, flagWrite|flagCreate, nil) != "" {
			t.Errorf("%s could be opened for writing", out)
		}
	}
	for _, command := range []string{"id", "internal-sftp", "scp -t /wal", "sh"} {
		session, err := evil.conn.NewSession()
		must(t, err)
		if out, err := session.CombinedOutput(command); err == nil {
			t.Errorf("the key ran %s: %s", command, out)
		}
	}
	if l, err := evil.conn.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Errorf("the key forwards %v", l.Addr())
	}
	if d, err := evil.conn.Dial("tcp", h.Addr); err == nil {
		d.Close()
		t.Error("the key forwards")
	}

	appendRead(t, h, c, readerFile, name)
	appendLies(t, a, c, evil, h, s, name, name2)
	appendTidied(t, a, h, c, otherFile, name2)
}

// appendLies adds what an attacker can add: copies of an archived segment under
// other extensions and places, links, and a history that leaves the timeline in
// the past. What was archived before is still delivered.
func appendLies(t *testing.T, a *admin, c *testpg.Cluster, evil *rawSFTP, h *appendHost, s *site, name, other string) {
	t.Helper()
	folder := strings.TrimPrefix(filepath.Dir(s.stored(name)), h.archive)
	cluster := strings.Split(folder, "/")[1]
	for _, lie := range []string{folder + "/" + name, folder + "/" + name + ".gz", "/" + name, "/" + name + ".zst"} {
		evil.write(evil.open("/wal"+lie, flagWrite|flagCreate, nil))
	}
	// The other segment's own file, sound and recorded, under this one's name.
	evil.ask(rawExtended, "hardlink@openssh.com", "/wal"+strings.TrimPrefix(s.stored(other), h.archive), "/wal"+folder+"/"+name+".lz4")
	text := "1\t0/1000000\tno recovery target specified\n"
	lie := evil.open("/wal/"+cluster+"/history/00000002.history", flagWrite|flagCreate, nil)
	evil.ask(rawWrite, lie, uint64(0), text)
	evil.open(fmt.Sprintf("/wal/%s/history/00000002.history.%x.sha256", cluster, sha256.Sum256([]byte(text))), flagWrite|flagCreate, nil)

	base, err := filepath.Glob(filepath.Join(h.archive, "*", "base", "*"))
	if err != nil || len(base) != 1 {
		t.Fatal(base, err)
	}
	for _, added := range []string{"base-000099.tar.zst", "manifest.json.gz"} {
		evil.write(evil.open("/wal"+strings.TrimPrefix(base[0], h.archive)+"/"+added, flagWrite|flagCreate, nil))
	}

	// Recovery of the newest timeline stops, and says what has stopped it; aimed at
	// the true one it goes on.
	a.want(126, []string{"withheld", "timeline 2 has left timeline 1"}, "fetch", "-D", c.Data, "--mode", "archive-recovery", other, filepath.Join(testpg.Dir(t), "x"))
	a.want(0, []string{"restored"}, "restore", "-D", filepath.Join(testpg.Dir(t), "restored"), "--timeline", "1")
	want, err := hostileContent(s.fileOf(name))
	must(t, err)
	into := filepath.Join(testpg.Dir(t), "delivered")
	a.want(0, nil, "fetch", "--mode", "by-hand", name, into)
	got, err := os.ReadFile(into)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("another %s was delivered: %d bytes, %v", name, len(got), err)
	}
}

// fileOf is the file that push stores a segment in.
func (s *site) fileOf(name string) string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.root, "*", "wal", name[:16], name+".zst"))
	if err != nil || len(found) != 1 {
		s.t.Fatalf("%s: %v, %v", name, found, err)
	}
	return found[0]
}

// appendTidied shows what the other key is for: prune sweeps the temporary names
// that pushes have left, which the primary's key cannot.
func appendTidied(t *testing.T, a *admin, h *appendHost, c *testpg.Cluster, key []byte, name string) {
	t.Helper()
	tmp, err := filepath.Glob(filepath.Join(h.archive, "*", "tmp", "*.tmp"))
	if err != nil || len(tmp) < 3 {
		t.Fatalf("temporary names: %v, %v", tmp, err)
	}
	old := time.Now().Add(-48 * time.Hour)
	for _, file := range tmp {
		must(t, os.Chtimes(file, old, old))
	}
	// What has been added to a backup keeps prune from all until it is gone.
	prune := []string{"prune", "-D", c.Data, "--keep-from", name, "--yes"}
	a.want(14, []string{"what is there too much is passed over by restore"}, prune...)
	for _, added := range []string{"base-000099.tar.zst", "manifest.json.gz"} {
		found, err := filepath.Glob(filepath.Join(h.archive, "*", "base", "*", added))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		must(t, os.Remove(found[0]))
	}
	r := a.run(prune...)
	if r.code != 10 || !strings.Contains(r.stderr, "may only add (append_only)") {
		t.Errorf("prune with the primary's key: %v", r)
	}
	operator := h.as(t, key)
	operator.want(0, nil, prune...)
	for _, file := range tmp {
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("prune with the other key has left %s: %v", file, err)
		}
	}
}

// as is an admin with that key for the archive host, who has no append_only.
func (h *appendHost) as(t *testing.T, key []byte) *admin {
	t.Helper()
	a := newAdmin(t)
	must(t, os.MkdirAll(filepath.Dir(a.config("x")), 0o755))
	must(t, os.WriteFile(a.config("id_ed25519"), key, 0o600))
	must(t, os.WriteFile(a.config("known_hosts"), []byte(h.KnownHostsLine(h.HostKeys[0])), 0o644))
	must(t, os.WriteFile(a.config("walship.toml"), fmt.Appendf(nil, "archive = %q\nssh_key = %q\nknown_hosts = %q\n",
		h.URL("/wal"), a.config("id_ed25519"), a.config("known_hosts")), 0o644))
	must(t, testpg.Own(a.home))
	return a
}

// appendRead fetches with a key that may only read, as a standby's, which cannot
// push.
func appendRead(t *testing.T, h *appendHost, c *testpg.Cluster, key []byte, name string) {
	t.Helper()
	standby := h.as(t, key)
	into := filepath.Join(testpg.Dir(t), name)
	standby.want(0, nil, "fetch", "-D", c.Data, "--mode", "standby", name, into)
	standby.want(0, nil, "list", "-D", c.Data)
	r := standby.run("push", "-D", c.Data, into, name)
	if r.code != 12 {
		t.Errorf("push with a key that may only read: %v", r)
	}
}

// keyOf is a line of authorized_keys for the admin's key.
func keyOf(t testing.TB, a *admin, options string) string {
	t.Helper()
	public, err := os.ReadFile(a.config("id_ed25519.pub"))
	must(t, err)
	return options + " " + string(public)
}

func primaryKey(t testing.TB, a *admin) ssh.Signer {
	t.Helper()
	private, err := os.ReadFile(a.config("id_ed25519"))
	must(t, err)
	key, err := ssh.ParsePrivateKey(private)
	must(t, err)
	return key
}
