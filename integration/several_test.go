package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testbin"
	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// two are two archives on an archive host, each behind a proxy of its own, and a
// data directory whose configuration lists both.
type two struct {
	*hostileCluster
	env   hostileEnv
	root  [2]string
	url   [2]string
	proxy [2]*testnet.Proxy
}

func newTwo(t *testing.T, c *hostileCluster, s *testsshd.Server) *two {
	t.Helper()
	return newTwoWith(t, c, s, *agentMode != "off")
}

// newTwoWith is newTwo, with an agent or without.
func newTwoWith(t *testing.T, c *hostileCluster, s *testsshd.Server, agent bool) *two {
	t.Helper()
	a := &two{hostileCluster: c}
	known := filepath.Join(t.TempDir(), "known_hosts")
	var lines string
	for i := range a.root {
		a.root[i] = t.TempDir()
		a.proxy[i] = testnet.New(t, s.Addr)
		a.url[i] = "sftp://" + s.User + "@" + a.proxy[i].Addr() + a.root[i]
		lines += fmt.Sprintf("[127.0.0.1]:%d %s", a.proxy[i].Port(), ssh.MarshalAuthorizedKey(s.HostKeys[0]))
	}
	hostileOK(t, os.WriteFile(known, []byte(lines), 0o600))
	conf := fmt.Sprintf("archives = [\n  %q,\n  %q,\n]\nssh_key = %q\nknown_hosts = %q\n", a.url[0], a.url[1], s.KeyFile, known)
	if agent {
		conf += fmt.Sprintf("agent = \"auto\"\nagent_dir = %q\n", filepath.Join(t.TempDir(), "agent"))
	}
	file := filepath.Join(t.TempDir(), "walship.toml")
	hostileOK(t, os.WriteFile(file, []byte(conf), 0o600))
	a.env = hostileEnv{"WALSHIP_CONFIG": file}
	a.must(0, a.env, "init")
	if agent {
		t.Cleanup(func() { a.run(a.env, "agent", "stop") })
	}
	return a
}

// push pushes the segment of that number.
func (a *two) push(number int, seed byte) (code int, said string) {
	a.t.Helper()
	path, name, _ := a.addSegment(number, seed)
	p := a.run(a.env, "push", path, name)
	return p.code, p.text()
}

// only is the environment in which there is one of the archives.
func (a *two) only(i int) hostileEnv { return a.env.with("WALSHIP_ARCHIVE", a.url[i]) }

// pushOnly pushes the segment of that number to one of the archives.
func (a *two) pushOnly(i, number int, seed byte) {
	a.t.Helper()
	path, name, _ := a.addSegment(number, seed)
	a.must(0, a.only(i), "push", path, name)
}

// fetch asks for a file as a server in that mode does, and removes what came.
func (a *two) fetch(mode, name string, flags ...string) (p *hostileCall, delivered []byte) {
	a.t.Helper()
	a.mode(mode)
	p = a.run(a.env, append([]string{"fetch", name, "pg_wal/RECOVERYXLOG"}, flags...)...)
	path := filepath.Join(a.Dir, "pg_wal", "RECOVERYXLOG")
	delivered, err := os.ReadFile(path)
	if (err == nil) != (p.code == 0) {
		a.t.Errorf("code %d, and delivered: %v", p.code, err)
	}
	os.Remove(path) // it may not be there
	return p, delivered
}

// has reports whether an archive has the segment of that number.
func (a *two) has(i, number int) bool {
	_, _, err := a.archived(a.root[i], a.name(number))
	return err == nil
}

// says fails unless a call has ended with the code and has said all that.
func says(t *testing.T, what string, code int, said string, wantCode int, want ...string) {
	t.Helper()
	if code != wantCode {
		t.Errorf("%s: code %d, want %d: %s", what, code, wantCode, said)
	}
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("%s: it does not say %q: %s", what, w, said)
		}
	}
}

