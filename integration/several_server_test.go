package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"walship/internal/testnet"
	"walship/internal/testpg"
)

// severalSite is a site whose configuration lists two archives on its host, each
// behind a proxy of its own.
type severalSite struct {
	*site
	roots [2]string
	proxy [2]*testnet.Proxy
}

func newSeveralSite(t testing.TB) *severalSite {
	t.Helper()
	s := &severalSite{site: newSite(t)}
	var lines string
	for i := range s.roots {
		s.roots[i] = filepath.Join(testpg.Dir(t), "archive")
		s.proxy[i] = testnet.New(t, s.sshd.Addr)
		lines += knownhosts.Line([]string{s.proxy[i].Addr()}, s.sshd.HostKeys[0]) + "\n"
	}
	must(t, os.WriteFile(s.knownHosts(), []byte(lines), 0o600))
	s.lists(0, 1)
	return s
}

// lists lets the configuration list these archives.
func (s *severalSite) lists(archives ...int) {
	s.t.Helper()
	urls := ""
	for _, i := range archives {
		urls += fmt.Sprintf("  %q,\n", "sftp://"+s.sshd.User+"@"+s.proxy[i].Addr()+s.roots[i])
	}
	s.root = s.roots[archives[0]] // where stored looks
	s.writeConfig(fmt.Sprintf("archives = [\n%s]\nssh_key = %q\nknown_hosts = %q\n", urls, filepath.Join(s.home, "id_ed25519"), s.knownHosts()))
}

// One archive goes down while a server recovers: what the other has is delivered;
// where only the one that is down has the file, recovery stops and loses nothing,
// and it comes to its end when the archive is back.
func TestRecoveryFromSeveral(t *testing.T) {
	t.Parallel()
	l := losePrimary(t, testpg.Options{})
	s := newSeveralSite(t)
	for _, root := range s.roots {
		must(t, os.CopyFS(root, os.DirFS(l.archive)))
	}
	segments, err := filepath.Glob(filepath.Join(s.roots[1], "*", "wal", "*", "????????????????????????.zst"))
	must(t, err)
	last := filepath.Base(segments[len(segments)-1])
	for _, path := range segments { // the second archive lacks the last, the first has all
		if filepath.Base(path) == last {
			must(t, os.Remove(path))
		}
	}
	c := testpg.Restore(t, l.backup)
	c.SetConf(map[string]string{"archive_command": s.push()})
	asked, on := filepath.Join(c.Base, "asked"), filepath.Join(c.Base, "on")
	script := filepath.Join(s.home, "fetch")
	must(t, os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nif [ \"$1\" = %s ]; then touch %s; until [ -e %s ]; do sleep 0.1; done; fi\nexec %s --config %s fetch \"$1\" \"$2\"\n",
		l.middle, asked, on, s.binary, s.config()), 0o755))
	must(t, testpg.Own(script))
	c.WriteRecovery(false, map[string]string{"restore_command": script + " %f %p", "recovery_target_timeline": "latest"})
	go func() { // stops waits below
		for {
			if _, err := os.Stat(asked); err == nil {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = s.proxy[0].Refuse(true) // what comes of it is checked
		_ = os.WriteFile(on, nil, 0o644)
	}()
	stops(t, c, "not in sftp://.*gone for good, take its URL out of archives|archive unreachable.*; not in sftp://")
	c.WaitLog(0, `restored log file "`+l.middle+`"`)
	c.WaitLog(0, "walship: warning: delivered "+l.middle+" from sftp://")
	must(t, s.proxy[0].Refuse(false))
	recovers(t, c, l.want)
}

// The first archive says nothing any more, and the primary dies: a standby that
// knows only the archives has what the second got until then, and opens in time.
// The new primary archives on once the lost archive is off the list.
func TestFailoverWithOneOfSeveralSilent(t *testing.T) {
	t.Parallel()
	s := newSeveralSite(t)
	primary := newPrimary(t, s.site, testpg.Options{})
	base := backup(t, primary, false)
	shipping := follow(t, s.site, base, nil)
	insert(primary)
	primary.Archive(soon)
	waitContents(t, shipping, mustContents(t, primary))

	s.proxy[0].BlackHole(true)
	insert(primary)
	segment := primary.SwitchWAL()
	want := mustContents(t, primary)
	testpg.WaitFor(t, soon, "the second archive to be served", func() bool {
		found, _ := filepath.Glob(filepath.Join(s.roots[1], "*", "wal", "*", segment+".zst"))
		return len(found) == 1
	})
	if found, _ := filepath.Glob(filepath.Join(s.roots[0], "*", "wal", "*", segment+".zst")); len(found) > 0 {
		t.Errorf("the silent archive has it: %v", found)
	}
	must(t, primary.Kill9())
	waitContents(t, shipping, want)
	shipping.ClearLog()
	begun := time.Now()
	must(t, shipping.Promote())
	must(t, shipping.WaitPrimary(soon))
	if took := time.Since(begun); took > opensWithin {
		t.Errorf("it took %v to open", took)
	} else {
		t.Logf("opened after %v", took)
	}
	if got := mustContents(t, shipping); got != want {
		t.Errorf("it has\n%s, want\n%s", got, want)
	}

	insert(shipping)
	s.lists(1)
	shipping.Archive(soon)
	s.stored("00000002.history")
}
