package transport_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

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

// A store logs in more than once where it may, and only then; a server that
// refuses the second login serves it on the first.
func TestSFTPConnections(t *testing.T) {
	for _, c := range []struct {
		connections int
		refuse      bool
		want        int // logins
	}{{0, false, 1}, {2, false, 2}, {2, true, 1}} {
		srv := testsshd.Start(t, testsshd.Options{})
		at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Sessions: 4, Connections: c.connections}, plainRoot, ours}
		s := at.open(t, transport.Full)
		prepare(t, s)
		if c.refuse {
			if err := os.Rename(srv.Authorized, srv.Authorized+".gone"); err != nil {
				t.Fatal(err)
			}
		}
		var group errgroup.Group
		for i := range 40 {
			group.Go(func() error { return s.Put(t.Context(), sftpName+strconv.Itoa(i), content("x")) })
		}
		if err := group.Wait(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if got := strings.Count(srv.Log(), "Accepted publickey"); got != c.want {
			t.Errorf("%+v: %d logins", c, got)
		}
	}
}
