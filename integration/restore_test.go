package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testpg"
)

// moment is a point in a primary's life.
type moment struct {
	rows           string // contents
	time, lsn, xid string // of its last commit or just behind it
	name           string // of a restore point
}

// anInsert commits a row and notes the moment. The next commit is surely later
// by the server's clock.
func anInsert(t testing.TB, c *testpg.Cluster, name string) moment {
	t.Helper()
	m := moment{name: name}
	m.xid = c.Query("insert into rows select count(*) + 1, now() from rows returning pg_current_xact_id()")
	m.lsn = c.Query("select pg_current_wal_insert_lsn()")
	m.time = c.Query("select clock_timestamp()")
	c.Query("select pg_sleep(0.01); select pg_create_restore_point('" + strings.ReplaceAll(name, "'", "''") + "')")
	var err error
	m.rows, err = contents(c)
	must(t, err)
	return m
}

// One life of a cluster, and every way to say how far to go back to it: each
// gives the rows of that moment, sound by pg_amcheck, with the tablespace in its
// new place; and the copy archives nothing.
func TestRestoreTargets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{Checksums: true})
	space := newDir(t)
	primary.Query("create tablespace space location '" + space + "'; create table far tablespace space as select generate_series(1, 50000) n; create index on far (n)")
	if out, err := primary.Pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}
	load := make(chan error, 1)
	go func() {
		_, err := primary.Pgbench("-n", "-c", "2", "-t", "400")
		load <- err
	}()
	first := s.backup(primary)
	must(t, <-load)
	a := anInsert(t, primary, "it's a")
	primary.Archive(soon)
	b := anInsert(t, primary, "b")
	primary.Archive(soon)
	second := s.backup(primary)
	c := anInsert(t, primary, "c")
	last := anInsert(t, primary, "last")
	primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast)) // its port is free

	for _, target := range []struct {
		what, args string
		want       moment
		backup     string
		paused     bool
	}{
		{"latest", "", last, second, false},
		{"latest, by name", "--latest --backup " + first, last, first, false},
		{"time", "--time " + strings.Replace(a.time, " ", "T", 1), a, first, true},
		{"time, promoting", "--time " + strings.Replace(c.time, " ", "T", 1) + " --target-action promote", c, second, false},
		{"LSN", "--lsn " + b.lsn, b, first, true},
		{"restore point", "--name it's_a --backup " + first, a, first, true},
		{"transaction", "--xid " + c.xid, c, second, true},
		{"before a transaction", "--exclusive --xid " + c.xid, b, second, true},
		{"immediate", "--immediate", b, second, true},
	} {
		t.Run(target.what, func(t *testing.T) {
			t.Parallel()
			s := *s
			s.t = t
			to := filepath.Join(testpg.Dir(t), "space")
			args := []string{"--tablespace-mapping", space + "=" + to}
			for _, word := range strings.Fields(target.args) {
				args = append(args, strings.ReplaceAll(word, "_", " "))
			}
			dir, r := s.restore(args...)
			if r.code != 0 || !strings.Contains(r.stdout, "backup    "+target.backup) {
				t.Fatal(r)
			}
			must(t, testpg.Own(filepath.Dir(to)))
			copied := s.recovered(dir)
			waitContents(t, copied, target.want.rows)
			if got := copied.Query("select pg_is_in_recovery(), current_setting('archive_mode'), (select count(*) from far), pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'"); got != fmt.Sprintf("%t|off|50000|%s", target.paused, to)[:1]+"|off|50000|"+to {
				t.Error(got)
			}
			if target.paused {
				if !strings.Contains(r.stdout, "pg_wal_replay_resume()") {
					t.Error(r)
				}
				copied.Query("select pg_wal_replay_resume()")
				must(t, copied.WaitPrimary(soon))
				waitContents(t, copied, target.want.rows)
			}
			if target.what == "latest" || target.what == "time" {
				amcheck(t, copied)
			}
			if name := copied.CurrentWALFile(); name[:8] != "00000002" {
				t.Errorf("it writes to %s", name)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		s := *s
		s.t = t
		s.refused(13, []string{space, "is not empty", "--tablespace-mapping"})
		free := "--tablespace-mapping=" + space + "=" + filepath.Join(testpg.Dir(t), "free")
		s.refused(18, []string{"before the oldest backup", first}, free, "--time", "2020-01-01")
		s.refused(18, []string{"beyond the archived WAL"}, free, "--lsn", "F0/0")
		s.refused(18, []string{"after the end of the archived WAL"}, free, "--time", time.Now().Add(time.Second).Format(time.RFC3339))
		s.refused(18, []string{"there is no timeline 7"}, free, "--timeline", "7")
		s.refused(18, []string{"it has no backup"}, free, "--backup", "000000010000000000000001-20200101T000000Z")
		s.refused(2, []string{"exclude each other"}, free, "--latest", "--immediate")
		s.refused(2, []string{"no tablespace at /nowhere"}, "--tablespace-mapping", "/nowhere=/x")
		if r := s.restoreInto(space, free); r.code != 13 || !strings.Contains(r.stderr, "is not empty") {
			t.Error(r)
		}
	})
}

// A promotion, and then a recovery to the past that archives: what lies before
// the forks is found, what lies on two timelines is asked back.
func TestRestoreTimelines(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	s.backup(primary)
	a := anInsert(t, primary, "a")
	primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast))
	dir, r := s.restore("--standby", "--take-over", "--latest")
	if r.code != 0 {
		t.Fatal(r)
	}
	standby := testpg.Adopt(t, dir)
	must(t, standby.Start())
	waitContents(t, standby, a.rows)
	must(t, standby.Promote())
	must(t, standby.WaitPrimary(soon))
	b := anInsert(t, standby, "b")
	standby.Archive(soon)
	waitStored(t, s, "00000002.history")

	copied := s.restored()
	waitContents(t, copied, b.rows)
	must(t, copied.Stop(testpg.Immediate))
	copied = s.restored("--time", a.time)
	waitContents(t, copied, a.rows)
	must(t, copied.Stop(testpg.Immediate))

	// The promoted one goes on, and a recovery to before that begins timeline 3.
	lost := anInsert(t, standby, "lost")
	standby.Archive(soon)
	must(t, standby.Stop(testpg.Immediate))
	other := s.restored("--name", "b", "--take-over", "--target-action", "promote")
	must(t, other.WaitPrimary(soon))
	waitContents(t, other, b.rows)
	other.Archive(soon)
	c := anInsert(t, other, "c")
	other.Archive(soon)
	waitStored(t, s, "00000003.history")
	must(t, other.Stop(testpg.Immediate))

	s.refused(2, []string{"may be on timeline 2 or on timeline 3", "--timeline 2"}, "--lsn", lost.lsn)
	copied = s.restored("--lsn", lost.lsn, "--timeline", "2")
	waitContents(t, copied, lost.rows)
	must(t, copied.Stop(testpg.Immediate))
	copied = s.restored()
	waitContents(t, copied, c.rows)
	if name := copied.CurrentWALFile(); name[:8] != "00000004" {
		t.Errorf("it writes to %s", name)
	}
}

