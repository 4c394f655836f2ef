package integration_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walship/internal/testgosftp"
	"walship/internal/testsshd"
)

// hostileArchive is an archive that sets a limit.
type hostileArchive struct {
	what string
	root string
	env  hostileEnv
	code int // of push
}

// hostileDisk makes a file system of its own, which only root can do.
func hostileDisk(t *testing.T, dir, options string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount a tmpfs, as root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
}

// hostileShared makes a folder that every account may enter.
func hostileShared(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "walship-shared-")
	hostileOK(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	hostileOK(t, os.Chmod(dir, 0o755))
	return dir
}

// A full disk: push says so, and leaves nothing half-written; when there is room
// again the retry stores the file. Without root there is no small disk to be
// had; a server whose files may not grow behaves much the same, but that nobody
// can see why.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	limited := testsshd.Start(t, testsshd.Options{Subsystem: hostileSmallDisk(t)})
	root := t.TempDir()
	all := []hostileArchive{{"files may not grow", root, hostileSFTP(limited, root), 16}}
	if os.Getuid() == 0 {
		server := testsshd.Start(t, testsshd.Options{})
		for _, store := range []string{"sftp", "file"} {
			root := t.TempDir()
			hostileDisk(t, root, "size=8m")
			env := hostileFile(root)
			if store == "sftp" {
				env = hostileSFTP(server, root)
			}
			all = append(all, hostileArchive{"a disk of 8 MB, " + store, root, env, 11})
		}
	}
	for _, a := range all {
		c := hostileData(t)
		c.must(0, a.env, "init")
		var first []byte
		if a.code == 11 {
			path, name, content := c.addSegment(1, 1)
			c.must(0, a.env, "push", path, name)
			first = content
			hostileOK(t, os.WriteFile(filepath.Join(a.root, "filler"), make([]byte, 6<<20+500<<10), 0o600))
		}
		path, name, content := c.addSegment(2, 1)
		p := c.must(a.code, a.env, "push", path, name)
		t.Logf("%s: %d\n%s", a.what, p.code, p.text())
		hostileOK(t, hostileLines(p.text()))
		if found, _ := filepath.Glob(c.stored(a.root, name) + "*"); len(found) > 0 {
			t.Errorf("%s: half a file: %v", a.what, found)
		}
		if left := c.left(a.root); len(left) > 0 {
			t.Errorf("%s: temporary files: %v", a.what, left)
		}
		if a.code != 11 {
			continue
		}
		if !strings.Contains(p.text(), "no space left") {
			t.Errorf("%s: the message does not say that the disk is full: %s", a.what, p.text())
		}
		hostileOK(t, os.Remove(filepath.Join(a.root, "filler")))
		c.must(0, a.env, "push", path, name)
		hostileOK(t, c.holds(a.root, name, content))
		hostileOK(t, c.holds(a.root, c.name(1), first))
	}
}

// The disk of the data directory is full: fetch delivers nothing, and that is
// no absence.
func TestFullDiskOfTheServer(t *testing.T) {
	t.Parallel()
	c, root := hostileData(t), t.TempDir()
	env := hostileFile(root)
	c.must(0, env, "init")
	path, name, _ := c.addSegment(1, 1)
	c.must(0, env, "push", path, name)
	wal := filepath.Join(c.Dir, "pg_wal")
	if os.Getuid() == 0 {
		hostileDisk(t, wal, "size=512k")
	} else {
		hostileOK(t, os.Chmod(wal, 0o500)) // the nearest that can be had
	}
	for mode, want := range map[string]int{"archive recovery": 126, "standby": 1} {
		c.mode(mode)
		p := c.must(want, env, "fetch", name, "pg_wal/RECOVERYXLOG")
		t.Logf("%s: %d\n%s", mode, p.code, p.text())
		if left, _ := filepath.Glob(filepath.Join(wal, "*")); os.Getuid() == 0 && len(left) > 0 {
			t.Errorf("%s: left behind: %v", mode, left)
		}
	}
	hostileOK(t, os.Chmod(wal, 0o700))
}

// An archive on a read-only file system, or, without root, in folders that are
// not writable: push says so, fetch goes on.
func TestReadOnlyArchive(t *testing.T) {
	t.Parallel()
	server := testsshd.Start(t, testsshd.Options{})
	for _, store := range []string{"sftp", "file"} {
		c, root := hostileData(t), t.TempDir()
		env := hostileFile(root)
		if store == "sftp" {
			env = hostileSFTP(server, root)
		}
		if os.Getuid() == 0 {
			hostileDisk(t, root, "size=8m")
		}
		c.must(0, env, "init")
		path, name, content := c.addSegment(1, 1)
		c.must(0, env, "push", path, name)
		if os.Getuid() == 0 {
			hostileOK(t, syscall.Mount("", root, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		} else {
			hostileModes(t, root, 0o500)
		}
		path, other, _ := c.addSegment(2, 1)
		p := c.must(10, env, "push", path, other)
		t.Logf("%s: %d\n%s", store, p.code, p.text())
		hostileOK(t, hostileLines(p.text()))
		c.must(0, env, "fetch", name, "pg_wal/RECOVERYXLOG")
		if got, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", "RECOVERYXLOG")); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: fetch: %d bytes: %v", store, len(got), err)
		}
	}
}

