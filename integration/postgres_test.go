package integration_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walship/internal/testpg"
)

func TestArchiveUnderLoadRecoverAndFollow(t *testing.T) {
	t.Parallel()
	archiveAndRecover(t, testpg.Options{Checksums: true})
}

func TestSegmentSizes(t *testing.T) {
	for name, size := range map[string]int{"1MB": 1, "64MB": 64} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archiveAndRecover(t, testpg.Options{SegmentMB: size})
		})
	}
}

// archiveAndRecover is the main job: a primary archives under load, and of a
// base backup without WAL and the archive alone a second server recovers every
// committed row, while standbys follow.
func archiveAndRecover(t *testing.T, o testpg.Options) {
	s := newSite(t)
	primary := newPrimary(t, s, o)
	if out, err := primary.Pgbench("-i", "-q", "-s", "1"); err != nil {
		t.Fatal(out, err)
	}

	load := make(chan error, 1)
	go func() {
		_, err := primary.Pgbench("-n", "-c", "2", "-T", "3")
		load <- err
	}()
	base := backup(t, primary, false)
	streaming := follow(t, s, base, primary)
	must(t, <-load)
	insert(primary)
	want, err := contents(primary)
	must(t, err)
	last := primary.Archive(soon)
	shipping := follow(t, s, base, nil)
	for _, standby := range []*testpg.Cluster{streaming, shipping} {
		waitContents(t, standby, want)
		if got := standby.Query("select pg_is_in_recovery()"); got != "t" {
			t.Errorf("in recovery: %s", got)
		}
	}
	must(t, streaming.Stop(testpg.Fast))
	must(t, primary.Kill9())
	s.stored(last)

	recovered := testpg.Restore(t, base)
	recovered.WriteRecovery(false, s.recovering())
	must(t, recovered.Start())
	must(t, recovered.WaitPrimary(soon))
	recovered.WaitLog(time.Second, "archive recovery complete")
	waitContents(t, recovered, want)
	if got := timeline(recovered); got != "2" {
		t.Errorf("recovered to timeline %s", got)
	}

	// It takes over: what it archives, a standby follows to the new timeline.
	insert(recovered)
	want, err = contents(recovered)
	must(t, err)
	next := recovered.Archive(soon)
	if !strings.HasPrefix(next, "00000002") {
		t.Errorf("%s is not of timeline 2", next)
	}
	s.stored("00000002.history")
	waitContents(t, shipping, want)

	left, err := filepath.Glob(filepath.Join(s.root, "*", "tmp", "*"))
	must(t, err)
	if len(left) != 0 && *agentMode != "kill" { // a killed one leaves them, for Sweep
		t.Errorf("left behind: %q", left)
	}
}
