package integration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walship/internal/testbin"
	"walship/internal/testpg"
)

// Two standbys are promoted within one segment, one after the other. Both archive
// what they have of it as .partial, under one name and with other bytes: both
// are kept, and both archivers go on.
func TestConflictPartials(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	primary := guardPrimary(t, a, nil)
	backup := guardBackup(t, primary)
	standby := func(target string) *testpg.Cluster {
		c := testpg.Restore(t, backup)
		c.WriteRecovery(true, map[string]string{
			"primary_conninfo": primary.ConnInfo(), "restore_command": a.fetch(), "recovery_target_timeline": target})
		must(t, c.Start())
		return c
	}
	first, second := standby("latest"), standby("current")
	guardAdd(primary, "one")
	guardWaitRows(t, first, "one")
	partial := primary.CurrentWALFile() + ".partial"
	guardPromote(t, first)
	first.WaitArchived(guardLimit, partial)
	guardAdd(primary, "two")
	guardWaitRows(t, second, "one two")
	must(t, primary.Kill9())
	guardPromote(t, second)
	second.WaitArchived(guardLimit, "00000003.history")
	second.WaitArchived(guardLimit, partial)
	for _, c := range []*testpg.Cluster{first, second} {
		guardAdd(c, "more")
		c.Archive(guardLimit)
		if got := guardFailures(c); got != "0" {
			t.Errorf("the archiver has failed %s times:\n%s", got, c.Log())
		}
	}
	second.WaitLog(guardLimit, "warning: .*another "+partial+" is archived already")

	stored := a.stored(partial)
	others, err := filepath.Glob(strings.TrimSuffix(stored, "partial.zst") + "????????.partial.zst")
	must(t, err)
	if len(others) != 1 {
		t.Fatalf("beside %s there is %q", stored, others)
	}
	other := unzstd(t, others[0])
	sum := sha256.Sum256(other)
	if name := filepath.Base(others[0]); !strings.Contains(name, "."+hex.EncodeToString(sum[:4])+".") {
		t.Errorf("content of SHA-256 %x is stored as %s", sum, name)
	}
	if bytes.Equal(other, unzstd(t, stored)) {
		t.Error("both have the same content")
	}
}

// conflictArchive is an archive of the cluster of a folder of testdata/wal.
type conflictArchive struct{ *guardArchive }

func newConflictArchive(t *testing.T, data string) *conflictArchive {
	t.Helper()
	a := &conflictArchive{&guardArchive{t, t.TempDir(), testbin.Walship(t)}}
	if r := a.run(data, "init"); r.code != 0 {
		t.Fatal(r)
	}
	return a
}

func (a *conflictArchive) run(data string, args ...string) result {
	a.t.Helper()
	return run(a.t, data, nil, a.walship, append([]string{"--archive=" + a.url()}, args...)...)
}

// push pushes a file of the data directory and expects that exit code, and a
// message that matches, or none if says is empty.
func (a *conflictArchive) push(data, name string, code int, says string) {
	a.t.Helper()
	r := a.run(data, "push", filepath.Join(filepath.Base(walFolder(data)), name), name)
	if r.code != code || !regexp.MustCompile(says).MatchString(r.stderr) || says == "" && r.stderr != "" {
		a.t.Errorf("push %s: %v, want exit code %d and %q", name, r, code, says)
	}
}

// holds compares the stored file with what it should hold; nil is none.
func (a *conflictArchive) holds(name string, want []byte) {
	a.t.Helper()
	path := a.stored(name)
	switch {
	case path == "" && want != nil:
		a.t.Errorf("%s is not there", name)
	case path != "" && want == nil:
		a.t.Errorf("%s is there", path)
	case path != "" && !bytes.Equal(unzstd(a.t, path), want):
		a.t.Errorf("%s holds other bytes", path)
	}
}

// conflictSegment is the segment of timeline 1 of which both servers have one.
func conflictSegment(files map[string][]byte) string {
	for f := range files {
		if name, ok := strings.CutSuffix(f, ".other-node"); ok {
			return name
		}
	}
	return ""
}

// Before 9.5 a promoted standby archives the unfinished last segment of the old
// timeline under its full name, with other bytes than the old primary's own. It
// is filed as .partial, whoever comes first.
func TestConflictUnfinishedSegment(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"9.0", "9.1", "9.2", "9.3", "9.4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			from := filepath.Join("testdata/wal", version)
			promoted, files := unpack(t, from)
			name := conflictSegment(files)
			begins := "00000002" + name[8:]
			whole, unfinished := files[name+".other-node"], files[name]
			old := dataFolder(t, from)
			must(t, os.WriteFile(filepath.Join(walFolder(old), name), whole, 0o600))
			const filed = "unfinished last segment of a timeline that this server has left"

			for _, oldFirst := range []bool{false, true} {
				a := newConflictArchive(t, old)
				if oldFirst {
					a.push(old, name, 0, "")
				}
				for range 2 { // the second time after a lost acknowledgement
					a.push(promoted, name, 0, filed)
				}
				for _, f := range []string{"00000002.history", begins} {
					a.push(promoted, f, 0, "")
				}
				a.push(old, name, 0, "")
				a.holds(name, whole)
				a.holds(name+".partial", unfinished)
				a.holds(begins, files[begins])
			}

			// What the old primary has archived itself needs no second copy.
			a := newConflictArchive(t, old)
			must(t, os.WriteFile(filepath.Join(walFolder(promoted), name), whole, 0o600))
			a.push(old, name, 0, "")
			a.push(promoted, name, 0, "")
			a.holds(name+".partial", nil)
		})
	}
}