// Push needs all archives: each is served whatever becomes of the other, the code
// is that of the first that fails, and the message tells how each has fared.
func TestPushToSeveral(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})

	t.Run("one is down", func(t *testing.T) {
		t.Parallel()
		for down := range 2 {
			a := newTwo(t, hostileData(t), server)
			hostileOK(t, a.proxy[down].Refuse(true))
			code, said := a.push(1, 1)
			says(t, "push", code, said, 8, a.url[down]+": archive unreachable", a.url[1-down]+" has the file")
			hostileOK(t, hostileLines(said))
			if a.has(down, 1) || !a.has(1-down, 1) {
				t.Errorf("in the archives: %v, %v", a.has(0, 1), a.has(1, 1))
			}
			hostileOK(t, a.proxy[down].Refuse(false))
			code, said = a.push(1, 1)
			says(t, "again", code, said, 0)
			for i := range 2 {
				hostileOK(t, a.holds(a.root[i], a.name(1), a.segment(1, 1)))
			}
		}
	})

	t.Run("one is silent", func(t *testing.T) {
		t.Parallel()
		a := newTwo(t, hostileData(t), server)
		a.proxy[0].BlackHole(true)
		path, name, _ := a.addSegment(1, 1)
		p := hostileStart(t, testbin.Walship(t), a.Dir, a.env, "push", path, name, "--silence=20s")
		hostileWait(t, "the other to be served", func() bool { return a.has(1, 1) })
		if p.ended() { // when the silent one's time was up
			t.Errorf("the other was served after %v: %s", p.took, p.text())
		}
		p.wait(t)
		says(t, "push", p.code, p.text(), 8, a.url[0]+": archive unreachable", a.url[1]+" has the file")
	})

	t.Run("one is slow", func(t *testing.T) {
		t.Parallel()
		a := newTwo(t, hostileData(t), server)
		a.proxy[1].SetDelay(100 * time.Millisecond)
		code, said := a.push(1, 1)
		says(t, "push", code, said, 0)
		if !a.has(0, 1) || !a.has(1, 1) {
			t.Errorf("in the archives: %v, %v", a.has(0, 1), a.has(1, 1))
		}
	})

	t.Run("both are down", func(t *testing.T) {
		t.Parallel()
		a := newTwo(t, hostileData(t), server)
		for i := range 2 {
			hostileOK(t, a.proxy[i].Refuse(true))
		}
		code, said := a.push(1, 1)
		says(t, "push", code, said, 8, a.url[0]+": archive unreachable", a.url[1]+": archive unreachable", "no archive has the file")
	})

	t.Run("one is not initialised", func(t *testing.T) {
		t.Parallel()
		a := newTwo(t, hostileData(t), server)
		hostileOK(t, os.RemoveAll(filepath.Join(a.root[1], strconv.FormatUint(a.ID, 10))))
		code, said := a.push(1, 1)
		says(t, "push", code, said, 7, a.url[1]+": not this cluster's archive", a.url[0]+" has the file")
	})

	t.Run("one has other content", func(t *testing.T) {
		t.Parallel()
		for other := range 2 {
			a := newTwo(t, hostileData(t), server)
			a.pushOnly(other, 1, 2)
			code, said := a.push(1, 1)
			says(t, "push", code, said, 5, a.url[other]+": conflict", "set-aside")
			if a.has(1-other, 1) {
				t.Error("what one archive has other content for is in the other")
			}
			a.must(0, a.env, "set-aside", a.name(1))
			code, said = a.push(1, 1)
			says(t, "set aside", code, said, 0, a.url[0], a.url[1])
			if a.has(1-other, 1) {
				t.Error("what was set aside is in the other archive")
			}
			for i := range 2 {
				if found, _ := filepath.Glob(filepath.Join(a.root[i], "*", "refused", a.name(1)+".*")); len(found) != 1 {
					t.Errorf("set aside in %s: %v", a.root[i], found)
				}
			}
		}
	})
}