// waitStored waits until the file is archived.
func waitStored(t testing.TB, s *site, name string) {
	t.Helper()
	testpg.WaitFor(t, soon, name+" in the archive", func() bool {
		found, _ := filepath.Glob(filepath.Join(s.root, "*", "history", name+".*"))
		return len(found) > 0
	})
}

// What can be known is refused before a byte is written; the rest is named, and
// what was written is marked.
func TestRestoreDamaged(t *testing.T) {
	t.Parallel()
	s, primary := localPrimary(t)
	first := s.backup(primary)
	insert(primary)
	segment := primary.Archive(soon)
	primary.Archive(soon)
	insert(primary)
	second := s.backup(primary)
	primary.Archive(soon)
	must(t, primary.Stop(testpg.Fast))
	folder := s.backupFolder(second)
	spoiled := func(path string, content []byte, check func()) {
		t.Helper()
		sound, err := os.ReadFile(path)
		must(t, err)
		if content == nil {
			must(t, os.Rename(path, path+".away"))
		} else {
			must(t, os.WriteFile(path, content, 0o600))
		}
		check()
		os.Remove(path + ".away")
		must(t, os.WriteFile(path, sound, 0o600))
	}
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		must(t, err)
		return b
	}
	flipped := func(path string) []byte {
		b := read(path)
		b[len(b)/2] ^= 4
		return b
	}

	spoiled(s.stored(segment), nil, func() {
		s.refused(18, []string{"1 segment is missing", segment}, "--backup", first)
		s.refused(0, []string{"1 segment is missing", segment}, "--backup", first, "--missing-wal-ok", "--dry-run")
		if _, r := s.restore(); r.code != 0 { // the second backup lies behind it
			t.Error(r)
		}
	})
	manifest := filepath.Join(folder, "manifest.json")
	spoiled(manifest, read(manifest)[:1000], func() {
		s.refused(14, []string{second, "manifest.json", "not whole"}, "--backup", second)
		dir, r := s.restore()
		if r.code != 0 || !strings.Contains(r.stdout, first) || !strings.Contains(r.stderr, "backup "+second+" is passed over") {
			t.Error(r)
		}
		must(t, os.RemoveAll(dir))
	})
	part := filepath.Join(folder, "base-000001.tar.zst")
	for _, c := range []struct {
		what    string
		content []byte
		before  bool // it is known before a byte is written
	}{
		{"gone", nil, true}, {"cut", read(part)[:5000], true}, {"empty", []byte{}, true}, {"flipped", flipped(part), false},
		{"another's", read(filepath.Join(s.backupFolder(first), "base-000001.tar.zst")), true},
	} {
		spoiled(part, c.content, func() {
			dir, r := s.restore("--backup", second)
			if r.code != 14 || !strings.Contains(r.stderr, "base-000001.tar.zst") {
				t.Errorf("%s: %s", c.what, r)
			}
			entries, err := os.ReadDir(dir)
			must(t, err)
			if before := len(entries) == 0; before != c.before && c.what != "another's" { // it may have the same size
				t.Errorf("%s: %v", c.what, entries)
			}
			if len(entries) > 0 {
				half(t, dir)
			}
		})
	}
	for _, name := range []string{"files-000001.jsonl.zst", "backup_manifest.zst"} {
		path := filepath.Join(folder, name)
		spoiled(path, flipped(path), func() {
			if _, r := s.restore("--backup", second); r.code != 14 || !strings.Contains(r.stderr, name) {
				t.Error(r)
			}
		})
	}
	// Mended, the folder of a failed one is used again.
	var dir string
	spoiled(part, flipped(part), func() { dir, _ = s.restore("--backup", second) })
	half(t, dir)
	if r := s.restoreInto(dir, "--backup", second); r.code != 0 {
		t.Fatal(r)
	}
	s.recovered(dir).Query("select count(*) from rows")
}
