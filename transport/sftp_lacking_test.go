package transport_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"walship/internal/testsshd"
	"walship/transport"
)

const (
	sftpCluster = "7710000000000000001"
	sftpName    = sftpCluster + "/wal/0000000100000000/000000010000000000000007.zst"
)

// files lists the files below root.
func files(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, _ := filepath.Rel(root, path)
			all = append(all, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A server that cannot promise what is demanded is refused before anything is
// published, with advice; what it can promise it may do.
func TestSFTPServersThatLack(t *testing.T) {
	without := func(what string) *sftpServer {
		return openSSH(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t) + " -P " + what})
	}
	for _, c := range []struct {
		name string
		srv  *sftpServer
		best transport.Durability // that it can promise
		hint string               // of what is stricter
	}{
		{"OpenSSH without fsync", without("fsync"), transport.None, `durability = "none"`},
		{"OpenSSH without links", without("hardlink"), transport.Full, ""}, // its rename is a link
		{"OpenSSH without both", without("fsync,hardlink"), transport.None, `durability = "none"`},
		{"ProFTPD", proFTPD(t), transport.FileOnly, `durability = "file"`},
		{"pkg/sftp", goSFTP(t), transport.None, `durability = "none"`},
		{"pkg/sftp without links", goSFTP(t, noLinks), transport.None, `durability = "none"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, d := range []transport.Durability{transport.Full, transport.FileOnly, transport.None} {
				s := c.srv.open(t, d)
				if err := os.Mkdir(filepath.Join(s.root, sftpCluster), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := s.Plant(sftpCluster+"/old", []byte("old")); err != nil {
					t.Fatal(err)
				}
				put := s.Put(t.Context(), sftpName, content("x"))
				taken := s.Put(t.Context(), sftpCluster+"/old", content("new"))
				move := s.Move(t.Context(), sftpCluster+"/old", sftpCluster+"/moved")
				got := strings.Join(files(t, s.root), " ")
				if d >= c.best {
					if put != nil || !errors.Is(taken, fs.ErrExist) || move != nil || got != sftpCluster+"/moved "+sftpName {
						t.Errorf("durability %d: %v, %v, %v; there is %s", d, put, taken, move, got)
					}
					continue
				}
				for _, err := range []error{put, taken, move} {
					if !errors.Is(err, transport.ErrNotDurable) || errors.Is(err, fs.ErrExist) || !strings.Contains(transport.Hint(err), c.hint) {
						t.Errorf("durability %d: %v; hint %q", d, err, transport.Hint(err))
					}
				}
				if got != sftpCluster+"/old" {
					t.Errorf("durability %d: there is %s", d, got)
				}
			}
		})
	}
}

// A folder sync that fails only when it is tried is an error, never nil.
func TestSFTPFolderSyncFails(t *testing.T) {
	srv := openSSH(t, testsshd.Options{Subsystem: strace(t, "fsync:error=EIO:when=2+")})
	s := srv.open(t, transport.Full)
	if err := os.MkdirAll(filepath.Join(s.root, sftpCluster, "tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := s.Put(t.Context(), sftpCluster+"/file", content("x"))
	if !errors.Is(err, transport.ErrNotDurable) || errors.Is(err, fs.ErrExist) {
		t.Errorf("put: %v", err)
	}
	err = s.Put(t.Context(), sftpCluster+"/file", content("x"))
	if err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("put again: %v: the existing file has not been synced", err)
	}
}

// strace returns a Subsystem: the real sftp-server, into whose system calls
// errors are put.
func strace(t *testing.T, inject string) string {
	t.Helper()
	binary, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "injected-sftp-server")
	text := "#!/bin/sh\nexec " + binary + " -f -o " + filepath.Join(dir, "trace") + " -e inject=" + inject + " " + testsshd.SFTPServer(t) + "\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script
}
