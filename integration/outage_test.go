package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/knownhosts"

	"walship/internal/testbin"
	"walship/internal/testnet"
	"walship/internal/testpg"
	"walship/internal/testsshd"
)

// outage is something that keeps fetch from an answer. end mends it.
type outage struct {
	name  string
	begin func(t testing.TB, s *site) (end func())
	says  string // regular expression: what walship says of it in the server's log
}

// outages of the network, the archive host and the configuration: they strike
// whoever uses the site.
func outages() []outage {
	return []outage{
		{"sshd is down", sshdDown, "connection refused"},
		{"the archive host is silent", func(t testing.TB, s *site) func() {
			p := testnet.New(t, s.sshd.Addr)
			p.BlackHole(true)
			s.more = "silence = \"500ms\""
			s.through(p.Addr())
			return func() { s.more = ""; s.through(s.sshd.Addr) }
		}, "no answer for 500ms"},
		{"the login is refused", func(t testing.TB, s *site) func() {
			back := swapFile(t, s.sshd.Authorized, "")
			s.loseAgents()
			return back
		}, "login"},
		{"the host key has changed", func(t testing.TB, s *site) func() {
			other, _ := testsshd.NewKey(t, "another host", "")
			must(t, os.WriteFile(s.knownHosts(), []byte(knownhosts.Line([]string{s.addr}, other.PublicKey())+"\n"), 0o600))
			s.loseAgents()
			return func() { s.through(s.addr) }
		}, "host key"},
		{"the archive is not mounted: absent", func(t testing.TB, s *site) func() {
			must(t, os.Rename(s.root, s.root+".away"))
			return func() { must(t, os.Rename(s.root+".away", s.root)) }
		}, "is the disk mounted"},
		{"the archive is not mounted: empty", func(t testing.TB, s *site) func() {
			must(t, os.Rename(s.root, s.root+".away"))
			must(t, os.Mkdir(s.root, 0o777))
			return func() {
				must(t, os.Remove(s.root))
				must(t, os.Rename(s.root+".away", s.root))
			}
		}, "is the disk mounted"},
		{"it is another cluster's archive", func(t testing.TB, s *site) func() {
			own, err := filepath.Glob(filepath.Join(s.root, "[0-9]*"))
			must(t, err)
			other := filepath.Join(s.root, "1234567890123456789")
			must(t, os.Rename(own[0], other))
			return func() { must(t, os.Rename(other, own[0])) }
		}, "1234567890123456789"},
		{"the configuration is broken", func(t testing.TB, s *site) func() {
			s.writeConfig("archive = \"sftp://\n")
			return func() { s.configure(s.more) }
		}, "walship.toml"},
		{"the configuration is gone", func(t testing.TB, s *site) func() {
			must(t, os.Remove(s.config()))
			return func() { s.configure(s.more) }
		}, "walship.toml"},
	}
}

func sshdDown(t testing.TB, s *site) func() {
	s.sshd.Stop()
	return s.sshd.Restart
}

// swapFile gives a file other content until it is told to end.
func swapFile(t testing.TB, path, content string) (end func()) {
	info, err := os.Stat(path)
	must(t, err)
	before, err := os.ReadFile(path)
	must(t, err)
	write := func(content []byte) {
		must(t, os.Chmod(path, 0o600))
		must(t, os.WriteFile(path, content, 0o600))
		must(t, os.Chmod(path, info.Mode().Perm()))
	}
	write([]byte(content))
	return func() { write(before) }
}

// damages of the stored file of a segment.
func damages(segment string) []outage {
	damage := func(change func(string) string) func(t testing.TB, s *site) func() {
		return func(t testing.TB, s *site) func() {
			path := s.stored(segment)
			content, err := os.ReadFile(path)
			must(t, err)
			return swapFile(t, path, change(string(content)))
		}
	}
	return []outage{
		{"the file is damaged", damage(func(c string) string { // a single bit may make no difference
			at := len(c) / 2
			return c[:at] + strings.Repeat("x", 64) + c[at+64:]
		}), "damaged"},
		{"the file is cut short", damage(func(c string) string { return c[:len(c)-100] }), "damaged"},
		{"the file is empty", damage(func(string) string { return "" }), "damaged"},
	}
}

// lost is a primary's past: a base backup that is consistent by itself, rows
// behind it in three segments of an archive, and no primary any more. Whoever
// takes the outage of its archive for the end of WAL loses the rows.
type lost struct {
	backup  string
	archive string
	middle  string // the second of the three segments
	want    string // contents
}

