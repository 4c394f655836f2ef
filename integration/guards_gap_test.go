package integration_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"walship/internal/testpg"
	"walship/walname"
)

// guardChain is the archive of a cluster that has failed over twice.
type guardChain struct {
	*guardArchive
	backup  string          // a base backup from before
	moment  string          // a time behind the first row
	full    string          // a segment of timeline 1 that is full of WAL
	last    *testpg.Cluster // the primary of timeline 3
	forks   []string        // the segment in which timelines 1 and 2 were left, as their successors name it
	follows *testpg.Cluster // an archive-only standby since timeline 1
}

// guardChainRows is what timeline 3 has.
const guardChainRows = "one two three four five six"

// newGuardChain loses its first primary, which had not archived its last rows,
// and shuts the second one down in an orderly way.
func newGuardChain(t *testing.T) *guardChain {
	t.Helper()
	s := &guardChain{guardArchive: newGuardArchive(t)}
	first := guardPrimary(t, s.guardArchive, nil)
	s.backup = guardBackup(t, first)
	s.follows = guardServer(t, s.backup, true, map[string]string{"restore_command": s.fetch()})
	standby := func() *testpg.Cluster {
		c := testpg.Restore(t, s.backup)
		c.WriteRecovery(true, map[string]string{
			"primary_conninfo": first.ConnInfo(), "restore_command": s.fetch(), "recovery_target_timeline": "latest"})
		must(t, c.Start())
		return c
	}
	second, third := standby(), standby()
	must(t, s.follows.Launch())
	guardAdd(first, "one")
	first.Archive(guardLimit)
	s.moment = first.Query("select clock_timestamp()")
	first.Query("create table filler as select generate_series(1, 60000)")
	s.full = s.before(1, first.CurrentWALFile())
	guardAdd(first, "two")
	first.Archive(guardLimit)
	guardAdd(first, "three")
	guardWaitRows(t, second, "one two three")
	s.forks = append(s.forks, "00000002"+first.CurrentWALFile()[8:])
	must(t, first.Kill9())

	guardPromote(t, second)
	third.SetConf(map[string]string{"primary_conninfo": second.ConnInfo()})
	must(t, third.Reload())
	guardAdd(second, "four")
	second.Archive(guardLimit)
	guardAdd(second, "five")
	guardWaitRows(t, third, "one two three four five")
	must(t, second.Stop(testpg.Fast))
	guardPromote(t, third)
	s.forks = append(s.forks, third.CurrentWALFile())
	guardAdd(third, "six")
	third.Archive(guardLimit)
	for _, name := range []string{"00000002.history", "00000003.history"} {
		third.WaitArchived(guardLimit, name)
	}
	s.last = third
	return s
}

// before is the segment in front of the one with that name, on the timeline.
func (s *guardChain) before(timeline walname.Timeline, name string) string {
	s.t.Helper()
	n, err := walname.Parse(name)
	must(s.t, err)
	g, err := walname.NewGeometry(1<<20, false)
	must(s.t, err)
	segment, ok := g.Prev(n.Segment)
	if !ok {
		s.t.Fatalf("nothing is before %s", name)
	}
	segment.Timeline = timeline
	return segment.String()
}

// A hole in the archive is not the end of WAL: archive recovery stops, and
// recovers everything when what was missing is back. Without the guard it opens
// and has lost what lies behind.
func TestGapGuard(t *testing.T) {
	t.Parallel()
	s := newGuardChain(t)
	guardWaitRows(t, s.follows, guardChainRows)
	must(t, s.follows.Stop(testpg.Fast))
	fork := s.before(1, s.forks[0])
	for _, hole := range []struct {
		name, missing string
		why           string
		target        string // recovery_target_timeline
		left          string // what is left of the rows without the guard
		want          string
		timeline      string // that it opens on without the guard
	}{
		{"segment", s.before(1, fork), fmt.Sprintf("%s is missing, and this is not the end of WAL: the archive goes on with %s", s.before(1, fork), fork),
			"latest", "one", guardChainRows, "4"},
		{"before the fork", fork, fmt.Sprintf("%s is missing, and this is not the end of WAL: timeline 3 follows this one up to ", fork),
			"latest", "one", guardChainRows, "4"},
		{"at the fork", s.forks[0], fmt.Sprintf("%s is missing, and this is not the end of WAL", s.forks[0]),
			"latest", "one two", guardChainRows, "4"},
		{"history", "00000002.history", "00000002.history is missing and timeline 3 is there",
			"latest", "one two", guardChainRows, "2"},
		{"history when timeline 1 is asked for", "00000002.history", "00000002.history is missing and timeline 3 is there",
			"1", "one two", "one two", "2"},
	} {
		t.Run(hole.name, func(t *testing.T) {
			t.Parallel()
			a := s.guardArchive.copy(t)
			back := a.take(hole.missing)
			server := func(flags ...string) *testpg.Cluster {
				return guardServer(t, s.backup, false, map[string]string{
					"restore_command": a.fetch(flags...), "recovery_target_timeline": hole.target})
			}
			guarded, unguarded := server(), server("--no-gap-guard")
			guardStops(t, guarded, hole.why)
			guardRecovers(t, unguarded, hole.left)
			if got := guardTimeline(unguarded); got != hole.timeline {
				t.Errorf("without the guard it opens on timeline %s", got)
			}
			back()
			guardRecovers(t, guarded, hole.want)
			if got := guardTimeline(guarded); got != "4" {
				t.Errorf("it opens on timeline %s", got)
			}
		})
	}

	// PostgreSQL takes from its own folder what the archive does not have. Only of
	// a full segment it can be told that it is whole.
	for _, own := range []struct {
		name, missing string
		enough        bool
	}{{"full segment in pg_wal", s.full, true}, {"unfinished segment in pg_wal", fork, false}} {
		t.Run(own.name, func(t *testing.T) {
			t.Parallel()
			a := s.guardArchive.copy(t)
			server := guardServer(t, s.backup, false, map[string]string{"restore_command": a.fetch()})
			_, err := server.Run(a.walship, "fetch", "-D", s.last.Data, "--archive="+a.url(),
				own.missing, filepath.Join(server.Data, "pg_wal", own.missing))
			must(t, err)
			a.take(own.missing)
			if !own.enough {
				guardStops(t, server, own.missing+" is missing, and this is not the end of WAL")
				return
			}
			guardRecovers(t, server, guardChainRows)
		})
	}
}
