package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"walship/internal/testpg"
)

// Two failovers, the first without the primary's last rows in the archive: an
// archive-only standby follows both, and every recovery finds its way.
func TestGuardsPassFailovers(t *testing.T) {
	t.Parallel()
	s := newGuardChain(t)
	guardWaitRows(t, s.follows, guardChainRows)
	if got := guardFailures(s.last); got != "0" {
		t.Errorf("the last primary's archiver has failed %s times", got)
	}
	for _, recovery := range []struct {
		name     string
		settings map[string]string
		want     string
	}{
		{"latest", nil, guardChainRows},
		{"to timeline 1", map[string]string{"recovery_target_timeline": "1"}, "one two"},
		{"to timeline 2", map[string]string{"recovery_target_timeline": "2"}, "one two three four five"},
		{"to a time", map[string]string{"recovery_target_time": s.moment, "recovery_target_action": "promote"}, "one"},
		{"to a time on the current timeline", map[string]string{
			"recovery_target_time": s.moment, "recovery_target_action": "promote", "recovery_target_timeline": "current"}, "one"},
	} {
		t.Run(recovery.name, func(t *testing.T) {
			t.Parallel()
			c := guardServer(t, s.backup, false, map[string]string{"restore_command": s.fetch()})
			c.SetConf(recovery.settings)
			guardRecovers(t, c, recovery.want)
			if got := guardTimeline(c); got != "4" {
				t.Errorf("it opens on timeline %s", got)
			}
		})
	}
}