func losePrimary(t testing.TB, o testpg.Options) lost {
	t.Helper()
	s := newSite(t)
	primary := newPrimary(t, s, o)
	l := lost{archive: s.root, backup: backup(t, primary, true)}
	for i := range 3 {
		insert(primary)
		name := primary.Archive(soon)
		if i == 1 {
			l.middle = name
		}
	}
	var err error
	l.want, err = contents(primary)
	must(t, err)
	must(t, primary.Kill9())
	return l
}

// copy makes a site with a copy of the archive, and a server of the backup that
// is to recover from it.
func (l lost) copy(t testing.TB) (*site, *testpg.Cluster) {
	t.Helper()
	s := newSite(t)
	must(t, os.CopyFS(s.root, os.DirFS(l.archive)))
	c := testpg.Restore(t, l.backup)
	c.SetConf(map[string]string{"archive_command": s.push()})
	c.WriteRecovery(false, s.recovering())
	return s, c
}

// stops checks that recovery stops with FATAL, and that the server has neither
// promoted nor would do so if it were started again.
func stops(t testing.TB, c *testpg.Cluster, says string) {
	t.Helper()
	must(t, c.Launch())
	promoted := func() bool { return strings.Contains(c.Log(), "selected new timeline") }
	testpg.WaitFor(t, soon, "the server to stop", func() bool { return !c.Running() || promoted() })
	if promoted() {
		t.Fatalf("it promoted:\n%s", c.Log())
	}
	code, err := c.WaitExit(0)
	must(t, err)
	if code != 1 {
		t.Errorf("the server ended with %d", code)
	}
	c.WaitLog(0, says)
	c.WaitLog(0, "FATAL: +could not restore file")
	signal := "recovery.signal"
	if c.Major < 12 {
		signal = "recovery.conf"
	}
	if _, err := os.Stat(filepath.Join(c.Data, signal)); err != nil {
		t.Error(err)
	}
}

// recovers checks that recovery goes through to the last row.
func recovers(t testing.TB, c *testpg.Cluster, want string) {
	t.Helper()
	must(t, c.Start())
	must(t, c.WaitPrimary(soon))
	got, err := contents(c)
	must(t, err)
	if got != want {
		t.Errorf("recovered\n%s, want\n%s", got, want)
	}
	if got := timeline(c); got != "2" {
		t.Errorf("recovered to timeline %s", got)
	}
}

func TestOutageStopsArchiveRecovery(t *testing.T) {
	t.Parallel()
	l := losePrimary(t, testpg.Options{})
	t.Run("all", func(t *testing.T) {
		// One server meets several of them, one after the other.
		for some := range slices.Chunk(append(outages(), damages(l.middle)...), 3) {
			t.Run(some[0].name+" and others", func(t *testing.T) {
				t.Parallel()
				outagesStopRecovery(t, l, some...)
			})
		}
		for name, command := range map[string]string{
			"wrong flag":        "fetch --no-such-flag %f %p",
			"wrong subcommand":  "fetsch %f %p",
			"empty":             "",
			"missing arguments": "fetch",
		} {
			t.Run("the command line is broken: "+name, func(t *testing.T) {
				t.Parallel()
				s, c := l.copy(t)
				c.SetConf(map[string]string{"restore_command": s.command(command)})
				stops(t, c, "walship: .*usage: ")
				c.SetConf(map[string]string{"restore_command": s.fetch()})
				recovers(t, c, l.want)
			})
		}
		t.Run("fetch crashes", func(t *testing.T) {
			t.Parallel()
			s, c := l.copy(t)
			s.binary = testbin.Faulty(t)
			c.SetConf(map[string]string{"restore_command": "WALSHIP_FAULT=fetch.begin=panic " + s.fetch()})
			stops(t, c, "fault injected at fetch.begin")
			c.SetConf(map[string]string{"restore_command": s.fetch()})
			recovers(t, c, l.want)
		})
		t.Run("fetch is killed", func(t *testing.T) {
			t.Parallel()
			s, c := l.copy(t)
			s.binary = testbin.Faulty(t)
			c.SetConf(map[string]string{"restore_command": "WALSHIP_FAULT=fetch.written=kill " + s.fetch()})
			stops(t, c, "")
			c.SetConf(map[string]string{"restore_command": s.fetch()})
			recovers(t, c, l.want)
		})
	})
}

func outagesStopRecovery(t *testing.T, l lost, some ...outage) {
	s, c := l.copy(t)
	for _, o := range some {
		t.Run(o.name, func(t *testing.T) {
			end := o.begin(t, s)
			stops(t, c, o.says)
			end()
			c.ClearLog()
		})
	}
	recovers(t, c, l.want)
}

