package transport_test

import (
	"errors"
	"testing"

	"walship/internal/testsshd"
	"walship/transport"
)

// An outage that lasts longer than one try ends the store, unless it was asked
// to try anew.
func TestSFTPRedial(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{})
	for _, redial := range []bool{false, true} {
		at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Redial: redial}, plainRoot, ours}
		s := at.open(t, transport.Full)
		prepare(t, s)
		srv.Stop()
		for range 2 {
			if _, err := s.Head(t.Context(), "big", 1); !errors.Is(err, transport.ErrUnreachable) {
				t.Errorf("redial %v: outage: %v", redial, err)
			}
		}
		srv.Restart()
		if _, err := s.Head(t.Context(), "big", 1); (err == nil) != redial {
			t.Errorf("redial %v: after the outage: %v", redial, err)
		}
	}
}
