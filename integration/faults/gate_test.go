//go:build linux

package faults_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"walship/internal/testnet"
	"walship/internal/testsshd"
)

// host is an archive host: an SSH server in this process, behind which each
// session gets a real sftp-server of OpenSSH's. A login is a matter of
// milliseconds, and whoever logs in as an actor goes through that actor's gate.
type host struct {
	t       testing.TB
	addr    string
	keyFile string
	public  ssh.PublicKey
	config  *ssh.ServerConfig
	record  bool   // what the sftp-servers do
	scratch string // for what strace writes
	all     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	down     bool // connections are turned away
	gates    map[string]*gate
	sessions map[*session]bool
	conns    map[net.Conn]bool
	traces   int
}

// newHost starts a host. It ends with the test.
func newHost(t testing.TB, record bool) *host {
	t.Helper()
	dir := t.TempDir()
	hostKey, _ := testsshd.NewKey(t, "host", "")
	key, file := testsshd.NewKey(t, "walship", "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	h := &host{
		t: t, addr: l.Addr().String(), keyFile: filepath.Join(dir, "id_ed25519"), public: hostKey.PublicKey(), record: record, scratch: t.TempDir(),
		gates: map[string]*gate{}, sessions: map[*session]bool{}, conns: map[net.Conn]bool{},
	}
	must(t, os.WriteFile(h.keyFile, file, 0o600))
	h.config = &ssh.ServerConfig{
		// OpenSSH's own sftp-server works on requests in the order in which they
		// came, and so do the gates.
		ServerVersion: "SSH-2.0-OpenSSH_9.2",
		PublicKeyCallback: func(c ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			if h.gate(c.User()) == nil || !bytes.Equal(k.Marshal(), key.PublicKey().Marshal()) {
				return nil, errors.New("not this account's key")
			}
			return nil, nil
		},
	}
	h.config.AddHostKey(hostKey)
	h.all.Go(func() { h.accept(l) })
	t.Cleanup(func() {
		_ = l.Close() // ends accept
		h.mu.Lock()
		h.closed = true
		h.mu.Unlock()
		h.breakAll()
		h.all.Wait()
	})
	return h
}

// gate is the way of one actor to the archive. It sees what goes through, and
// breaks it as the breakage says that it is armed with.
type gate struct {
	name  string
	host  *host
	proxy *testnet.Proxy
	known string // file of known hosts

	mu       sync.Mutex
	breakage breakage
	met      int // requests of the kind that the breakage waits for
	fired    bool
	failed   []string // files in which strace says what has failed
	hook     func()   // what happens when the breakage is of the world, not of the wire
	identity bool     // walship.json was read through this gate
	ever     bool     // it was, at any time
	absent   map[string]bool
}

// newGate makes an actor's way to the host.
func (h *host) newGate(name string) *gate {
	h.t.Helper()
	g := &gate{name: name, host: h, proxy: testnet.New(h.t, h.addr), known: filepath.Join(h.t.TempDir(), "known_hosts")}
	line := knownhosts.Line([]string{g.proxy.Addr()}, h.public) + "\n"
	must(h.t, os.WriteFile(g.known, []byte(line), 0o600))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gates[name] = g
	return g
}

func (h *host) gate(name string) *gate {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gates[name]
}

// url is the archive in root, by way of the gate.
func (g *gate) url(root string) string { return "sftp://" + g.name + "@" + g.proxy.Addr() + root }

// arm sets what goes wrong from now on and forgets what was seen. hook is what
// the breakage calls that is of the world.
func (g *gate) arm(b breakage, hook func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.breakage, g.met, g.fired, g.hook = b, 0, false, hook
	g.identity, g.absent, g.failed = false, map[string]bool{}, nil
}

// meet counts a request and reports whether the breakage is due now.
func (g *gate) meet(op string) (b breakage, due bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.breakage.kind == "" || g.fired || g.breakage.on != "any" && g.breakage.on != op {
		return b, false
	}
	g.met++
	if g.met < g.breakage.nth {
		return b, false
	}
	g.fired = true
	return g.breakage, true
}

// saidAbsent reports whether the real server has shown, through this gate and
// since it was armed, that it has the cluster's identity and not the file. An
// agent may have read the identity before.
func (g *gate) saidAbsent(path string, agent bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return (g.identity || agent && g.ever) && g.absent[path]
}