// A full disk of one archive. Only root can make a disk of its own.
func TestPushToSeveralOneFull(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		return // TestFullDisk says what is left without root
	}
	server := testsshd.Start(t, testsshd.Options{})
	c := hostileData(t)
	a := newTwo(t, c, server)
	hostileDisk(t, a.root[0], "size=4m")
	a.must(0, a.env, "init")
	hostileOK(t, os.WriteFile(filepath.Join(a.root[0], "filler"), make([]byte, 3<<20+500<<10), 0o600))
	code, said := a.push(1, 1)
	says(t, "push", code, said, 11, a.url[0]+": no space left on the archive", a.url[1]+" has the file")
	hostileOK(t, os.Remove(filepath.Join(a.root[0], "filler")))
	code, said = a.push(1, 1)
	says(t, "again", code, said, 0)
	hostileOK(t, a.holds(a.root[0], a.name(1), a.segment(1, 1)))
}

// The clone guard asks all archives: one that was begun a moment ago cannot tell
// a restored copy, and must not take its history while the one that can is down.
func TestCloneGuardOverSeveral(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	a := newTwo(t, hostileData(t), server)
	for n := 1; n <= 4; n++ {
		a.pushOnly(0, n, 1)
	}
	history := "00000002.history"
	path := a.add(history, []byte("1\t0/180000\tno recovery target specified\n")) // within segment 1
	taken := func(i int) bool {
		found, _ := filepath.Glob(filepath.Join(a.root[i], "*", "history", history+"*"))
		return len(found) > 0
	}
	p := a.run(a.env, "push", path, history)
	says(t, "push", p.code, p.text(), 6, a.url[0]+": looks like a restored copy", "--no-clone-guard")
	hostileOK(t, a.proxy[0].Refuse(true))
	down := a.run(a.env, "push", path, history)
	says(t, "one is down", down.code, down.text(), 8, a.url[0]+": archive unreachable", "no archive has the file")
	if taken(0) || taken(1) {
		t.Errorf("taken: %v, %v", taken(0), taken(1))
	}
	hostileOK(t, a.proxy[0].Refuse(false))
	a.must(0, a.env, "push", "--no-clone-guard", path, history)
	if !taken(0) || !taken(1) {
		t.Errorf("taken: %v, %v", taken(0), taken(1))
	}
}

// severalModes are who may ask, and what doubt means to each.
var severalModes = map[string]int{"archive recovery": 126, "standby": 1, "ending": 1}

// Fetch delivers the first sound copy; "not there" counts only if every archive
// is healthy and says so.
func TestFetchFromSeveral(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	harm := func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		hostileOK(t, err)
		copy(content[len(content)/2:], strings.Repeat("x", 64))
		hostileOK(t, os.Chmod(path, 0o600))
		hostileOK(t, os.WriteFile(path, content, 0o600))
	}
	for mode, doubt := range severalModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			a := newTwo(t, hostileData(t), server)
			code, said := a.push(1, 1)
			says(t, "push", code, said, 0)
			a.pushOnly(0, 2, 1)
			a.pushOnly(1, 3, 1)
			want := func(what string, number int, words ...string) {
				t.Helper()
				p, got := a.fetch(mode, a.name(number))
				says(t, what, p.code, p.text(), 0, words...)
				if !bytes.Equal(got, a.segment(number, 1)) {
					t.Errorf("%s: something else was delivered", what)
				}
			}
			for n := 1; n <= 3; n++ {
				want("both are up", n)
			}
			p, _ := a.fetch(mode, a.name(4))
			says(t, "in none", p.code, p.text(), 1)
			if p.text() != "" {
				t.Errorf("a miss is not quiet: %s", p.text())
			}

			for down := range 2 {
				hostileOK(t, a.proxy[down].Refuse(true))
				want("one is down", 1)
				want("one is down", 3-down)
				missing, _ := a.fetch(mode, a.name(2+down))
				says(t, "only in the one that is down", missing.code, missing.text(), doubt,
					a.url[down]+": archive unreachable", "not in "+a.url[1-down], "gone for good, take its URL out of archives")
				hostileOK(t, a.proxy[down].Refuse(false))
			}

			file := func(i int) string { path, _, _ := a.archived(a.root[i], a.name(1)); return path }
			first, second := file(0), file(1)
			harm(t, first)
			want("the first copy is damaged", 1)
			hostileOK(t, a.proxy[1].Refuse(true))
			p, _ = a.fetch(mode, a.name(1))
			says(t, "one damaged, one down", p.code, p.text(), doubt, a.url[0]+": ", "damaged", a.url[1]+": archive unreachable")
			hostileOK(t, a.proxy[1].Refuse(false))
			harm(t, second)
			p, _ = a.fetch(mode, a.name(1))
			says(t, "both are damaged", p.code, p.text(), doubt, a.url[0]+": ", a.url[1]+": ", "damaged")
			hostileOK(t, os.Remove(second))
			p, _ = a.fetch(mode, a.name(1))
			says(t, "one damaged, one without", p.code, p.text(), doubt, a.url[0]+": ", "not in "+a.url[1])
		})
	}
}

