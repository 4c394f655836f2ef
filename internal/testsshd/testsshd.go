// Package testsshd runs a throwaway sshd for tests and for the demo: the
// machine's own OpenSSH server on a free port of 127.0.0.1, with host keys, an
// account's key and a configuration of its own. Nothing of the machine's ssh
// set-up is read or changed.
//
//	srv := testsshd.Start(t, testsshd.Options{})
//	url := srv.URL(t.TempDir())       // sftp://root@127.0.0.1:40123/tmp/…
//	_ = srv.KeyFile                   // what --ssh-key gets
//	_ = srv.KnownHosts                // what --known-hosts gets
//
//	srv.Stop()                        // an outage: listener and sessions are gone
//	srv.Restart()                     // and over: same port, same keys
//	srv.KillSessions()                // connections break, the listener stays
//	for _, pid := range srv.Processes() { syscall.Kill(pid, syscall.SIGSTOP) }
//
//	srv = testsshd.Start(t, testsshd.Options{Strace: "trace=openat,fsync,link,unlink,rename"})
//	// … put a file …
//	srv.Trace()                       // the syscalls of the real sftp-server, in order
//
//	srv = testsshd.Start(t, testsshd.Options{Chroot: true})   // SFTP-only account, as root only
//	srv.URL("/wal")                   // the one folder in it that the account may write to
//	filepath.Join(srv.ChrootDir, "wal")
//
//	exec.Command("scp", append(srv.ClientArgs(), file, srv.Target()+":"+folder)...)
//
//	p := testnet.New(t, srv.Addr)   // delays, black holes and cuts on the way
//
// The server runs as whoever runs the test. As root it lets root in, or the
// account named in Options.User; as another user it lets in only that user.
// It is stopped by its pid, with every process below it, at the test's end,
// failed or not; on Linux it also dies with the test's process.
// A missing sshd fails the test: nothing is skipped.
package testsshd

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// TB is what this package needs of a test; testing.TB has it. Fatalf must not
// return to its caller.
type TB interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
}

// Options says how the server differs from a plain one. The zero value is
// internal-sftp for the user who runs the test.
type Options struct {
	// User is the account that may log in: whoever runs the test if empty.
	// Another one needs root.
	User string

	// Subsystem is the command behind "sftp": "internal-sftp" if empty, or
	// what SFTPServer returns, or any command line.
	Subsystem string

	// Strace, if not empty, runs the real sftp-server under strace with it as
	// the filter (-e). Server.Trace returns what was seen: as root with file
	// names, else with addresses, for sftp-server hides its memory.
	Strace string

	// Chroot makes an SFTP-only account: ForceCommand internal-sftp in a
	// ChrootDirectory that belongs to root, with the one folder "wal" that the
	// account may write to. It needs root; User is "postgres" if empty.
	Chroot bool

	// Config holds lines for sshd_config, which win over the defaults. LogLevel must stay at INFO or above.
	Config []string

	// Match holds lines that stand last, for Match blocks.
	Match []string
}

// Server is a running sshd, or a stopped one.
type Server struct {
	Addr        string // 127.0.0.1:port
	Host        string // 127.0.0.1
	Port        string
	User        string          // who may log in
	KeyFile     string          // private key of the account, ed25519 without passphrase
	Key         ssh.Signer      // the same
	KnownHosts  string          // file that pins the ed25519 host key only
	HostKeys    []ssh.PublicKey // ed25519, ecdsa, rsa: all are offered
	Fingerprint string          // SHA256 of the ed25519 host key
	Authorized  string          // the account's authorized_keys, read at each login
	ChrootDir   string          // with Options.Chroot
	Dir         string          // holds all files of the server; everyone may read it

	t      TB
	opts   Options
	me     string
	sshd   string
	config string
	trace  string

	mu   sync.Mutex
	log  bytes.Buffer
	proc *process
}

// process is one run of the listener.
type process struct {
	cmd    *exec.Cmd
	ready  chan struct{} // closed when it listens
	exited chan struct{} // closed when it has ended
}

// Start runs a server that listens when Start returns. What goes wrong fails
// the test.
func Start(t TB, o Options) *Server {
	t.Helper()
	s := &Server{t: t, opts: o, Host: "127.0.0.1", sshd: find(t, "sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd")}
	me, err := user.Current()
	s.check(err)
	s.me = me.Username
	root := os.Getuid() == 0
	s.User = o.User
	switch {
	case s.User == "" && o.Chroot:
		s.User = "postgres"
	case s.User == "":
		s.User = me.Username
	}
	if !root && (s.User != me.Username || o.Chroot) {
		t.Fatalf("testsshd: logging in %s, chroot %t: needs root", s.User, o.Chroot)
	}
	if root {
		s.check(os.MkdirAll("/run/sshd", 0o755))
	}

	// Not t.TempDir: another account than ours must be able to read in it.
	s.Dir, err = os.MkdirTemp("", "testsshd-")
	s.check(err)
	t.Cleanup(func() { os.RemoveAll(s.Dir) })
	s.check(os.Chmod(s.Dir, 0o755))
	if o.Chroot {
		s.makeChroot()
	}
	s.makeKeys()
	if o.Strace != "" {
		s.makeTrace()
	}

	t.Cleanup(s.Stop) // runs before the folder goes
	for try := 0; ; try++ {
		s.pickPort()
		s.writeConfig()
		if s.run() {
			return s
		}
		if try == 4 { // the port can be taken between choosing and using it
			t.Fatalf("testsshd: sshd does not start:\n%s", s.Log())
		}
	}
}

