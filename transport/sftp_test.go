package transport_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"walship/internal/testsshd"
	"walship/transport"
	"walship/transport/storetest"
)

// sftpStore is an SFTP store whose folder the test can reach directly.
type sftpStore struct {
	*transport.SFTP
	root string
}

func (s *sftpStore) Age(name string, d time.Duration) error {
	then := time.Now().Add(-d)
	return os.Chtimes(filepath.Join(s.root, name), then, then)
}

func (s *sftpStore) Plant(name string, data []byte) error {
	return os.WriteFile(filepath.Join(s.root, name), data, 0o640)
}

// TestSFTPConformance runs the suite on OpenSSH's servers.
func TestSFTPConformance(t *testing.T) {
	for name, options := range map[string]testsshd.Options{
		"internal-sftp": {},
		"sftp-server":   {Subsystem: testsshd.SFTPServer(t)},
	} {
		t.Run(name, func(t *testing.T) {
			srv := testsshd.Start(t, options)
			storetest.Run(t, func(t *testing.T) storetest.Store {
				root := t.TempDir()
				u, err := transport.ParseURL(srv.URL(root))
				if err != nil {
					t.Fatal(err)
				}
				return &sftpStore{transport.OpenSFTP(t.Context(), u, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, transport.Full), root}
			})
		})
	}
}
