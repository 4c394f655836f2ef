package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// kill -9 of push at every step leaves nothing or the whole file under the final
// name, and beside it at most a temporary file, which a later push sweeps away.
func TestPushKilled(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		c.must(0, env, "init")
		for i, step := range append([]string{"push.begin"}, hostilePutSteps...) {
			path, name, content := c.addSegment(i+1, 1)
			p := c.faulty(env.with("WALSHIP_FAULT", step+"=kill"), "push", path, name)
			if p.code != -1 {
				t.Errorf("%s, %s: code %d instead of death by the signal: %s", store, step, p.code, p.text())
			}
			// What was sent before the end is still being carried out.
			hostileWait(t, "the end of the server's sessions", func() bool { return len(server.Processes()) == 0 })
			there := c.holds(root, name, content) == nil
			if published := step == "put.published" || step == "put.folder-synced"; there != published {
				t.Errorf("%s, %s: the file is there: %t", store, step, there)
			}
			if err := c.onlyWhole(root, name, content); err != nil {
				t.Errorf("%s, %s: %v", store, step, err)
			}
			if p := c.run(env, "push", path, name); p.code != 0 {
				t.Errorf("%s, %s: the retry: code %d: %s", store, step, p.code, p.text())
			}
			if err := c.holds(root, name, content); err != nil {
				t.Errorf("%s, %s: after the retry: %v", store, step, err)
			}
		}
		c.checkSweep(root, env, store)
	}
}

// onlyWhole returns an error if the archive holds anything of the name but the
// whole content, or files where none belong.
func (c *hostileCluster) onlyWhole(root, name string, content []byte) error {
	if err := c.holds(root, name, content); err != nil {
		if found, _ := filepath.Glob(c.stored(root, name) + "*"); len(found) > 0 {
			return err
		}
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		dir := filepath.Base(filepath.Dir(path))
		if dir != "tmp" && dir != name[:16] && d.Name() != "walship.json" {
			return fmt.Errorf("what is %s?", path)
		}
		return nil
	})
}

// checkSweep ages all temporary files but one by a day: the push of a segment
// whose number is a multiple of 16 removes them, no other one does.
func (c *hostileCluster) checkSweep(root string, env hostileEnv, store string) {
	c.t.Helper()
	left := c.left(root)
	if len(left) < 3 {
		c.t.Fatalf("%s: kill -9 left %d temporary files, there is nothing to sweep", store, len(left))
	}
	old := time.Now().Add(-25 * time.Hour)
	for _, path := range left[1:] {
		hostileOK(c.t, os.Chtimes(path, old, old))
	}
	path, name, _ := c.addSegment(15, 1)
	c.must(0, env, "push", path, name)
	if now := c.left(root); len(now) != len(left) {
		c.t.Errorf("%s: segment 15: %d temporary files of %d", store, len(now), len(left))
	}
	path, name, _ = c.addSegment(16, 1)
	c.must(0, env, "push", path, name)
	if now := c.left(root); len(now) != 1 || now[0] != left[0] {
		c.t.Errorf("%s: after the sweep there should be %s: %v", store, left[0], now)
	}
}

// kill -9 of the server's sftp process, or of all that serves the connection,
// while push is at each of its steps.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
	c, root := hostileData(t), t.TempDir()
	env := hostileSFTP(server, root)
	c.must(0, env, "init")
	number := 0
	for _, step := range hostilePutSteps {
		for _, victims := range []string{"sftp-server", "all"} {
			number++
			path, name, content := c.addSegment(number, 1)
			p := c.stoppable(env.with("WALSHIP_FAULT", step+"=stop"), "push", path, name)
			if !p.stopped(t) {
				t.Fatalf("it never came to %s: %s", step, p.text())
			}
			hostileKill(t, server, victims)
			p.resume(t)
			err := c.holds(root, name, content)
			switch {
			case p.code != 0 && p.code != 8:
				t.Errorf("%s of %s: code %d: %s", step, victims, p.code, p.text())
			case p.code == 0 && err != nil:
				t.Errorf("%s of %s: a false 0: %v", step, victims, err)
			case step == "put.synced" && p.code == 0:
				t.Errorf("%s of %s: the transfer was lost, and yet 0", step, victims)
			}
			if err := c.onlyWhole(root, name, content); err != nil {
				t.Errorf("%s of %s: %v", step, victims, err)
			}
			c.must(0, env, "push", path, name)
			hostileOK(t, c.holds(root, name, content))
		}
	}
}