// An archive that says nothing costs no more than the patience with it, where
// another has the file, and its own time, where none has.
func TestFetchFromSeveralOneSilent(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for mode, doubt := range severalModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			a := newTwo(t, hostileData(t), server)
			code, said := a.push(1, 1)
			says(t, "push", code, said, 0)
			a.proxy[0].BlackHole(true)
			p, _ := a.fetch(mode, a.name(1)) // archive recovery lets it be silent for 15 seconds
			says(t, "delivered", p.code, p.text(), 0)
			if p.took > 2*time.Second+hostileSlack {
				t.Errorf("it took %v", p.took)
			}
			if warned := strings.Contains(p.text(), "a newer timeline that only that one knows of would not be seen"); warned != (mode != "ending") {
				t.Errorf("warned of an unknown newer timeline: %v: %s", warned, p.text())
			}
			p, _ = a.fetch(mode, a.name(2), "--silence=1s")
			says(t, "doubt", p.code, p.text(), doubt, a.url[0]+": archive unreachable")
		})
	}
}

// The fork guard heeds the newer history of any archive, the gap guard a later
// segment in any; a history that is damaged in one is read from another.
func TestGuardsOverSeveral(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for with := range 2 {
		t.Run(fmt.Sprint("known to archive ", with), func(t *testing.T) {
			t.Parallel()
			a := newTwo(t, hostileData(t), server)
			code, said := a.push(1, 1)
			says(t, "push", code, said, 0)
			a.pushOnly(with, 3, 1)
			a.env["WALSHIP_SILENCE"] = "30s" // both have all the time that they need
			p, _ := a.fetch("archive recovery", a.name(2))
			says(t, "gap", p.code, p.text(), 126, "withheld", "goes on with "+a.name(3))
			p, _ = a.fetch("archive recovery", a.name(2), "--no-gap-guard")
			says(t, "no gap guard", p.code, p.text(), 1)

			history := "00000002.history"
			path := a.add(history, []byte("1\t0/180000\tno recovery target specified\n"))
			a.must(0, a.only(with), "push", "--no-clone-guard", path, history)
			hostileOK(t, os.Remove(filepath.Join(a.Dir, path)))
			for mode, code := range map[string]int{"archive recovery": 126, "standby": 1} {
				p, _ := a.fetch(mode, a.name(1))
				says(t, "fork, "+mode, p.code, p.text(), code, "withheld", "timeline 2 has left timeline 1")
				p, _ = a.fetch(mode, a.name(1), "--no-fork-guard")
				says(t, "no fork guard", p.code, p.text(), 0)
			}
			// The one that knows of it is silent: delivered, for a promotion must not
			// lose what is in the file, and a warning.
			hostileOK(t, a.proxy[with].Refuse(true))
			p, _ = a.fetch("standby", a.name(1))
			says(t, "unknown", p.code, p.text(), 0, "a newer timeline that only that one knows of would not be seen")
			// Recovery cannot end by that: the history itself is doubt.
			p, _ = a.fetch("archive recovery", history)
			says(t, "the history", p.code, p.text(), 126, "archive unreachable")
			hostileOK(t, a.proxy[with].Refuse(false))

			stored := filepath.Join(a.root[with], strconv.FormatUint(a.ID, 10), "history", history+".zst")
			hostileOK(t, os.Chmod(stored, 0o600))
			hostileOK(t, os.Truncate(stored, 300))
			p, _ = a.fetch("archive recovery", a.name(1))
			says(t, "its only copy is damaged", p.code, p.text(), 126, a.url[with], "damaged")
			hostileOK(t, os.WriteFile(filepath.Join(a.Dir, path), []byte("1\t0/180000\tno recovery target specified\n"), 0o600))
			a.must(0, a.only(1-with), "push", "--no-clone-guard", path, history)
			hostileOK(t, os.Remove(filepath.Join(a.Dir, path)))
			p, _ = a.fetch("archive recovery", a.name(1))
			says(t, "another copy is sound", p.code, p.text(), 126, "withheld", "timeline 2 has left timeline 1")
		})
	}
}