// URL returns the sftp:// URL of an absolute path on the server, or of one
// that begins with "~/", in the login folder.
func (s *Server) URL(path string) string {
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	return "sftp://" + s.User + "@" + s.Addr + path
}

// Target returns user@host, for ssh and scp.
func (s *Server) Target() string { return s.User + "@" + s.Host }

// ClientArgs returns the options with which ssh, scp, sftp and (joined, in -e)
// rsync reach the server, whatever the machine's own configuration is.
func (s *Server) ClientArgs() []string {
	return []string{"-F", "none", "-o", "Port=" + s.Port, "-o", "IdentityFile=" + s.KeyFile,
		"-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-o", "BatchMode=yes",
		"-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=" + s.KnownHosts,
		"-o", "GlobalKnownHostsFile=/dev/null"}
}

// Log returns what sshd has written so far, in all its runs.
func (s *Server) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Trace returns what strace has written so far, with Options.Strace.
func (s *Server) Trace() string {
	b, err := os.ReadFile(s.trace)
	s.check(err)
	return string(b)
}

// SFTPServer returns the path of OpenSSH's sftp-server, for Options.Subsystem.
func SFTPServer(t TB) string {
	t.Helper()
	return find(t, "sftp-server", "/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server",
		"/usr/lib/ssh/sftp-server", "/usr/libexec/sftp-server")
}

// KnownHostsLine returns the line that pins key for the server.
func (s *Server) KnownHostsLine(key ssh.PublicKey) string {
	return fmt.Sprintf("[%s]:%s %s", s.Host, s.Port, ssh.MarshalAuthorizedKey(key))
}

func (s *Server) check(err error) {
	if err != nil {
		s.t.Helper()
		s.t.Fatalf("testsshd: %v", err)
	}
}

func (s *Server) file(name string, perm os.FileMode, content []byte) string {
	path := filepath.Join(s.Dir, name)
	s.check(os.WriteFile(path, content, perm))
	s.check(os.Chmod(path, perm)) // whatever the umask
	return path
}

// NewKey returns a fresh ed25519 key and its file in OpenSSH's format, which
// is encrypted if passphrase is not empty.
func NewKey(t TB, comment, passphrase string) (ssh.Signer, []byte) {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatalf("testsshd: %v", err)
	}
	return encode(t, priv, comment, passphrase)
}

func encode(t TB, priv any, comment, passphrase string) (ssh.Signer, []byte) {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(priv, comment)
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(priv, comment, []byte(passphrase))
	}
	if err != nil {
		t.Fatalf("testsshd: %v", err)
	}
	signer, err := ssh.NewSignerFromKey(priv)
	if err != nil {
		t.Fatalf("testsshd: %v", err)
	}
	return signer, pem.EncodeToMemory(block)
}

