// Package testgosftp runs an SFTP server for tests that is not OpenSSH:
// github.com/pkg/sftp's own, over golang.org/x/crypto/ssh, on a free port of
// 127.0.0.1. It works on requests concurrently, knows no fsync, and its RENAME
// overwrites. It can hide what else it has:
//
//	srv := testgosftp.Start(t, testgosftp.Options{Hide: []string{"hardlink@openssh.com"}})
//	url := srv.URL(t.TempDir())       // sftp://walship@127.0.0.1:40123/tmp/…
//	_ = srv.KeyFile                   // what --ssh-key gets
//	_ = srv.KnownHosts                // what --known-hosts gets
//
// An OpenSSH without this or that is had from testsshd, with the Subsystem
// testsshd.SFTPServer(t) + " -P fsync,hardlink".
//
// The server works as whoever runs the test, in the test's own process, and is
// closed at the test's end, with all its connections.
package testgosftp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"walship/internal/testsshd"
)

// Options says how the server differs from a plain one.
type Options struct {
	// Hide lists extensions that the server does not announce.
	Hide []string
}

// Server is a running server.
type Server struct {
	Addr       string // 127.0.0.1:port
	User       string // who may log in
	KeyFile    string // private key of the account
	KnownHosts string // file that pins the host key

	hide   []string
	config *ssh.ServerConfig
	all    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  map[net.Conn]bool
}

// Start runs a server that listens when Start returns.
func Start(t testsshd.TB, o Options) *Server {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("testgosftp: %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "testgosftp-")
	check(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(os.Chmod(dir, 0o755)) // another account than ours may have to read in it

	host, _ := testsshd.NewKey(t, "host", "")
	key, file := testsshd.NewKey(t, "walship test key", "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	s := &Server{
		Addr: l.Addr().String(), User: "walship", hide: o.Hide, conns: map[net.Conn]bool{},
		KeyFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts"),
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	check(os.WriteFile(s.KeyFile, file, 0o600))
	check(os.WriteFile(s.KnownHosts, fmt.Appendf(nil, "[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(host.PublicKey())), 0o644))
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != s.User || !bytes.Equal(k.Marshal(), key.PublicKey().Marshal()) {
			return nil, errors.New("not this account's key")
		}
		return nil, nil
	}}
	s.config.AddHostKey(host)
	s.all.Go(func() { s.accept(l) })
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.KillSessions()
		s.all.Wait()
	})
	return s
}

// URL returns the sftp:// URL of an absolute path on the server.
func (s *Server) URL(path string) string { return "sftp://" + s.User + "@" + s.Addr + path }

// KillSessions breaks all connections; the server goes on listening.
func (s *Server) KillSessions() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func (s *Server) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		if s.closed {
			conn.Close()
		}
		s.mu.Unlock()
		s.all.Go(func() {
			s.serve(conn)
			conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *Server) serve(conn net.Conn) {
	c, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for open := range channels {
		if open.ChannelType() != "session" {
			open.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := open.Accept()
		if err != nil {
			continue
		}
		s.all.Go(func() { s.session(channel, requests) })
	}
	c.Close()
}

func (s *Server) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var subsystem struct{ Name string }
		ok := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &subsystem) == nil && subsystem.Name == "sftp"
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if !ok {
			continue
		}
		go ssh.DiscardRequests(requests)
		if server, err := sftp.NewServer(&discreet{Channel: channel, hide: s.hide}); err == nil {
			server.Serve()
		}
		return
	}
}
