package transport_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"walship/internal/testnet"
	"walship/internal/testsshd"
	"walship/transport"
)

const silence = time.Second

// settled demands that no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// phases are what a store can be at when the server falls silent. Each calls
// still in its midst, or before it, and returns the error of what follows.
var phases = map[string]func(ctx context.Context, s *sftpStore, still func()) error{
	"put: before": func(ctx context.Context, s *sftpStore, still func()) error {
		still()
		return s.Put(ctx, sftpName, content("x"))
	},
	"put: writing": func(ctx context.Context, s *sftpStore, still func()) error {
		return s.Put(ctx, sftpName, transport.Source{Write: func(w io.WriterAt) error {
			piece := make([]byte, 100_000)
			for i := range int64(100) {
				if i == 3 {
					still()
				}
				if _, err := w.WriteAt(piece, i*100_000); err != nil {
					return err
				}
			}
			return nil
		}})
	},
	"put: written": func(ctx context.Context, s *sftpStore, still func()) error {
		return s.Put(ctx, sftpName, transport.Source{Write: func(w io.WriterAt) error {
			_, err := w.WriteAt([]byte("x"), 0)
			still()
			return err
		}})
	},
	"put: publishing": func(ctx context.Context, s *sftpStore, still func()) error {
		src := content("x")
		src.Confirm = func() error { still(); return nil }
		return s.Put(ctx, sftpName, src)
	},
	"open": func(ctx context.Context, s *sftpStore, still func()) error {
		still()
		_, err := s.Open(ctx, "big")
		return err
	},
	"read": func(ctx context.Context, s *sftpStore, still func()) error {
		f, err := s.Open(ctx, "big")
		if err != nil {
			return errors.Join(errors.New("open"), err)
		}
		defer f.Close()
		still()
		_, err = io.Copy(io.Discard, f)
		return err
	},
	"head": func(ctx context.Context, s *sftpStore, still func()) error {
		still()
		_, err := s.Head(ctx, "big", 100)
		return err
	},
	"list": func(ctx context.Context, s *sftpStore, still func()) error {
		still()
		return s.List(ctx, ".", func(transport.FileInfo) error { return nil })
	},
}

// prepare makes what the phases work with, and waits for the connection.
func prepare(t *testing.T, s *sftpStore) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.root, filepath.Dir(sftpName)), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Plant("big", make([]byte, 32<<20)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Head(t.Context(), "big", 1); err != nil {
		t.Fatal(err)
	}
}

// A server that falls silent in the middle, however alive its connection is,
// ends everything within the silence that is allowed, and nothing stays behind.
func TestSFTPServerFallsSilent(t *testing.T) {
	keepalives := []string{"ClientAliveInterval 1", "ClientAliveCountMax 1000"}
	srv := testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t), Config: keepalives})
	hole := testnet.New(t, srv.Addr)
	known := filepath.Join(t.TempDir(), "known_hosts")
	_, port, _ := net.SplitHostPort(hole.Addr())
	line := strings.Replace(srv.KnownHostsLine(srv.HostKeys[0]), srv.Port, port, 1)
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	freeze := func(which func(pids []int) []int) func() func() {
		return func() func() {
			pids := which(srv.Processes())
			for _, pid := range pids {
				syscall.Kill(pid, syscall.SIGSTOP)
			}
			return func() {
				for _, pid := range pids {
					syscall.Kill(pid, syscall.SIGCONT)
				}
				srv.KillSessions()
			}
		}
	}
	for how, still := range map[string]func() (undo func()){
		"sftp-server stopped": freeze(func(pids []int) []int { return pids[len(pids)-1:] }),
		"sshd stopped":        freeze(func(pids []int) []int { return pids }),
		"black hole": func() func() {
			hole.BlackHole(true)
			return func() { hole.Reset(); hole.BlackHole(false) }
		},
	} {
		for phase, do := range phases {
			t.Run(how+", "+phase, func(t *testing.T) {
				before := runtime.NumGoroutine()
				at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Silence: silence}, plainRoot, ours}
				if how == "black hole" {
					at.url = func(path string) string { return strings.Replace(srv.URL(path), srv.Addr, hole.Addr(), 1) }
					at.ssh.KnownHosts = known
				}
				s := at.open(t, transport.Full)
				prepare(t, s)
				var since time.Time
				undo := func() {}
				err := do(t.Context(), s, func() {
					since = time.Now()
					undo = still()
				})
				took := time.Since(since)
				undo()
				if !errors.Is(err, transport.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
					t.Errorf("got %v", err)
				}
				if took > silence+2*time.Second {
					t.Errorf("it took %v", took)
				}
				s.Close()
				if how != "black hole" { // whose own goroutines come and go
					settled(t, before)
				}
			})
		}
	}
}

