// Package testproftpd runs a throwaway ProFTPD with mod_sftp for tests: an SFTP
// server that is not OpenSSH, on a free port of 127.0.0.1, with keys, an account
// and a configuration of its own. It syncs files and makes hard links, but
// denies to open a folder.
//
//	srv := testproftpd.Start(t, testproftpd.Options{})
//	url := srv.URL(t.TempDir())       // sftp://walship@127.0.0.1:40123/tmp/…
//	_ = srv.KeyFile                   // what --ssh-key gets
//	_ = srv.KnownHosts                // what --known-hosts gets
//
// The account works as whoever runs the test. The server is stopped by its pid
// at the test's end, failed or not; on Linux it also dies with the test's
// process. A missing ProFTPD (Debian: proftpd-core, proftpd-mod-crypto) fails
// the test: nothing is skipped.
package testproftpd

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"walship/internal/testsshd"
)

// Options says how the server differs from a plain one.
type Options struct {
	// Config holds lines that stand last in the configuration, e.g.
	// "SFTPExtensions -hardlink".
	Config []string
}

// Server is a running server.
type Server struct {
	Addr       string // 127.0.0.1:port
	User       string // who may log in
	KeyFile    string // private key of the account
	KnownHosts string // file that pins the host key

	dir string
}

const account = "walship"

// Start runs a server that answers when Start returns.
func Start(t testsshd.TB, o Options) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "testproftpd-")
	if err != nil {
		t.Fatalf("testproftpd: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Server{User: account, dir: dir, KeyFile: filepath.Join(dir, "id_ed25519"), KnownHosts: filepath.Join(dir, "known_hosts")}
	if err := os.Chmod(dir, 0o755); err != nil { // another account than ours may have to read in it
		t.Fatalf("testproftpd: %v", err)
	}
	host := s.makeKeys(t)
	binary := "/usr/sbin/proftpd"
	if found, err := exec.LookPath("proftpd"); err == nil {
		binary = found
	}
	for try := 0; ; try++ {
		if err := s.run(t, binary, host, o); err == nil {
			return s
		} else if try == 4 { // the port can be taken between choosing and using it
			t.Fatalf("testproftpd: %v\n%s", err, s.Log())
		}
	}
}

// URL returns the sftp:// URL of an absolute path on the server.
func (s *Server) URL(path string) string { return "sftp://" + s.User + "@" + s.Addr + path }

// Log returns what the server has written so far.
func (s *Server) Log() string {
	log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(log)
}

func (s *Server) file(t testsshd.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatalf("testproftpd: %v", err)
	}
	return path
}

// makeKeys returns the public host key.
func (s *Server) makeKeys(t testsshd.TB) ssh.PublicKey {
	host, file := testsshd.NewKey(t, "host", "")
	s.file(t, "host", string(file))
	_, file = testsshd.NewKey(t, "walship test key", "")
	s.file(t, "id_ed25519", string(file))
	// mod_sftp reads only the format of RFC 4716.
	public, err := exec.Command("ssh-keygen", "-e", "-m", "RFC4716", "-f", s.KeyFile).Output()
	if err != nil {
		t.Fatalf("testproftpd: ssh-keygen: %v", err)
	}
	s.file(t, "authorized", string(public))
	s.file(t, "passwd", fmt.Sprintf("%s:x:%d:%d::%s:/bin/sh\n", account, os.Getuid(), os.Getgid(), s.dir))
	s.file(t, "group", fmt.Sprintf("%s:x:%d:%s\n", account, os.Getgid(), account))
	return host.PublicKey()
}

// run starts the server and waits until it answers.
func (s *Server) run(t testsshd.TB, binary string, host ssh.PublicKey, o Options) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.Addr = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(s.Addr)
	s.file(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", port, ssh.MarshalAuthorizedKey(host)))
	if err := os.Chmod(s.KnownHosts, 0o644); err != nil {
		return err
	}
	config := s.file(t, "proftpd.conf", s.config(port, o))

	var output bytes.Buffer
	cmd := exec.Command(binary, "--nodaemon", "--quiet", "--config", config)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = &output, &output, dieWithUs()
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		cmd.Wait()
		close(exited)
	}()
	stop := func() {
		cmd.Process.Signal(terminate) // ends the sessions too
		select {
		case <-exited:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		select {
		case <-exited:
			return fmt.Errorf("it does not start: %s", output.String())
		default:
		}
		if greeting := greet(s.Addr); strings.HasPrefix(greeting, "SSH-2.0-") {
			t.Cleanup(stop)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	return fmt.Errorf("it does not answer: %s", output.String())
}

// greet returns the first words of the server at addr.
func greet(addr string) string {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	words := make([]byte, 64)
	n, _ := conn.Read(words)
	return string(words[:n])
}

func (s *Server) config(port string, o Options) string {
	me, group := names()
	in := func(name string) string { return filepath.Join(s.dir, name) }
	lines := []string{
		"ServerType standalone", "DefaultAddress 127.0.0.1", "SocketBindTight on", "Port " + port,
		"UseIPv6 off", "UseReverseDNS off", "WtmpLog off", "TransferLog none", "SystemLog " + in("log"),
		"PidFile " + in("pid"), "ScoreboardFile " + in("scoreboard"), "DelayTable none",
		"<IfModule !mod_sftp.c>", "ModulePath " + modules(), "LoadModule mod_sftp.c", "</IfModule>",
		"AuthOrder mod_auth_file.c", "AuthUserFile " + in("passwd"), "AuthGroupFile " + in("group"),
		"User " + me, "Group " + group,
		"RequireValidShell off", "RootLogin on", "Umask 022", "AllowOverwrite on", "MaxInstances 100",
		"SFTPEngine on", "SFTPLog " + in("log"), "SFTPHostKey " + in("host"),
		"SFTPAuthorizedUserKeys file:" + in("authorized"), "SFTPAuthMethods publickey",
	}
	return strings.Join(append(lines, o.Config...), "\n") + "\n"
}

// names returns who runs the test: the server stays, or becomes, that.
func names() (me, group string) {
	me, group = "nobody", "nogroup"
	if u, err := user.Current(); err == nil {
		me = u.Username
		if g, err := user.LookupGroupId(u.Gid); err == nil {
			group = g.Name
		}
	}
	return me, group
}

func modules() string {
	found, _ := filepath.Glob("/usr/l*/proftpd/mod_sftp.so")
	more, _ := filepath.Glob("/usr/l*/*/proftpd/mod_sftp.so")
	for _, file := range append(found, more...) {
		return filepath.Dir(file)
	}
	return "/usr/lib/proftpd"
}
