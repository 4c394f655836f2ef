package integration_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"walship/internal/testbin"
	"walship/internal/testsshd"
)

// regressions are bugs that tools which archive WAL are known for, each with the
// tests that fail if walship has it. Those without a folder stand in this package.
var regressions = []struct {
	bug   string
	tests []string
}{
	{"an outage is taken for the end of WAL",
		[]string{"TestOutageStopsArchiveRecovery", "TestOutageTakenForEndOfWAL", "TestNotThisClustersArchive", "faults/TestHistories"}},
	{"after the archive's address has changed, a stale mark makes a push succeed that stores nothing",
		[]string{"TestArchiveElsewhere"}},
	{"two pushers share a temporary file, and what they mix is acknowledged",
		[]string{"TestTwoPushersSFTP", "TestTwoPushersFile", "faults/TestHistories"}},
	{"a stored file of zero bytes is delivered",
		[]string{"TestTruncated"}},
	{"verify finds a fault and exits with 0",
		[]string{"TestVerify", "TestVerifyExitCodes"}},
	{"a history file is overwritten",
		[]string{"TestHistoryIsNeverOverwritten", "TestConflictPartials", "faults/TestHistories"}},
	{"a connection that was idle for minutes, as on a rented storage box, hangs or fails the next call",
		[]string{"../transport/TestSFTPReconnects", "../transport/TestSFTPServerFallsSilent"}},
	{"more logins at once than sshd takes are an error that stays",
		[]string{"TestManyLogins", "TestCrowd", "../transport/TestMaxStartups"}},
	{"a prompt for a password, or for the passphrase of a key, hangs",
		[]string{"TestNoPrompt", "../transport/TestEncryptedKey"}},
	{"a server with a status of its own for a name that is taken makes a retry fail for good",
		[]string{"faults/TestTakenHasACodeOfItsOwn"}},
	{"an exit code above 125, as ssh's and rsync's 255, ends a standby",
		[]string{"TestStandbyOutlivesOutages", "TestExitCodesOfAnswers", "../cmd/walship/TestCodes"}},
	{"at a timeline switch WAL of the line that was left is delivered",
		[]string{"TestForkGuard", "TestGuardsPassForkAtSegmentEnd", "TestGuardsPassFailovers", "../restore/TestPrefetchTimelines", "../restore/TestPrefetchForkGuard"}},
	{"a retry is told that the file exists already, fails, and pg_wal fills",
		[]string{"TestSameContentAgain", "TestPushKilled", "faults/TestHistories"}},
}

// Each of those tests is there.
func TestRegressionsAreTested(t *testing.T) {
	t.Parallel()
	known := map[string]map[string]bool{}
	for _, r := range regressions {
		if len(r.tests) == 0 {
			t.Errorf("%s: no test", r.bug)
		}
		for _, test := range r.tests {
			folder, name := filepath.Split(test)
			if known[folder] == nil {
				known[folder] = testsIn(t, filepath.Join(".", folder))
			}
			if !known[folder][name] {
				t.Errorf("%s: there is no %s", r.bug, test)
			}
		}
	}
}

// testsIn are the names of the tests in a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	must(t, err)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		must(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				names[f.Name.Name] = true
			}
		}
	}
	return names
}

// Nothing remembers beside the archive what is in it: when the configuration
// leads to another one, what the first has is stored there too, and one that was
// never initialised refuses it.
func TestArchiveElsewhere(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	c := hostileData(t)
	first, second, third := t.TempDir(), t.TempDir(), t.TempDir()
	path, name, content := c.addSegment(1, 1)
	for _, root := range []string{first, second} {
		env := hostileSFTP(server, root)
		c.must(0, env, "init")
		c.must(0, env, "push", path, name)
		hostileOK(t, c.holds(root, name, content))
	}
	c.must(7, hostileSFTP(server, third), "push", path, name)
	// Nor has the first one's "yes" a life of its own once the file is gone.
	stored, _, err := c.archived(first, name)
	hostileOK(t, err)
	hostileOK(t, os.Remove(stored))
	c.must(0, hostileSFTP(server, first), "push", path, name)
	hostileOK(t, c.holds(first, name, content))
}

func TestHistoryIsNeverOverwritten(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	const name = "00000002.history"
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		c.must(0, env, "init")
		path := c.add(name, []byte("1\t0/100028\tno recovery target specified\n"))
		c.must(0, env, "push", path, name)
		c.must(0, env, "push", path, name)
		before := hostileTree(t, root)
		c.add(name, []byte("1\t0/100060\tno recovery target specified\n"))
		p := c.must(5, env, "push", path, name)
		hostileOK(t, hostileLines(p.text()))
		if after := hostileTree(t, root); after != before {
			t.Errorf("%s: the archive has changed:\n%s%s", store, before, after)
		}
	}
}

