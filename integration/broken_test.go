package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// The steps of a push are each needed: the checks below pass, and fail with a
// build that leaves the step out.

func TestNeedsNoReplace(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		c.must(0, env, "init")
		r := hostileRace{step: "put.synced", number: 1, frozen: env, other: env}
		hostileOK(t, c.race(root, r))
		r.number, r.broken = 2, ",put.noreplace=skip"
		if err := c.race(root, r); err == nil {
			t.Errorf("%s: nothing is wrong with a push that replaces files", store)
		} else {
			t.Logf("%s, broken build: %v", store, err)
		}
	}
}

// A server whose disk takes no more than a part of the file: what was not
// acknowledged must not be published.
func TestNeedsWait(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Subsystem: hostileSmallDisk(t)})
	// On a longer way everything has been sent before the refusal arrives.
	proxy := testnet.New(t, server.Addr)
	proxy.SetDelay(25 * time.Millisecond)
	c, root := hostileData(t), t.TempDir()
	env := hostileVia(t, server, root, proxy.Addr())
	c.must(0, env, "init")
	check := func(number int, fault string) error {
		path, name, content := c.addSegment(number, 1)
		p := c.faulty(env.with("WALSHIP_FAULT", fault), "push", path, name)
		if p.code == 0 {
			return fmt.Errorf("a false 0: %v", c.holds(root, name, content))
		}
		t.Logf("code %d: %s", p.code, p.text())
		return c.onlyWhole(root, name, content)
	}
	hostileOK(t, check(1, ""))
	var err error
	for number := 2; number < 12 && err == nil; number++ { // the refusal may come first on a busy machine
		err = check(number, "put.wait=skip")
	}
	if err == nil {
		t.Error("nothing is wrong with a push that does not wait for its writes")
	}
	t.Logf("broken build: %v", err)
}

// hostileSmallDisk is an sftp-server that cannot write the last bytes of a file
// of 1 MB: as on a full disk the write fails, and the server goes on.
func hostileSmallDisk(t *testing.T) string {
	t.Helper()
	script := filepath.Join(t.TempDir(), "sftp-server")
	// dash counts blocks of 512 bytes, and so does bash as sh.
	text := "#!/bin/sh\ntrap '' XFSZ\nulimit -f 2040\nexec " + testsshd.SFTPServer(t) + "\n"
	hostileOK(t, os.WriteFile(script, []byte(text), 0o755))
	return script
}

func TestNeedsSyncs(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Strace: "trace=openat,open,fsync,fdatasync,link,linkat,rename,renameat,renameat2"})
	c, root := hostileData(t), t.TempDir()
	env := hostileSFTP(server, root)
	c.must(0, env, "init")
	path, name, _ := c.addSegment(1, 1)
	c.must(0, env, "push", path, name) // makes the folders
	check := func(number int, fault string) error {
		hostileWait(t, "the end of the server's sessions", func() bool { return len(server.Processes()) == 0 })
		before := len(server.Trace())
		path, name, content := c.addSegment(number, 1)
		if p := c.faulty(env.with("WALSHIP_FAULT", fault), "push", path, name); p.code != 0 {
			return fmt.Errorf("code %d: %s", p.code, p.text())
		}
		hostileWait(t, "the end of the server's sessions", func() bool { return len(server.Processes()) == 0 })
		hostileOK(t, c.holds(root, name, content))
		return hostileSynced(server.Trace()[before:])
	}
	hostileOK(t, check(2, ""))
	for i, fault := range []string{"put.fsync=skip", "put.folder-fsync=skip"} {
		if err := check(3+i, fault); err == nil {
			t.Errorf("nothing is wrong with %s", fault)
		} else {
			t.Logf("%s: %v", fault, err)
		}
	}
}

var (
	hostileOpened = regexp.MustCompile(`open(?:at)?\(.*(O_EXCL|O_RDONLY).* = (\d+)`)
	hostileFsync  = regexp.MustCompile(`f(?:data)?sync\((\d+)\b.*= 0`)
	hostileLinked = regexp.MustCompile(`(?:link|linkat|rename|renameat|renameat2)\(.*= 0`)
)

// hostileSynced reads what strace has seen of one put: the file must be synced
// before it is published, and its folder and that one's parent after.
func hostileSynced(trace string) error {
	var file string
	folders := map[string]bool{}
	published, fileSynced, foldersSynced := false, false, 0
	for _, line := range strings.Split(trace, "\n") {
		if m := hostileOpened.FindStringSubmatch(line); m != nil {
			if m[1] == "O_EXCL" {
				file = m[2]
			} else {
				folders[m[2]] = true
			}
			continue
		}
		if m := hostileFsync.FindStringSubmatch(line); m != nil {
			switch {
			case m[1] == file && !published:
				fileSynced = true
			case folders[m[1]] && published:
				foldersSynced++
			}
			continue
		}
		if hostileLinked.MatchString(line) {
			published = true
			if !fileSynced {
				return fmt.Errorf("published before the file was synced:\n%s", trace)
			}
		}
	}
	if !published || foldersSynced < 2 {
		return fmt.Errorf("published: %t, folders synced afterwards: %d:\n%s", published, foldersSynced, trace)
	}
	return nil
}
