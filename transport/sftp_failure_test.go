package transport_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testsshd"
	"walship/transport"
)

// big is more than fits.
func big(w io.WriterAt) error {
	piece := make([]byte, 1<<20)
	for off := int64(0); off < 16<<20; off += int64(len(piece)) {
		if _, err := w.WriteAt(piece, off); err != nil {
			return err
		}
	}
	return nil
}

// limitedServer returns a Subsystem: the real sftp-server, with a limit on the
// size of a file, 1 MiB, which answers like a quota: with a bare failure.
func limitedServer(t *testing.T, kib int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "limited-sftp-server")
	script := fmt.Sprintf("#!/bin/bash\ntrap '' XFSZ\nulimit -f %d\nexec %s\n", kib, testsshd.SFTPServer(t))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// A file that does not fit leaves nothing, and the store works on.
func TestSFTPNoSpace(t *testing.T) {
	check := func(s *sftpStore, class error) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(s.root, filepath.Dir(sftpName)), 0o700); err != nil {
			t.Fatal(err)
		}
		err := s.Put(t.Context(), sftpName, transport.Source{Write: big})
		if err == nil || class != nil && !errors.Is(err, class) || errors.Is(err, fs.ErrExist) || errors.Is(err, transport.ErrUnreachable) {
			t.Errorf("put: %v, want %v", err, class)
		}
		t.Log(err)
		if left := files(t, s.root); len(left) != 0 {
			t.Errorf("left: %s", left)
		}
		if err := s.Put(t.Context(), sftpName, content("small")); err != nil {
			t.Errorf("put what fits: %v", err)
		}
	}
	check(openSSH(t, testsshd.Options{Subsystem: limitedServer(t, 1024)}).open(t, transport.Full), nil)
	if os.Getuid() == 0 {
		full := openSSH(t, testsshd.Options{})
		full.root = func(t testing.TB) (string, string) {
			dir := t.TempDir()
			if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", dir).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v: %s", err, out)
			}
			t.Cleanup(func() {
				if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, out)
				}
			})
			return dir, dir
		}
		check(full.open(t, transport.Full), transport.ErrFull)
	}
}

// What may not be written is fs.ErrPermission, and nothing is left.
func TestSFTPNoPermission(t *testing.T) {
	srv := openSSH(t, testsshd.Options{})
	if os.Getuid() == 0 { // root may do anything
		srv = openSSH(t, testsshd.Options{Chroot: true})
	}
	for name, closed := range map[string]string{
		"everything": ".", "the folder for temporary files": sftpCluster + "/tmp", "the folder": filepath.Dir(sftpName),
	} {
		t.Run(name, func(t *testing.T) {
			s := srv.open(t, transport.Full)
			for _, dir := range []string{sftpCluster, sftpCluster + "/tmp", sftpCluster + "/wal", filepath.Dir(sftpName)} {
				if err := s.Mkdir(t.Context(), dir); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Put(t.Context(), filepath.Dir(sftpName)+"/old", content("old")); err != nil {
				t.Fatal(err)
			}
			mode := os.FileMode(0o500)
			if closed == "." {
				mode = 0
			}
			if err := os.Chmod(filepath.Join(s.root, closed), mode); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(filepath.Join(s.root, closed), 0o700) })
			err := s.Put(t.Context(), sftpName, content("x"))
			if !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, transport.ErrNotDurable) {
				t.Errorf("put: %v", err)
			}
			if closed == "." {
				_, err := s.Open(t.Context(), sftpName)
				_, head := s.Head(t.Context(), sftpName, 1)
				list := s.List(t.Context(), sftpCluster, func(transport.FileInfo) error { return nil })
				for _, err := range []error{err, head, list} {
					if !errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
						t.Errorf("reading: %v", err)
					}
				}
			}
			if err := os.Chmod(filepath.Join(s.root, closed), 0o700); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(files(t, s.root), " "); got != filepath.Dir(sftpName)+"/old" {
				t.Errorf("there is: %s", got)
			}
			if err := s.Put(t.Context(), sftpName, content("x")); err != nil {
				t.Errorf("put, permitted again: %v", err)
			}
		})
	}
}

// A read-only server refuses what would change the archive, as a class of its
// own, and reads on.
func TestSFTPReadOnly(t *testing.T) {
	srv := openSSH(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t) + " -R"})
	s := srv.open(t, transport.None) // a read-only sftp-server announces little
	if err := os.Mkdir(filepath.Join(s.root, sftpCluster), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Plant(sftpCluster+"/old", []byte("old")); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"put": s.Put(t.Context(), sftpCluster+"/new", content("x")), "move": s.Move(t.Context(), sftpCluster+"/old", sftpCluster+"/new"),
		"remove": s.Remove(t.Context(), sftpCluster+"/old"), "mkdir": s.Mkdir(t.Context(), sftpCluster+"/dir"),
	} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if head, err := s.Head(t.Context(), sftpCluster+"/old", 10); err != nil || string(head.Data) != "old" {
		t.Errorf("%q, %v", head.Data, err)
	}
	if got := strings.Join(files(t, s.root), " "); got != sftpCluster+"/old" {
		t.Errorf("there is: %s", got)
	}
}

// On a file system that is mounted read-only OpenSSH says no more than that it
// failed.
func TestSFTPReadOnlyFileSystem(t *testing.T) {
	srv := openSSH(t, testsshd.Options{})
	s := srv.open(t, transport.Full)
	want := error(nil)
	if os.Getuid() == 0 {
		want = fs.ErrPermission
		for _, args := range [][]string{{"-t", "tmpfs", "tmpfs", s.root}, {"-o", "remount,ro", s.root}} {
			if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
				t.Fatalf("mount: %v: %s", err, out)
			}
			if args[0] == "-t" {
				t.Cleanup(func() { exec.Command("umount", "-l", s.root).Run() })
			}
		}
	}
	if err := s.Put(t.Context(), "file", content("x")); !errors.Is(err, want) {
		t.Errorf("put: %v, want %v", err, want)
	}
}
