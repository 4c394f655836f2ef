package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// guardSplit is a cluster of which a standby was promoted while the old primary
// went on: the archive holds the history of timeline 2 but no segment of it, and
// of timeline 1 full segments with rows that timeline 2 never had.
type guardSplit struct {
	*guardArchive
	backup   string          // a base backup from before
	promoted *testpg.Cluster // on timeline 2

	// Standbys that have streamed up to the fork and lost their primary: one that
	// ran when timeline 2 began, and two that have not been started since.
	running, streaming, unguarded *testpg.Cluster
	fork                          string // the segment of timeline 1 that was left, archived with other rows
}

// What rows the split's servers have.
const (
	guardBefore   = "base archived"                // up to the last segment that both timelines share
	guardShared   = "base archived streamed"       // up to the fork
	guardRight    = "base archived streamed right" // timeline 2
	guardDiverged = "base archived streamed diverged more"
)

func newGuardSplit(t *testing.T) *guardSplit {
	t.Helper()
	s := &guardSplit{guardArchive: newGuardArchive(t)}
	old := guardPrimary(t, s.guardArchive, nil)
	guardAdd(old, "base")
	s.backup = guardBackup(t, old)
	guardAdd(old, "archived")
	old.Archive(guardLimit)

	s.promoted = testpg.Restore(t, s.backup)
	s.promoted.WriteRecovery(true, map[string]string{"primary_conninfo": old.ConnInfo(), "recovery_target_timeline": "latest"})
	must(t, s.promoted.Start())
	guardAdd(old, "streamed")
	guardWaitRows(t, s.promoted, guardShared)
	must(t, s.promoted.Stop(testpg.Fast))

	ends := func(restore string) *testpg.Cluster {
		return guardServer(t, s.promoted.Data, true, map[string]string{"primary_conninfo": guardDead(old), "restore_command": restore})
	}
	s.running, s.streaming, s.unguarded = ends(s.fetch()), ends(s.fetch()), ends(s.fetch("--no-fork-guard"))
	must(t, s.running.Start())

	s.promoted.SetConf(map[string]string{"primary_conninfo": ""})
	must(t, s.promoted.Start())
	s.fork = old.CurrentWALFile()
	guardPromote(t, s.promoted)
	s.promoted.WaitArchived(guardLimit, "00000002.history")

	guardAdd(old, "diverged")
	if name := old.Archive(guardLimit); name != s.fork {
		t.Fatalf("diverged in %s, not in %s", name, s.fork)
	}
	guardAdd(old, "more")
	old.Archive(guardLimit)
	must(t, old.Kill9())
	if guardRows(s.promoted) != guardShared || s.stored(s.first()) != "" {
		t.Fatalf("timeline 2 has rows %q and is archived as %q", guardRows(s.promoted), s.stored(s.first()))
	}
	return s
}

// first is the first segment of timeline 2.
func (s *guardSplit) first() string { return "00000002" + s.fork[8:] }

// heal lets the first segment of timeline 2 arrive.
func (s *guardSplit) heal(t *testing.T) {
	t.Helper()
	guardAdd(s.promoted, "right")
	if name := s.promoted.Archive(guardLimit); name != s.first() {
		t.Fatalf("timeline 2 goes on in %s, not in %s", name, s.first())
	}
}

// withheld is what the log says while the guard holds.
func (s *guardSplit) withheld() string {
	return regexp.QuoteMeta("withheld: " + s.fork + ", as timeline 2 has left timeline 1 at ")
}

