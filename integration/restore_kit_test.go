package integration_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testpg"
)

// What the tests of walship restore share.

// newDir is an empty folder of the server's user's, for a copy.
func newDir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(testpg.Dir(t), "copy")
	must(t, os.Mkdir(dir, 0o700))
	must(t, testpg.Own(dir))
	return dir
}

// restore restores into a new folder and returns it.
func (s *site) restore(args ...string) (dir string, r result) {
	s.t.Helper()
	dir = newDir(s.t)
	return dir, s.restoreInto(dir, args...)
}

func (s *site) restoreInto(dir string, args ...string) result {
	s.t.Helper()
	return run(s.t, "/", nil, s.binary, append([]string{"--config", s.config(), "restore", "-D", dir}, args...)...)
}

// restored restores, starts the copy, and waits until it has come to its target:
// it pauses there, or has opened.
func (s *site) restored(args ...string) *testpg.Cluster {
	s.t.Helper()
	dir, r := s.restore(args...)
	if r.code != 0 {
		s.t.Fatalf("restore %q: %s", args, r)
	}
	return s.recovered(dir)
}

func (s *site) recovered(dir string) *testpg.Cluster {
	s.t.Helper()
	c := testpg.Adopt(s.t, dir)
	must(s.t, c.Start())
	testpg.WaitFor(s.t, soon, "the copy to come to its target", func() bool {
		answer, err := c.Psql("select case when pg_is_in_recovery() then pg_is_wal_replay_paused() else true end")
		return answer == "t" && err == nil || !c.Running()
	})
	if !c.Running() {
		s.t.Fatalf("the copy's server has ended:\n%s", c.Log())
	}
	return c
}

// refused fails unless the restore ends with the code, says all that, and leaves
// the folder empty.
func (s *site) refused(code int, says []string, args ...string) {
	s.t.Helper()
	dir, r := s.restore(args...)
	if r.code != code {
		s.t.Errorf("restore %q: %s, want code %d", args, r, code)
	}
	for _, text := range says {
		if !strings.Contains(r.stderr, text) {
			s.t.Errorf("restore %q: it does not say %q: %s", args, text, r.stderr)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		s.t.Errorf("restore %q: %v, %v are in the folder", args, entries, err)
	}
}

// half fails unless the folder carries the mark of a restore that is not whole,
// and nothing that a server would start in.
func half(t testing.TB, dir string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "walship-restore.json")); err != nil {
		t.Errorf("the folder is not marked: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it has a pg_control: %v", err)
	}
}

// treeSum sums up all that lies in the folders, but for settings that name
// them.
func treeSum(t testing.TB, dirs ...string) string {
	t.Helper()
	sum := sha256.New()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			fmt.Fprintf(sum, "%s %v\n", name, info.Mode())
			if !e.Type().IsRegular() || name == "tablespace_map" {
				return nil
			}
			text, err := os.ReadFile(path)
			sum.Write(text)
			return err
		})
		must(t, err)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// amcheck runs pg_amcheck over all of the cluster.
func amcheck(t testing.TB, c *testpg.Cluster) {
	t.Helper()
	if _, err := c.Run("pg_amcheck", "--all", "--install-missing", "--heapallindexed"); err != nil {
		t.Error(err)
	}
}

// restoresLikewise does with walship restore what TestBackupAndByHand has done
// by hand: 10,000 small tables, and one in a tablespace.
func restoresLikewise(t testing.TB, s *site, space, want string) {
	t.Helper()
	to := filepath.Join(testpg.Dir(t), "space")
	dir, r := s.restore("--tablespace-mapping", space+"="+to)
	if r.code != 0 {
		t.Fatal(r)
	}
	must(t, testpg.Own(filepath.Dir(to)))
	c := testpg.Adopt(t, dir)
	if _, err := c.Run("pg_verifybackup", "-n", "-q", "-i", "tablespace_map", "-i", "postgresql.conf", dir); err != nil {
		t.Error(err)
	}
	must(t, c.Start())
	must(t, c.WaitPrimary(soon))
	waitContents(t, c, want)
	if got := c.Query("select count(*), (select sum(n) from far) from pg_class where relname like 'small_%'"); got != "10000|45000150000" {
		t.Error(got)
	}
}