// hostileKill kills the processes of the server's sessions: those called so, or
// "all".
func hostileKill(t *testing.T, s *testsshd.Server, which string) {
	t.Helper()
	killed := 0
	for _, pid := range s.Processes() {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if which == "all" || strings.TrimSpace(string(comm)) == which {
			syscall.Kill(pid, syscall.SIGKILL)
			killed++
		}
	}
	if killed == 0 {
		t.Fatalf("the server has no process %q", which)
	}
}

// A connection that is reset in the middle of the upload: the outcome is told,
// nothing is published, and the retry stores the file.
func TestUploadCut(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	proxy := testnet.New(t, server.Addr)
	c, root := hostileData(t), t.TempDir()
	env := hostileVia(t, server, root, proxy.Addr())
	c.must(0, env, "init")
	path, name, content := c.addSegment(1, 1)
	proxy.CutAfter(testnet.ToServer, 500<<10)
	p := c.must(8, env, "push", path, name)
	hostileOK(t, hostileLines(p.text()))
	if found, _ := filepath.Glob(c.stored(root, name) + "*"); len(found) > 0 {
		t.Errorf("half a transfer was published: %v", found)
	}
	c.must(0, env, "push", path, name)
	hostileOK(t, c.holds(root, name, content))
}

// kill -9 of fetch at every step: %p is absent or whole, and the next fetch
// sweeps away what is left beside it.
func TestFetchKilled(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		path, name, content := c.addSegment(1, 1)
		c.must(0, env, "init")
		c.must(0, env, "push", path, name)
		c.mode("archive recovery")
		wal := filepath.Join(c.Dir, "pg_wal")
		target := filepath.Join(wal, "RECOVERYXLOG")
		for _, step := range []string{"fetch.begin", "fetch.created", "fetch.written", "fetch.synced", "fetch.delivered"} {
			p := c.faulty(env.with("WALSHIP_FAULT", step+"=kill"), "fetch", name, "pg_wal/RECOVERYXLOG")
			if p.code != -1 {
				t.Errorf("%s, %s: code %d instead of death by the signal: %s", store, step, p.code, p.text())
			}
			got, err := os.ReadFile(target)
			if delivered := step == "fetch.delivered"; delivered != (err == nil) || delivered && !bytes.Equal(got, content) {
				t.Errorf("%s, %s: %%p holds %d bytes: %v", store, step, len(got), err)
			}
			left, _ := filepath.Glob(filepath.Join(wal, "*walship*"))
			for _, path := range left {
				if !strings.HasPrefix(filepath.Base(path), "xlogtemp.") {
					t.Errorf("%s, %s: nobody will remove %s", store, step, path)
				}
			}
			if begun := step != "fetch.begin" && step != "fetch.delivered"; begun != (len(left) == 1) {
				t.Errorf("%s, %s: left behind: %v", store, step, left)
			}
			os.Remove(target) // as the server does
			c.must(0, env, "fetch", name, "pg_wal/RECOVERYXLOG")
			if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%s, %s: the next fetch delivers %d bytes: %v", store, step, len(got), err)
			}
			if left, _ := filepath.Glob(filepath.Join(wal, "*walship*")); len(left) > 0 {
				t.Errorf("%s, %s: the next fetch has not swept %v", store, step, left)
			}
			os.Remove(target)
		}
	}
}

// The server's sftp process is killed while fetch is at each of its steps.
func TestServerKilledUnderFetch(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
	c, root := hostileBig(t), t.TempDir()
	env := hostileSFTP(server, root)
	path, name, content := c.addSegment(1, 1)
	c.must(0, env, "init")
	c.must(0, env, "push", path, name)
	target := filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")
	for _, mode := range []string{"archive recovery", "standby"} {
		c.mode(mode)
		for _, step := range []string{"fetch.created", "fetch.written", "fetch.synced"} {
			p := c.stoppable(env.with("WALSHIP_FAULT", step+"=stop"), "fetch", name, "pg_wal/RECOVERYXLOG")
			if !p.stopped(t) {
				t.Fatalf("it never came to %s: %s", step, p.text())
			}
			hostileKill(t, server, "sftp-server")
			p.resume(t)
			got, err := os.ReadFile(target)
			switch {
			case p.code == 0 && !bytes.Equal(got, content):
				t.Errorf("%s, %s: 0 with %d bytes: %v", mode, step, len(got), err)
			case p.code != 0 && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("%s, %s: code %d and %d bytes: %v", mode, step, p.code, len(got), err)
			case mode == "archive recovery" && p.code != 0: // it asks again
				t.Errorf("%s, %s: code %d: %s", mode, step, p.code, p.text())
			case step == "fetch.created" && mode == "standby" && p.code != 1:
				t.Errorf("%s, %s: code %d: %s", mode, step, p.code, p.text())
			}
			os.Remove(target)
		}
	}
}