// 9.0 and 9.1 push recycled segments too, behind their fork: they are kept aside.
// Later versions do not, and there as without a fork such a file is refused.
func TestConflictLeftovers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"9.0", "9.1", "9.2", "9.4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			from := filepath.Join("testdata/wal", version)
			promoted, files := unpack(t, from)
			const name = "000000010000000000000009"
			content := files[conflictSegment(files)]
			old := dataFolder(t, from)
			for _, data := range []string{promoted, old} {
				must(t, os.WriteFile(filepath.Join(walFolder(data), name), content, 0o600))
			}
			a := newConflictArchive(t, old)
			a.push(old, name, 4, "the page address is")
			if found := a.refused(); len(found) != 0 {
				t.Errorf("refused/ holds %q", found)
			}
			if version > "9.1" {
				a.push(promoted, name, 4, "the page address is")
				return
			}
			for range 2 {
				a.push(promoted, name, 0, "a recycled segment, as 9.0 and 9.1 leave them")
			}
			a.holds(name, nil)
			if found := a.refused(); len(found) != 1 || !bytes.Equal(unzstd(t, found[0]), content) {
				t.Errorf("refused/ holds %q", found)
			}
		})
	}
}

// A second primary has archived other content under the name of the next
// segment. Nothing behind that is archived until the segment is set aside.
func TestSetAside(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	ours := guardPrimary(t, a, nil)
	must(t, ours.Stop(testpg.Fast))
	theirs := testpg.Restore(t, ours.Data)
	must(t, theirs.Start())
	guardAdd(theirs, "theirs")
	name := theirs.Archive(guardLimit)
	must(t, theirs.Stop(testpg.Immediate))
	stored, err := os.ReadFile(a.stored(name))
	must(t, err)

	must(t, ours.Start())
	guardAdd(ours, "ours")
	if got := ours.SwitchWAL(); got != name {
		t.Fatalf("wrote %s, not %s", got, name)
	}
	content, err := os.ReadFile(filepath.Join(ours.Data, "pg_wal", name))
	must(t, err)
	testpg.WaitFor(t, guardLimit, "the archiver to fail", func() bool {
		return ours.Query("select last_failed_wal from pg_stat_archiver where failed_count > 0") == name
	})
	sum := sha256.Sum256(content)
	theirSum := sha256.Sum256(unzstd(t, a.stored(name)))
	ours.WaitLog(guardLimit, "archive command failed with exit code 5")
	ours.WaitLog(guardLimit, name+" is archived with other content: SHA-256 "+hex.EncodeToString(theirSum[:])+" there, "+hex.EncodeToString(sum[:])+" here")
	ours.WaitLog(guardLimit, "hint: .*walship set-aside "+name)

	out, err := ours.Run(a.walship, "set-aside", "-D", ours.Data, "--archive="+a.url(), name)
	must(t, err)
	if !strings.HasPrefix(out, name+" is kept as ") {
		t.Errorf("set-aside says %q", out)
	}
	guardAdd(ours, "behind")
	next := ours.SwitchWAL() // wakes the archiver
	ours.WaitArchived(guardLimit, name)
	ours.WaitArchived(guardLimit, next)
	if got, want := ours.Query("select last_archived_wal from pg_stat_archiver"), next; got != want {
		t.Errorf("the archiver is at %s, want %s", got, want)
	}
	if now, err := os.ReadFile(a.stored(name)); err != nil || !bytes.Equal(now, stored) {
		t.Errorf("%s was changed, %v", a.stored(name), err)
	}
	if found := a.refused(); len(found) != 1 || !bytes.Equal(unzstd(t, found[0]), content) {
		t.Errorf("refused/ holds %q", found)
	}

	// Exactly that content passes, and no other.
	content[len(content)-1] ^= 1
	another := filepath.Join(testpg.Dir(t), name)
	must(t, os.WriteFile(another, content, 0o600))
	must(t, testpg.Own(another))
	if _, err := ours.Run(a.walship, "push", "-D", ours.Data, "--archive="+a.url(), another, name); err == nil || !strings.Contains(err.Error(), "is archived with other content") {
		t.Errorf("other content passes: %v", err)
	}
}