// Timeline 2's history is archived and its first segment is not, while the old
// primary's segment of the same number is. With the guard nobody replays what
// never was on timeline 2, and all go on when its segment arrives. Without it
// the standbys do, and can neither go on nor start again, and archive recovery
// opens with rows that are no part of timeline 2.
func TestForkGuard(t *testing.T) {
	t.Parallel()
	s := newGuardSplit(t)
	only := func(command string) map[string]string { return map[string]string{"restore_command": command} }
	archiveOnly := guardServer(t, s.backup, true, only(s.fetch()))
	recovery := guardServer(t, s.backup, false, only(s.fetch()))
	aimed := guardServer(t, s.backup, false, map[string]string{"restore_command": s.fetch(), "recovery_target_timeline": "1"})
	unguarded := only(s.fetch("--no-fork-guard"))
	astray := []*testpg.Cluster{s.unguarded, guardServer(t, s.backup, true, unguarded)}
	opened := guardServer(t, s.backup, false, unguarded)

	for _, c := range append(astray, opened, aimed, archiveOnly, s.streaming) {
		must(t, c.Launch())
	}
	guardStops(t, recovery, s.withheld())
	archiveOnly.WaitLog(guardLimit, s.withheld())
	s.streaming.WaitLog(guardLimit, s.withheld())
	guardWaitRows(t, archiveOnly, guardBefore)
	guardWaitRows(t, s.streaming, guardShared)
	guardWaitRows(t, s.running, guardShared)
	for _, c := range append(astray, opened, aimed) { // who aims at timeline 1 gets it
		guardWaitRows(t, c, guardDiverged)
	}
	must(t, opened.WaitPrimary(guardLimit))

	s.heal(t)
	for _, c := range []*testpg.Cluster{archiveOnly, s.streaming, s.running} {
		guardWaitRows(t, c, guardRight)
	}
	guardRecovers(t, recovery, guardRight)
	for _, c := range astray {
		must(t, c.Stop(testpg.Fast))
		must(t, c.Launch())
		c.WaitLog(guardLimit, "FATAL:  requested timeline 2 "+guardNoChild)
	}
}

// outage is a restore_command for which the archive is unreachable when files
// that match the pattern are asked for, until end is called.
func (s *guardSplit) outage(t *testing.T, pattern string) (command string, end func() error) {
	t.Helper()
	dir := testpg.Dir(t)
	mark, key := filepath.Join(dir, "outage"), filepath.Join(dir, "key")
	must(t, os.WriteFile(mark, nil, 0o644))
	_, private := testsshd.NewKey(t, "", "")
	must(t, os.WriteFile(key, private, 0o600))
	must(t, testpg.Own(dir))
	script := guardScript(t, fmt.Sprintf(`
case $1 in
%s) test -e %s && exec %s fetch --archive=sftp://nobody@127.0.0.1:1/ --ssh-key=%s "$@" ;;
esac
exec %[3]s fetch --archive=%[5]s "$@"
`, pattern, mark, s.walship, key, s.url()))
	return script + " %f %p", func() error { return os.Remove(mark) }
}

// A history that cannot be had at the start hides the newer timeline from
// PostgreSQL, and a first segment that cannot be had makes it take the old
// timeline's: the archive is unreachable for one of them alone, or the stored
// history is damaged.
func TestForkGuardInDoubt(t *testing.T) {
	t.Parallel()
	s := newGuardSplit(t)
	s.heal(t)
	noHistory, historyBack := s.outage(t, "*.history")
	noSegment, segmentBack := s.outage(t, s.first())
	damaged := s.guardArchive.copy(t)
	history := damaged.stored("00000002.history")
	whole, err := os.ReadFile(history)
	must(t, err)
	broken := append([]byte(nil), whole...)
	broken[len(broken)-1] ^= 1
	must(t, os.WriteFile(history, broken, 0o600))

	// Taken for absence, with the fork guard off, it makes PostgreSQL begin a
	// second timeline 2, behind rows that the first one never had.
	t.Run("unguarded", func(t *testing.T) {
		t.Parallel()
		command, _ := s.outage(t, "*.history")
		opened := guardServer(t, s.backup, false, map[string]string{"restore_command": command + " --no-fork-guard --mode=ending"})
		guardRecovers(t, opened, guardDiverged)
		if got := guardTimeline(opened); got != "2" {
			t.Errorf("opened on timeline %s", got)
		}
	})
	for _, doubt := range []struct {
		name, command string
		why           string // what is said in archive recovery
		withheld      string // and on a standby, of the segment
		mend          func() error
	}{
		{"history unreachable", noHistory, "walship: fetch: .*127.0.0.1:1", s.withheld(), historyBack},
		{"segment unreachable", noSegment, "walship: fetch: .*127.0.0.1:1", s.withheld(), segmentBack},
		{"history damaged", damaged.fetch(), `00000002\.history\.zst: stored file is damaged`, `00000002\.history\.zst: stored file is damaged`,
			func() error { return os.WriteFile(history, whole, 0o600) }},
	} {
		t.Run(doubt.name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{"restore_command": doubt.command}
			standby := guardServer(t, s.backup, true, settings)
			recovery := guardServer(t, s.backup, false, settings)
			must(t, standby.Launch())
			guardStops(t, recovery, doubt.why)
			standby.WaitLog(guardLimit, doubt.withheld)
			if got := guardRows(standby); strings.Contains(got, "diverged") {
				t.Errorf("the standby has rows %q", got)
			}
			must(t, doubt.mend())
			guardWaitRows(t, standby, guardRight)
			guardRecovers(t, recovery, guardRight)
			if got := guardTimeline(recovery); got != "3" {
				t.Errorf("recovered to timeline %s", got)
			}
		})
	}
}