func (s *Server) makeKeys() {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	s.check(err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	s.check(err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	s.check(err)
	for _, k := range []struct {
		name string
		priv any
	}{{"host_ed25519", ed}, {"host_ecdsa", ec}, {"host_rsa", rs}} {
		signer, file := encode(s.t, k.priv, k.name, "")
		s.file(k.name, 0o600, file)
		s.HostKeys = append(s.HostKeys, signer.PublicKey())
	}
	s.Fingerprint = ssh.FingerprintSHA256(s.HostKeys[0])

	signer, file := NewKey(s.t, "walship test key", "")
	s.Key, s.KeyFile = signer, s.file("id_ed25519", 0o600, file)
	pub := ssh.MarshalAuthorizedKey(signer.PublicKey())
	s.file("id_ed25519.pub", 0o644, pub)
	s.Authorized = s.file("authorized_keys", 0o644, pub)
}

// makeChroot uses /run: sshd wants root alone to be able to write to any of
// the folders above.
func (s *Server) makeChroot() {
	u, err := user.Lookup(s.User)
	s.check(err)
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	s.ChrootDir, err = os.MkdirTemp("/run", "testsshd-")
	s.check(err)
	s.t.Cleanup(func() { os.RemoveAll(s.ChrootDir) })
	s.check(os.Chmod(s.ChrootDir, 0o755))
	wal := filepath.Join(s.ChrootDir, "wal")
	s.check(os.Mkdir(wal, 0o700))
	s.check(os.Chown(wal, uid, gid))
}

// makeTrace leaves a file that any account may write to, and a script, for
// sshd runs a subsystem through the account's shell.
func (s *Server) makeTrace() {
	s.trace = s.file("trace", 0o666, nil)
	s.opts.Subsystem = s.file("traced-sftp-server", 0o755, fmt.Appendf(nil,
		"#!/bin/sh\nexec %s -f -A -s 256 -e '%s' -o '%s' %s\n",
		find(s.t, "strace", "/usr/bin/strace"), s.opts.Strace, s.trace, SFTPServer(s.t)))
}

func (s *Server) pickPort() {
	l, err := net.Listen("tcp", s.Host+":0")
	s.check(err)
	s.Addr = l.Addr().String()
	_, s.Port, _ = net.SplitHostPort(s.Addr)
	s.check(l.Close())
	s.KnownHosts = s.file("known_hosts", 0o644, []byte(s.KnownHostsLine(s.HostKeys[0])))
}

func (s *Server) writeConfig() {
	c := []string{"MaxStartups 200"} // of this one the last wins
	// Where the account's shell is bash, which runs a Subsystem that is a program,
	// it reads ~/.bashrc when ssh has started it and it is the first: slow, or worse.
	c = append(c, "SetEnv SHLVL=2")
	c = append(c, s.opts.Config...)
	pam := "UsePAM no"
	if s.User != s.me {
		pam = "UsePAM yes" // without it sshd refuses an account whose password is locked
	}
	c = append(c, "ListenAddress "+s.Addr, "PidFile none", pam, "UseDNS no", "StrictModes no",
		"HostKey "+filepath.Join(s.Dir, "host_ed25519"),
		"HostKey "+filepath.Join(s.Dir, "host_ecdsa"),
		"HostKey "+filepath.Join(s.Dir, "host_rsa"),
		"AuthorizedKeysFile "+s.Authorized, "PermitRootLogin prohibit-password",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"AllowUsers "+s.User, "LogLevel VERBOSE", "PrintMotd no", "PrintLastLog no", "MaxSessions 100")
	if s.opts.Subsystem == "" {
		s.opts.Subsystem = "internal-sftp"
	}
	c = append(c, "Subsystem sftp "+s.opts.Subsystem)
	if s.opts.Chroot {
		c = append(c, "ForceCommand internal-sftp", "ChrootDirectory "+s.ChrootDir,
			"AllowTcpForwarding no", "X11Forwarding no")
	}
	const penalties = "PerSourcePenalties no" // else 9.8 and newer shut us out after failed logins
	test := func(lines []string) ([]byte, error) {
		all := append(append([]string{}, lines...), s.opts.Match...)
		s.config = s.file("sshd_config", 0o600, []byte(strings.Join(all, "\n")+"\n"))
		return exec.Command(s.sshd, "-t", "-f", s.config).CombinedOutput()
	}
	if _, err := test(append([]string{penalties}, c...)); err == nil {
		return
	}
	if out, err := test(c); err != nil {
		s.t.Fatalf("testsshd: sshd does not like its configuration: %v\n%s", err, out)
	}
}

// run starts the listener and reports whether it came to listen. With -r sshd does
// not execute itself again for each connection, which is a quarter of what a login
// costs; since OpenSSH 9.8 it is accepted and ignored.
func (s *Server) run() bool {
	r, w, err := os.Pipe()
	s.check(err)
	p := &process{exec.Command(s.sshd, "-D", "-e", "-r", "-f", s.config), make(chan struct{}), make(chan struct{})}
	p.cmd.Stderr, p.cmd.SysProcAttr = w, dieWithUs()
	p.cmd.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	err = p.cmd.Start()
	w.Close()
	s.check(err)
	go s.readLog(r, p)
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	s.mu.Lock()
	s.proc = p
	s.mu.Unlock()
	select {
	case <-p.ready:
		return true
	case <-p.exited:
	case <-time.After(20 * time.Second):
	}
	s.Stop()
	return false
}

func (s *Server) readLog(r *os.File, p *process) {
	defer r.Close()
	listening := false
	for in := bufio.NewReader(r); ; {
		line, err := in.ReadString('\n')
		s.mu.Lock()
		s.log.WriteString(line)
		s.mu.Unlock()
		if !listening && strings.HasPrefix(line, "Server listening on ") {
			listening = true
			close(p.ready)
		}
		if err != nil {
			return
		}
	}
}

func find(t TB, name string, places ...string) string {
	t.Helper()
	if p, err := exec.LookPath(name); err == nil && filepath.IsAbs(p) {
		return p // sshd wants to be called by its absolute path
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	t.Fatalf("testsshd: %s is not installed (looked in PATH and at %s)", name, strings.Join(places, ", "))
	return ""
}
