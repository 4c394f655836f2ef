package transport_test

import (
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"walship/internal/testgosftp"
	"walship/internal/testproftpd"
	"walship/internal/testsshd"
	"walship/transport"
	"walship/transport/storetest"
)

// sftpServer is a server for the tests of the SFTP store.
type sftpServer struct {
	url  func(path string) string
	ssh  transport.SSH
	root func(t testing.TB) (here, there string) // a new folder, as we see it and as the account does
	own  func(path string) error                 // gives it to the account
}

func plainRoot(t testing.TB) (string, string) {
	dir := t.TempDir()
	return dir, dir
}

func ours(string) error { return nil }

func openSSH(t testing.TB, o testsshd.Options) *sftpServer {
	srv := testsshd.Start(t, o)
	s := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}
	if !o.Chroot {
		return s
	}
	account, err := user.Lookup(srv.User)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	s.own = func(path string) error { return os.Chown(path, uid, gid) }
	s.root = func(t testing.TB) (string, string) {
		here, err := os.MkdirTemp(filepath.Join(srv.ChrootDir, "wal"), "")
		if err == nil {
			err = s.own(here)
		}
		if err != nil {
			t.Fatal(err)
		}
		return here, "/wal/" + filepath.Base(here)
	}
	return s
}

func goSFTP(t testing.TB, hide ...string) *sftpServer {
	srv := testgosftp.Start(t, testgosftp.Options{Hide: hide})
	return &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}
}

func proFTPD(t testing.TB) *sftpServer {
	srv := testproftpd.Start(t, testproftpd.Options{})
	return &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}
}

// sftpStore is an SFTP store whose folder the test can reach directly.
type sftpStore struct {
	*transport.SFTP
	root  string
	races bool
	own   func(path string) error
}

// open returns a store of a new folder.
func (s *sftpServer) open(t testing.TB, d transport.Durability) *sftpStore {
	t.Helper()
	here, there := s.root(t)
	u, err := transport.ParseURL(s.url(there))
	if err != nil {
		t.Fatal(err)
	}
	store := transport.OpenSFTP(t.Context(), u, s.ssh, d)
	t.Cleanup(func() { store.Close() })
	return &sftpStore{store, here, false, s.own}
}

func (s *sftpStore) Races() bool { return s.races }

func (s *sftpStore) Age(name string, d time.Duration) error {
	then := time.Now().Add(-d)
	return os.Chtimes(filepath.Join(s.root, name), then, then)
}

func (s *sftpStore) Plant(name string, data []byte) error {
	path := filepath.Join(s.root, name)
	if err := os.WriteFile(path, data, 0o640); err != nil {
		return err
	}
	return s.own(path)
}

// content is a Source of text.
func content(text string) transport.Source {
	return transport.Source{Write: func(w io.WriterAt) error {
		_, err := w.WriteAt([]byte(text), 0)
		return err
	}}
}

const (
	noFsync = "fsync@openssh.com"
	noLinks = "hardlink@openssh.com"
)

// TestSFTPConformance runs the suite on each kind of server, with the most that
// it can promise.
func TestSFTPConformance(t *testing.T) {
	for _, c := range []struct {
		name       string
		start      func(t testing.TB) *sftpServer
		durability transport.Durability
		races      bool
	}{
		{"internal-sftp", func(t testing.TB) *sftpServer { return openSSH(t, testsshd.Options{}) }, transport.Full, false},
		{"sftp-server", func(t testing.TB) *sftpServer {
			return openSSH(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
		}, transport.Full, false},
		{"SFTP-only account", func(t testing.TB) *sftpServer {
			if os.Getuid() != 0 { // who cannot make such an account: the same but for the chroot
				return openSSH(t, testsshd.Options{Config: []string{"ForceCommand internal-sftp", "DisableForwarding yes"}})
			}
			return openSSH(t, testsshd.Options{Chroot: true})
		}, transport.Full, false},
		{"OpenSSH without links", func(t testing.TB) *sftpServer {
			return openSSH(t, testsshd.Options{Subsystem: "internal-sftp -P hardlink"})
		}, transport.Full, false},
		{"ProFTPD", proFTPD, transport.FileOnly, false},
		{"pkg/sftp", func(t testing.TB) *sftpServer { return goSFTP(t) }, transport.None, false},
		{"pkg/sftp without links", func(t testing.TB) *sftpServer { return goSFTP(t, noLinks) }, transport.None, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := c.start(t)
			storetest.Run(t, func(t *testing.T) storetest.Store {
				s := srv.open(t, c.durability)
				s.races = c.races
				return s
			})
		})
	}
}