// hasFired reports whether the breakage has come about.
func (g *gate) hasFired() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fired || injected(g.failed...)
}

func (h *host) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		turnedAway := h.closed || h.down
		if !turnedAway {
			h.conns[conn] = true
		}
		h.mu.Unlock()
		if turnedAway {
			_ = conn.Close()
			continue
		}
		h.all.Go(func() {
			h.serve(conn)
			_ = conn.Close()
			h.mu.Lock()
			delete(h.conns, conn)
			h.mu.Unlock()
		})
	}
}

func (h *host) serve(conn net.Conn) {
	c, channels, requests, err := ssh.NewServerConn(conn, h.config)
	if err != nil {
		return
	}
	defer c.Close()
	go ssh.DiscardRequests(requests)
	for open := range channels {
		if open.ChannelType() != "session" {
			_ = open.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		channel, requests, err := open.Accept()
		if err != nil {
			continue
		}
		h.all.Go(func() { h.session(h.gate(c.User()), conn, channel, requests) })
	}
}

// session runs an sftp-server for a channel.
func (h *host) session(g *gate, conn net.Conn, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	for r := range requests {
		var subsystem struct{ Name string }
		ok := r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &subsystem) == nil && subsystem.Name == "sftp"
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		if !ok {
			continue
		}
		go ssh.DiscardRequests(requests)
		s := newSession(g, conn, channel)
		args := h.command(g)
		s.cmd = exec.Command(args[0], args[1:]...)
		s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		in, err := s.cmd.StdinPipe()
		if err != nil {
			return
		}
		out, err := s.cmd.StdoutPipe()
		if err != nil {
			return
		}
		s.in = in
		h.mu.Lock()
		if h.closed || s.cmd.Start() != nil {
			h.mu.Unlock()
			return
		}
		h.sessions[s] = true
		h.mu.Unlock()
		h.all.Go(s.requests)
		s.replies(out)
		s.cut() // the server has ended, and so does what came to it
		_ = s.cmd.Wait()
		h.mu.Lock()
		delete(h.sessions, s)
		h.mu.Unlock()
		return
	}
}

// command is the sftp-server of a session, perhaps under strace: with system
// calls that fail, or with a record of them.
func (h *host) command(g *gate) []string {
	server := testsshd.SFTPServer(h.t)
	g.mu.Lock()
	inject := g.breakage.inject
	g.mu.Unlock()
	if inject == "" && !h.record {
		return []string{server}
	}
	h.mu.Lock()
	h.traces++
	file := filepath.Join(h.scratch, fmt.Sprintf("trace.%d", h.traces))
	h.mu.Unlock()
	if inject == "" {
		return append(append([]string{"strace", "-o", file}, recordArgs...), server)
	}
	g.mu.Lock()
	g.failed = append(g.failed, file)
	g.mu.Unlock()
	return append(injecting(file, inject), server)
}

// injecting is the beginning of a command line under which system calls fail.
// What fails is written to the file.
func injecting(file, inject string) []string {
	calls, _, _ := strings.Cut(inject, ":")
	return []string{"strace", "-f", "-qq", "-s", "0", "-o", file, "-e", "trace=" + calls, "-e", "inject=" + inject}
}

// injected reports whether something has failed under injecting.
func injected(files ...string) bool {
	return slices.ContainsFunc(files, func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && bytes.Contains(b, []byte("(INJECTED)"))
	})
}

// quiesce ends every session and waits until all that was asked for has been
// done or been given up.
func (h *host) quiesce() {
	h.mu.Lock()
	for c := range h.conns {
		_ = c.Close()
	}
	h.mu.Unlock()
	if !waitFor(20*time.Second, func() bool { return h.open() == 0 }) {
		h.breakAll()
		if !waitFor(20*time.Second, func() bool { return h.open() == 0 }) {
			h.t.Errorf("the archive host does not come to rest")
		}
	}
}

func (h *host) open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.sessions)
}

// breakAll kills every sftp-server and breaks every connection, as the restart of
// a host does.
func (h *host) breakAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.sessions {
		s.kill()
	}
	for c := range h.conns {
		_ = c.Close()
	}
}

// setDown turns connections away, or no more.
func (h *host) setDown(down bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
}

// waitFor polls until the condition holds, and is false if it does not in time.
func waitFor(limit time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}
