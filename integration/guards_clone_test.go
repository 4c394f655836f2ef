package integration_test

import (
	"testing"

	"walship/internal/testpg"
)

// guardCopied is production with its archive, and a restored copy of it that has
// kept the archive_command.
type guardCopied struct {
	*guardArchive
	backup                    string
	production, standby, copy *testpg.Cluster
}

// newGuardCopied opens the copy at the backup's end, while production goes on.
func newGuardCopied(t *testing.T, flags ...string) *guardCopied {
	t.Helper()
	s := &guardCopied{guardArchive: newGuardArchive(t)}
	s.production = guardPrimary(t, s.guardArchive, nil)
	guardAdd(s.production, "one")
	s.backup = guardBackup(t, s.production)
	s.standby = guardServer(t, s.backup, true, map[string]string{"restore_command": s.fetch()})
	must(t, s.standby.Launch())
	for _, tag := range []string{"two", "three", "four"} {
		guardAdd(s.production, tag)
		s.production.Archive(guardLimit)
	}
	guardWaitRows(t, s.standby, "one two three four")

	s.copy = testpg.Restore(t, s.backup)
	s.copy.WriteRecovery(false, map[string]string{
		"restore_command":        s.fetch(),
		"archive_command":        s.push(flags...),
		"recovery_target":        "immediate",
		"recovery_target_action": "promote",
	})
	guardRecovers(t, s.copy, "one")
	guardAdd(s.copy, "copied")
	s.copy.SwitchWAL()
	return s
}

// A restored copy of production cannot put the history of its timeline into
// production's archive, and so production's standby is not led astray.
func TestCloneGuard(t *testing.T) {
	t.Parallel()
	s := newGuardCopied(t)
	s.copy.WaitLog(guardLimit, "archive command failed with exit code 6")
	s.copy.WaitLog(guardLimit, "looks like a restored copy")
	if found := s.stored("00000002.history"); found != "" {
		t.Errorf("%s is there", found)
	}
	guardAdd(s.production, "five")
	s.production.Archive(guardLimit)
	guardWaitRows(t, s.standby, "one two three four five")
	must(t, s.standby.Restart(testpg.Fast))
	guardAdd(s.production, "six")
	s.production.Archive(guardLimit)
	guardWaitRows(t, s.standby, "one two three four five six")
	if got := guardFailures(s.production); got != "0" {
		t.Errorf("production's archiver has failed %s times", got)
	}
}

// Without the guard production's standby cannot start again, and a recovery to
// the latest timeline follows the copy.
func TestCloneGuardIsNeeded(t *testing.T) {
	t.Parallel()
	s := newGuardCopied(t, "--no-clone-guard")
	s.copy.WaitArchived(guardLimit, "00000002.history")
	must(t, s.standby.Stop(testpg.Fast))
	must(t, s.standby.Launch())
	s.standby.WaitLog(guardLimit, "FATAL:  requested timeline 2 "+guardNoChild)
	s.copy.Archive(guardLimit)
	latest := guardServer(t, s.backup, false, map[string]string{"restore_command": s.fetch()})
	guardRecovers(t, latest, "one copied")
}