// A server that is told 1 where walship says 126 promotes and loses rows: what
// the tests of this file guard against does happen, and they would see it.
func TestOutageTakenForEndOfWAL(t *testing.T) {
	t.Parallel()
	l := losePrimary(t, testpg.Options{})
	s, c := l.copy(t)
	wrapper := filepath.Join(s.home, "naive")
	must(t, os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\n%s --config %s fetch \"$1\" \"$2\"\ncode=$?\n[ $code != 126 ] || exit 1\nexit $code\n",
		s.binary, s.config()), 0o755))
	must(t, testpg.Own(wrapper))
	c.SetConf(map[string]string{"restore_command": wrapper + " %f %p"})
	sshdDown(t, s)
	must(t, c.Start())
	must(t, c.WaitPrimary(soon))
	if got := timeline(c); got != "2" {
		t.Errorf("it is on timeline %s", got)
	}
	got, err := contents(c)
	must(t, err)
	if got == l.want {
		t.Errorf("no row was lost: %s", got)
	}
}

func TestStandbyOutlivesOutages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	primary := newPrimary(t, s, testpg.Options{})
	base := backup(t, primary, false)
	shipping := follow(t, s, base, nil)
	streaming := follow(t, s, base, primary)
	waitContents(t, shipping, mustContents(t, primary))
	for _, o := range outages() {
		t.Run(o.name, func(t *testing.T) { standbyOutlives(t, s, primary, shipping, streaming, o) })
	}

	// A damaged file strikes the one that needs it.
	for _, change := range []int{0, 1, 2} {
		shipping.SetConf(map[string]string{"restore_command": "exit 1"})
		must(t, shipping.Restart(testpg.Fast))
		insert(primary)
		segment := primary.Archive(soon)
		o := damages(segment)[change]
		t.Run(o.name, func(t *testing.T) {
			end := o.begin(t, s)
			shipping.SetConf(map[string]string{"restore_command": s.fetch()})
			shipping.ClearLog()
			must(t, shipping.Reload())
			waitWarnings(t, shipping, o.says, 2)
			shipping.Query("select count(*) from rows")
			end()
			waitContents(t, shipping, mustContents(t, primary))
		})
	}
}

func mustContents(t testing.TB, c *testpg.Cluster) string {
	t.Helper()
	all, err := contents(c)
	must(t, err)
	return all
}

// waitWarnings waits for n warnings with those words.
func waitWarnings(t testing.TB, c *testpg.Cluster, says string, n int) {
	t.Helper()
	c.WaitLog(soon, fmt.Sprintf(`(?s)(%s.*){%d}`, says, n))
	c.WaitLog(0, "walship: warning: fetch: ")
	c.WaitLog(0, "this is doubt, not absence")
}

func standbyOutlives(t *testing.T, s *site, primary, shipping, streaming *testpg.Cluster, o outage) {
	end := o.begin(t, s)
	shipping.ClearLog()
	insert(primary)
	segment := primary.SwitchWAL()
	want := mustContents(t, primary)
	waitContents(t, streaming, want)

	// The one that streams comes up in the outage, too.
	streaming.ClearLog()
	must(t, streaming.Restart(testpg.Fast))
	waitContents(t, streaming, want)
	waitWarnings(t, streaming, o.says, 1)
	insert(primary)
	waitContents(t, streaming, mustContents(t, primary))

	waitWarnings(t, shipping, o.says, 3)
	if got := mustContents(t, shipping); got == want {
		t.Errorf("the standby has rows that were not archived: %s", got)
	}
	if primary.Query("select failed_count > 0 from pg_stat_archiver") != "t" {
		t.Error("no push failed")
	}
	end()
	primary.Archive(soon)
	s.stored(segment)
	waitContents(t, shipping, mustContents(t, primary))
	for _, c := range []*testpg.Cluster{shipping, streaming} {
		if got := c.Query("select pg_is_in_recovery()"); got != "t" {
			t.Errorf("in recovery: %s", got)
		}
	}
}

// PostgreSQL asks a standby's restore_command every few seconds for files that
// are not there yet.
func TestMissOnAStandbyIsQuiet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	p := testnet.New(t, s.sshd.Addr)
	primary := newPrimary(t, s, testpg.Options{})
	base := backup(t, primary, false)
	insert(primary)
	primary.Archive(soon)
	s.through(p.Addr())
	standby := follow(t, s, base, nil)
	waitContents(t, standby, mustContents(t, primary))
	standby.ClearLog()
	asked, turns := p.Connections(), p.Turns()
	testpg.WaitFor(t, soon, "five misses", func() bool {
		// An agent asks on the connection that it has.
		return p.Connections() >= asked+5 || *agentMode != "off" && p.Turns() >= turns+10
	})
	if log := standby.Log(); strings.Contains(log, "walship") {
		t.Errorf("the log:\n%s", log)
	}
}