// Commands that work on one archive take the first and say so; wrong lists are
// told apart in one line.
func TestSeveralOnTheCommandLine(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	a := newTwo(t, hostileData(t), server)
	code, said := a.push(1, 1)
	says(t, "push", code, said, 0)
	for _, args := range [][]string{{"list"}, {"verify", "-q"}, {"prune", "--keep-from", a.name(1), "--dry-run"}} {
		p := a.run(a.env, args...)
		says(t, args[0], p.code, p.text(), 0, "walship: "+args[0]+": "+a.url[0]+", the first of 2 archives; --archive names another")
		p = a.run(a.env, append(args, "--archive", a.url[1])...)
		says(t, args[0]+" with --archive", p.code, p.text(), 0)
		if strings.Contains(p.text(), "the first of") {
			t.Errorf("%s", p.text())
		}
	}
	p := a.run(a.env, "check", "--archive-only", "--max-backup-age=off")
	says(t, "check", p.code, p.text(), 0, a.url[0], a.url[1])
	hostileOK(t, a.proxy[1].Refuse(true))
	p = a.run(a.env, "check", "--archive-only", "--max-backup-age=off")
	says(t, "check, one is down", p.code, p.text(), 2, a.url[1])
	p = a.run(a.env, "init")
	says(t, "init, one is down", p.code, p.text(), 8, a.url[0]+": exists already", a.url[1]+": archive unreachable")
	p = a.run(a.env, "config")
	says(t, "config", p.code, p.text(), 0, "archives", a.url[0]+", "+a.url[1])

	p = a.run(hostileEnv{}, "push", "--archive=file:///a", "--archive=file:///b", "x", "y")
	says(t, "twice", p.code, p.text(), 2, "--archive is given more than once")
	for text, want := range map[string]string{
		"archives = []\n": "the list is empty",
		"archives = [\"file:///a\", \"file:///a/\"]\n":        "listed twice",
		"archives = [\"file:///a\"]\narchive = \"file:///b\"": "archives (line 1) and archive (line 2) are both set",
		"archive = \"file:///b\"\narchives = [\"file:///a\"]": "archives (line 2) and archive (line 1) are both set",
		"archives = [1]\n":                             "want a list of URLs in quotes",
		"archives = \"file:///a\"\n":                   "want a list of URLs in quotes",
		"archives = [\"ftp://a\", \"file:///b\"]\n":    "ftp",
		"archives = [\"sftp://u:secret@h/a\", \"\"]\n": "u:***@h",
		"archives = [\"file:///a\", \"\"]\n":           "archives \"\"",
	} {
		file := filepath.Join(t.TempDir(), "walship.toml")
		hostileOK(t, os.WriteFile(file, []byte(text), 0o600))
		p := a.run(hostileEnv{"WALSHIP_CONFIG": file}, "config")
		says(t, text, p.code, p.text(), 3, want)
		if strings.Contains(p.text(), "secret") {
			t.Errorf("it tells a password: %s", p.text())
		}
	}
}