// Up to 11 recovery.conf tells what recovery is aimed at, and up to 9.2 a history
// names a segment and no position. Up to 9.6 servers ask for each segment on the
// newest timeline first, also for those that lie before its beginning.
func TestGuardsOfOldServers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"9.0", "9.2", "9.3", "9.6"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			from := filepath.Join("testdata/wal", version)
			promoted, files := unpack(t, from)
			var begins string // timeline 2's first segment
			for name := range files {
				if strings.HasPrefix(name, "00000002") && len(name) == 24 {
					begins = name
				}
			}
			number := begins[8:]
			fork := "00000001" + number
			before, behind := number[:15]+string(number[15]-1), number[:15]+string(number[15]+1)
			whole := files[fork+".other-node"]
			if whole == nil { // from 9.5 on both have the same one
				whole = files[fork+".partial"]
			}
			old := dataFolder(t, from)
			must(t, os.WriteFile(filepath.Join(walFolder(old), fork), whole, 0o600))
			a := newConflictArchive(t, old)
			a.push(old, fork, 0, "")
			a.push(promoted, "00000002.history", 0, "")

			asks := func(conf, name string, code int, says string) {
				t.Helper()
				dir := dataFolder(t, from)
				must(t, os.WriteFile(filepath.Join(dir, "recovery.conf"), []byte(conf), 0o600))
				r := a.run(dir, "fetch", name, "pg_xlog/RECOVERYXLOG")
				if r.code != code || !strings.Contains(r.stderr, says) || says == "" && r.stderr != "" {
					t.Errorf("%s asks for %s: %v, want exit code %d and %q", conf, name, r, code, says)
				}
			}
			const latest = "recovery_target_timeline = 'latest'\n"
			const standby = latest + "standby_mode = 'on'\n"
			withheld := "withheld: " + fork + ", as timeline 2 has left timeline 1 at "
			asks(latest, fork, 126, withheld)
			asks(standby, fork, 1, withheld)
			asks("standby_mode = 'on'\n", fork, 0, "")
			asks("recovery_target_timeline = '1'\n", fork, 0, "")
			asks(latest, "00000001"+before, 126, "is not the end of WAL: the archive goes on with "+fork)

			a.push(promoted, begins, 0, "")
			asks(latest, begins, 0, "")
			asks(latest, fork, 126, withheld)
			asks(latest, "00000002"+before, 1, "")
			asks(latest, "00000002"+behind, 1, "")
			asks(latest, "00000001"+before, 126, "is not the end of WAL")

			// A fork at the very end of the segment, which then belongs to both
			// timelines: up to 9.2 only timeline 2's first segment tells.
			if version < "9.3" {
				first := a.stored(begins)
				must(t, os.Rename(first, strings.Replace(first, number, behind, 1)))
				asks(latest, fork, 0, "")
				asks(latest, begins, 1, "")
			}
		})
	}
}
