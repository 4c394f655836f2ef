package integration_test

import (
	"strings"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testpg"
)

// opensWithin is how long a promotion may take when the archive says nothing,
// over all its questions together.
const opensWithin = 20 * time.Second

// The primary and the archive die together: no standby may need the archive to
// be promoted.
func TestFailoverWithoutArchive(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(archiveIs(silent), func(t *testing.T) {
			t.Parallel()
			failover(t, testpg.Options{}, silent)
		})
	}
}

func archiveIs(silent bool) string {
	return map[bool]string{false: "refused", true: "silent"}[silent]
}

// failover promotes a standby that streams and one that only knows the archive.
func failover(t *testing.T, o testpg.Options, silent bool) {
	s := newSite(t)
	p := testnet.New(t, s.sshd.Addr)
	s.through(p.Addr())
	primary := newPrimary(t, s, o)
	base := backup(t, primary, false)
	shipping := follow(t, s, base, nil)
	streaming := follow(t, s, base, primary)
	insert(primary)
	primary.Archive(soon)
	archived := mustContents(t, primary)
	waitContents(t, shipping, archived)

	if silent {
		p.BlackHole(true)
	} else {
		s.sshd.Stop()
		must(t, p.Refuse(true))
	}
	insert(primary) // streamed, never archived
	streamed := mustContents(t, primary)
	waitContents(t, streaming, streamed)
	must(t, primary.Kill9())
	// Both are asking the archive now, and get no answer.
	for _, c := range []*testpg.Cluster{shipping, streaming} {
		c.ClearLog()
		c.WaitLog(soon, "this is doubt, not absence")
	}

	took := map[string]time.Duration{}
	asked := map[string]int{} // for the promotion
	promote := func(name string, c *testpg.Cluster, how func() error, want string) {
		t.Helper()
		c.ClearLog()
		begun := time.Now()
		must(t, how())
		must(t, c.WaitPrimary(soon))
		took[name] = time.Since(begun)
		asked[name] = strings.Count(c.Log(), "walship: warning: fetch: ")
		if got := mustContents(t, c); got != want {
			t.Errorf("%s has\n%s, want\n%s", name, got, want)
		}
		if got := timeline(c); got != "2" {
			t.Errorf("%s is on timeline %s", name, got)
		}
		insert(c)
	}
	byCommand := shipping.Promote
	byQuery := func() error {
		_, err := streaming.Psql("select pg_promote(false)")
		return err
	}
	if streaming.Major < 12 {
		byQuery = streaming.Promote
	}
	promote("the archive-only standby", shipping, byCommand, archived)
	promote("the streaming standby", streaming, byQuery, streamed)
	t.Logf("PostgreSQL %d, archive %s: opened after %v and %v questions", primary.Major, archiveIs(silent), took, asked)
	for name, d := range took {
		if d > opensWithin {
			t.Errorf("%s took %s to open", name, d)
		}
	}

	// The archive comes back: what the new primary has written goes into it.
	must(t, shipping.Kill9())
	must(t, p.Refuse(false))
	p.BlackHole(false)
	s.sshd.Restart()
	streaming.Archive(soon)
	s.stored("00000002.history")
}

// A server that is stopped while walship waits for an archive that says nothing
// does not wait for it, and leaves no walship behind.
func TestStopWhileTheArchiveIsSilent(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	base := backup(t, primary, true)
	insert(primary)
	primary.Archive(soon)
	want := mustContents(t, primary)
	modes := map[string]testpg.Mode{"fast": testpg.Fast, "immediate": testpg.Immediate}
	// A fast stop lets the archiver try once more, three times, what it is trying
	// three times, a second apart: but the try under way, each knows of the stop
	// and waits for 3 seconds only.
	limit := 10 * time.Second // of a busy machine
	limits := map[string]time.Duration{"push fast": limit + 16*time.Second + 5*4*time.Second}

	for _, who := range []string{"standby", "archive recovery", "push"} {
		for mode, signal := range modes {
			t.Run(who+" "+mode, func(t *testing.T) {
				here := newSite(t)
				here.root = s.root
				p := testnet.New(t, here.sshd.Addr)
				p.BlackHole(true)
				c := primary
				if who == "push" {
					here.through(p.Addr())
					c.SetConf(map[string]string{"archive_command": here.push()})
					must(t, c.Reload())
					testpg.WaitFor(t, soon, "the reload", func() bool { return c.Query("show archive_command") == here.push() })
					insert(c)
					c.SwitchWAL()
				} else {
					here.more = "silence = \"1m\""
					here.through(p.Addr())
					c = testpg.Restore(t, base)
					c.WriteRecovery(who == "standby", here.recovering())
					must(t, c.Launch())
				}
				testpg.WaitFor(t, soon, "walship to wait", func() bool { return p.Connections() > 0 && len(here.running()) > 0 })

				limit := max(limit, limits[who+" "+mode])
				begun := time.Now()
				must(t, c.Stop(signal))
				stopped := time.Since(begun)
				testpg.WaitFor(t, limit, "walship to be gone", func() bool { return len(here.running()) == 0 })
				t.Logf("the server stopped in %v, walship was gone after %v", stopped, time.Since(begun))
				if stopped > limit {
					t.Errorf("stopping took %v", stopped)
				}

				here.more = ""
				here.through(here.sshd.Addr)
				must(t, c.Start())
				if who == "push" {
					c.Archive(soon)
				} else {
					waitContents(t, c, want)
				}
			})
		}
	}
}