// hostileModes sets the mode of every folder, until the test's end.
func hostileModes(t *testing.T, root string, mode fs.FileMode) {
	t.Helper()
	var folders []string
	hostileOK(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			folders = append(folders, path)
		}
		return err
	}))
	for i := len(folders) - 1; i >= 0; i-- {
		hostileOK(t, os.Chmod(folders[i], mode))
	}
	t.Cleanup(func() {
		for _, f := range folders {
			os.Chmod(f, 0o700)
		}
	})
}

// An account that may not write to the archive, and one that may not read it.
// As root the server lets postgres in, to folders that are root's.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	account := ""
	if os.Getuid() == 0 {
		account = "postgres"
	}
	server := testsshd.Start(t, testsshd.Options{User: account})
	c, root := hostileData(t), hostileShared(t)
	c.must(0, hostileFile(root), "init")
	path, name, _ := c.addSegment(1, 1)
	c.must(0, hostileFile(root), "push", path, name)
	path, other, _ := c.addSegment(2, 1)

	env := hostileSFTP(server, root)
	identity := filepath.Join(filepath.Dir(c.tmp(root)), "walship.json")
	stored, _, err := c.archived(root, name)
	hostileOK(t, err)
	hostileOK(t, errors.Join(os.Chmod(identity, 0o644), os.Chmod(stored, 0o644)))
	hostileModes(t, root, 0o555)
	before := hostileTree(t, root)
	p := c.must(10, env, "push", path, other)
	t.Logf("not to write: %d\n%s", p.code, p.text())
	hostileOK(t, hostileLines(p.text()))
	if after := hostileTree(t, root); after != before {
		t.Errorf("the archive has changed:\n%s\n%s", before, after)
	}

	hostileOK(t, os.Chmod(filepath.Dir(c.tmp(root)), 0))
	p = c.must(10, env, "push", path, other)
	t.Logf("not to read: %d\n%s", p.code, p.text())
	hostileOK(t, hostileLines(p.text()))
	for mode, want := range map[string]int{"archive recovery": 126, "standby": 1, "ending": 1} {
		c.mode(mode)
		for _, asked := range []string{name, other} {
			if err := c.doubt(want, env, asked); err != nil {
				t.Errorf("%s, %s: %v", mode, asked, err)
			}
		}
	}
}

// Servers that cannot sync files, make hard links, or both. What cannot be
// promised is refused, with a hint, unless the configuration does without it.
func TestLesserServers(t *testing.T) {
	t.Parallel()
	openssh := func(without string) hostileEnv {
		return hostileSFTP(testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t) + " -P " + without}), "")
	}
	other := func(hide ...string) hostileEnv {
		s := testgosftp.Start(t, testgosftp.Options{Hide: hide})
		return hostileEnv{"WALSHIP_ARCHIVE": s.URL(""), "WALSHIP_SSH_KEY": s.KeyFile, "WALSHIP_KNOWN_HOSTS": s.KnownHosts}
	}
	for _, s := range []struct {
		what string
		env  hostileEnv
		full int // code of push under durability full
	}{
		{"OpenSSH without fsync", openssh("fsync"), 12},
		{"OpenSSH without hard links", openssh("hardlink"), 0}, // its rename replaces nothing
		{"OpenSSH without both", openssh("fsync,hardlink"), 12},
		{"another server without fsync", other(), 12},
		{"another server without both", other("hardlink@openssh.com"), 12},
	} {
		c, root := hostileData(t), t.TempDir()
		env := s.env.with("WALSHIP_ARCHIVE", strings.TrimSuffix(s.env["WALSHIP_ARCHIVE"], "/")+root)
		none := env.with("WALSHIP_DURABILITY", "none")
		c.must(0, none, "init")
		path, name, content := c.addSegment(1, 1)
		p := c.run(env, "push", path, name)
		t.Logf("%s: %d\n%s", s.what, p.code, p.text())
		if p.code != s.full {
			t.Errorf("%s: code %d instead of %d", s.what, p.code, s.full)
		}
		if s.full != 0 {
			if !strings.Contains(p.text(), `hint: durability = "none"`) {
				t.Errorf("%s: no hint: %s", s.what, p.text())
			}
			if found, _ := filepath.Glob(c.stored(root, name) + "*"); len(found) > 0 {
				t.Errorf("%s: stored all the same: %v", s.what, found)
			}
		}
		c.must(0, none, "push", path, name)
		hostileOK(t, c.holds(root, name, content))
		c.must(0, none, "push", path, name)
		// No overwrite, whatever the server's own rename does.
		path, _, _ = c.addSegment(1, 2)
		c.must(5, none, "push", path, name)
		hostileOK(t, c.holds(root, name, content))
		if left := c.left(root); len(left) > 0 {
			t.Errorf("%s: temporary files: %v", s.what, left)
		}
		c.mode("archive recovery")
		c.must(0, env, "fetch", name, "pg_wal/RECOVERYXLOG")
		c.must(1, env, "fetch", c.name(2), "pg_wal/RECOVERYXLOG")
	}
}