func TestVerifyExitCodes(t *testing.T) {
	t.Parallel()
	c, root := hostileData(t), t.TempDir()
	env := hostileFile(root)
	c.must(0, env, "init")
	for n := 1; n <= 3; n++ {
		path, name, _ := c.addSegment(n, 1)
		c.must(0, env, "push", path, name)
	}
	c.must(0, env, "verify")
	stored, _, err := c.archived(root, c.name(2))
	hostileOK(t, err)
	sound, err := os.ReadFile(stored)
	hostileOK(t, err)
	flipped := bytes.Clone(sound)
	flipped[len(flipped)/2] ^= 1
	for what, content := range map[string][]byte{"a flipped bit": flipped, "a file of zero bytes": {}, "a truncated file": sound[:len(sound)/2]} {
		hostileOK(t, os.WriteFile(stored, content, 0o600))
		if p := c.run(env, "verify"); p.code != 14 || !strings.Contains(p.text(), filepath.Base(stored)) {
			t.Errorf("%s: code %d: %s", what, p.code, p.text())
		}
	}
	hostileOK(t, os.WriteFile(stored, sound, 0o600))
	hostileOK(t, os.Remove(filepath.Join(filepath.Dir(stored), c.name(1)+".zst"))) // the oldest: nothing is missing
	c.must(0, env, "verify")
	hostileOK(t, os.Rename(root, root+".away")) // nothing is there to be verified
	if p := c.run(env, "verify", "-D", c.Dir); p.code == 0 {
		t.Errorf("an archive that is absent: code 0: %s", p.text())
	}
	hostileOK(t, os.Rename(root+".away", root))
}

// Thirty logins at once, and a server that takes two of them: those that it
// turns away fail with 8 and nothing else, and all are stored in the end.
func TestManyLogins(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Config: []string{"MaxStartups 2:100:2"}})
	c, root := hostileData(t), t.TempDir()
	env := hostileSFTP(server, root)
	c.must(0, hostileFile(root), "init")
	var mu sync.Mutex
	turnedAway := 0
	calls := map[string]func() error{}
	bin := testbin.Walship(t)
	for n := 1; n <= 30; n++ {
		path, name, content := c.addSegment(n, 1)
		calls[name] = func() error {
			for end := time.Now().Add(hostileLimit); ; {
				p := hostileStart(t, bin, c.Dir, env, "push", path, name)
				<-p.done
				switch {
				case p.code == 0:
					return c.holds(root, name, content)
				case p.code != 8 || time.Now().After(end):
					return fmt.Errorf("code %d: %s", p.code, p.text())
				}
				mu.Lock()
				turnedAway++
				mu.Unlock()
			}
		}
	}
	hostileAll(t, calls)
	t.Logf("%d logins were turned away", turnedAway)
	if turnedAway == 0 {
		t.Error("the server has turned nobody away")
	}
}

// A server that would take a password, and a key that it does not know or that
// has a passphrase: the call ends by itself, however long its standard input is
// open, and says so.
func TestNoPrompt(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Config: []string{"PasswordAuthentication yes", "KbdInteractiveAuthentication yes"}})
	c, root := hostileData(t), t.TempDir()
	path, name, _ := c.addSegment(1, 1)
	c.must(0, hostileFile(root), "init")
	_, unknown := testsshd.NewKey(t, "unknown", "")
	_, locked := testsshd.NewKey(t, "locked", "s3cret")
	for what, key := range map[string][]byte{"an unknown key": unknown, "a key with a passphrase": locked} {
		file := filepath.Join(t.TempDir(), "key")
		hostileOK(t, os.WriteFile(file, key, 0o600))
		env := hostileSFTP(server, root).with("WALSHIP_SSH_KEY", file)
		for mode, code := range map[string]int{"": 9, "archive recovery": 126, "standby": 1} {
			args := []string{"push", path, name}
			if mode != "" {
				args = []string{"fetch", name, "pg_wal/RECOVERYXLOG"}
			}
			c.mode(mode)
			p := c.waiting(env, args...)
			if p.code != code || p.text() == "" {
				t.Errorf("%s, %q: code %d: %s", what, mode, p.code, p.text())
			}
		}
	}
}

// waiting runs the binary with a standard input that says nothing and stays open.
func (c *hostileCluster) waiting(env hostileEnv, args ...string) *hostileCall {
	c.t.Helper()
	r, w, err := os.Pipe()
	hostileOK(c.t, err)
	defer r.Close()
	defer w.Close()
	p := hostileStartWith(c.t, r, testbin.Walship(c.t), c.Dir, env, args...)
	p.wait(c.t)
	return p
}
