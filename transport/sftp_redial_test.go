package transport_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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

// A connection that has become old is replaced, with nothing lost of what has
// begun on it, and numbered anew; one that cannot be replaced is kept.
func TestSFTPRenew(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{})
	at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Sessions: 2, Renew: 200 * time.Millisecond}, plainRoot, ours}
	s := at.open(t, transport.Full)
	prepare(t, s)
	first := s.Connection()
	f, err := s.Open(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 200 {
		if err := s.Put(t.Context(), sftpName+strconv.Itoa(i), content("x")); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := io.Copy(io.Discard, f); n != 32<<20 || err != nil {
		t.Errorf("what was open: %d bytes, %v", n, err)
	}
	if now := s.Connection(); now == first || strings.Count(srv.Log(), "Accepted publickey") < 3 {
		t.Errorf("connection %d, then %d\n%s", first, now, srv.Log())
	}

	if err := os.Rename(srv.Authorized, srv.Authorized+".gone"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if _, err := s.Head(t.Context(), "big", 1); err != nil {
			t.Fatalf("with no new login to be had: %v", err)
		}
	}

	if err := os.Truncate(srv.KnownHosts, 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); !errors.Is(err, transport.ErrHostKey); _, err = s.Head(t.Context(), "big", 1) {
		if time.Now().After(end) {
			t.Fatalf("at a host whose key is no longer trusted: %v", err)
		}
	}
}

// A host where the second session does not start, for want of processes, say,
// keeps the first one going.
func TestSFTPSecondSessionFails(t *testing.T) {
	for name, second := range map[string]string{"ends": "exit 1", "is mute": "exec sleep 100"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script := filepath.Join(dir, "sftp")
			text := fmt.Sprintf("#!/bin/sh\nif [ -e %s/full ]; then %s; fi\nexec %s\n", dir, second, testsshd.SFTPServer(t))
			if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
			srv := testsshd.Start(t, testsshd.Options{Subsystem: script})
			at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Silence: 2 * time.Second, Sessions: 4}, plainRoot, ours}
			s := at.open(t, transport.Full)
			prepare(t, s)
			if err := os.WriteFile(filepath.Join(dir, "full"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
				var group errgroup.Group
				for range 4 {
					group.Go(func() error { _, err := s.Head(t.Context(), "big", 1); return err })
				}
				if err := group.Wait(); err != nil {
					t.Fatal(err)
				}
			}
			if got := strings.Count(srv.Log(), "Accepted publickey"); got != 1 {
				t.Errorf("%d logins", got)
			}
		})
	}
}