// Cancelled in the midst of anything, with a server that has fallen silent, a
// store returns at once.
func TestSFTPCancelled(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{Subsystem: testsshd.SFTPServer(t)})
	for phase, do := range phases {
		t.Run(phase, func(t *testing.T) {
			before := runtime.NumGoroutine()
			at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts, Silence: time.Minute}, plainRoot, ours}
			s := at.open(t, transport.Full)
			prepare(t, s)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var since time.Time
			err := do(ctx, s, func() {
				for _, pid := range srv.Processes() {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
				time.AfterFunc(100*time.Millisecond, func() { since = time.Now(); cancel() })
			})
			if !errors.Is(err, context.Canceled) || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(since); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			s.Close()
			srv.KillSessions()
			settled(t, before)
		})
	}
}

// Closed while it connects, or with work under way, a store lets everybody go.
func TestSFTPClose(t *testing.T) {
	silent := testnet.Silent(t, "")
	known := filepath.Join(t.TempDir(), "known_hosts")
	_, file := testsshd.NewKey(t, "k", "")
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := errors.Join(os.WriteFile(keyFile, file, 0o600), os.WriteFile(known, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	listening := runtime.NumGoroutine()
	u, err := transport.ParseURL("sftp://walship@" + silent + "/x")
	if err != nil {
		t.Fatal(err)
	}
	s := transport.OpenSFTP(t.Context(), u, transport.SSH{KeyFile: keyFile, KnownHosts: known, Silence: time.Minute}, transport.Full)
	ended := make(chan error, 1)
	go func() { ended <- s.Put(t.Context(), "f", content("x")) }()
	begin := time.Now()
	s.Close()
	if err := <-ended; !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("put: %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	settled(t, listening)

	srv := testsshd.Start(t, testsshd.Options{})
	before := runtime.NumGoroutine()
	at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}
	one := at.open(t, transport.Full)
	prepare(t, one)
	src := content("x")
	src.Confirm = func() error { one.Close(); return nil }
	if err := one.Put(t.Context(), sftpName, src); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("put on a store that is closed meanwhile: %v", err)
	}
	if err := one.Put(t.Context(), sftpName, content("x")); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("put on a closed store: %v", err)
	}
	one.Close()
	settled(t, before)
}

// One reconnect: an idle connection may die, and the server be started anew. A
// Put whose content has been taken is not begun again by itself.
func TestSFTPReconnects(t *testing.T) {
	srv := testsshd.Start(t, testsshd.Options{})
	at := &sftpServer{srv.URL, transport.SSH{KeyFile: srv.KeyFile, KnownHosts: srv.KnownHosts}, plainRoot, ours}
	s := at.open(t, transport.Full)
	prepare(t, s)
	for name, kill := range map[string]func(){"sessions killed": srv.KillSessions, "server restarted": srv.Restart} {
		kill()
		if _, err := s.Head(t.Context(), "big", 1); err != nil {
			t.Errorf("%s: head: %v", name, err)
		}
		kill()
		if err := s.Put(t.Context(), name, content("x")); err != nil {
			t.Errorf("%s: put: %v", name, err)
		}
		kill()
		if err := s.Move(t.Context(), name, name+"2"); err != nil {
			t.Errorf("%s: move: %v", name, err)
		}
		kill()
		if err := s.Remove(t.Context(), name+"2"); err != nil {
			t.Errorf("%s: remove: %v", name, err)
		}
	}
	taken := 0
	err := s.Put(t.Context(), sftpName, transport.Source{Write: func(w io.WriterAt) error {
		taken++
		srv.KillSessions()
		return big(w)
	}})
	if !errors.Is(err, transport.ErrUnreachable) || taken != 1 {
		t.Errorf("broken while writing: %v, taken %d times", err, taken)
	}
	if err := s.Put(t.Context(), sftpName, content("x")); err != nil {
		t.Errorf("retry: %v", err)
	}
	srv.Stop()
	if _, err := s.Head(t.Context(), sftpName, 1); !errors.Is(err, transport.ErrUnreachable) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("server gone: %v", err)
	}
}