// A failover after which the old primary went on for a while, archived what
// nobody wants, and comes back through pg_rewind with the archive's help.
func TestGuardsPassRewind(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	old := guardPrimary(t, a, map[string]string{"wal_keep_size": "0", "min_wal_size": "2MB", "restore_command": a.fetch()})
	backup := guardBackup(t, old)
	standby := func(primary *testpg.Cluster) *testpg.Cluster {
		c := testpg.Restore(t, backup)
		c.WriteRecovery(true, map[string]string{"primary_conninfo": primary.ConnInfo()})
		must(t, c.Start())
		return c
	}
	promoted := standby(old)
	guardAdd(old, "kept")
	guardWaitRows(t, promoted, "kept")
	guardPromote(t, promoted)
	promoted.WaitArchived(guardLimit, "00000002.history")
	promoted.Query("checkpoint") // else pg_rewind does not see the new timeline
	for range 5 {
		guardAdd(old, "lost")
		old.Archive(guardLimit)
		old.Query("checkpoint") // removes the segments before
	}
	must(t, old.Stop(testpg.Fast))
	guardAdd(promoted, "new")
	promoted.Archive(guardLimit)

	// Segments that the old primary no longer has come from the archive, wherever
	// pg_rewind is started: somewhere, or by mistake in a data directory of the
	// same or of another cluster.
	rewind := func(dir string, flags ...string) (string, error) {
		cmd, err := old.Command("pg_rewind", append([]string{"-D", old.Data, "--source-server=" + promoted.ConnInfo() + " dbname=postgres"}, flags...)...)
		must(t, err)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := rewind("/", "--dry-run"); err == nil || !regexp.MustCompile(`could not open file .*/pg_wal/0000000100`).MatchString(out) {
		t.Fatalf("pg_rewind needs nothing of the archive (%v):\n%s", err, out)
	}
	stranger := testpg.New(t, testpg.Options{SegmentMB: 1})
	stranger.WriteRecovery(true, nil)
	follower := standby(promoted)
	segments := filepath.Join(old.Data, "pg_wal", "0000000100*")
	had, err := filepath.Glob(segments)
	must(t, err)
	for _, dir := range []string{follower.Data, stranger.Data} {
		if out, err := rewind(dir, "-c", "--dry-run"); err != nil {
			t.Errorf("pg_rewind in %s: %v\n%s", dir, err, out)
		}
		have, err := filepath.Glob(segments)
		must(t, err)
		for _, path := range have { // a dry run fetches them too
			if !slices.Contains(had, path) {
				must(t, os.Remove(path))
			}
		}
	}
	if out, err := rewind("/", "-c"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	old.SetConf(map[string]string{"port": fmt.Sprint(old.Port), "unix_socket_directories": old.Sockets})
	old.WriteRecovery(true, map[string]string{"primary_conninfo": promoted.ConnInfo()})
	must(t, old.Start())
	guardWaitRows(t, old, "kept new")
	guardAdd(promoted, "more")
	promoted.Archive(guardLimit)
	for _, c := range []*testpg.Cluster{old, follower} {
		guardWaitRows(t, c, "kept new more")
	}
	// The segments that the old primary archived behind the fork are in nobody's way.
	latest := guardServer(t, backup, false, nil)
	guardRecovers(t, latest, "kept new more")
	if got := guardFailures(promoted); got != "0" {
		t.Errorf("the new primary's archiver has failed %s times", got)
	}
}

// A promotion exactly where a segment ends: the segment in front of the fork
// belongs to both timelines, the old primary's next one to none but its own.
func TestGuardsPassForkAtSegmentEnd(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	old := guardPrimary(t, a, nil)
	backup := guardBackup(t, old)
	promoted := testpg.Restore(t, backup)
	promoted.WriteRecovery(true, map[string]string{"restore_command": a.fetch(), "recovery_target_timeline": "latest"})
	must(t, promoted.Launch())
	guardAdd(old, "one")
	last := old.Archive(guardLimit)
	guardWaitRows(t, promoted, "one")
	guardPromote(t, promoted)
	promoted.WaitArchived(guardLimit, "00000002.history")
	history, err := os.ReadFile(filepath.Join(promoted.Data, "pg_wal", "00000002.history"))
	must(t, err)
	if !regexp.MustCompile(`^1\t0/[0-9A-F]+00000\t`).Match(history) {
		t.Fatalf("it was not left at a segment's end: %s", history)
	}
	guardAdd(old, "lost")
	next := old.Archive(guardLimit)
	must(t, old.Kill9())

	recovery := guardServer(t, backup, false, map[string]string{"restore_command": a.fetch()})
	standby := guardServer(t, backup, true, map[string]string{"restore_command": a.fetch()})
	must(t, standby.Start())
	guardWaitRows(t, standby, "one")
	guardStops(t, recovery, "withheld: "+next+", as timeline 2 has left timeline 1 at ")
	if log := recovery.Log(); !regexp.MustCompile("restored log file \"" + last + "\"").MatchString(log) {
		t.Errorf("%s was withheld:\n%s", last, log)
	}
	guardAdd(promoted, "two")
	promoted.Archive(guardLimit)
	guardRecovers(t, recovery, "one two")
	guardWaitRows(t, standby, "one two")
}

// Three servers push the same segments: the primary, and two standbys with
// archive_mode = always, of which one pushes what it has just fetched. All of it
// is accepted, also after one of them was promoted.
func TestGuardsPassArchiveModeAlways(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	primary := guardPrimary(t, a, nil)
	backup := guardBackup(t, primary)
	always := func(settings map[string]string) *testpg.Cluster {
		c := guardServer(t, backup, true, settings)
		c.SetConf(map[string]string{"archive_mode": "always"})
		must(t, c.Launch())
		return c
	}
	streaming := always(map[string]string{"primary_conninfo": primary.ConnInfo(), "restore_command": a.fetch()})
	restoring := always(map[string]string{"restore_command": a.fetch()})
	pushed := func(name string, by ...*testpg.Cluster) {
		t.Helper()
		for _, c := range by {
			guardWaitRows(t, c, guardRows(by[0]))
			c.WaitArchived(guardLimit, name)
		}
	}
	for _, tag := range []string{"one", "two", "three"} {
		guardAdd(primary, tag)
		pushed(primary.SwitchWAL(), primary, streaming, restoring)
	}
	guardAdd(primary, "four")
	guardWaitRows(t, streaming, "one two three four")
	must(t, primary.Stop(testpg.Fast))
	guardPromote(t, streaming)
	guardAdd(streaming, "five")
	pushed(streaming.SwitchWAL(), streaming, restoring)
	pushed("00000002.history", streaming, restoring)
	for _, c := range []*testpg.Cluster{streaming, restoring} {
		if got := guardFailures(c); got != "0" {
			t.Errorf("the archiver has failed %s times:\n%s", got, c.Log())
		}
		if got := c.Query("select archived_count > 3 from pg_stat_archiver"); got != "t" {
			t.Errorf("the archiver has not worked")
		}
	}
	latest := guardServer(t, backup, false, map[string]string{"restore_command": a.fetch()})
	guardRecovers(t, latest, "one two three four five")
}

// A first attempt at a recovery, to a point in time, was given up, and the
// second one went further: timelines 2 and 3 both leave timeline 1, and the
// latest needs segments of it from behind the point where the other one left.
func TestGuardsPassSiblings(t *testing.T) {
	t.Parallel()
	a := newGuardArchive(t)
	lost := guardPrimary(t, a, nil)
	backup := guardBackup(t, lost)
	guardAdd(lost, "one")
	lost.Query("select pg_create_restore_point('early')")
	for _, tag := range []string{"two", "three", "four"} {
		guardAdd(lost, tag)
		lost.Archive(guardLimit)
	}
	must(t, lost.Kill9())
	attempt := func(settings map[string]string, recovered string) {
		t.Helper()
		c := testpg.Restore(t, backup)
		c.SetConf(map[string]string{"archive_command": a.push("--no-clone-guard")})
		c.WriteRecovery(false, settings)
		guardRecovers(t, c, recovered)
		guardAdd(c, "on timeline "+guardTimeline(c))
		c.Archive(guardLimit)
		must(t, c.Stop(testpg.Immediate))
	}
	attempt(map[string]string{
		"restore_command": a.fetch(), "recovery_target_name": "early", "recovery_target_action": "promote"}, "one")
	attempt(map[string]string{
		"restore_command": a.fetch(), "recovery_target_timeline": "1"}, "one two three four")

	latest := guardServer(t, backup, false, map[string]string{"restore_command": a.fetch()})
	standby := guardServer(t, backup, true, map[string]string{"restore_command": a.fetch()})
	given := guardServer(t, backup, false, map[string]string{"restore_command": a.fetch(), "recovery_target_timeline": "2"})
	must(t, standby.Launch())
	guardRecovers(t, latest, "one two three four on timeline 3")
	guardRecovers(t, given, "one on timeline 2")
	guardWaitRows(t, standby, "one two three four on timeline 3")
}
